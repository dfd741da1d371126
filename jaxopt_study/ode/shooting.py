"""Multiple shooting: a start from which single shooting converges.

Over a long time, or through chaos, a solution depends so strongly on its parameters that its distance from
the data has thousands of minima. Cut into segments, each with an initial state of its own, it follows the
data from the first step on; the gaps between segments are closed by a weight that grows from stage to stage.

What comes out is a start, no fit: the states in between are dropped, and the fit ends on the ODE itself, with
errors that know of no segments. There is none where neighbors grow apart by more than the inverse of the
solver's errors over the whole time.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.bounds import check_bounds
from jaxopt_study.fit.curve import Curve, residual
from jaxopt_study.losses import rho
from jaxopt_study.ode.trajectory import Trajectory
from jaxopt_study.pytree import ravel, ravel_leaves
from jaxopt_study.solvers.least_squares import least_squares
from jaxopt_study.types import Float, PyTree

# Of gaps, relative to what makes a gap of the size of the state as dear as missing its data by as much.
WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
MAX_STEPS = 100  # of a stage
TOLERANCE = 1e-6  # of a stage: the next one begins elsewhere anyway


class Cut(NamedTuple):
    """How one series of n sorted times is cut, in numpy arrays known while tracing.

    Attributes:
      nodes: shape `(segments + 1,)`, the places in time at which segments begin, and the last place.
      within: shape `(segments, length)`, the places that belong to each; its end, where it is shorter.
      segment, place: shape `(n,)`, where each time is found among them.
    """

    nodes: np.ndarray
    within: np.ndarray
    segment: np.ndarray
    place: np.ndarray


def cut(n: int, segments: int) -> Cut:
    """Cut n times into segments of as many times, to one more or less; a node belongs to what it begins.

    >>> print(cut(5, 2).within)
    [[0 1 2]
     [2 3 4]]
    """
    nodes = np.round(np.linspace(0, n - 1, segments + 1)).astype(int)
    length = int(np.max(np.diff(nodes))) + 1
    within = np.minimum(nodes[:-1, None] + np.arange(length)[None, :], nodes[1:, None])
    segment = np.minimum(np.searchsorted(nodes, np.arange(n), side="right") - 1, segments - 1)
    return Cut(nodes, within, segment, np.arange(n) - nodes[segment])


class Unknowns(NamedTuple):
    """What multiple shooting varies.

    Attributes:
      fitted: what the fit varies.
      nodes: states at which segments begin, but for the first, raveled: `(series, segments - 1, state)`.
    """

    fitted: Any
    nodes: Float[Array, "series nodes state"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Data:
    """What the residuals need besides the unknowns."""

    trajectory: Trajectory
    ts: Any  # (series, times), sorted
    order: Any
    y: Any
    whitening: Any
    loss_scale: Any
    loss: Any = dataclasses.field(metadata={"static": True})
    segments: int = dataclasses.field(metadata={"static": True})


def shoot(curve: Curve, fitted: PyTree, segments: int, states: PyTree) -> tuple[PyTree, Any]:
    """A better start for `curve_fit`, and how many steps it took.

    Args:
      curve: of `fit_ode`; its model is a `Trajectory`.
      fitted: where to start.
      segments: how many, for each series.
      states: a guess of the states at all times, or None.

    Returns:
      `(fitted, steps)`; `fitted` as it was, where shooting failed.
    """
    return _shoot(segments, *jax.lax.stop_gradient((curve, fitted, states)))


@functools.partial(jax.jit, static_argnums=0)
def _shoot(segments: int, curve: Curve, fitted: PyTree, states: PyTree) -> tuple[PyTree, Any]:
    trajectory = curve.model
    ts = curve.x if curve.x.ndim == 2 else curve.x[None]
    order = jnp.argsort(ts, axis=1)
    data = _Data(
        trajectory,
        jnp.take_along_axis(ts, order, axis=1),
        order,
        curve.y,
        curve.whitening,
        curve.loss_scale,
        curve.loss,
        segments,
    )
    places = cut(ts.shape[1], segments).nodes[1:-1]
    nodes = _guess(data, fitted, states)[:, places]
    unknowns = Unknowns(fitted, nodes)
    bounds = None
    if curve.bounds is not None:
        free = check_bounds((None, None), nodes)
        assert free is not None
        bounds = (Unknowns(curve.bounds[0], free[0]), Unknowns(curve.bounds[1], free[1]))
    unit = _unit(data)

    def stage(state: tuple[Unknowns, Any], weight: Array) -> tuple[tuple[Unknowns, Any], None]:
        unknowns, steps = state
        scale = _scale(unknowns, trajectory)
        result = least_squares(
            _residual,
            unknowns,
            (data, weight * unit / scale),
            bounds=bounds,
            max_steps=MAX_STEPS,
            ftol=TOLERANCE,
            xtol=TOLERANCE,
        )
        return (result.params, steps + result.num_steps), None

    weights = jnp.asarray(WEIGHTS, nodes.dtype)
    (found, steps), _ = jax.lax.scan(stage, (unknowns, jnp.zeros((), jnp.int32)), weights)
    good = jnp.all(jnp.isfinite(ravel_leaves(found)))
    better = jax.tree.map(lambda new, old: jnp.where(good, new, old), found.fitted, fitted)
    return better, steps


def _residual(unknowns: Unknowns, data: _Data, weight: Array) -> tuple[Array, Array]:
    """What a fit sees of the segments, and the weighted gaps between them."""
    seen, ends = _segments(unknowns, data)
    value = seen if data.trajectory.series is not None else seen[0]
    misfit = residual(lambda *_: value, None, None, data.y, data.whitening)
    return _robust(misfit, data), weight[None, None, :] * (ends[:, :-1] - unknowns.nodes)


def _segments(unknowns: Unknowns, data: _Data) -> tuple[Array, Array]:
    """What is observed at every time, in the order of the data; and the states at the ends of segments."""
    trajectory, segments = data.trajectory, data.segments
    params, starts, t0 = trajectory.begin(unknowns.fitted)
    series, n = data.ts.shape
    made = cut(n, segments)
    first = jax.vmap(ravel_leaves)(starts)[:, None]
    _, unravel = ravel(jax.tree.map(lambda leaf: leaf[0], starts))
    begin = jnp.concatenate([first, unknowns.nodes], axis=1).reshape(series * segments, -1)
    begin_ts = jnp.concatenate([t0[:, None], data.ts[:, made.nodes[1:-1]]], axis=1).ravel()
    within = data.ts[:, made.within].reshape(series * segments, -1)
    seen, ends = trajectory.ends(params, jax.vmap(unravel)(begin), begin_ts, within)
    seen = seen.reshape(series, segments, *seen.shape[1:])[:, made.segment, made.place]
    back = jnp.argsort(data.order, axis=1)
    seen = jax.vmap(lambda rows, places: rows[places])(seen, back)
    return seen, ends.reshape(series, segments, -1)


def _robust(misfit: Array, data: _Data) -> Array:
    """Residuals whose half sum of squares is the objective: the gaps are no outliers, and share no loss."""
    if data.loss == "linear":
        return misfit
    z = (misfit / data.loss_scale) ** 2
    small = z < jnp.finfo(z.dtype).eps
    return misfit * jnp.where(
        small, 1.0, jnp.sqrt(rho(data.loss, jnp.where(small, 1.0, z)) / jnp.where(small, 1.0, z))
    )


def _unit(data: _Data) -> Array:
    """The length of all that a series shows, whitened, about its mean."""
    present = ~jnp.isnan(data.y)
    count = jnp.maximum(jnp.sum(present), 1)
    y = jnp.where(present, data.y, 0.0)
    mean = jnp.sum(y) / count
    whitened = residual(lambda *_: jnp.full_like(y, mean), None, None, data.y, data.whitening)
    unit = jnp.sqrt(jnp.sum(whitened**2) / data.ts.shape[0] / data.segments)
    return jnp.where(unit > 0, unit, 1.0)


def _scale(unknowns: Unknowns, trajectory: Trajectory) -> Float[Array, " state"]:
    """The size of each element of the state."""
    _, starts, _ = trajectory.begin(unknowns.fitted)
    all_ = jnp.concatenate([jax.vmap(ravel_leaves)(starts)[:, None], unknowns.nodes], axis=1)
    largest = jnp.max(jnp.abs(all_), axis=(0, 1))
    return jnp.where(largest > 0, largest, 1.0)


def _guess(data: _Data, fitted: PyTree, states: PyTree) -> Float[Array, "series times state"]:
    """States at all sorted times: as given, else as observed, else those of the solution from the start."""
    series, n = data.ts.shape
    sort = jax.vmap(lambda rows, places: rows[places])
    if states is not None:
        rows = [jnp.asarray(leaf).reshape(series, n, -1) for leaf in jax.tree.leaves(states)]
        return sort(jnp.concatenate(rows, axis=-1), data.order).astype(data.ts.dtype)
    params, starts, t0 = data.trajectory.begin(fitted)
    along = functools.partial(data.trajectory.states, params)
    rows = [leaf.reshape(series, n, -1) for leaf in jax.tree.leaves(jax.vmap(along)(starts, t0, data.ts))]
    guess = jnp.concatenate(rows, axis=-1)
    guess = jnp.where(jnp.isfinite(guess), guess, jax.vmap(ravel_leaves)(starts)[:, None])
    if not data.trajectory.sees_all:
        return guess
    seen = sort(data.y.reshape(series, n, -1), data.order)
    return jax.vmap(jax.vmap(_between, in_axes=(None, 1, 1), out_axes=1))(data.ts, seen, guess)


def _between(ts: Float[Array, " n"], y: Float[Array, " n"], otherwise: Float[Array, " n"]) -> Array:
    """y with gaps filled by straight lines, constants at the ends; `otherwise` where nothing is known."""
    places = jnp.arange(ts.size)
    known = ~jnp.isnan(y)
    left = jax.lax.cummax(jnp.where(known, places, -1))
    right = jax.lax.cummin(jnp.where(known, places, ts.size), reverse=True)
    left, right = jnp.where(left < 0, right, left), jnp.where(right >= ts.size, left, right)
    left, right = jnp.clip(left, 0, ts.size - 1), jnp.clip(right, 0, ts.size - 1)
    width = ts[right] - ts[left]
    share = jnp.where(width > 0, (ts - ts[left]) / jnp.where(width > 0, width, 1.0), 0.0)
    values = jnp.where(known, y, 0.0)
    line = values[left] + share * (values[right] - values[left])
    return jnp.where(jnp.any(known), line, otherwise)
