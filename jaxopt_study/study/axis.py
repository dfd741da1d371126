"""One axis of a sweep, as it is written: a list, a table of one call, or that call on the command line."""

import dataclasses
import re
import tomllib
from typing import Any

import numpy as np

from jaxopt_study.study.config_file import did_you_mean
from jaxopt_study.study.protocol import StudyInputError

GRIDS = {"linspace": 3, "logspace": 3, "range": (2, 3)}
DRAWS = {"uniform": 2, "loguniform": 2, "integers": 2}
LARGEST = 1_000_000  # points: beyond, a number was mistyped


@dataclasses.dataclass(frozen=True)
class Axis:
    """One key and its values; a drawn axis has none before it is sampled.

    Attributes:
      key: a field of the Config, or `field.index` for one element of a tuple.
      spec: as it was written: a list, or a table of one call.
      values: what it runs through, or None where it is drawn.
    """

    key: str
    spec: Any
    values: tuple[Any, ...] | None

    @property
    def is_drawn(self) -> bool:
        """Whether its values are sampled from a range, also once they have been."""
        return isinstance(self.spec, dict) and next(iter(self.spec)) in DRAWS

    @property
    def draw(self) -> tuple[str, float, float]:
        """The kind of an axis that is drawn, and its range."""
        ((kind, (low, high)),) = self.spec.items()
        return kind, low, high


def read_axis(key: str, spec: Any, where: str) -> Axis:
    """An axis as the TOML has it: a list of values, or a table such as `{ logspace = [1e-4, 1e-1, 20] }`.

    Raises:
      StudyInputError: it is neither, or its numbers are not what they can be; beginning with `where`.
    """
    if isinstance(spec, list):
        if not spec:
            raise StudyInputError(f"{where}: has no values")
        return Axis(key, spec, tuple(spec))
    kinds = {**GRIDS, **DRAWS}
    if not isinstance(spec, dict) or len(spec) != 1:
        raise StudyInputError(f"{where}: expected a list, or one of {', '.join(kinds)}, got {spec!r}")
    ((kind, numbers),) = spec.items()
    if kind not in kinds:
        raise StudyInputError(f"{where}: {kind}: unknown{did_you_mean(kind, kinds)}")
    _check_numbers(kind, numbers, kinds[kind], where)
    if kind in DRAWS:
        return Axis(key, spec, None)
    if kind == "range":
        whole = range(*numbers)
        size = max(0, -(-(whole.stop - whole.start) // whole.step))  # len() has no room for some
        if not 0 < size <= LARGEST:
            raise StudyInputError(f"{where}: range: {size:,} values")
        return Axis(key, spec, tuple(whole))
    low, high, count = numbers
    space = np.linspace if kind == "linspace" else np.geomspace
    with np.errstate(all="ignore"):
        values = space(float(low), float(high), count)
    if not np.isfinite(values).all():
        raise StudyInputError(f"{where}: {kind}: from {low} to {high} is too far")
    return Axis(key, spec, tuple(values.tolist()))


def read_axis_flag(text: str) -> tuple[str, Any]:
    """An axis as the command line has it: `seed=[0, 1]` or `rate=logspace(1e-4, 1e-1, 20)`.

    >>> read_axis_flag("rate=logspace(1e-4, 1, 5)")
    ('rate', {'logspace': [0.0001, 1, 5]})
    """
    key, equals, spec = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise StudyInputError(f"--axis: expected NAME=VALUES, got {text!r}")
    call = re.fullmatch(r"(\w+)\((.*)\)", spec, re.DOTALL)
    toml = f"{{ {call[1]} = [{call[2]}] }}" if call else spec
    if "\n" in toml:
        raise StudyInputError(f"--axis: {key}: expected one line, got {spec!r}")
    try:
        return key, tomllib.loads(f"spec = {toml}")["spec"]
    except (tomllib.TOMLDecodeError, RecursionError):
        hint = 'as [1, 2], ["a", "b"], linspace(0, 1, 5), logspace(1e-4, 1, 5) or range(0, 20)'
        raise StudyInputError(f"--axis: {key}: expected values {hint}, got {spec!r}") from None


def _check_numbers(kind: str, numbers: Any, wanted: Any, where: str) -> None:
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    if not isinstance(numbers, list) or len(numbers) not in wanted:
        count = " or ".join(map(str, wanted))
        raise StudyInputError(f"{where}: {kind}: expected {count} numbers, got {numbers!r}")
    whole = numbers if kind in ("range", "integers") else numbers[2:]
    for number in numbers:
        if type(number) not in (int, float) or not abs(number) < 1e300:
            raise StudyInputError(f"{where}: {kind}: expected a finite number, got {number!r}")
    for number in whole:
        if type(number) is not int or not abs(number) < 2**63:
            raise StudyInputError(f"{where}: {kind}: expected a whole number, got {number!r}")
    if kind in ("linspace", "logspace") and not 1 <= numbers[2] <= LARGEST:
        raise StudyInputError(f"{where}: {kind}: expected 1 to {LARGEST:,} values, got {numbers[2]:,}")
    if kind == "range" and len(numbers) == 3 and numbers[2] == 0:
        raise StudyInputError(f"{where}: range: the step is 0")
    if kind in ("logspace", "loguniform") and min(numbers[:2]) <= 0:
        raise StudyInputError(f"{where}: {kind}: expected numbers > 0, got {numbers[0]} and {numbers[1]}")
    if kind in DRAWS and not numbers[0] < numbers[1]:
        raise StudyInputError(f"{where}: {kind}: expected low < high, got {numbers[0]} and {numbers[1]}")
