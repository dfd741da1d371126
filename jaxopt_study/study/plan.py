"""The plan of a sweep: every point's Config, points that share a program, and jobs.

A plan follows from the Configs, the sweep and one width a group, which is written down: whoever
goes on with a sweep, here or on another machine, runs the same points side by side, to the same bits.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxopt_study.study.axes import Sweep, points_of, with_values
from jaxopt_study.study.config import is_static
from jaxopt_study.study.config_file import check_range

POINTS_PER_JOB = 128
LEAST_JOBS = 16
MOST_JOBS = 256


@dataclasses.dataclass(frozen=True)
class Point:
    """One point: its variant, the swept values, and the Config they make."""

    index: int
    variant: str
    values: Mapping[str, Any]
    config: Any


@dataclasses.dataclass(frozen=True)
class Job:
    """Points of one group that run together, and whose rows are one file.

    Attributes:
      number: counted over the whole sweep.
      group: whose.
      members: their places in the group.
    """

    number: int
    group: int
    members: range


def make_points(configs: Mapping[str, Any], sweep: Sweep, where: str) -> list[Point]:
    """Every point of every variant, in order.

    Raises:
      StudyInputError: a value is out of the range of the Config's dtype, or a key names no element.
    """
    points: list[Point] = []
    for label, base in configs.items():
        for values in points_of(sweep):
            config = with_values(base, values, where)
            check_range(config, f"{where}sweep.axes.")
            points.append(Point(len(points), label, values, config))
    return points


def make_groups(points: Sequence[Point]) -> list[list[Point]]:
    """Points whose Configs differ in leaves alone, in the order of their first."""
    groups: dict[Any, list[Point]] = {}
    for point in points:
        groups.setdefault(jax.tree.structure(point.config), []).append(point)
    return list(groups.values())


def make_jobs(groups: Sequence[Sequence[Point]], widths: Sequence[int]) -> list[Job]:
    """Jobs of all groups: whole calls of a group's program."""
    return list(_jobs(groups, widths))


def _jobs(groups: Sequence[Sequence[Point]], widths: Sequence[int]) -> Iterator[Job]:
    number = 0
    for index, (group, width) in enumerate(zip(groups, widths, strict=True)):
        calls = -(-len(group) // width)
        # Some points a file, enough files for all workers, and not too many.
        together = max(min(POINTS_PER_JOB // width, calls // LEAST_JOBS), calls // MOST_JOBS, 1)
        size = together * width
        for first in range(0, len(group), size):
            yield Job(number, index, range(first, min(first + size, len(group))))
            number += 1


def static_fields(group: Sequence[Point]) -> dict[str, Any]:
    """The swept values that are structure, the same for all points of a group."""
    if not group:
        return {}
    fields = {field.name for field in dataclasses.fields(group[0].config) if is_static(field)}
    # A search has points of several structures in one group.
    return {
        key: value
        for key, value in group[0].values.items()
        if key in fields and all(point.values[key] == value for point in group)
    }
