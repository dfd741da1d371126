"""Many fits in one loop: S slots, each with a fit; one that ends makes place for the next.

Under `vmap` a loop runs until its slowest lane ends. Here a lane that ends is written to its place in
the results and its slot takes the next problem, so that a slow fit costs one slot. When no problems are
left the fits that still run move together into fewer slots.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.fit.axes import in_axes
from jaxopt_study.fit.cores import Part
from jaxopt_study.fit.lane import Data, Lane, Rules, advance, linearized, start
from jaxopt_study.result import Status
from jaxopt_study.types import Bool, Float, Int, PyTree

# Bytes of residuals and Jacobians that are worked on at a time, see `choose_slots`.
WORKING_SET = {"cpu": 2**20, "gpu": 2**30, "tpu": 2**26}
FEWEST, MOST = 16, {"cpu": 2048, "gpu": 2**18, "tpu": 2**16}
# Slots for the last fits, when no more are left. Every width is compiled by itself; with 8 a fit that takes
# 200 steps at the end of 10,000 cost 7 % of the time, with 2 it costs 4 %.
NARROW = 2


def choose_slots(residuals: int, params: int, dtype: Any, platform: str) -> int:
    """How many fits are under way at a time.

    A trial works on the residuals, the columns of the Jacobian and the residuals before: `residuals
    (params + 3)` numbers a fit. On a CPU so many fits that this is 1 MiB, the second-level cache of a
    core: on 225 residuals and 5 parameters in float32 that is 144, and from 64 to 512 slots the time of
    10,000 fits differs by a fifth, from 1024 on it grows. On a GPU 1 GiB, which fills the card.

    >>> choose_slots(225, 5, "float32", "cpu")
    144
    """
    per_fit = residuals * (params + 3) * jnp.dtype(dtype).itemsize
    most = MOST.get(platform, MOST["cpu"])
    fitting = WORKING_SET.get(platform, WORKING_SET["cpu"]) // max(per_fit, 1)
    return int(np.clip(fitting // FEWEST * FEWEST, FEWEST, most))


class Ends(NamedTuple):
    """How fits ended, each with a leading axis of fits; the names are those of `Result`."""

    theta: Any
    value: Any
    grad_norm: Any
    status: Any
    num_steps: Any
    num_evals: Any


class _Slots(NamedTuple):
    """What is carried from trial to trial.

    Attributes:
      lanes: a `Lane` with a leading axis of slots.
      held: which fit a slot holds; where it holds none, the one after the last.
      next: the first fit that no slot has held.
      ends: the results so far.
    """

    lanes: Lane
    held: Int[Array, " slots"]
    next: Int[Array, ""]
    ends: Ends


def fit_all(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    starts: Float[Array, "fits params"],
    data: Data,
    axes: Any,
    slots: int,
    part: Part,
) -> Ends:
    """Fit every problem of a batch, or of a part of it.

    Args:
      rules: what is the same for all.
      unravel: from a vector to parameters.
      starts: where to start, raveled.
      data: of all fits.
      axes: a pytree of bools like `data`: whether an array has a leading axis of fits, or all share it.
      slots: how many fits are under way at a time.
      part: which of the fits.
    """
    width = min(slots, part.fits)
    end = part.first + part.fits
    state = _fill(rules, unravel, starts, data, axes, part, width)
    round_ = functools.partial(_round, rules, unravel, starts, data, axes, part)

    def worth(state: _Slots, least: int) -> Bool[Array, ""]:
        return (state.next < end) | (jnp.sum(state.held < end) > least)

    least = NARROW if width > NARROW else 0
    state = jax.lax.while_loop(functools.partial(worth, least=least), round_, state)
    return _finish(rules, unravel, data, axes, part, state, least) if least else state.ends


def _fill(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    starts: Array,
    data: Data,
    axes: Any,
    part: Part,
    width: int,
) -> _Slots:
    index = part.first + jnp.arange(width, dtype=jnp.int32)

    def blank(theta: Array, data: Data) -> Lane:
        ones = jnp.ones_like(theta)
        like = jax.eval_shape(
            lambda theta: linearized(rules, unravel, theta, data, jnp.zeros_like(theta), ones), theta
        )
        here = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        return start(rules, theta, here._replace(scale=ones))

    lanes = jax.vmap(blank, in_axes=(0, in_axes(axes)))(_rows(starts, index), _of(data, axes, index))
    number = jnp.zeros(part.fits, starts.dtype)
    count = jnp.zeros(part.fits, jnp.int32)
    theta = jnp.zeros((part.fits, starts.shape[1]), starts.dtype)
    ends = Ends(theta, number, number, count, count, count)
    return _Slots(lanes, index, jnp.asarray(part.first + width, jnp.int32), ends)


def _round(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    starts: Array,
    data: Data,
    axes: Any,
    part: Part,
    state: _Slots,
) -> _Slots:
    """One trial in every slot; then results go out, and the next problems in."""
    end = part.first + part.fits
    held = _of(data, axes, state.held)
    step = jax.vmap(functools.partial(advance, rules, unravel), in_axes=(0, in_axes(axes)))
    lanes = step(state.lanes, held)
    done = (lanes.status != Status.RUNNING) & (state.held < end)
    ends = _written(state.ends, lanes, jnp.where(done, state.held - part.first, part.fits))
    taken = state.next + jnp.cumsum(done, dtype=jnp.int32)
    index = jnp.where(done, jnp.minimum(taken - 1, end), state.held)

    def anew(theta: Array, lane: Lane, done: Array) -> Lane:
        return jax.tree.map(lambda new, old: jnp.where(done, new, old), start(rules, theta, lane.here), lane)

    lanes = jax.vmap(anew)(_rows(starts, index), lanes, done)
    return _Slots(lanes, index, jnp.minimum(taken[-1], end), ends)


def _finish(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    data: Data,
    axes: Any,
    part: Part,
    state: _Slots,
    width: int,
) -> Ends:
    """The last fits in fewer slots: nothing comes in any more, and results go out together at the end."""
    keep = jnp.argsort(state.held, stable=True)[:width]  # those that hold a fit come first
    lanes, held = jax.tree.map(lambda leaf: leaf[keep], (state.lanes, state.held))
    step = jax.vmap(functools.partial(advance, rules, unravel), in_axes=(0, in_axes(axes)))
    mine, taken = _of(data, axes, held), held < part.first + part.fits

    def running(lanes: Lane) -> Bool[Array, " slots"]:
        return taken & (lanes.status == Status.RUNNING)

    def round_(lanes: Lane) -> Lane:
        choose = jax.vmap(lambda go, new, old: jax.tree.map(functools.partial(jnp.where, go), new, old))
        return choose(running(lanes), step(lanes, mine), lanes)

    lanes = jax.lax.while_loop(lambda lanes: jnp.any(running(lanes)), round_, lanes)
    return _written(state.ends, lanes, jnp.where(taken, held - part.first, part.fits))


def _written(ends: Ends, lanes: Lane, place: Int[Array, " slots"]) -> Ends:
    """The results with those of some lanes in their places; beyond the end nothing is written."""
    found = Ends(
        lanes.theta, lanes.here.value, lanes.here.grad_norm, lanes.status, lanes.num_steps, lanes.num_evals
    )
    return jax.tree.map(lambda all_, some: all_.at[place].set(some, mode="drop"), ends, found)


def _of(data: Data, axes: Any, index: Int[Array, " slots"]) -> Data:
    """The data of the fits in the slots."""
    return jax.tree.map(lambda has, leaf: _rows(leaf, index) if has else leaf, axes, data)


def _rows(leaf: Array, index: Int[Array, " slots"]) -> Array:
    """Some rows of an array; raveled, a row is copied at once."""
    rows = leaf.reshape(leaf.shape[0], -1).at[index].get(mode="clip")
    return rows.reshape(index.size, *leaf.shape[1:])
