"""The table `[search]`: a sweep that does not run every point to its end, or that asks what to run next."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from jaxopt_study.study.config_file import check_keys
from jaxopt_study.study.plan import Job
from jaxopt_study.study.protocol import StudyInputError

KEYS: dict[str, dict[str, tuple[int | None, int]]] = {
    "halving": {"eta": (3, 2), "first": (None, 1)},
    "optuna": {"trials": (128, 1), "together": (16, 1), "seed": (0, 0)},
}
LARGEST = 1_000_000


@dataclasses.dataclass(frozen=True)
class Search:
    """How a sweep searches.

    Attributes:
      method: "halving" or "optuna".
      eta: of halving: one in `eta` points goes on, for `eta` times as many steps.
      first: of halving: steps before the first cut; None for as many as let one point be left at
        the end of `max_steps`.
      trials: of Optuna: how many points are asked for.
      together: of Optuna: how many are asked for, run and told at a time.
      seed: of Optuna's sampler.
    """

    method: str
    eta: int = 3
    first: int | None = None
    trials: int = 128
    together: int = 16
    seed: int = 0

    def to_toml(self) -> dict[str, Any]:
        """The table again, as `config.toml` of the record has it."""
        values = {name: getattr(self, name) for name in KEYS[self.method]}
        return {"method": self.method, **{name: value for name, value in values.items() if value is not None}}


def read_search(table: Mapping[str, Any], where: str) -> Search | None:
    """Check the table `[search]` of a TOML; None where there is none.

    Raises:
      StudyInputError: the method is unknown or not installed, or an option is not what it can be.
    """
    if not table:
        return None
    method = table.get("method")
    if not isinstance(method, str) or method not in KEYS:
        raise StudyInputError(f'{where}search.method: expected "halving" or "optuna", got {method!r}')
    check_keys(table, ("method", *KEYS[method]), f"{where}search.")
    values: dict[str, Any] = {}
    for name, (default, least) in KEYS[method].items():
        value = table.get(name, default)
        if value is not None and (type(value) is not int or not least <= value <= LARGEST):
            expected = f"expected a whole number from {least} to {LARGEST:,}"
            raise StudyInputError(f"{where}search.{name}: {expected}, got {value!r}")
        values[name] = value
    if method == "optuna" and importlib.util.find_spec("optuna") is None:
        raise StudyInputError('optuna is not installed: pip install "jaxopt_study[search]"')
    return Search(method, **values)


def search_jobs(search: Search) -> list[Job]:
    """The jobs of a search by Optuna: as many points as are asked for together."""
    starts = range(0, search.trials, search.together)
    return [
        Job(number, 0, range(first, min(first + search.together, search.trials)))
        for number, first in enumerate(starts)
    ]
