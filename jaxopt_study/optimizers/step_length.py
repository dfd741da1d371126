"""The damping of Levenberg and Marquardt by the length of the step: Moré's rule, `damping_rule="radius"`.

A trial's λ is the least for which `‖D d‖ ≤ Δ`, to a tenth, and what follows the trials is Δ. So λ may change
by any factor from one step to the next: where D is by orders of magnitude larger than the present columns of
J, because they once were so long, a λ that falls by ten at most cannot come down to where they count again.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.linear_solve import Direction, Held
from jaxopt_study.linearize import Linearization
from jaxopt_study.optimizers.trial import Trial
from jaxopt_study.pytree import norm
from jaxopt_study.types import Bool, Float

FIRST = 0.01  # Δ at the start is `‖D θ‖` times this over the damping that was given: 10 times, by default
TOLERANCE = 0.1  # of the length
# Of λ within a trial, at the most, by the size of a number: what is not determined has noise of ε/λ.
FALL = {8: 1e-9, 4: 1e-4}
MOST_SYSTEMS = 10  # a bound: one or two are solved, since λ is near the one before
GOOD, BAD = 0.75, 0.25  # gain ratios


class Fitted(NamedTuple):
    """A step of the length that was asked for.

    Attributes:
      direction: the step.
      held: what bounds held in it; None without bounds.
      damping: its λ.
    """

    direction: Direction
    held: Held | None
    damping: Float[Array, ""]


class _Bracket(NamedTuple):
    fitted: Fitted
    low: Float[Array, ""]
    high: Float[Array, ""]
    following: Float[Array, ""]
    fits: Bool[Array, ""]
    systems: Array


def first_radius(here: Linearization, damping: Float[Array, ""]) -> Float[Array, ""]:
    """Δ before the first step; relative to the residuals' length where the parameters are zero."""
    length = jnp.where(here.params_norm > 0, here.params_norm, jnp.sqrt(2 * here.value))
    return jnp.where(length > 0, length, 1.0) * FIRST / damping


def fit_length(
    solve: Callable[[Float[Array, ""]], tuple[Direction, Held | None]],
    gradient: Float[Array, " params"],
    radius: Float[Array, ""],
    guess: Float[Array, ""],
    *,
    bounded: bool = False,
    fixed: Bool[Array, ""] | bool = False,
) -> Fitted:
    """The step with the least λ for which `‖e‖ ≤ Δ (1 ± 0.1)`.

    `1/‖e‖` is nearly linear in λ, so Newton's method for `1/‖e‖ = 1/Δ` needs few iterations (Hebden).

    Args:
      solve: from λ to a step e, and what was held in it.
      gradient: `Ĵᵀr`; since `‖e‖ ≤ ‖Ĵᵀr‖ / λ`, λ is at most `‖Ĵᵀr‖ / Δ`.
      radius: Δ, may be infinite.
      guess: a λ to begin with; it falls to `FALL` times that at the least.
      bounded: whether anything may be held.
      fixed: whether λ is the guess, unless the step is too long.

    Returns:
      The last step that was solved for; NaN where no system could be solved.

    Source: J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, 1978, section 5.
    """
    least = jnp.finfo(gradient.dtype).eps ** 2
    fall = jnp.where(fixed, 1.0, FALL[gradient.dtype.itemsize])
    floor = jnp.maximum(fall * guess, least).astype(gradient.dtype)
    highest = jnp.maximum(norm(gradient) / radius, floor)
    first = jnp.clip(guess, floor, highest)

    def again(state: _Bracket) -> _Bracket:
        now = state.following
        direction, held = solve(now)
        length = norm(direction.step)
        long = ~(length <= radius)  # or not a number: it may be for a larger λ
        low, high = jnp.where(long, now, state.low), jnp.where(long, state.high, now)
        newton = now + (length / radius) * (length - radius) * length / direction.shortening
        middle = jnp.sqrt(low * high)
        above = jnp.maximum(middle, 1e-3 * high)
        below = jnp.where(low > 0, middle, floor)
        following = jnp.where((newton > low) & (newton < high), newton, jnp.where(long, above, below))
        short = (length < (1 - TOLERANCE) * radius) & (now > floor)
        fits = (length <= (1 + TOLERANCE) * radius) & ~short
        fitted = Fitted(direction, held, now)
        return _Bracket(fitted, low, high, jnp.maximum(following, floor), fits, state.systems + 1)

    zero, no, zeros = jnp.zeros_like(first), jnp.zeros((), bool), jnp.zeros_like(gradient)
    held = Held(jnp.zeros_like(gradient, bool), zeros) if bounded else None
    unsolved = Fitted(Direction(zeros, no, no, zero), held, first)
    start = _Bracket(unsolved, zero, highest, first, no, jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda state: ~state.fits & (state.systems < MOST_SYSTEMS), again, start)
    return end.fitted


def follow_length(
    control: Float[Array, " 2"], accepted: Bool[Array, ""], gain: Float[Array, ""], trial: Trial
) -> Float[Array, " 2"]:
    """How Δ follows the trials, and with it the λ to begin with.

    Below a gain of ¼ Δ becomes a half to a tenth of the step, by the parabola through the value, its slope
    and the value there; above ¾, or where there was no need of λ, twice the step.
    """
    radius, length = control[0], trial.step_norm
    # -gᵀe, where `predicted = ½λ‖e‖² - ½gᵀe`.
    slope = jnp.maximum(2 * trial.predicted - trial.damping * length**2, trial.predicted)
    fall = gain * trial.predicted
    fraction = jnp.where(fall >= 0, 0.5, 0.5 * slope / (slope - fall))
    fraction = jnp.where(jnp.isnan(fraction), 0.1, jnp.clip(fraction, 0.1, 0.5))
    bad = ~accepted | (gain < BAD)
    free = trial.damping <= jnp.finfo(radius.dtype).eps ** 2
    shorter = fraction * jnp.minimum(radius, 10 * length)
    longer = jnp.where((gain >= GOOD) | free, 2 * length, radius)
    change = jnp.where(bad, 1 / fraction, jnp.where(longer > radius, 0.5, 1.0))
    return jnp.stack([jnp.where(bad, shorter, longer), change * trial.damping])
