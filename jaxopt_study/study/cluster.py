"""The jobs of a sweep as tasks of submitit: on Slurm, or in processes of this machine.

A task runs jobs of one group, one after the other, and writes each when it ends. What a task that
failed or was pre-empted has not written is submitted again, and nothing else. The files tell what is
done: Slurm's own accounting may be switched off.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxopt_study.study import sweep_record
from jaxopt_study.study.checkpoint import SECONDS, Checkpoints, identity_of, remove_checkpoints
from jaxopt_study.study.executor import ExecutorConfig, make_executor
from jaxopt_study.study.job_tables import axis_types
from jaxopt_study.study.lanes import Stopped
from jaxopt_study.study.plan import Job, make_jobs
from jaxopt_study.study.planned import Planned, Program, read_planned, trace_group
from jaxopt_study.study.signals import Interrupts, hear_interrupts
from jaxopt_study.study.sweep_folder import SweepReport, check_plan, join_record
from jaxopt_study.study.sweep_progress import SweepSeen, print_sweep, sweep_progress

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_OF_GRACE = 5.0  # a shared file system may show a file later than the end of who wrote it


def sweep_on_cluster(
    planned: Planned,
    folder: Path,
    widths: Sequence[int],
    jobs: Sequence[Job],
    interrupted: Interrupts,
    began: float,
    quiet: bool,
) -> SweepReport:
    """Run what is not done through submitit, and join what is there."""
    assert planned.executor is not None
    seen = SweepSeen(len(planned.points), 0)
    with sweep_progress(quiet) as show:
        ended = run_on_cluster(
            folder,
            jobs,
            planned.executor,
            interrupted,
            lambda done: show(seen._replace(done=done, here=done)),
        )
    groups = [
        {
            "width": width,
            "timing": {
                "compile_seconds": ended.compile_seconds.get(index, 0.0),
                "run_seconds": ended.run_seconds.get(index, 0.0),
            },
        }
        for index, width in enumerate(widths)
    ]
    timing = {"groups": groups, "wall_seconds": time.perf_counter() - began}
    result = join_record(planned, folder, jobs, timing, bool(ended.missing))
    if not ended.missing:
        remove_checkpoints(folder)
    if not quiet:
        print_sweep(planned.study.title, result, folder)
    if ended.missing and not interrupted():
        tries = 1 + planned.executor.retries
        lost = f"{len(ended.missing)} of {len(jobs)} jobs failed {tries} times; the last log: {ended.log}"
        if ended.trouble:
            lost = f"{ended.trouble}; `jaxopt-study resume` tries again"
        print(f"jaxopt-study: {folder}: {lost}", file=sys.stderr)
        return SweepReport(folder, result, 1)
    return SweepReport(folder, result, interrupted.exit_code if ended.missing else 0)


class Ended(NamedTuple):
    """How the tasks of a sweep ended.

    Attributes:
      missing: jobs that are not done.
      log: the last one, of a task that failed if there is one.
      compile_seconds, run_seconds: by group.
      trouble: why no task could be submitted; empty where they could.
    """

    missing: list[Job]
    log: Path | None
    compile_seconds: dict[int, float]
    run_seconds: dict[int, float]
    trouble: str = ""


def run_on_cluster(
    folder: Path,
    jobs: Sequence[Job],
    config: ExecutorConfig,
    stop: Callable[[], bool],
    show: Callable[[int], None],
) -> Ended:
    """Submit what is not done, wait, and submit again what failed.

    Args:
      folder: the sweep's, on a file system that all machines see.
      jobs: of the sweep.
      config: where they run.
      stop: asked between looks; then all tasks are cancelled.
      show: called with the number of points that are done.
    """
    executor = make_executor(config, folder / "submitit")
    submitted: list[Any] = []
    log, trouble = None, ""
    for _ in range(1 + config.retries):
        tasks = deal_out(_missing(folder, jobs), config.tasks)
        if not tasks or stop():
            break
        numbers = [[job.number for job in task] for task in tasks]
        try:
            running = executor.map_array(run_task, [str(folder.resolve())] * len(tasks), numbers)
        except Exception as error:  # of submitit, which hands on what Slurm said
            trouble = f"jobs cannot be submitted: {' '.join(str(error).split()) or type(error).__name__}"
            break
        submitted += running
        log = running[0].paths.stderr
        _wait(folder, jobs, running, config, stop, show)
    missing = _missing(folder, jobs)
    if stop():
        for one in submitted:
            if not _result_is_there(one):
                one.cancel(check=False)
    compiling: dict[int, float] = {}
    running_seconds: dict[int, float] = {}
    for one in submitted:
        for group, (compile_seconds, run_seconds) in _seconds(one).items():
            compiling[group] = compiling.get(group, 0.0) + compile_seconds
            running_seconds[group] = running_seconds.get(group, 0.0) + run_seconds
    failed = [one.paths.stderr for one in submitted if not _result_is_there(one)]
    return Ended(missing, failed[-1] if failed else log, compiling, running_seconds, trouble)


def deal_out(jobs: Sequence[Job], tasks: int) -> list[list[Job]]:
    """Jobs by task: of one group each, about as many tasks as asked for, at least one a group.

    >>> jobs = [Job(number, number // 4, range(1)) for number in range(8)]
    >>> [[job.number for job in task] for task in deal_out(jobs, 4)]
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    dealt = []
    for members in groups.values():
        share = max(round(max(tasks, 1) * len(members) / len(jobs)), 1) if tasks else 1
        size = -(-len(members) // share)
        dealt += [members[first : first + size] for first in range(0, len(members), size)]
    return dealt


def run_task(folder: str, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
    """What runs on another machine: some jobs of a sweep's folder, those that are not done.

    Returns:
      Seconds of compiling and of running, by group.
    """

    where = Path(folder)
    planned = read_planned(where / "config.toml", here=True)
    widths = check_plan(planned, where)
    wanted = set(numbers)
    seconds: dict[int, tuple[float, float]] = {}
    programs: dict[int, Any] = {}
    with hear_interrupts() as interrupted:
        for job in make_jobs(planned.groups, widths):
            if job.number not in wanted or sweep_record.job_path(where, job.number).exists():
                continue
            if job.group not in programs:
                programs[job.group] = trace_group(planned, job.group, widths[job.group]).compile()
            program = programs[job.group]
            began = time.perf_counter()
            try:
                _run_job(planned, where, program, job, interrupted)
            except Stopped:
                break
            before = seconds.get(job.group, (0.0, 0.0))[1]
            seconds[job.group] = (program.compile_seconds, before + time.perf_counter() - began)
    jax.clear_caches()
    return seconds


def _run_job(planned: Planned, folder: Path, lanes: Program, job: Job, stop: Callable[[], bool]) -> None:
    """Run one job and write its rows."""
    points = [planned.groups[job.group][member] for member in job.members]
    # Another machine may go on with it, of another kind: then it begins anew.
    saves = Checkpoints(folder, job.number, identity_of(planned.study), SECONDS, must_fit=False)
    outcomes = lanes.compile().run([point.config for point in points], stop, saves)
    types = axis_types(planned.sweep)
    sweep_record.write_job(folder, job, points, outcomes, types, planned.sweep.trace, lanes.extra_columns())
    saves.remove()


def _missing(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not sweep_record.job_path(folder, job.number).exists()]


def _wait(
    folder: Path,
    jobs: Sequence[Job],
    running: Sequence[Any],
    config: ExecutorConfig,
    stop: Callable[[], bool],
    show: Callable[[int], None],
) -> None:
    """Until every task has ended, or what they were to write is there."""
    ended_at: float | None = None
    while not stop():
        missing = _missing(folder, jobs)
        show(sum(len(job.members) for job in jobs) - sum(len(job.members) for job in missing))
        if not missing:
            return
        if _alive(running, config):
            ended_at = None
        else:
            told = all(_result_is_there(one) for one in running)
            ended_at = ended_at or time.monotonic()
            if told or config.kind == "local" or time.monotonic() - ended_at > SECONDS_OF_GRACE:
                return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _alive(running: Sequence[Any], config: ExecutorConfig) -> bool:
    """Whether a task is waiting or running; if Slurm does not say, it is."""
    if config.kind == "local":
        return not all(one.done() for one in running)
    command = ["squeue", "--noheader", "--array", "--format=%F_%K %A", "--jobs"]
    command.append(",".join({one.job_id.partition("_")[0] for one in running}))
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    if said.returncode != 0:  # a job that Slurm has forgotten is an error to it; so is a Slurm that is away
        return "Invalid job id" not in said.stderr
    return bool(said.stdout.split())


def _result_is_there(one: Any) -> bool:
    return one.paths.result_pickle.exists()


def _seconds(one: Any) -> dict[int, tuple[float, float]]:
    try:
        return one.result() if _result_is_there(one) else {}
    except Exception:  # the task failed; what it wrote tells more than how
        return {}
