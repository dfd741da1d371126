"""`curve_fit_stream`: `curve_fit_batch` for data that do not fit in memory, a host function.

Blocks are read, fitted and written at the same time: some are under way at once, one a core or two a
card, so that reading and transfers are hidden behind the work. Memory holds these blocks and, if no file
is asked for, the results.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.fit.blocks import read_blocks
from jaxopt_study.fit.check_input import check_params
from jaxopt_study.fit.curve_fit_batch import curve_fit_batch
from jaxopt_study.fit.names import names_of
from jaxopt_study.pytree import ravel_leaves
from jaxopt_study.result import is_converged
from jaxopt_study.types import PyTree

BLOCK = 8192


class Pace(NamedTuple):
    """How far a stream is.

    Attributes:
      done: fits whose results are out.
      total: how many there are; None if that is not known.
      seconds: since the start.
    """

    done: int
    total: int | None
    seconds: float

    @property
    def fits_per_second(self) -> float:
        """The mean so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """At this pace; NaN if the total is not known."""
        if self.total is None or not self.done:
            return float("nan")
        return (self.total - self.done) * self.seconds / self.done


class Streamed(NamedTuple):
    """What came out.

    Attributes:
      fits, converged: how many.
      seconds: from the first block read to the last result written, compilation included.
      columns: the results by their names, see `curve_fit_stream`; None if they are in a file.
    """

    fits: int
    converged: int
    seconds: float
    columns: dict[str, np.ndarray] | None


def curve_fit_stream(
    model_fn: Callable[..., Any],
    x: PyTree,
    y: Any,
    params: PyTree | Callable[[Any], PyTree],
    *,
    out: Path | str | None = None,
    column: str | None = None,
    block: int = BLOCK,
    workers: int | None = None,
    dtype: Any = None,
    progress: Callable[[Pace], None] | None = None,
    **options: Any,
) -> Streamed:
    """Fit `y[k] ≈ model_fn(params, x)` for every k of a file, an array or an iterator, block by block.

    Args:
      model_fn, x: as in `curve_fit_batch`; x is shared by all fits.
      y: an array of shape `(fits, ...)`, memory-mapped for one; the path of an NPY or Parquet file; an
        iterable of such arrays, of any lengths. See `fit.blocks.read_blocks`.
      params: where all fits start; or a function from a block of y, `(block, ...)`, to starts with a
        leading axis, which is jitted.
      out: a Parquet file for the results, which appears whole or not at all; None to return them.
      column: of a Parquet file with several.
      block: data sets a block; the last one is filled up, so that one program serves all.
      workers: blocks under way at once; one a core on a CPU, two a device else.
      dtype: in which to fit; that of y if it is a float, else JAX's default.
      progress: is called with a `Pace` after every block.
      options: of `curve_fit_batch`: bounds, loss, tolerances, ...; sigma and weights are of one data set,
        the same for all.

    Returns:
      A `Streamed`. A row of the results has for every parameter NAME its value and `NAME_stderr`, then
      `cost`, `reduced_chi2`, `status` (a `Status`), `num_steps`.

    Raises:
      FileNotFoundError, TypeError, ValueError: as `read_blocks` and `curve_fit_batch`; `out` is then not
        there, or as it was.

    Example:
      >>> from jaxopt_study.fit.stream import curve_fit_stream
      >>> x = np.arange(4.0)
      >>> y = np.array([[1.0, 3.0, 5.0, 7.0], [0.0, 1.0, 2.0, 3.0]])
      >>> done = curve_fit_stream(lambda p, x: p["a"] + p["b"] * x, x, y, {"a": 0.0, "b": 1.0}, block=2)
      >>> print(done.fits, np.round(done.columns["b"], 2))
      2 [2. 1.]
    """
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise ValueError(f"block: expected a whole number >= 1, got {block!r}")
    for name in ("x_axes", "params_axes"):
        if name in options:
            raise TypeError(f"{name}: curve_fit_stream does not take it: x is shared, starts see params")
    devices = jax.local_devices()
    x64 = bool(jax.config.read("jax_enable_x64"))  # a context of this thread, which workers do not see
    if workers is None:
        workers = (os.cpu_count() or 1) if devices[0].platform == "cpu" else 2 * len(devices)
    _check_out(out, y)
    source = read_blocks(y, block, column)
    x = jax.tree.map(jnp.asarray, x)
    names: list[str] = []
    fit = _program(model_fn, params, options, names)
    began = time.perf_counter()

    def work(number: int, data: np.ndarray) -> dict[str, np.ndarray]:
        device = devices[number % len(devices)]
        target = data.dtype if dtype is None and data.dtype.kind == "f" else dtype
        # The copy is made here, in the worker: of a memory-mapped block it reads the disk.
        whole = np.empty((block, *data.shape[1:]), target or (np.float64 if x64 else np.float32))
        whole[: len(data)] = data
        whole[len(data) :] = np.nan  # missing data end at once
        with jax.enable_x64(x64), jax.default_device(device):
            columns = fit(jax.device_put(x, device), jax.device_put(whole, device))
        return {name: np.asarray(columns[name])[: len(data)] for name in names}

    fits = converged = 0
    kept: list[dict[str, np.ndarray]] = []
    with _sink(out, kept) as write, ThreadPoolExecutor(workers) as pool:
        for columns in _in_order(pool, work, source.blocks, workers + 1):
            write(columns)
            fits += len(columns["status"])
            converged += int(np.sum(np.asarray(is_converged(columns["status"]))))
            if progress is not None:
                progress(Pace(fits, source.total, time.perf_counter() - began))
        if not fits:
            raise ValueError("y: there are no data sets")
    together = None
    if out is None:
        together = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
    return Streamed(fits, converged, time.perf_counter() - began, together)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[..., Any], blocks: Iterator[np.ndarray], most: int
) -> Iterator[Any]:
    """`work(number, block)` of every block, in their order, at most so many under way."""
    waiting: deque[Future] = deque()
    try:
        for number, data in enumerate(blocks):
            waiting.append(pool.submit(work, number, data))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _program(
    model_fn: Callable[..., Any], params: Any, options: dict[str, Any], names: list[str]
) -> Callable[[PyTree, Any], dict[str, Any]]:
    """From x and a block of y to the columns of the results, jitted; their order goes into `names`."""
    if not callable(params):
        params = check_params(params)

    @jax.jit
    def fit(x: PyTree, y: Any) -> dict[str, Any]:
        for name in ("sigma", "weights"):
            _check_shared(name, options.get(name), y.shape[1:])
        if callable(params):
            starts, axes = params(y), 0
        else:
            starts = jax.tree.map(lambda leaf: jnp.asarray(leaf, y.dtype), params)
            axes = None
        done = curve_fit_batch(model_fn, x, y, starts, params_axes=axes, **options)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), done.params)
        values, errors = (jax.vmap(ravel_leaves)(tree) for tree in (done.params, done.stderr))
        columns: dict[str, Any] = {}
        for place, name in enumerate(names_of(one)):
            _put(columns, name, values[:, place])
            _put(columns, f"{name}_stderr", errors[:, place])
        for name in ("cost", "reduced_chi2", "status", "num_steps"):
            _put(columns, name, getattr(done, name))
        names[:] = columns  # a jitted function returns a dict in the order of its keys
        return columns

    return fit


def _put(columns: dict[str, Any], name: str, values: Any) -> None:
    if name in columns:
        raise ValueError(f"params: two columns of the results would be called {name!r}; rename a parameter")
    columns[name] = values


def _check_shared(name: str, given: Any, shape: tuple[int, ...]) -> None:
    """Raise a `ValueError` for sigma or weights of more than one data set: every block has the same."""
    if given is not None and len(np.shape(given)) > len(shape):
        raise ValueError(f"{name}: expected those of one data set, of shape {shape}, got {np.shape(given)}")


def _check_out(out: Path | str | None, y: Any) -> None:
    """Raise, before anything is fitted, where no file can or should be written at the end."""
    if out is None:
        return
    if Path(out).is_dir():
        raise IsADirectoryError(f"out: {out} is a folder; expected a Parquet file")
    if not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"out: {Path(out).parent}: no such folder")
    if isinstance(y, str | Path) and Path(y).resolve() == Path(out).resolve():
        raise ValueError(f"out: {out} holds the data; the results need a file of their own")


class _sink:
    """Where results go: a list, or a Parquet file that appears when all are there."""

    def __init__(self, out: Path | str | None, kept: list[dict[str, np.ndarray]]) -> None:
        self._path = None if out is None else Path(out)
        self._kept = kept
        self._writer: Any = None

    @property
    def _temporary(self) -> Path:
        path = self._path or Path()
        return path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Callable[[dict[str, np.ndarray]], None]:
        return self._kept.append if self._path is None else self._write

    def _write(self, columns: dict[str, np.ndarray]) -> None:
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
