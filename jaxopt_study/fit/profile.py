"""Profile-likelihood intervals: how far a parameter can go while the others give way.

An interval `estimate ± t · error` takes the cost to be a parabola. The profile does not: for every
value v of parameter i all others are fitted again, and v belongs to the interval as long as the
cost has not risen by more than t² s² / 2.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from jaxopt_study.fit.curve import Curve, residual
from jaxopt_study.fit.uncertainty import Information
from jaxopt_study.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_study.pytree import ravel, ravel_leaves
from jaxopt_study.result import Status
from jaxopt_study.solvers.least_squares import least_squares
from jaxopt_study.types import Float, Int, PyTree

MAX_TRIALS = 40  # of values v; eight are usual
MAX_STEPS = 100  # of one fit of the others
LARGEST_JUMP = 10.0  # outwards, relative to the distance so far
FIRST_GUESS = 1e-3  # of a distance, relative to the estimate, where there is no standard error


class Search(NamedTuple):
    """Where the search for one end of one interval stands; distances u are in first guesses.

    Attributes:
      u: the next distance to try.
      low, high: the end lies between; `high` is infinite until something beyond the end is seen.
      at_low, at_high: τ(u) - t there, halved where that end was kept (the Illinois method).
      side: which end the last trial replaced, -1 low, 1 high, 0 none yet.
      value: the last v at which the model was finite, with `others` the other parameters there.
      found: whether τ(u) = t; the end is `low` then.
      at_bound: whether v ran into a bound of its own before.
    """

    u: Any
    low: Any
    high: Any
    at_low: Any
    at_high: Any
    side: Any
    value: Any
    others: Any
    found: Any
    at_bound: Any
    trials: Any


def profile_ends(
    curve: Curve,
    params: PyTree,
    cost: Float[Array, ""],
    dispersion: Float[Array, ""],
    found: Information,
    errors: Float[Array, " params"],
    t: Float[Array, ""],
) -> Float[Array, "params 2"]:
    """Both ends of the interval of every parameter, by solving `τ(v) = ±t`.

    `τ(v) = sign(v - θ̂ᵢ) √(2 (S(v) - S(θ̂)) / s²)`, S(v) the least cost with `θᵢ = v`. τ is a straight
    line for a linear model, so that secant steps inside a bracket take few trials.

    Args:
      curve: what was fitted.
      params: the estimates.
      cost: S(θ̂).
      dispersion: s².
      found: the information at the estimates, for first guesses of the others.
      errors: standard errors, for first guesses of the ends.
      t: how far, see above.

    Returns:
      For each element of `params`, raveled, the lower and the upper end. An end is infinite if
      the cost never rises so far (as far as `LARGEST_JUMP ** MAX_TRIALS` goes), the bound if
      there is one before it, and NaN where the model stops being finite before it, where the others
      could not be fitted, or where a lower cost than that of the fit turned up.

    Source:
      D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications, 1988, chapter 6.
    """
    theta = ravel_leaves(params)
    usable = (errors > 0) & jnp.isfinite(errors)
    guess = FIRST_GUESS * jnp.where(theta == 0, 1.0, jnp.abs(theta))
    unit = jnp.where(usable, errors, guess) * t
    curvature = jnp.diagonal(found.inverse)
    # How the others follow parameter i, to first order: the regression on it.
    follow = found.inverse / jnp.where(curvature > 0, curvature, 1.0)[:, None]
    index = jnp.repeat(jnp.arange(theta.size), 2)
    signs = jnp.tile(jnp.array([-1.0, 1.0], theta.dtype), theta.size)
    end = functools.partial(_end, curve, params, cost, dispersion, t)
    ends = jax.vmap(end)(index, unit[index], follow[index], signs)
    return ends.reshape(theta.size, 2)


def _end(
    curve: Curve,
    params: PyTree,
    cost: Float[Array, ""],
    dispersion: Float[Array, ""],
    t: Float[Array, ""],
    index: Int[Array, ""],
    unit: Float[Array, ""],
    follow: Float[Array, " params"],
    sign: Float[Array, ""],
) -> Float[Array, ""]:
    theta = ravel_leaves(params)
    tolerance = jnp.finfo(theta.dtype).eps ** 0.4 * t
    rounding = 100 * jnp.finfo(theta.dtype).eps * cost
    lower, upper = _vectors(curve, theta)
    estimate, least, largest = theta[index], lower[index], upper[index]
    slope = _without(follow, index)
    box = (_without(lower, index), _without(upper, index))

    def again(search: Search) -> Search:
        asked = estimate + sign * unit * search.u
        value = jnp.clip(asked, least, largest)
        start = jnp.clip(search.others + slope * (value - search.value), *box)
        lowest, others, solved = _fit_others(curve, params, index, value, start, box)
        rise = 2.0 * (lowest - cost) / dispersion
        fell = lowest < cost - rounding - tolerance * dispersion
        tau = jnp.where(fell, jnp.nan, jnp.sqrt(jnp.maximum(rise, 0.0)))
        excess = jnp.where(jnp.isfinite(lowest), tau - t, jnp.inf)
        hit = jnp.abs(excess) <= tolerance
        below = excess < 0
        # A finite end that is kept twice is halved, or regula falsi creeps.
        twice_low = ~below & (search.side == 1)
        twice_high = below & (search.side == -1)
        low = jnp.where(below | hit, search.u, search.low)
        high = jnp.where(below, search.high, search.u)
        at_low = jnp.where(below, excess, jnp.where(twice_low, 0.5 * search.at_low, search.at_low))
        at_high = jnp.where(below, jnp.where(twice_high, 0.5 * search.at_high, search.at_high), excess)
        better = jnp.isfinite(lowest) & solved
        lost = jnp.isnan(tau) & jnp.isfinite(lowest) | (jnp.isfinite(lowest) & ~solved)
        return Search(
            u=_next(low, high, at_low, at_high, search.trials, t),
            low=jnp.where(lost, jnp.nan, low),
            high=high,
            at_low=at_low,
            at_high=at_high,
            side=jnp.where(below, -1, 1).astype(jnp.int32),
            value=jnp.where(better, value, search.value),
            others=jnp.where(better, others, search.others),
            found=hit & ~lost,
            at_bound=below & (asked != value),
            trials=search.trials + 1,
        )

    def going(search: Search) -> Array:
        open_ = ~search.found & ~search.at_bound & ~jnp.isnan(search.low)
        return open_ & (search.trials < MAX_TRIALS) & (dispersion > 0)

    zero, one = jnp.zeros_like(t), jnp.ones_like(t)
    infinity = jnp.full_like(t, jnp.inf)
    no = jnp.zeros((), bool)
    count = jnp.zeros((), jnp.int32)
    start = Search(one, zero, infinity, -t, infinity, count, estimate, _without(theta, index), no, no, count)
    search = jax.lax.while_loop(going, again, start)
    bound = jnp.where(sign < 0, least, largest)
    outside = jnp.where(jnp.isinf(search.high), sign * jnp.inf, jnp.nan)
    end = jnp.where(search.found, estimate + sign * unit * search.low, outside)
    end = jnp.where(search.at_bound, bound, end)
    end = jnp.where(jnp.isfinite(dispersion) & ~jnp.isnan(search.low), end, jnp.nan)
    certain = (least >= largest) | (dispersion == 0)  # fixed, or an exact fit
    return jnp.where(certain, estimate, end)


def _next(low: Any, high: Any, at_low: Any, at_high: Any, trials: Any, t: Any) -> Array:
    """The distance to try next: a secant step where there is a bracket, else further out."""
    width = high - low
    bounded = jnp.isfinite(width)
    finite = bounded & jnp.isfinite(at_high)
    share = jnp.where(finite, -at_low / jnp.where(finite, at_high - at_low, 1.0), 0.5)
    inside = low + jnp.clip(share, 0.01, 0.99) * jnp.where(bounded, width, 1.0)
    # Along the line through the estimate and here; at least doubled once that has not helped.
    tau = at_low + t
    factor = jnp.where(tau > 0, t / jnp.where(tau > 0, tau, 1.0), LARGEST_JUMP)
    least = jnp.where(trials < 3, 1.1, 2.0)
    outside = jnp.where(low > 0, low, 1.0) * jnp.clip(1.02 * factor, least, LARGEST_JUMP)
    return jnp.where(bounded, inside, outside)


def _fit_others(
    curve: Curve, params: PyTree, index: Array, value: Array, start: Array, box: Any
) -> tuple[Array, Array, Array]:
    """The least cost with one element of `params` fixed: the cost, the others, whether it is that."""
    objective = curve.objective
    if start.size == 0:
        lowest = objective(ravel(params)[1](value[None]), *curve.args)
        return lowest, start, jnp.ones((), bool)
    held = dataclasses.replace(
        objective, residual_fn=Partial(_residual_of_others, curve.model, params, index, value)
    )
    eps = jnp.finfo(start.dtype).eps
    # The cost is flat at its minimum: half the digits of the others give all of its own. And under
    # vmap, which this is, the fallback of solver="auto" would be computed at every trial.
    result = least_squares(
        held,
        start,
        curve.args,
        optimizer=levenberg_marquardt(solver="cholesky"),
        bounds=None if curve.bounds is None else box,
        max_steps=MAX_STEPS,
        ftol=eps**0.75,
        xtol=eps**0.5,
        gtol=eps**0.5,
    )
    solved = result.converged | (result.status == Status.STALLED) | (result.status == Status.RANK_DEFICIENT)
    return result.value, result.params, solved


def _residual_of_others(
    model: Any, params: PyTree, index: Array, value: Array, others: Array, x: PyTree, y: Array, whitening: Any
) -> Array:
    theta = _with(others, index, value)
    return residual(model, ravel(params)[1](theta), x, y, whitening)


def _vectors(curve: Curve, theta: Array) -> tuple[Array, Array]:
    if curve.bounds is None:
        return jnp.full_like(theta, -jnp.inf), jnp.full_like(theta, jnp.inf)
    lower, upper = (ravel_leaves(side).astype(theta.dtype) for side in curve.bounds)
    return lower, upper


def _without(vector: Array, index: Array) -> Array:
    """All elements but one, whose place is traced."""
    places = jnp.arange(vector.size - 1)
    return vector[jnp.where(places >= index, places + 1, places)]


def _with(others: Array, index: Array, value: Array) -> Array:
    """The inverse of `_without`."""
    places = jnp.arange(others.size + 1)
    rest = others[jnp.clip(jnp.where(places > index, places - 1, places), 0, max(others.size - 1, 0))]
    return jnp.where(places == index, value.astype(others.dtype), rest)
