"""Run a study on the host: compile every variant, advance in chunks, record, report.

Between two chunks progress is shown and Ctrl-C heard; the numbers do not depend on where the
chunks end. What the files look like is `record`'s business.
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
from jaxopt_study.study import record
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.program import Program, compile_study, dtype_of
from jaxopt_study.study.progress import Seen, print_report, progress
from jaxopt_study.study.protocol import Recorded, Study, Timing, to_host
from jaxopt_study.study.signals import hear_interrupts
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
      interrupted: whether Ctrl-C ended the run.
    """

    folder: Path
    records: Mapping[str, Recorded]
    summary: Mapping[str, float | str]
    pictures: tuple[Path, ...]
    interrupted: bool


def run_study(
    study: Study,
    configs: Mapping[str, Any],
    out_root: Path | str,
    *,
    quiet: bool = False,
    plots: bool = True,
) -> RunReport:
    """Run every variant of a study and write its record.

    Every variant is compiled, and its `init` run, before anything is written: bad input that
    shows only there leaves no folder behind. The first Ctrl-C ends the run after the chunk in
    progress and records what there is; the second leaves at once.

    Args:
      study: from `load_study`.
      configs: Configs by variant's label, from `load_configs`.
      out_root: where the run's folder is made.
      quiet: show no progress and no table.
      plots: draw the study's pictures.

    Returns:
      A `RunReport`.

    Raises:
      StudyInputError: the study refused its input, or the folder cannot be made.
      KeyboardInterrupt: Ctrl-C before the run began, or a second one.
    """
    out_root = Path(out_root)
    record.check_writable(out_root)
    with hear_interrupts() as interrupted:
        programs = {}
        for label, program in compile_study(study, configs):
            programs[label] = program
            if interrupted():
                raise KeyboardInterrupt
        folder = record.new_folder(out_root, study.name)
        record.write_config(folder, study, configs)
        result = {
            "study": study.name,
            "title": study.title,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "interrupted": False,
            "version": __version__,
            "environment": describe_environment(study.path),
        }
        records = {}
        with progress(quiet) as show:
            for label, program in programs.items():
                if not interrupted():
                    records[label] = drive(program, label, show, interrupted)
        running = any(np.any(one.outcome.status == Status.RUNNING) for one in records.values())
        result["interrupted"] = interrupted() and (running or len(records) < len(configs))
        record.write_trace(folder, records)
        record.write_result(folder, {**result, **_results(records, {})})
        # From here on the record stands; what follows is the study's own, and may fail. A summary
        # or a picture may count on every variant, ended or not.
        whole = len(records) == len(configs)
        summary: Mapping[str, float | str] = {}
        if study.summary is not None and whole:
            summary = study.summary(records)
            record.write_result(folder, {**result, **_results(records, summary)})
        if not quiet:
            print_report(study.title, records, summary)
            note = " (interrupted: what was computed so far)" if result["interrupted"] else ""
            print(f"record: {folder}{note}", flush=True)
        pictures: list[Path] = []
        for path in _draw(study, folder, records) if plots and whole else ():
            pictures.append(path)
            if not quiet:
                print(f"picture: {path}", flush=True)
        return RunReport(folder, records, summary, tuple(pictures), bool(result["interrupted"]))


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
    program: Program, label: str, show: Callable[[Seen], None], interrupted: Callable[[], bool]
) -> Recorded:
    """Advance one variant in chunks until no lane runs, or until interrupted.

    Args:
      program: the variant, at its start.
      label: its name, for `show`.
      show: told what is seen at the start, after every chunk, and at the end.
      interrupted: asked after every chunk.

    Returns:
      The variant as it stands at the end.
    """
    max_steps = getattr(program.config, "max_steps", None)
    max_steps = max_steps if isinstance(max_steps, int) else None
    carry, seconds, n = program.carry, 0.0, 1
    status, steps, value = Status.RUNNING, 0, np.nan
    with dtype_of(program.config):
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
            show(Seen(label, max_steps, status, steps, value, seconds, ended=False))
            growth = min(SECONDS_PER_CHUNK / max(took, 1e-9), LARGEST_GROWTH)
            n = min(max(int(n * growth), 1), LARGEST_CHUNK)
        show(Seen(label, max_steps, status, steps, value, seconds, ended=True))
        outcome = to_host(program.outcome(carry))
    return Recorded(program.config, outcome, Timing(program.compile_seconds, seconds))
