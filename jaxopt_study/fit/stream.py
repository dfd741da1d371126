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
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_study.fit.blocks import read_blocks
from jaxopt_study.fit.results_file import Columns, check_out, results_to
from jaxopt_study.fit.stream_program import make_program, run_program
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
    _check_count("block", block)
    if workers is not None:
        _check_count("workers", workers)
    if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
    devices = jax.local_devices()
    x64 = bool(jax.config.read("jax_enable_x64"))  # a context of this thread, which workers do not see
    if workers is None:
        workers = (os.cpu_count() or 1) if devices[0].platform == "cpu" else 2 * len(devices)
    check_out(out, y)
    source = read_blocks(y, block, column)
    began = time.perf_counter()
    first = next(source.blocks, None)
    if first is None or not len(first):
        raise ValueError("y: there are no data sets")
    # Neither in half precision nor, without x64, in float64 can anything be fitted.
    wanted = np.dtype(first.dtype if dtype is None else dtype)
    target = np.dtype(np.float64 if x64 and wanted != np.float32 else np.float32)
    program = make_program(model_fn, x, params, first.shape[1:], target, options)

    def work(number: int, data: np.ndarray) -> dict[str, np.ndarray]:
        # The copy is made here, in the worker: of a memory-mapped block it reads the disk.
        whole = np.empty((block, *data.shape[1:]), target)
        whole[: len(data)] = data
        whole[len(data) :] = np.nan  # missing data end at once
        with jax.enable_x64(x64):
            return run_program(program, whole, len(data), devices[number % len(devices)])

    fits = converged = 0
    kept: list[Columns] = []
    with results_to(out, kept) as write, ThreadPoolExecutor(workers) as pool:
        for columns in _in_order(pool, work, chain([first], source.blocks), workers + 1):
            write(columns)
            fits += len(columns["status"])
            converged += int(np.sum(np.asarray(is_converged(columns["status"]))))
            if progress is not None:
                progress(Pace(fits, source.total, time.perf_counter() - began))
    together = None
    if out is None:
        together = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
    return Streamed(fits, converged, time.perf_counter() - began, together)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")


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
