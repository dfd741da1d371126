"""The states at the times that were asked for: within a step, or of all steps in the end."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.kept import Kept
from jaxopt_study.ode.plan import Plan


def window(times: int, size: int) -> int:
    """How many observations are made at once: small ones by the dozen, large ones one by one."""
    return max(1, min(16, times, 4096 // max(1, size)))


def observe_step(
    plan: Plan,
    t: Array,
    t_new: Array,
    rows: Array,
    ts: Array,
    accept: Array,
    width: int,
    seen: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Write down the states at the times in the step; `ts` and `ys` have a window's rows to spare.

    `seen` is how many there are already, and they.
    """

    def more(state: tuple[Array, Array]) -> Array:
        return accept & (ts[state[0]] <= t_new)

    def save(state: tuple[Array, Array]) -> tuple[Array, Array]:
        index, ys = state
        ats = jax.lax.dynamic_slice_in_dim(ts, index, width)
        inside = ats <= t_new
        states = plan.method.tableau.observe(t, t_new - t, rows, ats)
        here = jnp.where(inside[:, None], states, jnp.nan)
        ys = jax.lax.dynamic_update_slice_in_dim(ys, here, index, 0)
        return index + jnp.sum(inside, dtype=index.dtype), ys

    return jax.lax.while_loop(more, save, seen)


def observe_all(plan: Plan, kept: Kept, ts: Array, y0: Array, finite: Array) -> tuple[Array, Kept]:
    """The states at all of ts that were reached, from the rows that are kept, which now say where they are.

    `finite` says whether there is a start.
    """
    index = _step_of(kept, ts)
    t = kept.times[index]
    h = kept.times[index + 1] - t
    weights = plan.method.tableau.weights(t, jnp.where(h > 0, h, 1.0), jnp.maximum(ts, t))
    states = jnp.sum(weights[:, :, None] * kept.states[index], axis=1)
    at_start = ts <= kept.times[0]
    reached = finite & (at_start | (ts <= kept.t_end))
    ys = jnp.where(reached[:, None], jnp.where(at_start[:, None], y0[None, :], states), jnp.nan)
    num_saved = jnp.sum(reached, dtype=jnp.int32)
    return ys, kept._replace(num_saved=num_saved, step_of=index, weights=weights.T)


def _step_of(kept: Kept, ts: Array) -> Array:
    """In which step each of ts is, the earlier one where two meet."""
    taken = jnp.arange(1, kept.times.size, dtype=kept.num_steps.dtype) <= kept.num_steps
    before = taken[None, :] & (kept.times[None, 1:] < ts[:, None])
    return jnp.minimum(jnp.sum(before, axis=1, dtype=jnp.int32), jnp.maximum(kept.num_steps - 1, 0))
