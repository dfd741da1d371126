"""Run a study on the host: compile every variant, advance in chunks, record, report.

Between two chunks progress is shown, signals are heard and checkpoints are written; the numbers do
not depend on where the chunks end. What the files look like is `record`'s business.
"""

import dataclasses
import datetime
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_study.result import Status
from jaxopt_study.study import checkpoint, compile_cache, record
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.lock import locked
from jaxopt_study.study.program import Program, compile_study, dtype_of
from jaxopt_study.study.progress import print_report, progress
from jaxopt_study.study.protocol import Recorded, Study, Timing, to_host
from jaxopt_study.study.seen import Seen
from jaxopt_study.study.shared_checkpoints import checkpoints, shared
from jaxopt_study.study.signals import Interrupted, Interrupts, hear_interrupts
from jaxopt_study.version import __version__

SECONDS_PER_CHUNK = 0.25
LARGEST_GROWTH = 16  # of a chunk over the one before: the first times are mostly dispatch
LARGEST_CHUNK = 2**30  # n is an int32


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What a run left behind.

    Attributes:
      folder: the record.
      records: each variant's `Recorded`, by label; without those that an interrupt kept from
        beginning.
      summary: what the study's `summary` said.
      pictures: the files drawn.
      interrupted: whether a signal ended the run.
      exit_code: of the command: 0, or 130 after Ctrl-C, 143 after SIGTERM.
    """

    folder: Path
    records: Mapping[str, Recorded]
    summary: Mapping[str, float | str]
    pictures: tuple[Path, ...]
    interrupted: bool
    exit_code: int = 0


def run_study(
    study: Study,
    configs: Mapping[str, Any],
    out_root: Path | str,
    *,
    checkpoint_seconds: float = checkpoint.SECONDS,
    quiet: bool = False,
    plots: bool = True,
    tensorboard: Path | None = None,
) -> RunReport:
    """Run every variant of a study and write its record.

    Every variant is compiled, and its `init` run, before anything is written: bad input that
    shows only there leaves no folder behind. The first Ctrl-C, or SIGTERM, ends the run after the
    chunk in progress, writes a checkpoint and records what there is; the second leaves at once.

    Args:
      study: from `load_study`.
      configs: Configs by variant's label, from `load_configs`.
      out_root: where the run's folder is made.
      checkpoint_seconds: between two checkpoints of a variant, from which `resume_study` goes on.
      quiet: show no progress and no table.
      plots: draw the study's pictures.
      tensorboard: a folder for TensorBoard's files, None for none.

    Returns:
      A `RunReport`.

    Raises:
      StudyInputError: the study refused its input, or the folder cannot be made.
      KeyboardInterrupt: a signal before the run began (`signals.Interrupted`), or a second Ctrl-C.
    """
    out_root = Path(out_root)
    record.check_writable(out_root)
    with hear_interrupts() as heard:
        interrupted = shared(heard)
        programs = _compile_all(study, configs, interrupted)
        record.check_room(out_root, sum(checkpoint.room_for(one.carry) for one in programs.values()))
        folder = record.new_folder(out_root, study.name)
        with locked(folder):
            more = {"devices": study.devices, "processes": study.processes}
            more = {name: count for name, count in more.items() if count is not None}
            record.begin(folder, lambda: record.write_config(folder, study, configs, more))
            return _record(
                study, programs, folder, interrupted, checkpoint_seconds, quiet, plots, tensorboard
            )


def resume_study(
    study: Study,
    configs: Mapping[str, Any],
    folder: Path,
    *,
    checkpoint_seconds: float = checkpoint.SECONDS,
    quiet: bool = False,
    plots: bool = True,
) -> RunReport:
    """Go on with a run that was interrupted or killed, to the same bits as if it had not been.

    Variants that have a checkpoint go on from the last one, others begin anew.

    Args:
      study: from `load_study`.
      configs: Configs by variant's label, from the run's own `config.toml`.
      folder: the run's.
      checkpoint_seconds: between two checkpoints.
      quiet: show no progress and no table.
      plots: draw the study's pictures.

    Returns:
      A `RunReport`.

    Raises:
      StudyInputError: another process runs in the folder, it cannot be written, or a checkpoint is of
        another study, version or device.
    """
    with hear_interrupts() as heard, locked(folder):
        interrupted = shared(heard)
        record.check_writable(folder)
        record.remove_unfinished(folder)
        programs = _compile_all(study, configs, interrupted)
        return _record(study, programs, folder, interrupted, checkpoint_seconds, quiet, plots)


def _compile_all(study: Study, configs: Mapping[str, Any], interrupted: Interrupts) -> dict[str, Program]:
    programs = {}
    for label, program in compile_study(study, configs):
        programs[label] = program
        if interrupted():
            raise Interrupted(interrupted.exit_code)
    return programs


def _record(
    study: Study,
    programs: Mapping[str, Program],
    folder: Path,
    interrupted: Interrupts,
    checkpoint_seconds: float,
    quiet: bool,
    plots: bool,
    tensorboard: Path | None = None,
) -> RunReport:
    """Run what is compiled, from checkpoints where there are any, and write the record."""
    environment = describe_environment(study.path)
    result = {
        "study": study.name,
        "title": study.title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": False,
        "version": __version__,
        "start": compile_cache.describe_start(),  # everything is compiled, and no step taken
        "environment": environment,
    }
    identity = checkpoint.identity_of(study)
    records: dict[str, Recorded] = {}
    with progress(quiet, tensorboard) as show:
        for number, (label, program) in enumerate(programs.items()):
            if not interrupted():
                saves = checkpoints(folder, number, identity, checkpoint_seconds)
                records[label] = drive(program, label, show, interrupted, saves)
    running = any(np.any(one.outcome.status == Status.RUNNING) for one in records.values())
    whole = len(records) == len(programs)
    cut = interrupted() and (running or not whole)
    result["interrupted"] = cut
    record.write_trace(folder, records)
    record.write_result(folder, {**result, **_results(records, {})})
    # From here on the record stands; what follows is the study's own, and may fail. A summary
    # or a picture may count on every variant, ended or not.
    summary: Mapping[str, float | str] = {}
    if study.summary is not None and whole:
        summary = study.summary(records)
        record.write_result(folder, {**result, **_results(records, summary)})
    if not quiet:
        print_report(study.title, records, summary)
        note = f" (interrupted: `jaxopt-study resume {folder}` goes on)" if cut else ""
        print(f"record: {folder}{note}", flush=True)
    pictures: list[Path] = []
    for path in _draw(study, folder, records) if plots and whole else ():
        pictures.append(path)
        if not quiet:
            print(f"picture: {path}", flush=True)
    if not cut:
        checkpoint.remove_checkpoints(folder)
    return RunReport(folder, records, summary, tuple(pictures), cut, interrupted.exit_code if cut else 0)


def _results(records: Mapping[str, Recorded], summary: Mapping[str, float | str]) -> dict[str, Any]:
    variants = {label: record.describe_variant(one) for label, one in records.items()}
    return {"variants": variants, "summary": summary}


def _draw(study: Study, folder: Path, records: Mapping[str, Recorded]) -> Iterator[Path]:
    if study.plot is None:
        return
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules:  # a notebook's own backend stays as it is
        matplotlib.use("agg")
    from matplotlib import pyplot

    for name, figure in study.plot(records).items():
        yield record.write_picture(folder, name, figure)
        pyplot.close(figure)


def drive(
    program: Program,
    label: str,
    show: Callable[[Seen], None],
    interrupted: Callable[[], bool],
    saves: checkpoint.Checkpoints | None = None,
) -> Recorded:
    """Advance one variant in chunks until no lane runs, or until interrupted.

    Args:
      program: the variant, at its start.
      label: its name, for `show`.
      show: told what is seen at the start, after every chunk, and at the end.
      interrupted: asked after every chunk.
      saves: where checkpoints are, to begin from and to write; None for none.

    Returns:
      The variant as it stands at the end.
    """
    max_steps = getattr(program.config, "max_steps", None)
    max_steps = max_steps if isinstance(max_steps, int) else None
    carry, seconds, n = program.carry, 0.0, 1
    status, steps, value = Status.RUNNING, 0, np.nan
    saves = None if program.is_one_shot else saves
    with dtype_of(program.config):
        if saves is not None and (saved := saves.load(carry)) is not None:
            carry, seconds = saved.carry, saved.run_seconds
        if not program.is_one_shot:  # which has nothing to show before its end
            status, steps, value = jax.device_get(program.outcome(carry)[:3])
        show(Seen(label, max_steps, status, steps, value, seconds, ended=False))
        while np.any(np.equal(status, Status.RUNNING)):
            began = time.perf_counter()
            carry = jax.block_until_ready(program.advance(carry, np.int32(n)))
            took = time.perf_counter() - began
            seconds += took
            status, steps, value = jax.device_get(program.outcome(carry)[:3])
            if program.is_one_shot or interrupted():
                break
            if saves is not None:
                saves.save_if_due(carry, seconds)
            show(Seen(label, max_steps, status, steps, value, seconds, ended=False))
            growth = min(SECONDS_PER_CHUNK / max(took, 1e-9), LARGEST_GROWTH)
            n = min(max(int(n * growth), 1), LARGEST_CHUNK)
        show(Seen(label, max_steps, status, steps, value, seconds, ended=True))
        outcome = to_host(program.outcome(carry))
        if saves is not None and (interrupted() or saves.are_there()):  # variants that follow may take long
            saves.save(carry, seconds)
    return Recorded(program.config, outcome, Timing(program.compile_seconds, seconds))
