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

from jaxopt_study.ode.kept import Kept, slot
from jaxopt_study.ode.march import attempt
from jaxopt_study.ode.observe import window
from jaxopt_study.ode.parameter_sums import summable, summed
from jaxopt_study.ode.place import Place, moved, place_at
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.types import PyTree

AT_ONCE = 64  # observations, all of which are looked at in every step: less than a loop over those in it


class Moves(NamedTuple):
    """What moves along with the solution: the states at the observed times, and with dense output at all."""

    ys: Array
    all_states: Array


class Sources(NamedTuple):
    """What the solution depends on: the state it began with, and the floats among the parameters."""

    y0: Array
    floats: list[Array]


def pushed(
    plan: Plan, rebuild: Any, sources: Sources, kept: Kept, ts: Array, numbers: Numbers, moves: Sources
) -> Moves:
    """The tangents of the observed states, for tangents of the sources; NaN where there is no solution."""
    t0 = kept.times[0]
    width = window(ts.size, sources.y0.size)
    count = ts.size
    ts = jnp.pad(ts, (0, width), constant_values=jnp.inf)
    at_start = (jnp.arange(ts.size, dtype=jnp.int32) < kept.num_saved) & (ts <= t0)
    out = jnp.where(
        at_start[:, None], moves.y0[None, :], jnp.full((ts.size, sources.y0.size), jnp.nan, sources.y0.dtype)
    )
    every = jnp.zeros_like(kept.all_states)
    every = every.at[0].set(moves.y0) if plan.dense else every
    state = jax.jvp(
        lambda floats, y: (y, plan.field(t0, y, rebuild(floats))),
        (sources.floats, sources.y0),
        (moves.floats, moves.y0),
    )
    start = (jnp.zeros((), jnp.int32), jnp.sum(at_start, dtype=jnp.int32), state, out, every)

    def body(now: Any) -> Any:
        number, index, (state, move), out, every = now
        t = kept.times[number]
        t_new = kept.times[number + 1]
        h = t_new - t

        def step_from(floats: list[Array], y: Array, slope: Array) -> tuple[Array, Array, Array]:
            tolerances = numbers.tolerances
            stepped = plan.method.step(plan.field, rebuild(floats), t, h, y, slope, tolerances)
            return stepped.y, stepped.slope, stepped.rows

        (y, slope, _), (y_move, slope_move, rows_move) = jax.jvp(
            step_from, (sources.floats, *state), (moves.floats, *move)
        )

        def save(state: tuple[Array, Array]) -> tuple[Array, Array]:
            index, out = state
            ats = jax.lax.dynamic_slice_in_dim(ts, index, width)
            inside = ats <= t_new
            here = plan.method.tableau.observe(t, h, rows_move, ats)
            here = jnp.where(inside[:, None], here, jnp.nan)
            return index + jnp.sum(inside, dtype=index.dtype), jax.lax.dynamic_update_slice_in_dim(
                out, here, index, 0
            )

        index, out = jax.lax.while_loop(lambda state: ts[state[0]] <= t_new, save, (index, out))
        if plan.dense:
            every = jax.lax.dynamic_update_index_in_dim(every, y_move, number + 1, 0)
        return number + 1, index, ((y, slope), (y_move, slope_move)), out, every

    *_, out, every = jax.lax.while_loop(lambda now: now[0] < kept.num_steps, body, start)
    return Moves(out[:count], every)


class _Again(NamedTuple):
    """The steps of one segment, taken once more."""

    place: Place
    taken: Array
    begins: Array  # (segment, 2): time and length
    states: Array  # (segment, 2, n): state and slope
    first: Array


def pulled(
    plan: Plan, rebuild: Any, sources: Sources, kept: Kept, ts: Array, numbers: Numbers, back: Moves
) -> Sources:
    """The transpose of `pushed`: cotangents of the sources, for cotangents of the observed states.

    They are NaN in what depends on a state that the solve did not come to.
    """
    floats = sources.floats
    theta = rebuild(floats)
    width = window(ts.size, sources.y0.size)
    unreached = (jnp.arange(ts.size, dtype=jnp.int32) >= kept.num_saved)[:, None]
    lost = jnp.any(unreached & (back.ys != 0), axis=0)
    # A window to spare in front, in which there is nothing.
    at_once = plan.wide and ts.size <= AT_ONCE
    if at_once:
        # What is at the start, or not reached, is in no step.
        number = jnp.where((ts > kept.times[0]) & ~unreached[:, 0], kept.step_of, -1)
    all_bar = jnp.where(unreached, 0.0, back.ys)
    ts = jnp.pad(ts, (width, 0), constant_values=-jnp.inf)
    ys_bar = jnp.pad(all_bar, ((width, 0), (0, 0)))
    # Also of the slope: of a solve that did not begin there is no step that would hand it on.
    pull = slope_pull = jnp.where(lost, jnp.full_like(sources.y0, jnp.nan), 0.0)
    if plan.dense:
        last = jax.lax.dynamic_index_in_dim(back.all_states, kept.num_steps, 0, keepdims=False)
        pull = pull + jnp.where(kept.num_steps > 0, last, 0.0)

    def through_step(
        step: Array, at: tuple, known: Any, index: Array, bars: tuple, floats_bar: list[Array]
    ) -> tuple:
        """index: observations up to the end of the step; bars: of the state and the slope there."""
        t, h, y, slope = at
        tableau = plan.method.tableau
        rows = known
        if rows is None:
            rows = plan.method.step(plan.field, theta, t, h, y, slope, numbers.tolerances).rows

        def collect(state: Any) -> Any:
            index, rows_bar = state
            ats = jax.lax.dynamic_slice_in_dim(ts, index, width)
            inside = ats > t
            ats = jnp.where(inside, ats, t)  # weights elsewhere may be infinite
            bar = jnp.where(inside[:, None], jax.lax.dynamic_slice_in_dim(ys_bar, index, width), 0.0)
            observe = jax.linear_transpose(lambda rows: tableau.observe(t, h, rows, ats), rows)
            return index - jnp.sum(inside, dtype=index.dtype), rows_bar + observe(bar)[0]

        if at_once:
            here = jnp.where((number == step)[None, :], kept.weights, 0.0)
            rows_bar = jnp.matmul(here, all_bar, precision=jax.lax.Precision.HIGHEST)
        else:
            index, rows_bar = jax.lax.while_loop(
                lambda state: ts[state[0] + width - 1] > t, collect, (index, jnp.zeros_like(rows))
            )
        bars = (*bars, rows_bar)
        more, y_bar, slope_bar = plan.method.pull(plan.field, rebuild, floats, (t, h), rows, bars)
        if plan.dense:
            y_bar = y_bar + jnp.where(step > 0, back.all_states[step], 0.0)
        return index, (y_bar, slope_bar), jax.tree.map(jnp.add, floats_bar, summable(more))

    def through_row(now: Any) -> Any:
        """One kept state, and one step, because all are kept."""
        row, *state = now
        t = kept.times[row]
        h = kept.times[row + 1] - t
        block = kept.states[row]
        known, slope = (block, block[2] / h) if plan.wide else (None, block[1])
        return row - 1, *through_step(row, (t, h, block[0], slope), known, *state)

    def through_segment(now: Any) -> Any:
        row, t_after, index, bars, floats_bar = now
        at = slot(row, kept.level, plan.slots)
        again = _again(plan, theta, kept.scalars[at], kept.states[at], t_after, numbers)
        # More steps than there is room for: they were chosen otherwise the second time.
        bars = (jnp.where(again.place.t < t_after, jnp.nan, bars[0]), bars[1])

        def body(now: Any) -> Any:
            count, *state = now
            t, h = again.begins[count]
            y, slope = again.states[count]
            return count - 1, *through_step((row << kept.level) + count, (t, h, y, slope), None, *state)

        start = (again.taken - 1, index, bars, floats_bar)
        _, *state = jax.lax.while_loop(lambda now: now[0] >= 0, body, start)
        return row - 1, kept.scalars[at, 0], *state

    state = (kept.num_saved, (pull, slope_pull), summable([jnp.zeros_like(leaf) for leaf in floats]))
    if plan.keeps_all:
        *_, index, bars, floats_bar = jax.lax.while_loop(
            lambda now: now[0] >= 0, through_row, (kept.num_steps - 1, *state)
        )
    else:
        rows = (kept.num_steps + (1 << kept.level) - 1) >> kept.level
        *_, index, bars, floats_bar = jax.lax.while_loop(
            lambda now: now[0] >= 0, through_segment, (rows - 1, kept.t_end, *state)
        )
    _, of_start = jax.vjp(lambda floats, y: plan.field(kept.times[0], y, rebuild(floats)), floats, sources.y0)
    more, y_bar = of_start(bars[1])
    pull = bars[0] + y_bar
    if at_once:
        pull = pull + jnp.sum(jnp.where(number[:, None] < 0, all_bar, 0.0), axis=0)
    else:
        at_start = jnp.arange(ts.size) < index + width
        pull = pull + jnp.sum(jnp.where(at_start[:, None], ys_bar, 0.0), axis=0)
    if plan.dense:
        pull = pull + back.all_states[0]
    return Sources(pull, [bar + leaf for bar, leaf in zip(summed(floats_bar, floats), more, strict=True)])


def _again(
    plan: Plan, theta: PyTree, scalars: Array, kept_state: Array, t_after: Array, numbers: Numbers
) -> _Again:
    """The steps from a kept state to the next, chosen as they were chosen the first time."""
    t, h, h_next, memory = scalars
    segment = plan.segment
    begins = jnp.zeros((segment, 2), t.dtype).at[0].set(jnp.stack([t, h]))
    states = jnp.zeros((segment, *kept_state.shape), t.dtype).at[0].set(kept_state)
    done = t + h * (1 + 1e-3) >= t_after
    count = jnp.where(done, 1, 0)
    place = place_at(jnp.where(done, t_after, t), h, memory, kept_state, t_after)
    start = _Again(place, count, begins, states, jnp.ones((), bool))

    def body(now: _Again) -> _Again:
        stepped, following = attempt(plan, theta, now.place, numbers)
        # The first was accepted; it may be so by less than rounding.
        following = following._replace(
            accept=following.accept | now.first,
            h=jnp.where(now.first, h_next, following.h),
            memory=jnp.where(now.first, memory, following.memory),
        )
        put = jax.lax.dynamic_update_index_in_dim
        return _Again(
            moved(now.place, stepped, following, t_after),
            now.taken + following.accept,
            put(now.begins, jnp.stack([now.place.t, now.place.h]), now.taken, 0),
            put(now.states, now.place.states, now.taken, 0),
            jnp.zeros((), bool),
        )

    return jax.lax.while_loop(lambda now: (now.place.t < t_after) & (now.taken < segment), body, start)
