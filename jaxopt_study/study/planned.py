"""A sweep before it runs: what a TOML and the command line say, its points, their groups and programs."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxopt_study.study.axes import Sweep, read_sweep, typed_axes
from jaxopt_study.study.axis import read_axis_flag
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.executor import ExecutorConfig, read_executor
from jaxopt_study.study.flags import apply_flags
from jaxopt_study.study.halving import Halving, trace_halving
from jaxopt_study.study.lanes import Lanes, trace_lanes
from jaxopt_study.study.measured_width import measured_lanes
from jaxopt_study.study.plan import Point, make_groups, make_points
from jaxopt_study.study.protocol import Study, StudyInputError
from jaxopt_study.study.search import Search, read_search

Program = Lanes | Halving


@dataclasses.dataclass(frozen=True)
class Planned:
    """A sweep before it runs: its points, in groups, and their jobs once widths are known."""

    study: Study
    configs: Mapping[str, Any]
    sweep: Sweep
    groups: Sequence[Sequence[Point]]
    search: Search | None = None
    executor: ExecutorConfig | None = None

    @property
    def points(self) -> list[Point]:
        """All points."""
        return [point for group in self.groups for point in group]


def plan_sweep(
    study: Study,
    configs: Mapping[str, Any],
    sweep: Sweep,
    where: str = "",
    search: Search | None = None,
    executor: ExecutorConfig | None = None,
) -> Planned:
    """Make the points of a sweep, and group them; Optuna makes them as it goes.

    Raises:
      StudyInputError: a value does not fit its field.
    """
    if search is not None and search.method == "optuna":
        if len(configs) > 1:
            raise StudyInputError(f"{where}search: Optuna searches one variant, not {len(configs)}")
        return Planned(study, configs, sweep, [], search)
    points = make_points(configs, sweep, where)
    return Planned(study, configs, sweep, make_groups(points), search, executor)


def trace_group(
    planned: Planned, index: int, width: int | Literal["measured"] | None, at_once: int = 1
) -> Program:
    """Trace the program of one of a sweep's groups, see `trace_lanes` and `measured_lanes`."""
    search, configs = planned.search, [point.config for point in planned.groups[index]]
    if search is not None and search.method == "halving":
        return trace_halving(planned.study, configs, search.eta, search.first)
    if width == "measured":
        return measured_lanes(planned.study, configs, at_once)[0]
    return trace_lanes(planned.study, configs, width, at_once)


def read_planned(
    path: Path,
    known: argparse.Namespace | None = None,
    flags: Sequence[str] = (),
    *,
    here: bool = False,
) -> Planned:
    """The sweep that a TOML describes, changed by the command line's words.

    Args:
      path: the TOML.
      known: the words of `jaxopt-study sweep`, if it is that command.
      flags: of the study.
      here: run it in this process, whatever [executor] says.

    Raises:
      StudyInputError: anything that is written there is wrong.
    """
    file = read_config_file(path)
    where, table = f"{path}: ", dict(file.sweep)
    if known is not None and _add_words(table, known):
        where = "" if not file.sweep else where
    if not table.get("axes"):
        raise StudyInputError(
            f"{path}: sweep.axes: nothing to sweep; write [sweep.axes], or --axis NAME=VALUES"
        )
    sweep = read_sweep(table, where)
    study, configs = load_configs(file)
    _check_twice(flags, [axis.key for axis in sweep.axes])
    configs = apply_flags(configs, flags)
    search = read_search(file.search, f"{path}: ")
    executor = None
    if not here:
        executor = read_executor(file.executor, None if known is None else known.executor, f"{path}: ")
    if executor is not None and search is not None and search.method == "optuna":
        raise StudyInputError(f"{path}: executor: Optuna asks chunk by chunk, in this process")
    typed = typed_axes(sweep, study.Config, where, path.parent)
    return plan_sweep(study, configs, typed, where, search, executor)


def _add_words(table: dict[str, Any], known: argparse.Namespace) -> bool:
    changed = False
    axes = dict(table.get("axes") or {}) if isinstance(table.get("axes", {}), dict) else {}
    for text in known.axis or ():
        key, spec = read_axis_flag(text)
        axes[key] = spec
        changed = True
    if changed:
        table["axes"] = axes
        order = table.get("order")
        if isinstance(order, list):  # what is new comes last
            table["order"] = [*order, *(key for key in axes if key not in order)]
    if known.zip_axes:
        table["zip"] = [[key.strip() for key in words.split(",")] for words in known.zip_axes]
    flags = {"draw": "samples", "draw_by": "sampler", "draw_seed": "sample_seed", "keep_trace": "trace"}
    for flag, name in flags.items():
        if getattr(known, flag) is not None:
            table[name] = getattr(known, flag)
    return changed


def _check_twice(flags: Sequence[str], keys: Sequence[str]) -> None:
    """A flag for what is swept would be without effect."""
    given = {
        flag.removeprefix("--").partition("=")[0].replace("-", "_") for flag in flags if flag[:2] == "--"
    }
    for key in keys:
        if key in given:
            flag = key.replace("_", "-")
            raise StudyInputError(f"--{flag}: is swept; give --axis {key}=[...] instead, or leave one out")
