"""The few states that a march leaves on its way.

Up to `slots` of the states it went through are kept, evenly spaced in steps: when all slots are taken, every
other one is given up, and from then on half as many are kept. So memory does not grow with the number of
steps, and going backwards costs one more pass.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.place import Place
from jaxopt_study.ode.plan import Plan
from jaxopt_study.ode.step_control import Next
from jaxopt_study.ode.tableau import Stepped
from jaxopt_study.types import Float, Int


class Kept(NamedTuple):
    """What the way back needs.

    Attributes:
      level: one state in `2**level` steps is kept.
      scalars: a row a slot: time, length of the step from there, of the step after it, controller's memory;
        no rows where every step is kept.
      states: a block a slot: the state, and its slope; of a wide plan all rows of the step.
      times: where every step began, and after the last step its end; `(max_steps + 1,)`. Beyond, no times.
      t_end: the end of the last step.
      num_steps: accepted steps.
      num_saved: observations that were reached.
      step_of: in a wide plan, in which step each observation is, from 0; `(times,)`, else empty.
      weights: and what of its rows it is; `(rows, times)`.
      all_states: with dense output the states at `times`, else of no rows.
    """

    level: Int[Array, ""]
    scalars: Float[Array, "slots 4"]
    states: Float[Array, "slots rows n"]
    times: Float[Array, " steps"]
    t_end: Float[Array, ""]
    num_steps: Int[Array, ""]
    num_saved: Int[Array, ""]
    step_of: Int[Array, " times"]
    weights: Float[Array, "rows times"]
    all_states: Float[Array, "steps n"]


def nothing_kept(plan: Plan, y0: Array, t0: Array, num_saved: Array) -> Kept:
    """Before the first step."""
    size, dtype = y0.size, y0.dtype
    rows = plan.max_steps if plan.keeps_all else plan.slots + 1
    all_states = jnp.zeros((plan.max_steps + 1 if plan.dense else 0, size), dtype)
    return Kept(
        jnp.zeros((), jnp.int32),
        jnp.zeros((0 if plan.keeps_all else rows, 4), dtype),
        jnp.zeros((rows, plan.method.tableau.rows if plan.wide else 2, size), dtype),
        jnp.zeros(plan.max_steps + 1, dtype).at[0].set(t0),
        t0,
        jnp.zeros((), jnp.int32),
        num_saved,
        jnp.zeros(0, jnp.int32),
        jnp.zeros((plan.method.tableau.rows, 0), dtype),
        all_states.at[0].set(y0) if plan.dense else all_states,
    )


def keep(
    plan: Plan,
    kept: Kept,
    step: Array,
    start: Place,
    stepped: Stepped,
    following: Next,
) -> Kept:
    """Keep the step of this number, from `start`, if it is one of those to be kept.

    What is written of a step that was refused, the next one writes over.
    """
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, allow_negative_indices=False)
    accept = following.accept
    kept = kept._replace(times=put(kept.times, start.t_new, step + 1, 0))
    if plan.dense:
        kept = kept._replace(all_states=put(kept.all_states, stepped.y, step + 1, 0))
    if plan.keeps_all:
        return kept._replace(states=_write(plan, kept.states, start, stepped, step))
    level = jnp.where(step >> kept.level >= plan.slots, kept.level + 1, kept.level)
    level = jnp.where(accept, level, kept.level)
    wanted = accept & (step & ((1 << level) - 1) == 0)
    # A row to spare takes the others.
    row = jnp.where(wanted, slot(step >> level, level, plan.slots), plan.slots)
    scalars = jnp.stack([start.t, start.h, following.h, following.memory])
    return kept._replace(
        level=level,
        scalars=put(kept.scalars, scalars, row, 0),
        states=_write(plan, kept.states, start, stepped, row),
    )


def _write(plan: Plan, states: Array, start: Place, stepped: Stepped, row: Array) -> Array:
    """In two parts, each computed where it is written: more than eight pieces XLA would copy one by one."""
    if not plan.wide:
        return jax.lax.dynamic_update_index_in_dim(states, start.states, row, 0, allow_negative_indices=False)
    for place, part in ((0, stepped.ends), (2, stepped.slopes)):
        at = [row, *(jnp.asarray(index, row.dtype) for index in (place, 0))]
        states = jax.lax.dynamic_update_slice(states, part[None], at, allow_negative_indices=False)
    return states


def slot(index: Array, level: Array, slots: int) -> Array:
    """Where the kept state of this index is: its bits, rotated once a level.

    When the slots are full, the states of odd index are given up, and the index of the others halves. The
    next states then go where those were: state `slots/2 + m` to the place of `2m + 1`, while m keeps that
    of 2m. Both say: rotate the bits of the index, and look where that was before.
    """
    bits = slots.bit_length() - 1
    turn = level % bits
    return ((index << turn) | (index >> (bits - turn))) & (slots - 1)
