"""What the words of `--start` and `--bounds` say: the parameters' first guesses, and their bounds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_study.study.protocol import StudyInputError


def parse_start(words: str) -> dict[str, float]:
    """Parameters from `'Vm=100,K=0.1'`.

    >>> parse_start("Vm=100, K=0.1")
    {'Vm': 100.0, 'K': 0.1}

    Raises:
      StudyInputError: a part is not `NAME=NUMBER`, or a name comes twice.
    """
    start: dict[str, float] = {}
    for name, value in _pairs("--start", words):
        if name in start:
            raise StudyInputError(f"--start: {name!r} comes twice")
        start[name] = _number(value, f"--start: {name}")
    return start


def parse_bounds(words: str | None, start: Mapping[str, float], *, starts_known: bool = True) -> Any:
    """Bounds from `'K=0:1,Vm=0:'`: `(lower, upper)`, infinite where nothing is given.

    Where `starts_known` is False only the names of `start` count.

    >>> parse_bounds("K=0:1", {"Vm": 100.0, "K": 0.1})
    ({'Vm': -inf, 'K': 0.0}, {'Vm': inf, 'K': 1.0})

    Raises:
      StudyInputError: a part is not `NAME=LOWER:UPPER`, of a parameter that `start` has and within
        which it starts.
    """
    if not words:
        return None
    lower, upper = dict.fromkeys(start, -np.inf), dict.fromkeys(start, np.inf)
    for name, value in _pairs("--bounds", words):
        where = f"--bounds: {name}"
        if name not in start:
            raise StudyInputError(f"{where}: no such parameter in --start; there are: {', '.join(start)}")
        low, colon, high = value.partition(":")
        if not colon:
            raise StudyInputError(f"{where}: expected LOWER:UPPER, got {value!r}")
        lower[name] = _number(low, where) if low.strip() else -np.inf
        upper[name] = _number(high, where) if high.strip() else np.inf
        if starts_known and not lower[name] <= start[name] <= upper[name]:
            raise StudyInputError(f"{where}: starts at {start[name]:g}, outside of {value}")
    return lower, upper


def _pairs(flag: str, words: str) -> list[tuple[str, str]]:
    pairs = []
    for part in words.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise StudyInputError(f"{flag}: expected NAME=VALUE, separated by commas, got {part.strip()!r}")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise StudyInputError(f"{where}: expected a number, got {text!r}") from None
    if not np.isfinite(value):
        raise StudyInputError(f"{where}: expected a finite number, got {text!r}")
    return value
