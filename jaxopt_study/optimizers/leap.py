"""A look far ahead, once in many steps: does it go on falling where these steps together have led?

In a bowl full of ripples a quadratic model holds for a ripple, and a method that follows it takes a thousand
steps across. What 25 of them have in common is the bowl. One value each 25 steps is what it costs where it
finds nothing; most problems are solved before the first. Source: the pattern moves of R. Hooke and
T. A. Jeeves, Direct search solution of numerical and statistical problems, 1961.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box
from jaxopt_study.optimizers.step_info import StepInfo
from jaxopt_study.optimizers.trial import move
from jaxopt_study.pytree import norm
from jaxopt_study.types import Float, Int

EVERY = 25  # steps
DOUBLINGS = 40

Vector = Float[Array, " params"]


class Pace(NamedTuple):
    """Where the steps since the last look began, and how many they are."""

    origin: Vector
    steps: Int[Array, ""]


def standing(theta: Vector) -> Pace:
    """Before the first step."""
    return Pace(theta, jnp.zeros((), jnp.int32))


def leap(
    fn: Callable[[Vector], Float[Array, ""]],
    pace: Pace,
    theta: Vector,
    step: Vector,
    info: StepInfo,
    box: Box | None,
) -> tuple[Vector, Pace, StepInfo]:
    """Lengthen every 25th step by one, two, four, ... times the way of them all, as long as f falls.

    Args:
      fn: f.
      pace: of the steps before.
      theta: the parameters before this step.
      step: that was found; left as it is if it was refused, or where this is not the 25th.
      info: its report.
      box: the bounds.

    Returns:
      The step, the pace for the next one, the report of the whole step.
    """
    steps = pace.steps + info.accepted.astype(pace.steps.dtype)
    due = info.accepted & (steps >= EVERY)

    def after(times: Array) -> Vector:
        landed = theta + step
        return move(landed, times * (landed - pace.origin), box)

    def look() -> tuple[Array, Array, Array, Array]:
        def again(looked: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            taken, value, tried, _ = looked
            times = jnp.exp2(tried.astype(theta.dtype))
            there = fn(after(times))
            lower = (there < value) & jnp.isfinite(there)
            going = lower & (tried + 1 < DOUBLINGS)
            return jnp.where(lower, times, taken), jnp.where(lower, there, value), tried + 1, going

        # In a batch both branches are computed: where it is not due, nothing may be evaluated.
        start = (jnp.zeros((), theta.dtype), info.value, jnp.zeros((), jnp.int32), due)
        times, value, tried, _ = jax.lax.while_loop(lambda looked: looked[3], again, start)
        return times, value, tried, norm(after(times) - theta)

    def nothing() -> tuple[Array, Array, Array, Array]:
        return jnp.zeros((), theta.dtype), info.value, jnp.zeros((), jnp.int32), info.step_norm

    # Numbers alone: what a branch returns is copied.
    times, value, tried, length = jax.lax.cond(due, look, nothing)
    found = times > 0
    whole = jnp.where(found, after(times) - theta, step)
    origin = jnp.where(due, theta + whole, pace.origin)
    report = info.lengthened(found, value, length, tried)
    return whole, Pace(origin, jnp.where(due, 0, steps)), report
