"""Run a sweep on this machine: groups compiled once, jobs on as many threads as there are cores.

A sweep is planned, and all its programs are traced, before anything is written; a job is done when
its rows are in a file, so that whoever goes on does what is not there.
"""

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax

from jaxopt_study.study import record, sweep_record
from jaxopt_study.study.axes import Sweep
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.lanes import Lanes, Stopped, trace_lanes
from jaxopt_study.study.lock import locked
from jaxopt_study.study.plan import Job, Point, make_groups, make_jobs, make_points, static_fields
from jaxopt_study.study.protocol import Study, StudyInputError, digest_of
from jaxopt_study.study.signals import hear_interrupts
from jaxopt_study.study.sweep_progress import SweepSeen, print_sweep, sweep_progress
from jaxopt_study.version import __version__


@dataclasses.dataclass(frozen=True)
class SweepReport:
    """What a sweep left behind.

    Attributes:
      folder: the record.
      result: what `result.json` holds.
      exit_code: 0, or 130 or 143 where it was interrupted.
    """

    folder: Path
    result: Mapping[str, Any]
    exit_code: int


@dataclasses.dataclass(frozen=True)
class Planned:
    """A sweep before it runs: its points, in groups, and their jobs once widths are known."""

    study: Study
    configs: Mapping[str, Any]
    sweep: Sweep
    groups: Sequence[Sequence[Point]]

    @property
    def points(self) -> list[Point]:
        """All points."""
        return [point for group in self.groups for point in group]


def plan_sweep(study: Study, configs: Mapping[str, Any], sweep: Sweep, where: str = "") -> Planned:
    """Make the points of a sweep, and group them.

    Raises:
      StudyInputError: a value does not fit its field.
    """
    points = make_points(configs, sweep, where)
    return Planned(study, configs, sweep, make_groups(points))


def run_sweep(
    planned: Planned,
    out_root: Path | str,
    *,
    width: int | Sequence[int] | None = None,
    quiet: bool = False,
) -> SweepReport:
    """Run a sweep and write its record.

    The first Ctrl-C, or SIGTERM, ends it after the calls in progress; what is done is recorded, and
    `resume_sweep` goes on.

    Args:
      planned: from `plan_sweep`.
      out_root: where the folder is made.
      width: how many points run side by side, of each group or of all; None to choose.
      quiet: show no progress and no table.

    Returns:
      A `SweepReport`.

    Raises:
      StudyInputError: the study refused its input, or the folder cannot be made.
      KeyboardInterrupt: Ctrl-C before the sweep began, or a second one.
    """
    out_root = Path(out_root)
    record.check_writable(out_root)
    began = time.perf_counter()
    with hear_interrupts() as interrupted, _Workers() as workers:
        lanes = []
        for index, group in enumerate(planned.groups):
            wanted = width[index] if isinstance(width, Sequence) else width
            lanes.append(trace_lanes(planned.study, _configs(group), wanted, workers.count))
            workers.prepare(lanes[-1])
            if interrupted():
                raise KeyboardInterrupt
        folder = start_record(planned, out_root, [one.width for one in lanes])
        with locked(folder):
            return _finish(planned, folder, lanes, workers, interrupted, began, quiet)


def resume_sweep(planned: Planned, folder: Path, *, quiet: bool = False) -> SweepReport:
    """Go on with a sweep: run the jobs that are not done, and join all.

    Raises:
      StudyInputError: the folder is not a sweep's, another process runs it, or the study has changed.
    """
    began = time.perf_counter()
    widths = check_plan(planned, folder)
    with locked(folder), hear_interrupts() as interrupted, _Workers() as workers:
        record.remove_unfinished(folder)
        record.remove_unfinished(folder / "jobs")
        jobs = make_jobs(planned.groups, widths)
        done = {job.number for job in sweep_record.done_jobs(folder, jobs)}
        left = {job.group for job in jobs if job.number not in done}
        lanes: list[Lanes | None] = []
        for index, (group, width) in enumerate(zip(planned.groups, widths, strict=True)):
            one = trace_lanes(planned.study, _configs(group), width) if index in left else None
            lanes.append(one)
            if one is not None:
                workers.prepare(one)
            if interrupted():
                raise KeyboardInterrupt
        return _finish(planned, folder, lanes, workers, interrupted, began, quiet)


def start_record(planned: Planned, out_root: Path, widths: Sequence[int]) -> Path:
    """Make the folder of a sweep, with all that is needed to run its jobs."""
    folder = record.new_folder(out_root, planned.study.name)
    plan = {"widths": list(widths), "study_sha256": digest_of(planned.study), "version": __version__}
    tables = {"sweep": planned.sweep.to_toml()}

    def write() -> None:
        record.write_config(folder, planned.study, planned.configs, tables, "sweep")
        (folder / "jobs").mkdir()
        sweep_record.write_plan(folder, plan)

    record.begin(folder, write)
    return folder


def check_plan(planned: Planned, folder: Path) -> list[int]:
    """The widths of a sweep's groups, if it still is the sweep that was begun."""
    plan = sweep_record.read_plan(folder)
    if plan.get("study_sha256") != digest_of(planned.study):
        raise StudyInputError(
            f"{planned.study.path}: has changed since the sweep in {folder} began: sweep anew"
        )
    widths = plan["widths"]
    if len(widths) != len(planned.groups):
        raise StudyInputError(f"{folder}/plan.json: {len(widths)} widths for {len(planned.groups)} groups")
    return widths


def run_job(planned: Planned, folder: Path, lanes: Lanes, job: Job, stop: Callable[[], bool]) -> None:
    """Run one job and write its rows."""
    points = [planned.groups[job.group][member] for member in job.members]
    outcomes = lanes.compile().run(job.members, stop)
    types = sweep_record.axis_types(planned.points)
    sweep_record.write_job(folder, job, points, outcomes, types, planned.sweep.trace)


def join_record(
    planned: Planned, folder: Path, jobs: Sequence[Job], timing: Mapping[str, Any], interrupted: bool
) -> dict[str, Any]:
    """Join what is there, and write `result.json`.

    Args:
      planned: the sweep.
      folder: its folder.
      jobs: all its jobs.
      timing: "groups", seconds by group, and "wall_seconds".
      interrupted: whether it was stopped midway.

    Returns:
      What `result.json` holds.
    """
    table = sweep_record.join(folder)
    done = sweep_record.done_jobs(folder, jobs)
    keys = list(planned.points[0].values)
    groups = [
        {
            "variants": list(dict.fromkeys(point.variant for point in group)),
            "static": static_fields(group),
            "points": len(group),
            **timing["groups"][index],
        }
        for index, group in enumerate(planned.groups)
    ]
    seconds = {
        name: sum(group["timing"][name] for group in groups) for name in ("compile_seconds", "run_seconds")
    }
    result = {
        "study": planned.study.name,
        "title": planned.study.title,
        "kind": "sweep",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "version": __version__,
        "environment": describe_environment(planned.study.path),
        "axes": planned.sweep.to_toml()["axes"],
        "counts": {
            "points": len(planned.points),
            "done": sum(len(job.members) for job in done),
            "groups": len(planned.groups),
            "jobs": len(jobs),
            "status": {} if table is None else sweep_record.count_statuses(table),
        },
        "groups": groups,
        "best": None if table is None else sweep_record.best_point(table, keys),
        "timing": {**seconds, "wall_seconds": timing["wall_seconds"]},
    }
    record.write_result(folder, result)
    return result


class _Workers(contextlib.AbstractContextManager["_Workers"]):
    """Threads that compile and run; compiling and running both leave Python's lock."""

    def __init__(self) -> None:
        # An accelerator runs one call after the other.
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = self.count if jax.default_backend() == "cpu" else 1
        self.pool = ThreadPoolExecutor(self.count, "sweep")
        self.ready: dict[int, Future[Lanes]] = {}

    def prepare(self, lanes: Lanes) -> None:
        self.ready[id(lanes)] = self.pool.submit(lanes.compile)

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


def _configs(group: Sequence[Point]) -> list[Any]:
    return [point.config for point in group]


def _finish(
    planned: Planned,
    folder: Path,
    lanes: Sequence[Lanes | None],
    workers: _Workers,
    interrupted: Callable[[], bool],
    began: float,
    quiet: bool,
) -> SweepReport:
    widths = sweep_record.read_plan(folder)["widths"]
    jobs = make_jobs(planned.groups, widths)
    done = {job.number for job in sweep_record.done_jobs(folder, jobs)}
    types = sweep_record.axis_types(planned.points)
    busy = [0.0] * len(lanes)
    failed: list[BaseException] = []

    def stop() -> bool:
        return interrupted() or bool(failed)

    def work(job: Job, program: Lanes) -> list[Any]:
        workers.ready[id(program)].result()
        began = time.perf_counter()
        outcomes = program.run(job.members, stop)
        busy[job.group] += time.perf_counter() - began
        points = [planned.groups[job.group][member] for member in job.members]
        sweep_record.write_job(folder, job, points, outcomes, types, planned.sweep.trace)
        return outcomes

    seen = SweepSeen(len(planned.points), sum(len(job.members) for job in jobs if job.number in done))
    with sweep_progress(quiet) as show:
        show(seen)
        futures = {
            workers.pool.submit(work, job, program): job
            for job in jobs
            if job.number not in done and (program := lanes[job.group]) is not None
        }
        waiting = set(futures)
        while waiting:
            # The main thread has to wake up to hear a signal.
            ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ended:
                error = future.exception()
                if error is None:
                    seen = seen.after(future.result())
                elif not isinstance(error, Stopped):
                    failed.append(error)
            show(seen)
            if stop():
                for future in waiting:
                    future.cancel()
                waiting = {future for future in waiting if not future.cancelled()}
    groups = [
        {
            "width": width,
            "timing": {
                "compile_seconds": 0.0 if one is None else one.compile_seconds,
                "run_seconds": seconds,
            },
        }
        for one, width, seconds in zip(lanes, widths, busy, strict=True)
    ]
    timing = {"groups": groups, "wall_seconds": time.perf_counter() - began}
    cut = bool(failed) or (interrupted() and len(sweep_record.done_jobs(folder, jobs)) < len(jobs))
    result = join_record(planned, folder, jobs, timing, cut)
    if failed:
        raise failed[0]
    if not quiet:
        print_sweep(planned.study.title, result, folder)
    exit_code = getattr(interrupted, "exit_code", 130) if cut else 0
    return SweepReport(folder, result, exit_code)
