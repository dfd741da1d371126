"""From the first time to the last: the adaptive loop, and the few states that it leaves on its way.

States are vectors, time runs forward. The loop keeps up to `slots` of the states it went through, evenly
spaced in steps: when all slots are taken, every other one is given up, and from then on half as many
are kept. So memory does not grow with the number of steps, and going backwards costs one more pass.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.methods import Explicit, Method, Stepped, VectorField, method_of
from jaxopt_study.ode.step_control import Next, Tolerances, decide, error_ratio, first_step
from jaxopt_study.result import Status
from jaxopt_study.types import Float, Int, PyTree

SLOTS = 256
FEW_BYTES = 2**21  # for which every state is kept, unless memory is to be saved
MOST_BYTES = 2**28  # of the states that are kept, unless fewer than √max_steps would be


class Numbers(NamedTuple):
    """Numbers of a solve, traced: tolerances, first step (None: chosen), constant step (None: not)."""

    tolerances: Tolerances
    first_step: Any
    step: Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a solve is compiled for.

    Attributes:
      field: of vectors.
      solver: of diffrax.
      method: one step of it, from `bound`, because an implicit one needs the tolerances.
      max_steps: tries at most.
      slots: states kept for the way back, a power of two.
      dense: whether every state is kept.
      wide: whether `method.rows()` are kept of a step: the stages are then not computed again.
    """

    field: VectorField
    solver: Any
    max_steps: int
    slots: int
    dense: bool
    wide: bool = False
    method: Any = None

    def bound(self, tolerances: Tolerances) -> "Plan":
        """With the method for these tolerances, which may be traced: not to be kept."""
        return dataclasses.replace(self, method=method_of(self.solver, *tolerances))

    @property
    def segment(self) -> int:
        """Steps between two kept states at most, and some to spare."""
        return _power_of_two(-(-self.max_steps // self.slots)) + 8


def slots_for(max_steps: int, row_bytes: int, least_memory: bool) -> int:
    """How many states are kept: all where that is little, else so many that one more pass suffices."""
    everything = _power_of_two(max(2, max_steps))
    if not least_memory and everything * row_bytes <= FEW_BYTES:
        return everything
    enough = _power_of_two(max(2, int(max_steps**0.5)))
    affordable = _power_of_two(max(2, MOST_BYTES // max(1, row_bytes))) // 2
    return min(everything, max(enough, min(SLOTS, affordable)))


def keeps_stages(plan: Plan, y0: Array) -> bool:
    """Whether all that is known of every step is little memory."""
    rows = plan.method.rows()
    return plan.slots >= plan.max_steps and 0 < rows * plan.slots * y0.size * y0.dtype.itemsize <= FEW_BYTES


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


class Kept(NamedTuple):
    """What the way back needs.

    Attributes:
      level: one state in `2**level` steps is kept.
      scalars: a row a slot: time, length of the step from there, of the step after it, controller's memory.
      states: a block a slot: the state, and its slope; of a wide plan what `Method.observe` needs.
      times: where every step began, and after the last step its end; `(max_steps + 1,)`.
      t_end: the end of the last step.
      num_steps: accepted steps.
      num_saved: observations that were reached.
      all_states: with dense output the states at `times`, else of no rows.
    """

    level: Int[Array, ""]
    scalars: Float[Array, "slots 4"]
    states: Float[Array, "slots rows n"]
    times: Float[Array, " steps"]
    t_end: Float[Array, ""]
    num_steps: Int[Array, ""]
    num_saved: Int[Array, ""]
    all_states: Float[Array, "steps n"]


class March(NamedTuple):
    """The state of the loop, and in the end its outcome."""

    t: Float[Array, ""]
    y: Float[Array, " n"]
    slope: Float[Array, " n"]
    carry: Any
    h: Float[Array, ""]
    memory: Float[Array, ""]
    tries: Int[Array, ""]
    status: Int[Array, ""]
    ys: Float[Array, "times n"]
    kept: Kept


def march(plan: Plan, theta: PyTree, y0: Array, t0: Array, ts: Array, numbers: Numbers) -> March:
    """Step from t0 to the last of ts; ys are NaN where the solve did not come to."""
    end = ts[-1]
    field, method = plan.field, plan.method
    span = end - t0
    dtype = y0.dtype
    k0 = field(t0, y0, theta)
    h = first_length(plan, theta, y0, t0, k0, numbers)
    # Times that turn round, or are not numbers, are found here where they are traced.
    ordered = jnp.all(jnp.diff(ts) >= 0) & (ts[0] >= t0) & jnp.isfinite(span)
    finite = jnp.all(jnp.isfinite(y0)) & jnp.all(jnp.isfinite(k0)) & ordered
    status = jnp.where(
        finite, jnp.where(span > 0, Status.RUNNING, Status.END_REACHED), Status.NON_FINITE_START
    )
    count = ts.size
    width = window(count, y0.size)
    ts = jnp.pad(ts, (0, width), constant_values=jnp.inf)
    at_start = ts <= t0
    size, rows = y0.size, plan.slots + 1
    times = jnp.zeros(plan.max_steps + 1, dtype).at[0].set(t0)
    all_states = jnp.zeros((plan.max_steps + 1 if plan.dense else 0, size), dtype)
    all_states = all_states.at[0].set(y0) if plan.dense else all_states
    kept = Kept(
        jnp.zeros((), jnp.int32),
        jnp.zeros((rows, 4), dtype),
        jnp.zeros((rows, method.rows() if plan.wide else 2, size), dtype),
        times,
        t0,
        jnp.zeros((), jnp.int32),
        jnp.sum(at_start & finite, dtype=jnp.int32),
        all_states,
    )
    begun = March(
        t0,
        y0,
        k0,
        method.begin(field, theta, t0, h, y0, k0),
        h,
        jnp.ones((), dtype),
        jnp.zeros((), jnp.int32),
        status.astype(jnp.int32),
        jnp.where((at_start & finite)[:, None], y0[None, :], jnp.nan),
        kept,
    )
    smallest = jnp.finfo(dtype).eps ** 2 * jnp.abs(span)

    def body(now: March) -> March:
        t_new, h, stepped, following = attempt(plan, theta, now, end, numbers)
        accept = following.accept
        if plan.wide:  # observed in the end, all at once
            ys, num_saved = now.ys, now.kept.num_saved
        else:
            ys, num_saved = _observe(plan, now, t_new, h, stepped.dense, ts, accept, width)
        moved = now._replace(
            t=jnp.where(accept, t_new, now.t),
            y=jnp.where(accept, stepped.y, now.y),
            slope=jnp.where(accept, stepped.carry, now.slope) if isinstance(method, Explicit) else now.slope,
            carry=jax.tree.map(lambda new, old: jnp.where(accept, new, old), stepped.carry, now.carry),
            h=following.h,
            memory=following.memory,
            tries=now.tries + 1,
            ys=ys,
            kept=_keep(plan, now, t_new, h, stepped, following)._replace(num_saved=num_saved),
        )
        too_small = jnp.maximum(4 * jnp.finfo(dtype).eps * jnp.abs(now.t), smallest) >= following.h
        if not adapts(method, numbers):
            too_small = jnp.zeros((), bool)
            moved = moved._replace(status=jnp.where(accept, moved.status, Status.NON_FINITE))
        status = jnp.where(moved.tries >= plan.max_steps, Status.OUT_OF_STEPS, moved.status)
        status = jnp.where(~accept & too_small, Status.STEP_TOO_SMALL, status)
        status = jnp.where(accept & (t_new >= end), Status.END_REACHED, status)
        return moved._replace(status=status.astype(jnp.int32))

    ended = jax.lax.while_loop(lambda now: now.status == Status.RUNNING, body, begun)
    ended = ended._replace(ys=ended.ys[:count])
    return _observe_all(plan, ended, ts[:count], finite) if plan.wide else ended


def step_of(kept: Kept, ts: Array) -> Array:
    """In which step each of ts is, the earlier one where two meet."""
    taken = jnp.arange(1, kept.times.size) <= kept.num_steps
    before = taken[None, :] & (kept.times[None, 1:] < ts[:, None])
    return jnp.minimum(jnp.sum(before, axis=1, dtype=jnp.int32), jnp.maximum(kept.num_steps - 1, 0))


def weights_of(plan: Plan, kept: Kept, ts: Array, index: Array) -> Array:
    """What of the rows of its step the state at each of ts is, shape `(times, rows)`."""
    t = kept.times[index]
    h = kept.times[index + 1] - t

    def one(t: Array, h: Array, at: Array) -> Array:
        return plan.method.observe(t, h, jnp.eye(plan.method.rows(), dtype=h.dtype), at[None])[0]

    return jax.vmap(one)(t, jnp.where(h > 0, h, 1.0), jnp.maximum(ts, t))


def _observe_all(plan: Plan, ended: March, ts: Array, finite: Array) -> March:
    """The states at all of ts that were reached, from what is kept of their steps."""
    kept = ended.kept
    index = step_of(kept, ts)
    weights = weights_of(plan, kept, ts, index)
    states = jnp.einsum("tr,trn->tn", weights, kept.states[index], precision=jax.lax.Precision.HIGHEST)
    at_start = ts <= kept.times[0]
    reached = finite & (at_start | (ts <= kept.t_end))
    ys = jnp.where((at_start & finite)[:, None], ended.ys, jnp.where(reached[:, None], states, jnp.nan))
    return ended._replace(ys=ys, kept=kept._replace(num_saved=jnp.sum(reached, dtype=jnp.int32)))


def first_length(plan: Plan, theta: PyTree, y0: Array, t0: Array, slope: Array, numbers: Numbers) -> Array:
    """The length of the first step: as given, or chosen."""
    given = numbers.first_step if numbers.step is None else numbers.step
    if given is not None:
        return jnp.asarray(given, y0.dtype)
    tolerances, order = numbers.tolerances, plan.method.order
    return first_step(lambda t, y: plan.field(t, y, theta), t0, y0, slope, tolerances, order)


def adapts(method: Method, numbers: Numbers) -> bool:
    """Whether steps are controlled."""
    return method.estimates and numbers.step is None


def attempt(
    plan: Plan, theta: PyTree, now: Any, end: Array, numbers: Numbers
) -> tuple[Array, Array, Any, Next]:
    """One try from `now`, which has t, y, carry, h and memory: its end, length, step, and what follows."""
    method = plan.method
    reaches = now.t + now.h * (1 + 1e-3) >= end
    t_new = jnp.where(reaches, end, now.t + now.h)
    h = t_new - now.t  # as it is in floating point, so that times can be kept in place of lengths
    stepped = method.step(plan.field, theta, now.t, h, now.y, now.carry)
    if adapts(method, numbers):
        ratio = error_ratio(stepped.error, now.y, stepped.y, numbers.tolerances)
        return (
            t_new,
            h,
            stepped,
            decide(ratio, h, now.memory, method.order, 0.2 if isinstance(method, Explicit) else 0.0),
        )
    return t_new, h, stepped, Next(jnp.all(jnp.isfinite(stepped.y)), now.h, now.memory)


def window(times: int, size: int) -> int:
    """How many observations are made at once: small ones by the dozen, large ones one by one."""
    return max(1, min(16, times, 4096 // max(1, size)))


def _observe(
    plan: Plan, now: March, t_new: Array, h: Array, dense: PyTree, ts: Array, accept: Array, width: int
) -> tuple[Array, Array]:
    """Write down the states at the times in the step; `ts` and `ys` have a window's rows to spare."""

    def more(state: tuple[Array, Array]) -> Array:
        return accept & (ts[state[0]] <= t_new)

    def save(state: tuple[Array, Array]) -> tuple[Array, Array]:
        index, ys = state
        ats = jax.lax.dynamic_slice_in_dim(ts, index, width)
        inside = ats <= t_new
        here = jnp.where(inside[:, None], plan.method.observe(now.t, h, dense, ats), jnp.nan)
        return index + jnp.sum(inside, dtype=index.dtype), jax.lax.dynamic_update_slice_in_dim(
            ys, here, index, 0
        )

    index, ys = jax.lax.while_loop(more, save, (now.kept.num_saved, now.ys))
    return ys, index


def _keep(plan: Plan, now: March, t_new: Array, h: Array, stepped: Stepped, following: Next) -> Kept:
    """Keep the state before the step if it is one of those to be kept; a row to spare takes the others."""
    kept, step = now.kept, now.kept.num_steps
    accept = following.accept
    level = jnp.where(step >> kept.level >= plan.slots, kept.level + 1, kept.level)
    level = jnp.where(accept, level, kept.level)
    wanted = accept & (step & ((1 << level) - 1) == 0)
    row = jnp.where(wanted, slot(step >> level, level, plan.slots), plan.slots)
    scalars = jnp.stack([now.t, h, following.h, following.memory])
    put = jax.lax.dynamic_update_index_in_dim
    count = step + accept
    return kept._replace(
        level=level,
        scalars=put(kept.scalars, scalars, row, 0),
        states=put(kept.states, stepped.dense if plan.wide else jnp.stack([now.y, now.slope]), row, 0),
        times=put(kept.times, jnp.where(accept, t_new, now.t), count, 0),
        t_end=jnp.where(accept, t_new, now.t),
        num_steps=count,
        all_states=put(kept.all_states, jnp.where(accept, stepped.y, now.y), count, 0)
        if plan.dense
        else kept.all_states,
    )


def slot(index: Array, level: Array, slots: int) -> Array:
    """Where the kept state of this index is: its bits, rotated once a level.

    When the slots are full, the states of odd index are given up, and the index of the others halves. The
    next states then go where those were: state `slots/2 + m` to the place of `2m + 1`, while m keeps that
    of 2m. Both say: rotate the bits of the index, and look where that was before.
    """
    bits = slots.bit_length() - 1
    turn = level % bits
    return ((index << turn) | (index >> (bits - turn))) & (slots - 1)
