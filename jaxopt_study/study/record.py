"""The folder of one run: config.toml, result.json, trace.parquet and pictures.

Every file appears whole or not at all. What is in a record is decided by `run`; this file only
writes it.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxopt_study.result import Status, describe
from jaxopt_study.study.protocol import Outcome, Recorded, Study, StudyInputError
from jaxopt_study.version import __version__


def atomic_write(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that it appears whole, on the disk, or not at all.

    Args:
      path: the file; one that is there is replaced.
      write: writes the content to the open binary file that it is given.

    Raises:
      BaseException: whatever `write` raised; `path` is then as it was before, and no temporary
        file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a folder that is gone
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as where the disk is full
            error.filename = str(path)
        raise
    with _directory(path.parent) as folder:
        if folder is not None:
            os.fsync(folder)


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int | None]:
    if not hasattr(os, "O_DIRECTORY"):  # Windows: a folder cannot be opened, nor synced
        yield None
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


def check_writable(out_root: Path) -> None:
    """Raise a `StudyInputError` if no folder could be made and written in `out_root`."""
    there = _nearest(out_root)
    if not there.is_dir():
        raise StudyInputError(f"{out_root}: cannot hold a record: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StudyInputError(f"{out_root}: cannot hold a record: {there} is not writable")
    try:  # what may be written may yet have no room
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StudyInputError(f"{out_root}: cannot hold a record: {error.strerror}") from None


def check_room(out_root: Path, needed: int) -> None:
    """Raise a `StudyInputError` if the disk has no room for so many bytes."""
    try:
        free = shutil.disk_usage(_nearest(out_root)).free
    except OSError:  # a file system that does not say
        return
    if needed > free:
        room = f"checkpoints take {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free"
        raise StudyInputError(f"{out_root}: cannot hold a record: {room}")


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def begin(folder: Path, write: Callable[[], Any]) -> None:
    """Write what a new folder begins with, or remove it.

    Raises:
      StudyInputError: it cannot be written.
    """
    try:
        write()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StudyInputError(f"{folder}: cannot hold a record: {error.strerror}") from None


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed process left of files that it was writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def new_folder(out_root: Path, name: str) -> Path:
    """Make the folder of a run, `<name>-<date>-<time>`, one that nobody else has.

    Args:
      out_root: where runs are; made if it is not there.
      name: the study's name.

    Returns:
      The new, empty folder; with a suffix `-2`, `-3` and so on where the second is taken.

    Raises:
      StudyInputError: the folder cannot be made.
    """
    stem = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    try:
        out_root.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 10_000):
            folder = out_root / (stem if attempt == 1 else f"{stem}-{attempt}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise StudyInputError(f"{out_root}: cannot hold a record: {error.strerror}") from None
    raise StudyInputError(f"{out_root}: cannot hold a record: ten thousand runs began in this second")


def write_config(
    folder: Path,
    study: Study,
    configs: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    command: str = "run",
) -> None:
    """Write `config.toml`: every field of every variant, from which the run can be repeated.

    Paths that lie beside the folder of runs are written relative to the run's folder, so that the
    tree can be moved or cloned whole; others are absolute.

    Args:
      folder: where.
      study: the study.
      configs: its Configs by label.
      more: further keys and tables, such as `[sweep]`.
      command: what repeats it.
    """
    import msgspec
    import tomli_w

    root = folder.resolve().parent.parent

    def as_text(value: Any) -> Any:
        if not isinstance(value, Path):
            raise NotImplementedError
        near = value.is_absolute() and value.is_relative_to(root)
        return Path(os.path.relpath(value, folder.resolve())).as_posix() if near else value.as_posix()

    variants = {}
    for label, config in configs.items():
        fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        table = msgspec.to_builtins(fields, enc_hook=as_text)
        variants[label] = {name: value for name, value in table.items() if value is not None}
    tables = msgspec.to_builtins(dict(more or {}), enc_hook=as_text)
    text = tomli_w.dumps({"study": as_text(study.path), "variants": variants, **tables})
    head = (
        f"# {study.title}\n"
        f"# Written by jaxopt_study {__version__}, every field as it was run.\n"
        f"# To repeat it: jaxopt-study {command} {folder.name}/config.toml\n\n"
    )
    atomic_write(folder / "config.toml", lambda file: file.write((head + text).encode()))


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `result.json` as strict JSON: numbers that are not finite are strings."""
    text = json.dumps(to_json(result), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    atomic_write(folder / "result.json", lambda file: file.write(text.encode()))


def describe_variant(recorded: Recorded) -> dict[str, Any]:
    """One variant's entry in `result.json`: lists over lanes where the outcome has lanes."""
    outcome = recorded.outcome
    return {
        "status": status_names(outcome.status),
        "message": describe(outcome.status),
        "num_steps": outcome.num_steps,
        "value": outcome.value,
        "values": outcome.values,
        "timing": dataclasses.asdict(recorded.timing),
        "dtype": recorded.config.dtype,
    }


def status_names(status: Any) -> Any:
    """The name of a status, or an array of names.

    >>> status_names(np.array([2, 6])).tolist()
    ['VALUE_CONVERGED', 'STALLED']
    """
    codes = np.asarray(status)
    names = [Status(int(code)).name for code in codes.ravel()]
    return np.array(names, dtype=object).reshape(codes.shape)


def to_json(value: Any) -> Any:
    """The same value in what strict JSON has, arrays as lists.

    >>> to_json({"loss": np.array([1.0, np.nan]), "best": float("-inf")})
    {'loss': [1.0, 'NaN'], 'best': '-Infinity'}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "dtype"):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Path):
        return str(value)
    return value


def write_trace(folder: Path, records: Mapping[str, Recorded]) -> bool:
    """Write `trace.parquet`, one row per variant, lane and step; no file where nothing was traced.

    Columns: `variant` (dictionary), `lane`, `step` (int32), then the traces in their own dtype;
    a trace that another variant lacks is null there. Steps after a lane's last are left out.

    Returns:
      Whether there was a trace to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for label, record in records.items():
        if record.outcome.traces:
            lane, step, columns = _tidy(record.outcome)
            variant = pa.array([label] * len(lane)).dictionary_encode()
            tables.append(pa.table({"variant": variant, "lane": lane, "step": step, **columns}))
    if not tables:
        return False
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    atomic_write(folder / "trace.parquet", lambda file: pq.write_table(table, file, compression="zstd"))
    return True


def _tidy(outcome: Outcome) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Traces of shape `lanes + (steps,)` as rows: lane, step and columns."""
    traces = {name: np.asarray(array) for name, array in outcome.traces.items()}
    traces = {name: array.reshape(-1, array.shape[-1]) for name, array in traces.items()}
    shape = next(iter(traces.values())).shape
    lane, step = (np.arange(length, dtype=np.int32) for length in shape)
    lane, step = (np.broadcast_to(rows, shape) for rows in (lane[:, None], step))
    keep = step <= np.reshape(outcome.num_steps, (-1, 1))
    for array in traces.values():
        if np.issubdtype(array.dtype, np.floating):
            keep |= ~np.isnan(array)
    return lane[keep], step[keep], {name: array[keep] for name, array in traces.items()}


def write_picture(folder: Path, name: str, figure: Any) -> Path:
    """Write one of a study's matplotlib figures as `<name>.png`, 150 dots an inch.

    Raises:
      ValueError: the name is not that of a file.
    """
    if not name or Path(name).name != name:
        raise ValueError(f"a picture is named like a file, not {name!r}")
    path = folder / f"{name}.png"
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=150))
    return path
