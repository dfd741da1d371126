"""The derivative of a march as a linear map, forwards and backwards.

The steps (where they begin and end) are held fixed: the derivative is that of the numerical solution on
the steps that were taken. `pushed` carries tangents along the steps; `pulled` is its transpose: it goes from
kept state to kept state backwards, takes the steps between them once more, and pulls cotangents through
one step at a time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.march import Kept, Numbers, Plan, attempt, slot
from jaxopt_study.types import PyTree


class Moves(NamedTuple):
    """What moves along with the solution: the states at the observed times, and with dense output at all."""

    ys: Array
    all_states: Array


class Sources(NamedTuple):
    """What the solution depends on: the state it began with, and the floats among the parameters."""

    y0: Array
    floats: list[Array]


def one_step(plan: Plan, rebuild: Any, floats: list[Array], t: Array, h: Array, y: Array) -> tuple[Array, PyTree]:
    """A step by itself, as a function to be differentiated: its end, and what its interpolant needs."""
    theta = rebuild(floats)
    carry = plan.method.begin(plan.field, theta, t, h, y, plan.field(t, y, theta))
    stepped = plan.method.step(plan.field, theta, t, h, y, carry)
    return stepped.y, stepped.dense


def pushed(
    plan: Plan, rebuild: Any, sources: Sources, kept: Kept, ts: Array, moves: Sources
) -> Moves:
    """The tangents of the observed states, for tangents of the sources; NaN where there is no solution."""
    t0 = kept.times[0]
    nan = jnp.full((ts.size, sources.y0.size), jnp.nan, sources.y0.dtype)
    out = jnp.where((ts <= t0)[:, None], moves.y0[None, :], nan)
    every = jnp.zeros_like(kept.all_states)
    every = every.at[0].set(moves.y0) if plan.dense else every
    start = (jnp.zeros((), jnp.int32), jnp.sum(ts <= t0, dtype=jnp.int32), sources.y0, moves.y0, out, every)

    def body(now: Any) -> Any:
        step, index, y, move, out, every = now
        t = kept.times[step]
        t_new = kept.times[step + 1]
        h = t_new - t
        (y, dense), (move, dense_move) = jax.jvp(
            lambda floats, y: one_step(plan, rebuild, floats, t, h, y),
            (sources.floats, y),
            (moves.floats, move),
        )

        def save(state: tuple[Array, Array]) -> tuple[Array, Array]:
            index, out = state
            _, here = jax.jvp(lambda dense: plan.method.interpolate(t, h, dense, ts[index]), (dense,), (dense_move,))
            return index + 1, jax.lax.dynamic_update_index_in_dim(out, here, index, 0)

        def more(state: tuple[Array, Array]) -> Array:
            index, _ = state
            return (index < kept.num_saved) & (ts[jnp.minimum(index, ts.size - 1)] <= t_new)

        index, out = jax.lax.while_loop(more, save, (index, out))
        if plan.dense:
            every = jax.lax.dynamic_update_index_in_dim(every, move, step + 1, 0)
        return step + 1, index, y, move, out, every

    *_, out, every = jax.lax.while_loop(lambda now: now[0] < kept.num_steps, body, start)
    return Moves(out, every)


class _Again(NamedTuple):
    """The steps of one segment, taken once more."""

    t: Array
    y: Array
    carry: Any
    h: Array
    memory: Array
    count: Array
    begins: Array  # (segment, 2): time and length
    states: Array  # (segment, n)
    first: Array


def pulled(
    plan: Plan, rebuild: Any, sources: Sources, kept: Kept, ts: Array, numbers: Numbers, back: Moves
) -> Sources:
    """The transpose of `pushed`: cotangents of the sources, for cotangents of the observed states.

    They are NaN if there is one that is not zero for a state that the solve did not come to.
    """
    floats = sources.floats
    theta = rebuild(floats)
    unreached = (jnp.arange(ts.size) >= kept.num_saved)[:, None]
    lost = jnp.any(unreached & (back.ys != 0))
    pull = jnp.where(lost, jnp.full_like(sources.y0, jnp.nan), 0.0)
    if plan.dense:
        last = jax.lax.dynamic_index_in_dim(back.all_states, kept.num_steps, 0, keepdims=False)
        pull = pull + jnp.where(kept.num_steps > 0, last, 0.0)
    rows = (kept.num_steps + (1 << kept.level) - 1) >> kept.level

    def through_segment(now: Any) -> Any:
        row, t_after, index, pull, floats_bar = now
        at = slot(row, kept.level, plan.slots)
        again = _again(plan, theta, kept.scalars[at], kept.states[at], t_after, numbers)

        # More steps than there is room for: they were chosen otherwise the second time.
        pull = jnp.where(again.t < t_after, jnp.nan, pull)

        def through_step(now: Any) -> Any:
            count, index, pull, floats_bar = now
            t, h = again.begins[count, 0], again.begins[count, 1]
            y = again.states[count]
            (_, dense), transpose = jax.vjp(
                lambda floats, y: one_step(plan, rebuild, floats, t, h, y), floats, y
            )

            def more(state: Any) -> Array:
                index, _ = state
                return (index > 0) & (ts[jnp.maximum(index - 1, 0)] > t)

            def collect(state: Any) -> Any:
                index, dense_bar = state
                at = ts[index - 1]
                _, of_dense = jax.vjp(lambda dense: plan.method.interpolate(t, h, dense, at), dense)
                return index - 1, jax.tree.map(jnp.add, dense_bar, of_dense(back.ys[index - 1])[0])

            index, dense_bar = jax.lax.while_loop(more, collect, (index, jax.tree.map(jnp.zeros_like, dense)))
            more_floats, pull = transpose((pull, dense_bar))
            if plan.dense:
                step = (row << kept.level) + count
                pull = pull + jnp.where(step > 0, back.all_states[step], 0.0)
            return count - 1, index, pull, jax.tree.map(jnp.add, floats_bar, more_floats)

        _, index, pull, floats_bar = jax.lax.while_loop(
            lambda now: now[0] >= 0, through_step, (again.count - 1, index, pull, floats_bar)
        )
        return row - 1, kept.scalars[at, 0], index, pull, floats_bar

    start = (rows - 1, kept.t_end, kept.num_saved, pull, jax.tree.map(jnp.zeros_like, floats))
    _, _, index, pull, floats_bar = jax.lax.while_loop(lambda now: now[0] >= 0, through_segment, start)
    at_start = jnp.arange(ts.size) < index
    pull = pull + jnp.sum(jnp.where(at_start[:, None], back.ys, 0.0), axis=0)
    if plan.dense:
        pull = pull + back.all_states[0]
    return Sources(pull, floats_bar)


def _again(plan: Plan, theta: PyTree, scalars: Array, state: Array, t_after: Array, numbers: Numbers) -> _Again:
    """The steps from a kept state to the next, chosen as they were chosen the first time."""
    t, h, h_next, memory = scalars
    segment = plan.segment
    begins = jnp.zeros((segment, 2), state.dtype).at[0].set(jnp.stack([t, h]))
    states = jnp.zeros((segment, state.size), state.dtype).at[0].set(state)
    done = t + h * (1 + 1e-3) >= t_after
    carry = plan.method.begin(plan.field, theta, t, h, state, plan.field(t, state, theta))
    start = _Again(
        jnp.where(done, t_after, t), state, carry, h, memory, jnp.where(done, 1, 0), begins, states, jnp.ones((), bool)
    )

    def body(now: _Again) -> _Again:
        t_new, h, stepped, following = attempt(plan, theta, now, t_after, numbers)
        accept = following.accept | now.first  # the first was accepted; it may be so by less than rounding
        row = now.count
        put = jax.lax.dynamic_update_index_in_dim
        return _Again(
            jnp.where(accept, t_new, now.t),
            jnp.where(accept, stepped.y, now.y),
            jax.tree.map(lambda new, old: jnp.where(accept, new, old), stepped.carry, now.carry),
            jnp.where(now.first, h_next, following.h),
            jnp.where(now.first, memory, following.memory),
            now.count + accept,
            put(now.begins, jnp.stack([now.t, h]), row, 0),
            put(now.states, now.y, row, 0),
            jnp.zeros((), bool),
        )

    return jax.lax.while_loop(lambda now: (now.t < t_after) & (now.count < segment), body, start)
