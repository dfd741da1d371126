"""Run a sweep on this machine: groups compiled once, jobs on as many threads as there are cores.

A sweep is planned, and all its programs are traced, before anything is written; a job is done when
its rows are in a file, so that whoever goes on does what is not there.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import jax

from jaxopt_study.study import checkpoint, record, sweep_record
from jaxopt_study.study.cluster import sweep_on_cluster
from jaxopt_study.study.job_tables import axis_types
from jaxopt_study.study.lanes import Stopped
from jaxopt_study.study.lock import locked
from jaxopt_study.study.optuna_search import search_sweep
from jaxopt_study.study.plan import Job, make_jobs
from jaxopt_study.study.planned import Planned, Program, trace_group
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.signals import Interrupted, Interrupts, hear_interrupts
from jaxopt_study.study.sweep_folder import SweepReport, check_plan, join_record, start_record
from jaxopt_study.study.sweep_progress import SweepSeen, print_sweep, sweep_progress


def run_sweep(
    planned: Planned,
    out_root: Path | str,
    *,
    width: int | Literal["measured"] | tuple[int, ...] | None = None,
    checkpoint_seconds: float = checkpoint.SECONDS,
    quiet: bool = False,
) -> SweepReport:
    """Run a sweep and write its record.

    The first Ctrl-C, or SIGTERM, ends it after the calls in progress, with checkpoints; what is done is
    recorded, and `resume_sweep` goes on.

    Args:
      planned: from `plan_sweep`.
      out_root: where the folder is made.
      width: how many points run side by side, of each group or of all; None to choose by their cost,
        "measured" to try some.
      checkpoint_seconds: between two checkpoints of a job in progress.
      quiet: show no progress and no table.

    Returns:
      A `SweepReport`.

    Raises:
      StudyInputError: the study refused its input, or the folder cannot be made.
      KeyboardInterrupt: a signal before the sweep began (`signals.Interrupted`), or a second Ctrl-C.
    """
    out_root = Path(out_root)
    record.check_writable(out_root)
    if width == "measured" and planned.search is not None:
        raise StudyInputError("--side-by-side: a search is not measured; give a number, or leave it out")
    began = time.perf_counter()
    if planned.search is not None and planned.search.method == "optuna":
        chosen = width[0] if isinstance(width, tuple) else width if isinstance(width, int) else None
        with hear_interrupts() as interrupted:
            folder = start_record(planned, out_root, [chosen or planned.search.together])
            with locked(folder):
                return search_sweep(planned, folder, interrupted, checkpoint_seconds, began, quiet)
    with hear_interrupts() as interrupted, _Workers() as workers:
        lanes: list[Program | None] = []
        for index in range(len(planned.groups)):
            wanted = width[index] if isinstance(width, tuple) else width
            program = trace_group(planned, index, wanted, workers.count)
            lanes.append(program)
            if planned.executor is None:
                workers.prepare(program)
            if interrupted():
                raise Interrupted(interrupted.exit_code)
        folder = start_record(planned, out_root, [one.width for one in lanes if one is not None])
        with locked(folder):
            return _finish(planned, folder, lanes, workers, interrupted, checkpoint_seconds, began, quiet)


def resume_sweep(
    planned: Planned, folder: Path, *, checkpoint_seconds: float = checkpoint.SECONDS, quiet: bool = False
) -> SweepReport:
    """Go on with a sweep: run the jobs that are not done, and join all.

    Raises:
      StudyInputError: the folder is not a sweep's or cannot be written, another process runs it, or
        the study, a version or the device has changed.
    """
    began = time.perf_counter()
    widths = check_plan(planned, folder)
    with locked(folder), hear_interrupts() as interrupted, _Workers() as workers:
        record.check_writable(folder)
        record.remove_unfinished(folder)
        (folder / "jobs").mkdir(exist_ok=True)
        record.remove_unfinished(folder / "jobs")
        if planned.search is not None and planned.search.method == "optuna":
            return search_sweep(planned, folder, interrupted, checkpoint_seconds, began, quiet)
        jobs = make_jobs(planned.groups, widths)
        done = {job.number for job in sweep_record.done_jobs(folder, jobs)}
        left = {job.group for job in jobs if job.number not in done}
        lanes: list[Program | None] = []
        for index, width in enumerate(widths):
            here = index in left and planned.executor is None
            one = trace_group(planned, index, width) if here else None
            lanes.append(one)
            if one is not None:
                workers.prepare(one)
            if interrupted():
                raise Interrupted(interrupted.exit_code)
        return _finish(planned, folder, lanes, workers, interrupted, checkpoint_seconds, began, quiet)


class _Workers(contextlib.AbstractContextManager["_Workers"]):
    """Threads that compile and run; compiling and running both leave Python's lock."""

    def __init__(self) -> None:
        # An accelerator runs one call after the other.
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = self.count if jax.default_backend() == "cpu" else 1
        self.pool = ThreadPoolExecutor(self.count, "sweep")
        self.ready: dict[int, Future[Any]] = {}

    def prepare(self, lanes: Program) -> None:
        self.ready[id(lanes)] = self.pool.submit(lanes.compile)

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


def _finish(
    planned: Planned,
    folder: Path,
    lanes: Sequence[Program | None],
    workers: _Workers,
    interrupted: Interrupts,
    checkpoint_seconds: float,
    began: float,
    quiet: bool,
) -> SweepReport:
    widths = sweep_record.read_plan(folder)["widths"]
    jobs = make_jobs(planned.groups, widths)
    if planned.executor is not None:
        return sweep_on_cluster(planned, folder, widths, jobs, interrupted, began, quiet)
    done = {job.number for job in sweep_record.done_jobs(folder, jobs)}
    types = axis_types(planned.sweep)
    identity = checkpoint.identity_of(planned.study)
    busy = [0.0] * len(lanes)
    failed: list[BaseException] = []

    def stop() -> bool:
        return interrupted() or bool(failed)

    def work(job: Job, program: Program) -> tuple[int, list[Any], float]:
        workers.ready[id(program)].result()
        began = time.perf_counter()
        points = [planned.groups[job.group][member] for member in job.members]
        saves = checkpoint.Checkpoints(folder, job.number, identity, checkpoint_seconds, must_fit=False)
        outcomes = program.run([point.config for point in points], stop, saves)
        seconds = time.perf_counter() - began
        extra = program.extra_columns()
        sweep_record.write_job(folder, job, points, outcomes, types, planned.sweep.trace, extra)
        saves.remove()
        return job.group, outcomes, seconds

    seen = SweepSeen(len(planned.points), sum(len(job.members) for job in jobs if job.number in done))
    with sweep_progress(quiet) as show:
        show(seen)
        waiting = {
            workers.pool.submit(work, job, program)
            for job in jobs
            if job.number not in done and (program := lanes[job.group]) is not None
        }
        while waiting:
            # The main thread has to wake up to hear a signal.
            ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ended:
                error = future.exception()
                if error is None:
                    group, outcomes, seconds = future.result()
                    busy[group] += seconds
                    seen = seen.after(outcomes)
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
    if not cut:
        checkpoint.remove_checkpoints(folder)
    if failed:
        raise failed[0]
    if not quiet:
        print_sweep(planned.study.title, result, folder)
    exit_code = interrupted.exit_code if cut else 0
    return SweepReport(folder, result, exit_code)
