"""`jaxopt-study fit --batch`: one model fitted to every data set of a file, the results in a Parquet file.

The fits are `jaxopt_study.fit.stream`'s: the file need not fit in memory. The model is loaded and the words
of `--start` and `--bounds` are read as for a single fit.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.fit.blocks import read_blocks
from jaxopt_study.fit.stream import Pace, Streamed, curve_fit_stream
from jaxopt_study.study import record
from jaxopt_study.study.fit_flags import parse_bounds, parse_start
from jaxopt_study.study.load_function import load_function
from jaxopt_study.study.protocol import StudyInputError

SECONDS_BETWEEN_LINES = 2.0
MODEL = "jaxopt_study.models.gaussian_spot:apply"
GUESS = "jaxopt_study.models.gaussian_spot:guess"


@dataclasses.dataclass(frozen=True)
class BatchRequest:
    """What a person asked for, in the words of the command line.

    Attributes:
      data: an NPY file of shape (fits, ...), or a Parquet file with a column of lists.
      model: `MODULE:FUNCTION` or `FILE.py:FUNCTION`, a function of (params, x).
      start: `'a=1,k=0.5'`, or `MODULE:FUNCTION` from a block of data sets to starts.
      x: an NPY file with x, the same for all; None for the pixels' coordinates.
      y: column of a Parquet file with several.
      bounds, loss, loss_scale: as for a single fit.
      dtype: precision of everything.
    """

    data: Path
    model: str
    start: str
    x: Path | None = None
    y: str | None = None
    bounds: str | None = None
    loss: str = "linear"
    loss_scale: float = 1.0
    dtype: str = "float32"


def fit_batch(request: BatchRequest, out: Path, *, quiet: bool = False) -> Streamed:
    """Fit every data set and write the results.

    Args:
      request: what to fit.
      out: the Parquet file; it appears whole or not at all.
      quiet: print no progress.

    Raises:
      StudyInputError: for bad input, in one line.
    """
    record.check_writable(out.parent)
    if out.is_dir():
        raise StudyInputError(f"{out}: is a folder; --out of a batch is a Parquet file")
    with jax.enable_x64(request.dtype == "float64"):
        model = load_function(request.model, "--model", MODEL)
        shape, params, bounds = _read(request)
        x = pixel_coordinates(shape, request.dtype) if request.x is None else _read_x(request)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            return curve_fit_stream(
                model,
                x,
                request.data,
                params,
                out=out,
                column=request.y,
                dtype=request.dtype,
                bounds=bounds,
                loss=request.loss,
                loss_scale=request.loss_scale,
                progress=None if quiet else _printer(),
            )
        except KeyError as error:
            raise StudyInputError(f"--start: {request.model} asks for a parameter {error}") from None
        except (TypeError, ValueError) as error:
            raise StudyInputError(f"{request.data}: {error}") from None


def pixel_coordinates(shape: tuple[int, ...], dtype: Any) -> Any:
    """x where none is given: the coordinates of a data set's elements.

    One array of numbers for curves, a tuple of arrays (rows, columns, ...) for images.

    >>> print(pixel_coordinates((3,), "float32"))
    [0. 1. 2.]
    """
    grids = [np.asarray(grid, dtype) for grid in np.indices(shape)]
    return grids[0] if len(grids) == 1 else tuple(grids)


def _read(request: BatchRequest) -> tuple[tuple[int, ...], Any, Any]:
    """The shape of a data set, the starts, the bounds."""
    try:
        first = next(read_blocks(request.data, 1, request.y).blocks, None)
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise StudyInputError(str(error).removeprefix("y: ")) from None
    if first is None:
        raise StudyInputError(f"{request.data}: there are no data sets")
    if "=" not in request.start:
        guess: Callable[[Any], Any] = load_function(request.start, "--start", GUESS)
        try:
            names = jax.eval_shape(guess, jax.ShapeDtypeStruct(first.shape, request.dtype))
        except (TypeError, ValueError) as error:
            raise StudyInputError(f"--start: {request.start} fails on a block of data: {error}") from None
        if not isinstance(names, dict):
            raise StudyInputError(f"--start: {request.start} returns a {type(names).__name__}, no dict")
        inside = dict.fromkeys(names, np.nan)  # where it starts is not known: no bound is wrong
        return first.shape[1:], guess, parse_bounds(request.bounds, inside, starts_known=False)
    start = parse_start(request.start)
    params = {name: jnp.asarray(value, request.dtype) for name, value in start.items()}
    return first.shape[1:], params, parse_bounds(request.bounds, start)


def _read_x(request: BatchRequest) -> Any:
    try:
        return np.asarray(np.load(Path(request.x or ""), allow_pickle=False), request.dtype)
    except (OSError, ValueError) as error:
        raise StudyInputError(f"--x: {request.x}: no NPY file of numbers ({error})") from None


def _printer() -> Callable[[Pace], None]:
    last = [0.0]

    def show(pace: Pace) -> None:
        now = time.monotonic()
        ended = pace.done == pace.total
        if now - last[0] < SECONDS_BETWEEN_LINES and not ended:
            return
        last[0] = now
        of = "" if pace.total is None else f" of {pace.total}"
        left = "" if pace.total is None or ended else f", {pace.seconds_left:.0f} s left"
        print(f"{pace.done}{of} fits, {pace.fits_per_second:.0f} a second{left}", file=sys.stderr, flush=True)

    return show
