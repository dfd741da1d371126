"""Where an event function first changes its sign along a solution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.march import Numbers, Plan, attempt, first_length
from jaxopt_study.types import Bool, Float, Int, PyTree

HALVINGS = 60


class _Before(NamedTuple):
    """The start of the step that is tried, and the sign there."""

    t: Float[Array, ""]
    y: Float[Array, " n"]
    carry: Any
    h: Float[Array, ""]
    memory: Float[Array, ""]
    sign: Float[Array, ""]
    tries: Int[Array, ""]
    crossed: Bool[Array, ""]


def first_crossing(
    plan: Plan,
    theta: PyTree,
    y0: Float[Array, " n"],
    t0: Float[Array, ""],
    end: Float[Array, ""],
    event: Callable[[Array, Array, PyTree], Array],
    numbers: Numbers,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The first time in (t0, end] at which the event's sign is not the start's, and whether there is one.

    Signs are compared at the ends of steps, so that two changes within a step go unseen; then the step's
    interpolant is bisected to rounding. Where the event is zero at the start, the first sign after it counts
    as the start's. Carries no derivatives.
    """
    plan = plan.bound(numbers.tolerances)
    slope = plan.field(t0, y0, theta)
    h = first_length(plan, theta, y0, t0, slope, numbers)
    carry = plan.method.begin(plan.field, theta, t0, h, y0, slope)
    sign = jnp.sign(event(t0, y0, theta))
    start = _Before(t0, y0, carry, h, jnp.ones_like(h), sign, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def going(now: _Before) -> Array:
        return (now.t < end) & ~now.crossed & (now.tries < plan.max_steps)

    def body(now: _Before) -> _Before:
        t_new, _, stepped, following = attempt(plan, theta, now, end, numbers)
        accept = following.accept
        sign = jnp.sign(event(t_new, stepped.y, theta))
        crossed = accept & (now.sign != 0) & (sign != now.sign) & ~jnp.isnan(sign)
        moved = _Before(
            t_new,
            stepped.y,
            stepped.carry,
            following.h,
            following.memory,
            jnp.where(now.sign == 0, sign, now.sign),
            now.tries + 1,
            crossed,
        )
        # A step that crosses is not taken: from its start it is found again below.
        stay = now._replace(tries=now.tries + 1, crossed=crossed, h=jnp.where(crossed, now.h, following.h))
        return jax.tree.map(lambda new, old: jnp.where(accept & ~crossed, new, old), moved, stay)

    last = jax.lax.while_loop(going, body, start)
    t_new, h, stepped, _ = attempt(plan, theta, last, end, numbers)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        before, after = ends
        middle = before + 0.5 * (after - before)
        y = plan.method.observe(last.t, h, stepped.dense, middle[None])[0]
        beyond = jnp.sign(event(middle, y, theta)) != last.sign
        return jnp.where(beyond, before, middle), jnp.where(beyond, middle, after)

    _, found = jax.lax.fori_loop(0, HALVINGS, halve, (last.t, t_new))
    return jnp.where(last.crossed, found, end), last.crossed
