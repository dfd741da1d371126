"""Optuna by ask and tell, a chunk of points at a time, each of which runs side by side.

Its sampler is seeded, and is told what is recorded: a search that was interrupted asks again for
the points that are done, gets the same, and goes on.
"""

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_study.study import sweep_record
from jaxopt_study.study.axes import Sweep, with_values
from jaxopt_study.study.axis import Axis
from jaxopt_study.study.checkpoint import SECONDS, Checkpoints, identity_of, remove_checkpoints
from jaxopt_study.study.config_file import check_range
from jaxopt_study.study.job_tables import axis_types
from jaxopt_study.study.lanes import Lanes, Stopped, trace_lanes
from jaxopt_study.study.plan import Job, Point
from jaxopt_study.study.planned import Planned
from jaxopt_study.study.protocol import Outcome, Study
from jaxopt_study.study.search import Search, search_jobs
from jaxopt_study.study.signals import Interrupts
from jaxopt_study.study.sweep_folder import SweepReport, join_record
from jaxopt_study.study.sweep_progress import SweepSeen, print_sweep, sweep_progress


class Asker:
    """A study of Optuna over the axes of a sweep.

    Args:
      sweep: an axis of values is a choice among them, one that is drawn a range.
      search: how many points, how many together, and the seed.
    """

    def __init__(self, sweep: Sweep, search: Search):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.search = sweep, search
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=search.seed))
        self.ranges = {axis.key: _range(axis) for axis in sweep.axes}

    def ask(self, count: int) -> list[tuple[Any, dict[str, Any]]]:
        """So many trials, and the values of each by key."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials = [self.study.ask(self.ranges) for _ in range(count)]
        return [(trial, {axis.key: _value(axis, trial) for axis in self.sweep.axes}) for trial in trials]

    def tell(self, trial: Any, value: float) -> None:
        """The value of a trial; what is not finite is as bad as can be."""
        self.study.tell(trial, value if math.isfinite(value) else math.inf)


def search_sweep(
    planned: Planned,
    folder: Path,
    interrupted: Interrupts,
    checkpoint_seconds: float,
    began: float,
    quiet: bool,
) -> SweepReport:
    """Run a search by Optuna, and write its record; the arguments are those of a sweep's end."""
    assert planned.search is not None
    search = planned.search
    ((label, config),) = planned.configs.items()
    types = axis_types(planned.sweep)
    jobs = search_jobs(search)
    seen = SweepSeen(search.trials, 0)
    points: list[Point] = []
    busy, compiling = 0.0, 0.0
    with sweep_progress(quiet) as show, contextlib.suppress(Stopped):
        show(seen)
        chunks = run_search(
            planned.study, config, label, planned.sweep, search, folder, interrupted, checkpoint_seconds
        )
        for chunk in chunks:
            points += chunk.points
            if chunk.outcomes:
                trace = planned.sweep.trace
                sweep_record.write_job(folder, chunk.job, chunk.points, chunk.outcomes, types, trace)
                seen = seen.after(chunk.outcomes)
            else:
                seen = seen._replace(done=seen.done + len(chunk.points))
            busy, compiling = busy + chunk.run_seconds, compiling + chunk.compile_seconds
            show(seen)
    cut = len(points) < search.trials
    if not cut:
        remove_checkpoints(folder)
    whole = dataclasses.replace(planned, groups=[points])
    seconds = {"compile_seconds": compiling, "run_seconds": busy}
    timing = {
        "groups": [{"width": search.together, "timing": seconds}],
        "wall_seconds": time.perf_counter() - began,
    }
    result = join_record(whole, folder, jobs, timing, cut)
    if not quiet:
        print_sweep(planned.study.title, result, folder)
    return SweepReport(folder, result, interrupted.exit_code if cut else 0)


class Chunk(NamedTuple):
    """Points that were asked for together; without outcomes where they were recorded already."""

    job: Job
    points: list[Point]
    outcomes: list[Outcome]
    compile_seconds: float
    run_seconds: float


def run_search(
    study: Study,
    config: Any,
    variant: str,
    sweep: Sweep,
    search: Search,
    folder: Path,
    stop: Callable[[], bool],
    checkpoint_seconds: float = SECONDS,
) -> Iterator[Chunk]:
    """Run a search chunk by chunk; what is recorded already is told and not run.

    Args:
      study: the study.
      config: what the searched values go into.
      variant: its label.
      sweep: the axes.
      search: how.
      folder: the record.
      stop: asked between calls.
      checkpoint_seconds: between two checkpoints of what is running.

    Yields:
      Every `Chunk`, once it has been told of.

    Raises:
      Stopped: `stop` said so.
    """
    asker = Asker(sweep, search)
    programs: dict[Any, Lanes] = {}
    jobs, identity = search_jobs(search), identity_of(study)

    def saves_of(job: Job) -> Callable[[int], Checkpoints]:
        # Points of another structure, in the same job, have a number of their own.
        return lambda part: Checkpoints(
            folder, job.number + part * len(jobs), identity, checkpoint_seconds, must_fit=False
        )

    for job in jobs:
        asked = asker.ask(len(job.members))
        points = [
            Point(index, variant, values, with_values(config, values, ""))
            for index, (_, values) in zip(job.members, asked, strict=True)
        ]
        for point in points:
            check_range(point.config, "sweep.axes.")
        path = sweep_record.job_path(folder, job.number)
        before = sum(program.compile_seconds for program in programs.values())
        began = time.perf_counter()
        if path.exists():
            values = sweep_record.medians(path)
            outcomes: list[Outcome] = []
        else:
            outcomes = _run_chunk(study, points, programs, search.together, stop, saves_of(job))
            values = [median(outcome.value) for outcome in outcomes]
        for (trial, _), value in zip(asked, values, strict=True):
            asker.tell(trial, value)
        compiling = sum(program.compile_seconds for program in programs.values()) - before
        running = time.perf_counter() - began - compiling if outcomes else 0.0
        yield Chunk(job, points, outcomes, compiling, running)


def _run_chunk(
    study: Study,
    points: list[Point],
    programs: dict[Any, Lanes],
    together: int,
    stop: Callable[[], bool],
    saves: Callable[[int], Checkpoints],
) -> list[Outcome]:
    groups: dict[Any, list[int]] = {}
    for at, point in enumerate(points):
        groups.setdefault(jax.tree.structure(point.config), []).append(at)
    outcomes: dict[int, Outcome] = {}
    for part, (structure, members) in enumerate(groups.items()):
        if stop():
            raise Stopped
        if structure not in programs:
            example = points[members[0]].config
            programs[structure] = trace_lanes(study, [example], None, many=together).compile()
        ended = programs[structure].run([points[at].config for at in members], stop, saves(part))
        outcomes.update(zip(members, ended, strict=True))
    return [outcomes[at] for at in range(len(points))]


def median(value: Any) -> float:
    """What a point is judged by: the median over lanes, not finite if half of them are not."""
    flat = np.ravel(np.asarray(value, float))
    return float(np.median(np.where(np.isfinite(flat), flat, np.inf)))


def _range(axis: Axis) -> Any:
    from optuna import distributions

    if not axis.is_drawn:
        return distributions.CategoricalDistribution(range(len(axis.values or ())))
    kind, low, high = axis.draw
    if kind == "integers":
        return distributions.IntDistribution(int(low), int(high) - 1)
    return distributions.FloatDistribution(float(low), float(high), log=kind == "loguniform")


def _value(axis: Axis, trial: Any) -> Any:
    chosen = trial.params[axis.key]
    values = axis.values or ()
    # Values that were drawn have the type of the field: `integers` may be for a float.
    return type(values[0])(chosen) if axis.is_drawn else values[chosen]
