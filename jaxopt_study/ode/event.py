"""Where an event function first changes its sign along a solution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.march import attempt, begin
from jaxopt_study.ode.place import Place, moved
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.types import Bool, Float, Int, PyTree

HALVINGS = 60


class _Before(NamedTuple):
    """The start of the step that is tried, and the sign there."""

    place: Place
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
    place, _ = begin(plan, theta, y0, t0, end, numbers)
    sign = jnp.sign(event(t0, y0, theta))
    start = _Before(place, sign, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def going(now: _Before) -> Array:
        return (now.place.t < end) & ~now.crossed & (now.tries < plan.max_steps)

    def body(now: _Before) -> _Before:
        stepped, following = attempt(plan, theta, now.place, numbers)
        sign = jnp.sign(event(now.place.t_new, stepped.y, theta))
        crossed = following.accept & (now.sign != 0) & (sign != now.sign) & ~jnp.isnan(sign)
        place = moved(now.place, stepped, following, end)
        # A step that crosses is not taken: from its start it is found again below.
        place = jax.tree.map(lambda new, old: jnp.where(crossed, old, new), place, now.place)
        seen = following.accept & (now.sign == 0)
        return _Before(place, jnp.where(seen, sign, now.sign), now.tries + 1, crossed)

    last = jax.lax.while_loop(going, body, start)
    stepped, _ = attempt(plan, theta, last.place, numbers)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        before, after = ends
        middle = before + 0.5 * (after - before)
        y = plan.method.tableau.observe(last.place.t, last.place.h, stepped.rows, middle[None])[0]
        beyond = jnp.sign(event(middle, y, theta)) != last.sign
        return jnp.where(beyond, before, middle), jnp.where(beyond, middle, after)

    _, found = jax.lax.fori_loop(0, HALVINGS, halve, (last.place.t, last.place.t_new))
    return jnp.where(last.crossed, found, end), last.crossed
