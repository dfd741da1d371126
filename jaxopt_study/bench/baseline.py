"""A baseline of ratios, and the gate that fails when one of them gets worse.

Ratios carry over from machine to machine where times do not. A baseline is a JSON file that is committed:
every metric with its value, unit, direction and tolerance.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from jaxopt_study.bench.case import Row
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.record import atomic_write

TOLERANCE = 0.25  # of a ratio of times
DIGITS = 10.0  # times, of an error


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number to be kept.

    Attributes:
      name: suite / case / contestant / what.
      value: at the time of the baseline.
      unit: of the value.
      better: which way is better.
      tolerance: how much worse, relatively, is still the same.
    """

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    tolerance: float

    def is_worse(self, now: float) -> bool:
        """Whether a number is beyond the tolerance, on the wrong side. NaN is.

        >>> metric = Metric("a / b / peer / time over ours", 2.0, "times", "higher", 0.25)
        >>> metric.is_worse(1.7), metric.is_worse(1.4), metric.is_worse(float("nan"))
        (False, True, True)
        """
        if self.better == "higher":
            return not now >= self.value / (1 + self.tolerance)
        return not now <= self.value * (1 + self.tolerance)


def metrics(rows: Iterable[Row]) -> dict[str, Metric]:
    """What is kept: a peer's time over ours, unless its program is ours; our errors; and claimed figures."""
    found = []
    for row in rows:
        ours = row.contestant.startswith("jaxopt_study")
        if ours and row.error == row.error:
            floor = max(row.error, 1e-15)
            found.append(Metric(f"{row.key} / error", floor, "of the case", "lower", DIGITS - 1))
        if not ours and row.ratio is not None and not row.same_program:
            # As much again as it scattered by: a ratio that wanders is no alarm.
            tolerance = TOLERANCE + 2 * row.uncertainty
            found.append(Metric(f"{row.key} / time over ours", row.ratio, "times", "higher", tolerance))
        for one in row.figures:
            name = f"{row.suite} / {row.case} / {one.name}"
            if one.at_least is not None:
                found.append(Metric(name, one.value, "of the case", "higher", TOLERANCE))
            if one.at_most is not None:
                found.append(Metric(f"{name}, at most", one.value, "of the case", "lower", TOLERANCE))
    return {metric.name: metric for metric in found}


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write the baseline of these rows."""
    known = [metric for metric in metrics(rows).values() if metric.value == metric.value]
    table = [dataclasses.asdict(metric) for metric in known]
    text = json.dumps(table, indent=1) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def load(path: Path) -> dict[str, Metric]:
    """Read a baseline.

    Raises:
      StudyInputError: there is no such file, or it is not a baseline.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {entry["name"]: Metric(**entry) for entry in table}
    except FileNotFoundError:
        raise StudyInputError(f"{path}: no such file") from None
    except (OSError, TypeError, KeyError, ValueError):
        raise StudyInputError(f"{path}: not a baseline of jaxopt-study bench") from None


class Comparison(NamedTuple):
    """Of measurements with a baseline.

    Attributes:
      worse: what got worse, a line each.
      compared: how many metrics could be compared.
      left_out: how many of the baseline were not measured now: a suite or a case left out, or gone, a peer
        not installed, a ratio that was not steady.
    """

    worse: tuple[str, ...] = ()
    compared: int = 0
    left_out: int = 0


def compare(baseline: dict[str, Metric], rows: Iterable[Row]) -> Comparison:
    """Hold measurements against a baseline."""
    now = metrics(rows)
    both = [name for name in baseline if name in now]
    worse = [
        f"{name}: {now[name].value:.3g}, was {baseline[name].value:.3g} {baseline[name].unit} "
        f"({baseline[name].better} is better, tolerance {baseline[name].tolerance:.0%})"
        for name in both
        if baseline[name].is_worse(now[name].value)
    ]
    return Comparison(tuple(worse), len(both), len(baseline) - len(both))
