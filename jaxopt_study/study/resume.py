"""`jaxopt-study resume RUN` and `repeat RUN`: go on with what was stopped, run again what ended."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxopt_study.study.checkpoint import FOLDER, SECONDS
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.devices import laid_out, one_writer, set_up
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.protocol import Study, StudyInputError
from jaxopt_study.study.run import resume_study, run_study
from jaxopt_study.study.sweep import resume_sweep, run_sweep
from jaxopt_study.study.sweep_record import read_plan


def resume(
    folder: Path,
    *,
    checkpoint_seconds: float = SECONDS,
    distributed: bool = False,
    quiet: bool = False,
    plots: bool = True,
) -> int:
    """Go on with a run or a sweep; `distributed` with as many processes as it was begun by.

    Returns:
      The exit code; 0 too where there was nothing left to do.

    Raises:
      StudyInputError: the folder is not a run's, another process runs it, or what made it has changed.
    """
    config = _config_of(folder)
    if _has_ended(folder):
        if not quiet:
            print(f"{folder}: has ended; nothing is left to do (`jaxopt-study repeat` runs it again)")
        return 0
    if _is_sweep(folder):
        if distributed:
            raise StudyInputError(f"{folder}: is a sweep; --distributed is for runs")
        planned = read_planned(config)
        return resume_sweep(planned, folder, checkpoint_seconds=checkpoint_seconds, quiet=quiet).exit_code
    study, configs = _load(config, distributed)
    with one_writer(folder) as (where, writes):
        report = resume_study(
            study,
            configs,
            where,
            checkpoint_seconds=checkpoint_seconds,
            quiet=quiet or not writes,
            plots=plots and writes,
        )
    return report.exit_code


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a repetition has another result: the place, what was, and what is."""

    where: str
    before: Any
    now: Any

    def __str__(self) -> str:
        text = f"{self.where}: {self.before} before, {self.now} now"
        if isinstance(self.before, float) and isinstance(self.now, float):
            scale = max(abs(self.before), abs(self.now))
            if math.isfinite(scale) and scale > 0:
                text += f" (relative {abs(self.now - self.before) / scale:.1e})"
        return text


def repeat(folder: Path, out_root: Path | None = None, *, quiet: bool = False) -> tuple[int, Path]:
    """Run again what a record tells of, and compare bit by bit; times are not compared.

    Args:
      folder: the record.
      out_root: where the repetition's folder is made; beside the record if None.
      quiet: show no progress and no tables.

    Returns:
      The exit code (0 if the results are the same, 3 if not), and the new folder.

    Raises:
      StudyInputError: the folder is not that of a run that ended.
    """
    config = _config_of(folder)
    if not _has_ended(folder):
        raise StudyInputError(f"{folder}: has not ended; `jaxopt-study resume {folder}` first")
    out_root = folder.resolve().parent if out_root is None else out_root
    if _is_sweep(folder):
        widths = tuple(read_plan(folder)["widths"])
        swept = run_sweep(read_planned(config), out_root, width=widths, quiet=quiet)
        new, code = swept.folder, swept.exit_code
    else:
        study, configs = _load(config)
        ran = run_study(study, configs, out_root, quiet=quiet, plots=False)
        new, code = ran.folder, ran.exit_code
    if code:
        return code, new
    differences = list(compare(folder, new))
    if not quiet:
        print(f"repeated: {new}")
        for difference in differences[:20]:
            print(f"  {difference}")
        more = len(differences) - 20
        if more > 0:
            print(f"  and {more:,} more")
        for line in _environments(folder, new) if differences else ():
            print(f"  {line}")
        print("the same, bit by bit" if not differences else f"{len(differences):,} differences")
    return (3 if differences else 0), new


def compare(before: Path, now: Path) -> Iterator[Difference]:
    """Where the results of two records differ: status, steps and values, and every row of their tables."""
    old, new = (_without_times(_result(folder)) for folder in (before, now))
    yield from _differences("", old, new)
    for name in ("points.parquet", "trace.parquet"):
        if (before / name).exists() or (now / name).exists():
            yield from _table_differences(before / name, now / name)


def _config_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise StudyInputError(f"{folder}: no such folder")
    config = folder / "config.toml"
    if not config.is_file():
        raise StudyInputError(f"{folder}: is not the folder of a run: no config.toml")
    return config


def _load(config: Path, distributed: bool = False) -> tuple[Study, dict[str, Any]]:
    """The study of a record, over as many devices and processes as it ran on: the bits depend on them."""
    file = read_config_file(config)
    study, configs = load_configs(file)
    wanted = file.processes or 1
    if wanted > 1 and not distributed:
        which = f"was run by {wanted} processes; as many go on with it, by `resume --distributed`"
        raise StudyInputError(f"{config.parent}: {which}")
    rows = set_up(file.devices, distributed)
    if jax.process_count() != wanted:
        raise StudyInputError(f"{config.parent}: was run by {wanted} processes, not {jax.process_count()}")
    return (study if rows is None else laid_out(study, configs, rows)), configs


def _is_sweep(folder: Path) -> bool:
    return (folder / "plan.json").exists()


def _has_ended(folder: Path) -> bool:
    try:
        result = _result(folder)
    except StudyInputError:  # not there, or damaged: to go on writes it anew
        return False
    return result.get("interrupted") is False and not (folder / FOLDER).exists()


def _result(folder: Path) -> dict[str, Any]:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyInputError(f"{folder}/result.json: cannot be read: {error}") from None
    if not isinstance(result, dict):
        raise StudyInputError(f"{folder}/result.json: is not a record")
    return result


def _without_times(result: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: result.get(key) for key in ("variants", "counts", "best")}
    variants = kept["variants"] or {}
    kept["variants"] = {
        label: {key: value for key, value in one.items() if key != "timing"}
        for label, one in variants.items()
    }
    return kept


def _differences(where: str, before: Any, now: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(f"{where}.{key}".lstrip("."), before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{where}[{index}]", one, other)
    elif before != now:
        yield Difference(where, before, now)


def _table_differences(before: Path, now: Path) -> Iterator[Difference]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (before.exists() and now.exists()):
        yield Difference(before.name, *("there" if path.exists() else "missing" for path in (before, now)))
        return
    try:
        old, new = pq.read_table(before), pq.read_table(now)
    except (pa.ArrowException, OSError) as error:
        raise StudyInputError(f"{before.name}: cannot be read: {error}") from None
    if old.column_names != new.column_names or len(old) != len(new):
        shapes = (f"{len(table)} rows of {', '.join(table.column_names)}" for table in (old, new))
        yield Difference(before.name, *shapes)
        return
    for name in old.column_names:
        if not old[name].equals(new[name]):  # NaN is not equal to itself: look closer
            pairs = zip(old[name].to_pylist(), new[name].to_pylist(), strict=True)
            for row, (one, other) in enumerate(pairs):
                if repr(one) != repr(other):
                    yield Difference(f"{before.name}: {name}[{row}]", one, other)


def _environments(before: Path, now: Path) -> list[str]:
    old, new = (_result(folder).get("environment", {}) for folder in (before, now))
    return [f"{key}: {old.get(key)} then, {new.get(key)} now" for key in new if old.get(key) != new.get(key)]
