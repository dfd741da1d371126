"""The march once more on steps that are known, written so that JAX can differentiate it in any order.

First derivatives do not come from here, but from `sensitivity`, which is faster. This is what derivatives of
*those* are taken of. It costs a scan over blocks of steps of which those that were not taken are skipped.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from jaxopt_study.ode.kept import Kept
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.ode.sensitivity import Moves, Sources

BLOCK = 32


def replay(
    plan: Plan, rebuild: Any, sources: Sources, kept: Kept, t0: Array, ts: Array, numbers: Numbers
) -> Moves:
    """The observed states as a function of the sources, t0 and ts."""
    begin = kept.times[0]
    start = sources.y0 - (t0 - begin) * plan.field(begin, sources.y0, rebuild(sources.floats))
    blocks = -(-plan.max_steps // BLOCK)
    times = jnp.pad(kept.times, (0, blocks * BLOCK + 1 - kept.times.size), mode="edge")
    begins = times[:-1].reshape(blocks, BLOCK)
    ends = times[1:].reshape(blocks, BLOCK)
    steps = jnp.arange(blocks * BLOCK, dtype=jnp.int32).reshape(blocks, BLOCK)
    most = _largest(kept.num_steps)
    last_time = kept.t_end

    def advance(t: Array, h: Array, y: Array) -> tuple[Array, Any]:
        theta = rebuild(sources.floats)
        stepped = plan.method.step(plan.field, theta, t, h, y, plan.field(t, y, theta), numbers.tolerances)
        return stepped.y, stepped.rows

    def step(y: Array, now: Any) -> tuple[Array, Array]:
        number, t, t_new = now
        taken = number < kept.num_steps
        # A step that was not taken is still computed, from a state and of a length that are harmless.
        t = jnp.where(taken, t, kept.times[0])
        h = jnp.where(taken, t_new - t, 0.0 * last_time)
        y1, _ = advance(t, h, y)
        return jnp.where(taken, y1, y), y

    def block(y: Array, now: Any) -> tuple[Array, Array]:
        steps_of_block = now[0]
        return jax.lax.cond(
            steps_of_block[0] < most,
            jax.checkpoint(lambda y: jax.lax.scan(step, y, now)),
            lambda y: (y, jnp.zeros((BLOCK, y.size), y.dtype)),
            y,
        )

    y_end, states = jax.lax.scan(block, start, (steps, begins, ends))
    states = states.reshape(-1, y_end.size)
    saved = jnp.arange(ts.size, dtype=jnp.int32) < kept.num_saved
    ended = jnp.arange(plan.max_steps, dtype=jnp.int32) < kept.num_steps  # beyond, times are not known
    index = jnp.sum((kept.times[None, 1:] < ts[:, None]) & ended[None, :], axis=1, dtype=jnp.int32)
    index = jnp.clip(index, 0, jnp.maximum(kept.num_steps - 1, 0))

    def observe(index: Array, at: Array) -> Array:
        t, t_new = kept.times[index], kept.times[index + 1]
        y = states[index]
        _, rows = advance(t, t_new - t, y)
        return plan.method.tableau.observe(t, t_new - t, rows, at[None])[0]

    ys = jax.vmap(observe)(index, jnp.where(saved, ts, kept.times[0]))
    ys = jnp.where(saved[:, None], ys, jnp.nan)
    if not plan.dense:
        return Moves(ys, jnp.zeros_like(kept.all_states))
    count = plan.max_steps + 1
    every = jnp.concatenate([states, y_end[None, :]])[:count]
    number = jnp.arange(count)[:, None]
    every = jnp.where(
        number < kept.num_steps, every, jnp.where(number == kept.num_steps, y_end[None, :], 0.0)
    )
    return Moves(ys, every)


@custom_vmap
def _largest(number: Array) -> Array:
    """The number; of a batch the largest, not batched, so that what no lane needs is skipped."""
    return number


@_largest.def_vmap
def _largest_of_batch(axis_size: int, in_batched: Any, number: Array) -> Any:
    del axis_size, in_batched
    return _largest(jnp.max(number)), False
