"""Where the results of a stream go: a list in memory, or a Parquet file that appears when all are there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Columns = dict[str, np.ndarray]


def check_out(out: Path | str | None, y: Any) -> None:
    """Raise, before anything is fitted, where no file can or should be written at the end."""
    if out is None:
        return
    if Path(out).is_dir():
        raise IsADirectoryError(f"out: {out} is a folder; expected a Parquet file")
    if not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"out: {Path(out).parent}: no such folder")
    if isinstance(y, str | Path) and Path(y).resolve() == Path(out).resolve():
        raise ValueError(f"out: {out} holds the data; the results need a file of their own")


class results_to:
    """A context in which columns are written; `out` is whole after it, or as it was if anything failed."""

    def __init__(self, out: Path | str | None, kept: list[Columns]) -> None:
        self._path = None if out is None else Path(out)
        self._kept = kept
        self._writer: Any = None

    @property
    def _temporary(self) -> Path:
        path = self._path or Path()
        return path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Callable[[Columns], None]:
        return self._kept.append if self._path is None else self._write

    def _write(self, columns: Columns) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table(columns)
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._temporary, table.schema)
        self._writer.write_table(table)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._path is None or self._writer is None:
            return
        try:
            self._writer.close()  # writes the end of the file, for which the disk may have no room
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
