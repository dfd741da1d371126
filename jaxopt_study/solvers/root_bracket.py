"""Chandrupatla's method: the root of one equation between two points at which its signs differ.

Inverse quadratic interpolation where three points say that it can be trusted, bisection where not. It needs
no derivatives, cannot leave the bracket, and takes fewer evaluations than Brent's method.

Source: T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
function without using derivatives, 1997.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.one_kernel import one_kernel
from jaxopt_study.result import Status
from jaxopt_study.types import Bool, Float, Int

CONTINUOUS = 2.0  # a continuous f is at least so many times larger far outside than inside the last bracket


class Bracket(NamedTuple):
    """Two points that enclose a root, and the point that was dropped last.

    Attributes:
      a, fa: the newest point.
      b, fb: a point where the sign is another.
      c, fc: the one before.
      fraction: where to look next, from a (0) to b (1).
      num_evals: evaluations so far.
    """

    a: Float[Array, ""]
    fa: Float[Array, ""]
    b: Float[Array, ""]
    fb: Float[Array, ""]
    c: Float[Array, ""]
    fc: Float[Array, ""]
    fraction: Float[Array, ""]
    num_evals: Int[Array, ""]


class Enclosed(NamedTuple):
    """Where the method ended.

    Attributes:
      x: the end of the last bracket at which |f| is smaller.
      residual: f there.
      width: of the last bracket.
      status: a `Status`.
      num_steps, num_evals: counts.
    """

    x: Float[Array, ""]
    residual: Float[Array, ""]
    width: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    num_evals: Int[Array, ""]


def enclose(
    fn: Callable[[Array], Array],
    ends: tuple[Float[Array, ""], Float[Array, ""]],
    first: Float[Array, ""] | None,
    max_steps: Int[Array, ""],
    *,
    ftol: Float[Array, ""],
    xtol: Float[Array, ""],
    xatol: Float[Array, ""],
) -> Enclosed:
    """Shrink a bracket until it is shorter than `xtol |x| + xatol`, or than floats can tell apart.

    Args:
      fn: a function of one number.
      ends: of the bracket, in any order.
      first: a point between them to look at first; None for the middle.
      max_steps: evaluations inside the bracket.
      ftol: an |f| that is good enough.
      xtol, xatol: how long a bracket is good enough.
    """
    low, high = ends
    f_low, f_high = fn(low), fn(high)
    eps = jnp.finfo(low.dtype).eps
    fraction = 0.5 * jnp.ones_like(low) if first is None else (first - high) / (low - high)
    fraction = jnp.where((fraction > 0) & (fraction < 1), fraction, 0.5)
    two = jnp.full((), 2, jnp.int32)
    start = Bracket(high, f_high, low, f_low, high, f_high, fraction, two)

    def tolerance(bracket: Bracket) -> tuple[Array, Array, Array]:
        """The better end, f there, and the length at which to stop."""
        nearer = jnp.abs(bracket.fa) < jnp.abs(bracket.fb)
        x, f = jnp.where(nearer, bracket.a, bracket.b), jnp.where(nearer, bracket.fa, bracket.fb)
        return x, f, jnp.maximum(xtol, 2 * eps) * jnp.abs(x) + jnp.maximum(xatol, jnp.finfo(x.dtype).tiny)

    def going(bracket: Bracket) -> Bool[Array, ""]:
        _, f, length = tolerance(bracket)
        wide = jnp.abs(bracket.b - bracket.a) > length
        opposite = jnp.sign(bracket.fa) * jnp.sign(bracket.fb) < 0  # false also for NaN
        return wide & opposite & (jnp.abs(f) > ftol) & (bracket.num_evals - 2 < max_steps)

    def shrink(bracket: Bracket) -> Bracket:
        a, fa, b, fb, c, fc, fraction, num_evals = bracket
        x = a + fraction * (b - a)
        f = fn(x)
        same = jnp.sign(f) == jnp.sign(fa)
        c, fc = jnp.where(same, a, b), jnp.where(same, fa, fb)
        b, fb = jnp.where(same, b, a), jnp.where(same, fb, fa)
        new = Bracket(x, f, b, fb, c, fc, fraction, num_evals + 1)
        _, _, length = tolerance(new)
        return new._replace(fraction=_next_fraction(new, length))

    end = one_kernel(functools.partial(jax.lax.while_loop, going, shrink), start)
    x, f, length = tolerance(end)
    width = jnp.abs(end.b - end.a)
    # Where f is zero within rounding is a root too, whatever the signs.
    zero = jnp.abs(f) <= ftol
    endless = ~jnp.isfinite(high - low)
    unbracketed = jnp.sign(f_low) * jnp.sign(f_high) > 0
    crosses = _crosses(fn, x, f, width, (low, f_low), (high, f_high))
    status = jnp.where(crosses, Status.STEP_CONVERGED, Status.NO_ROOT)
    status = jnp.where(width > length, Status.OUT_OF_STEPS, status)
    lost = jnp.isnan(end.fa) | jnp.isnan(end.fb) | ((status == Status.STEP_CONVERGED) & ~jnp.isfinite(f))
    status = jnp.where(lost, Status.NON_FINITE, status)
    status = jnp.where(unbracketed, Status.NOT_BRACKETED, status)
    status = jnp.where(jnp.isnan(f_low) | jnp.isnan(f_high) | endless, Status.NON_FINITE_START, status)
    status = jnp.where(zero, Status.TARGET_REACHED, status)
    return Enclosed(x, f, width, status.astype(jnp.int32), end.num_evals - 2, end.num_evals + 2)


def _next_fraction(bracket: Bracket, length: Float[Array, ""]) -> Float[Array, ""]:
    a, fa, b, fb, c, fc, _, _ = bracket
    span, rise = _divisor(c - b), _divisor(fc - fb)
    xi, phi = (a - b) / span, (fa - fb) / rise
    trusted = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    ab, bc, ac = _divisor(fb - fa), _divisor(fb - fc), _divisor(fc - fa)
    by_quadratic = fa / ab * fc / bc + (c - a) / _divisor(b - a) * fa / ac * fb / -bc
    fraction = jnp.where(trusted & jnp.isfinite(by_quadratic), by_quadratic, 0.5)
    # Not nearer to an end than is good enough, so that the other end follows.
    least = jnp.minimum(0.5 * length / _divisor(jnp.abs(b - a)), 0.5)
    return jnp.clip(fraction, least, 1 - least)


def _divisor(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(x == 0, 1.0, x)


def _crosses(
    fn: Callable[[Array], Array], x: Array, f: Array, width: Array, low: tuple, high: tuple
) -> Bool[Array, ""]:
    """Whether f goes through zero in the last bracket, and does not jump over it.

    f at a distance that is the geometric mean of the first and the last bracket is much larger than f at
    x where f is continuous, no larger at a jump, and smaller at a pole. A side on which the first bracket
    ends before that says nothing, if the other does. Where rounding errors hide that (a root of high
    order), f has to be as small as they are.
    """
    first = jnp.abs(high[0] - low[0])
    apart = jnp.sqrt(jnp.maximum(width, jnp.finfo(x.dtype).tiny)) * jnp.sqrt(first)
    between = jnp.minimum(low[0], high[0]), jnp.maximum(low[0], high[0])
    beside = jnp.stack([x - apart, x + apart])
    inside = (beside >= between[0]) & (beside <= between[1])
    there = jnp.abs(jax.vmap(fn)(jnp.clip(beside, *between)))
    tells = inside | ~jnp.any(inside)
    grows = jnp.all((there >= CONTINUOUS * jnp.abs(f)) | ~tells)
    at_ends = jnp.minimum(jnp.abs(low[1]), jnp.abs(high[1]))
    at_ends = jnp.where(jnp.isfinite(at_ends), at_ends, 0.0)
    return grows | (jnp.abs(f) <= 100 * jnp.finfo(x.dtype).eps * at_ends)
