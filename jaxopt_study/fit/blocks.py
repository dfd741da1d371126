"""A batch that does not fit in memory, as blocks of so many data sets: from a file, an array or an iterator.

Only what is read is in memory: a memory-mapped array stays on the disk, a Parquet file is read by its row
groups. Fitting is in `stream`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Blocks(NamedTuple):
    """Data sets in blocks.

    Attributes:
      blocks: arrays of shape `(up to block, *shape)`, in order; only the last is shorter.
      total: the number of data sets, None if it is not known before the end.
    """

    blocks: Iterator[np.ndarray]
    total: int | None


def read_blocks(y: Any, block: int, column: str | None = None) -> Blocks:
    """Blocks of `block` data sets.

    Args:
      y: an array, a memory-mapped one too, of shape `(fits, ...)`; the path of an NPY file with such an
        array; the path of a Parquet file; or an iterable of arrays of shape `(any number, ...)`.
      block: how many data sets a block has.
      column: of a Parquet file, the one whose cells are lists of equal length; None if there is just one.

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: y is something else.
      ValueError: an array has no axis of fits and one of data, a file no such column.
    """
    if isinstance(y, str | Path):
        path = Path(y)
        if not path.is_file():
            raise FileNotFoundError(f"y: {path}: no such file")
        if path.suffix == ".parquet":
            return _of_parquet(path, block, column)
        if path.suffix != ".npy":
            raise ValueError(f"y: {path}: expected a file that ends in .npy or .parquet")
        y = np.load(path, mmap_mode="r", allow_pickle=False)
    if hasattr(y, "shape") and hasattr(y, "dtype"):
        _check("y", y)
        total = y.shape[0]
        return Blocks((y[start : start + block] for start in range(0, total, block)), total)
    if isinstance(y, Iterable):
        return Blocks(_regrouped(y, block), None)
    raise TypeError(f"y: expected an array, a path or an iterable of arrays, got {type(y).__name__}")


def _of_parquet(path: Path, block: int, column: str | None) -> Blocks:
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(path)
    names = file.schema_arrow.names
    if column is None and len(names) == 1:
        column = names[0]
    if column not in names:
        raise ValueError(f"y: {path}: which column of lists? there are: {', '.join(names)}")

    def arrays() -> Iterator[np.ndarray]:
        for batch in file.iter_batches(batch_size=block, columns=[column]):
            lists = batch.column(0)
            lengths = {len(cell) if cell.is_valid else -1 for cell in lists} if len(lists) else {0}
            if len(lengths) != 1 or -1 in lengths:
                raise ValueError(f"y: {path}: the lists in column {column!r} are not of one length")
            values = lists.flatten().to_numpy(zero_copy_only=False)
            yield values.reshape(len(lists), -1)

    return Blocks(_regrouped(arrays(), block), file.metadata.num_rows)


def _regrouped(arrays: Iterable[Any], block: int) -> Iterator[np.ndarray]:
    """The same rows in blocks of `block`."""
    waiting: list[np.ndarray] = []
    held = 0
    shape: tuple[int, ...] | None = None
    for array in arrays:
        array = np.array(array)  # a copy: whoever yields blocks may fill one buffer again and again
        _check("y: a block", array)
        if shape is not None and array.shape[1:] != shape:
            raise ValueError(f"y: a block has data sets of shape {array.shape[1:]} where others have {shape}")
        shape = array.shape[1:]
        while held + len(array) >= block:
            missing = block - held
            yield np.concatenate([*waiting, array[:missing]]) if waiting else array[:missing]
            array, waiting, held = array[missing:], [], 0
        if len(array):
            waiting.append(array)
            held += len(array)
    if waiting:
        yield np.concatenate(waiting)


def _check(name: str, array: Any) -> None:
    if array.ndim < 2:
        raise ValueError(f"{name}: expected shape (fits, ...), got {array.shape}")
    if np.dtype(array.dtype).kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
