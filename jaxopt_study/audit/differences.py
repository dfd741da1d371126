"""Derivatives by differences, with an estimate of their error: what `check_derivatives` compares with.

Differences with steps h, h/2, h/4, ... are extrapolated to h = 0 (Richardson). Large steps have an error
of truncation, small ones of rounding, and the place in the table where both together are smallest
is chosen for every output by itself. One-sided differences tell a kink from a wrong derivative. On the
host, in float64.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEPTH = 4  # of the extrapolation: up to order h⁸

Floats = NDArray[np.float64]


class Samples(NamedTuple):
    """Values of a function along lines through points.

    Attributes:
      at: at the points, shape `(lines, outputs)`.
      ahead, behind: at the steps h and -h along the line, shape `(steps, lines, outputs)`.
      near, beyond: at equal, very short and short steps, for the noise, of the same shape.
      steps: h, each half the one before, shape `(steps,)`.
      eps: the rounding error of the coarsest number that is computed with.
    """

    at: Floats
    ahead: Floats
    behind: Floats
    near: Floats
    beyond: Floats
    steps: Floats
    eps: float


class Differences(NamedTuple):
    """Derivatives along the lines.

    Attributes:
      value, error: the derivative and the error that it may have; NaN and ∞ if there is none.
      left, right: one-sided derivatives; `left_error`, `right_error` their errors.
      kink: where left and right differ, or no derivative is finite.
      plain: central differences with each of the steps, not extrapolated.
      noise: of the function's values.
    """

    value: Floats
    error: Floats
    left: Floats
    left_error: Floats
    right: Floats
    right_error: Floats
    kink: NDArray[np.bool_]
    plain: Floats
    noise: Floats


def differentiate(samples: Samples, size: Floats | float = 0.0) -> Differences:
    """Derivatives from samples; all shapes are `(lines, outputs)`.

    Args:
      samples: of the function.
      size: of the terms that its values are made of, if that is known to be larger than the values.
    """
    with np.errstate(all="ignore"):
        # Rounding errors that go together show no scatter; some in the last place always are.
        # Those in steps show it from a distance only, where a function that varies quickly does too.
        least = samples.eps * np.fmax(10 * np.abs(samples.at), size)
        far = np.fmin(scatter(samples.beyond), 1e3 * samples.eps * np.fmax(np.abs(samples.at), size))
        return _differentiate(samples, np.fmax(np.fmax(least, far), scatter(samples.near)))


def _differentiate(samples: Samples, noise: Floats) -> Differences:
    h = samples.steps[:, None, None]
    plain = (samples.ahead - samples.behind) / (2 * h)
    ahead = (samples.ahead - samples.at) / h
    behind = (samples.at - samples.behind) / h
    value, error = _extrapolate(plain, 2 * noise / h, powers=(2, 4, 6, 8))
    right, right_error = _extrapolate(ahead, 4 * noise / h, powers=(1, 2, 3, 4))
    left, left_error = _extrapolate(behind, 4 * noise / h, powers=(1, 2, 3, 4))
    size, least = np.fmax(np.abs(left), np.abs(right)), 10 * samples.eps**0.5
    kink = _gap_stays(ahead, behind, 4 * noise / h, left - right, left_error + right_error, size, least)
    kink |= _is_singular(samples.ahead - samples.at, noise) | _is_singular(samples.behind - samples.at, noise)
    # At the end of the domain there is one side only.
    one_sided = ~np.isfinite(error)
    for side, its_error in ((left, left_error), (right, right_error)):
        use = one_sided & np.isfinite(its_error)
        value, error = np.where(use, side, value), np.where(use, its_error, error)
        one_sided &= ~use
    return Differences(value, error, left, left_error, right, right_error, kink, plain, noise)


def scatter(near: Floats) -> Floats:
    """Size of the errors of values at short equal steps, the first axis: third differences hold nothing else.

    Source: Hamming, Introduction to applied numerical analysis, 1971; Moré and Wild, Estimating computational
    noise, 2011.
    """
    with np.errstate(all="ignore"):
        third = np.diff(near, n=3, axis=0)
        seen = np.sqrt(np.mean(third**2, axis=0) / 20)  # the sum of squares of 1, 3, 3, 1
    return np.where(np.isfinite(seen), seen, 0.0)


def _extrapolate(plain: Floats, noise: Floats, powers: tuple[int, ...]) -> tuple[Floats, Floats]:
    columns, errors = [plain], [np.full_like(plain, np.inf)]
    errors[0][1:] = np.abs(np.diff(plain, axis=0)) + noise[1:]
    for power in powers[:DEPTH]:
        last = columns[-1]
        better = np.full_like(last, np.nan)
        better[1:] = last[1:] + np.diff(last, axis=0) / (2.0**power - 1)
        error = np.full_like(last, np.inf)
        error[1:] = np.fmax(np.abs(better[1:] - last[1:]), np.abs(better[1:] - last[:-1])) + noise[1:]
        columns.append(better)
        errors.append(error)
    table, table_error = np.stack(columns, axis=1), np.stack(errors, axis=1)  # steps, depth, lines, outputs
    table_error = np.where(np.isfinite(table) & np.isfinite(table_error), table_error, np.inf)
    table = np.where(np.isfinite(table_error), table, 0.0)
    depth = np.argmin(table_error, axis=1)[:, None]
    row_value = np.take_along_axis(table, depth, axis=1)[:, 0]
    row_error = np.take_along_axis(table_error, depth, axis=1)[:, 0]
    row_error = row_error + _contradicted(row_value, row_error)
    row = np.argmin(row_error, axis=0)[None]
    value = np.take_along_axis(row_value, row, axis=0)[0]
    error = np.take_along_axis(row_error, row, axis=0)[0]
    return np.where(np.isfinite(error), value, np.nan), error


def _contradicted(value: Floats, error: Floats) -> Floats:
    """By how much smaller steps say otherwise than a step, beyond their own errors.

    Steps that are multiples of a period converge perfectly, to the derivative of something else.
    """
    out = np.zeros_like(value)
    for shift in range(1, len(value)):
        finer, finer_error = value[shift:], error[shift:]
        beyond = np.abs(value[:-shift] - finer) - 3 * finer_error
        out[:-shift] = np.fmax(out[:-shift], np.where(np.isfinite(beyond), beyond, 0.0))
    return np.fmax(out, 0.0)


def _gap_stays(
    ahead: Floats, behind: Floats, noise: Floats, jump: Floats, jump_error: Floats, size: Floats, least: float
) -> NDArray[np.bool_]:
    """Whether the slopes on both sides stay apart as the step shrinks, to where noise would hide it."""
    jump = np.abs(jump)
    clear = np.isfinite(jump_error) & (jump > 4 * jump_error) & (jump > least * size)
    gap = np.abs(ahead - behind)
    readable = np.isfinite(gap) & (noise < 0.1 * jump)
    last = len(gap) - 1 - np.argmax(readable[::-1], axis=0)[None]
    at_last = np.take_along_axis(gap, last, axis=0)[0]
    several = readable.sum(axis=0) >= 6
    return clear & several & (at_last > 0.5 * jump)


def _is_singular(change: Floats, noise: Floats) -> NDArray[np.bool_]:
    """Whether values change like a power of the step well below 1, at the smallest steps that can be read.

    A power of 0 is a jump, ½ a square root's vertical tangent.
    """
    size = np.abs(change)
    readable = np.isfinite(size) & (size > 100 * noise)
    last = len(size) - 1 - np.argmax(readable[::-1], axis=0)[None]
    far = np.maximum(last - 6, 0)
    enough = (last[0] >= 6) & readable.any(axis=0) & np.take_along_axis(readable, far, axis=0)[0]
    ratio = np.take_along_axis(size, far, axis=0)[0] / np.take_along_axis(size, last, axis=0)[0]
    return enough & (ratio < 2.0 ** (6 * 0.75))
