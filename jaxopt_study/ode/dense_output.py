"""The state at any time, of a solve that kept every state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.ode.kept import Kept
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.types import PyTree


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate(
    plan: Plan,
    unravel: Any,
    numbers: Numbers,
    theta: PyTree,
    kept: Kept,
    states: Array,
    direction: Array,
    t: ArrayLike,
) -> PyTree:
    """The state at any time, from the step in which it lies, taken once more."""
    at = direction * jnp.asarray(t, states.dtype)

    def one(at: Array) -> PyTree:
        number = jnp.arange(kept.times.size)
        begins = (number < kept.num_steps) & (kept.times <= at)
        index = jnp.maximum(jnp.sum(begins) - 1, 0)
        t, t_new, y = kept.times[index], kept.times[index + 1], states[index]
        slope = plan.field(t, y, theta)
        stepped = plan.method.step(plan.field, theta, t, t_new - t, y, slope, numbers.tolerances)
        here = plan.method.tableau.observe(t, t_new - t, stepped.rows, at[None])[0]
        here = jnp.where(kept.num_steps > 0, here, y)
        return unravel(jnp.where((at >= kept.times[0]) & (at <= kept.t_end), here, jnp.nan))

    flat = jax.vmap(one)(at.ravel())
    return jax.tree.map(lambda leaf: leaf.reshape(at.shape + leaf.shape[1:]), flat)
