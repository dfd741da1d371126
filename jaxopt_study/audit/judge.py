"""Is a derivative what the differences say, or is there none to be had?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxopt_study.audit.differences import Differences, Floats

SAFETY = 10.0  # estimated errors by which derivative and difference may differ


class Verdict(NamedTuple):
    """For every line and output: what it is, and by how much it is off; shapes `(lines, outputs)`.

    Attributes:
      wrong: the derivative is not what it should be.
      kink: there is none, or the one that was given is between those of the two sides.
      unknown: differences tell nothing.
      relative: `|derivative - difference|` relative to the larger, NaN where that is not known well.
    """

    wrong: NDArray[np.bool_]
    kink: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    relative: Floats


def tolerance(eps: float) -> float:
    """What a relative difference may be, in that precision, however good the differences are."""
    return 10 * eps**0.5


def judge(derivative: Floats, truth: Differences, eps: float, largest: Floats, floor: Floats) -> Verdict:
    """Compare.

    Args:
      derivative: shape `(lines, outputs)`.
      truth: by differences.
      eps: the rounding error.
      largest: the size of the largest derivatives around.
      floor: what rounding may make of the derivative.

    Returns:
      A `Verdict`.
    """
    with np.errstate(all="ignore"):
        rtol = tolerance(eps)
        scale = np.fmax(np.abs(derivative), np.abs(truth.value))
        off = np.abs(derivative - truth.value)
        known = np.isfinite(truth.error)
        agrees = off <= SAFETY * truth.error + rtol * scale + floor
        # Two steps, one after the other, that give the derivative itself: nothing else does that.
        hits = np.abs(truth.plain - derivative[None]) <= 0.1 * rtol * scale[None]
        agrees |= (hits[1:] & hits[:-1]).any(axis=0)
        slack = SAFETY * (truth.left_error + truth.right_error) + rtol * scale + floor
        low, high = np.fmin(truth.left, truth.right) - slack, np.fmax(truth.left, truth.right) + slack
        outside = (derivative < low) | (derivative > high)
        excused = truth.kink & ~outside
        wrong = known & ~agrees & ~excused
        clear = known & (truth.error < 0.01 * np.fmax(scale, floor))
        relative = np.where(clear & (agrees | wrong), off / np.fmax(scale, floor), np.nan)
        relative = np.where(off == 0, 0.0, relative)
        relative = np.where(excused, np.nan, relative)
        settled = truth.error <= 0.1 * np.fmax(scale, floor)
        quiet = (scale <= floor) | (truth.error <= rtol * largest)
        unknown = ~wrong & ~truth.kink & ~settled & ~quiet
        return Verdict(wrong, truth.kink, unknown, relative)
