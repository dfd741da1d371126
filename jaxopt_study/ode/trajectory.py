"""The model of a fit: what is observed of solutions, as a function of parameters and times.

A `Trajectory` is what `curve_fit` takes for a model. Times may come in any order and more than once; a solve
that fails gives NaN, which a fit refuses as a trial.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.many_starts import along_all, with_sensitivities
from jaxopt_study.ode.solve import solve_ode
from jaxopt_study.pytree import ravel_leaves
from jaxopt_study.types import Float, PyTree


class Fitted(NamedTuple):
    """Parameters and initial states, where both are fitted; bounds and errors have the same form.

    Attributes:
      params: the parameters of the field, a pytree.
      y0: the initial state, or with a leading axis those of several series.
    """

    params: Any
    y0: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Observations of one or several solutions of `dy/dt = field(t, y, params)`.

    Attributes:
      field, observe: pytrees that are functions; `observe(y, params)` is what is seen of a state.
      y0: the initial state where it is fixed, a function of the parameters where it follows from them, None
        where it is fitted. A leading axis of series, unless `shared`.
      t0: the time of the initial states, a scalar, or one for each of several series.
      options: what `solve_ode` takes besides, numbers.
      initial: `"fixed"`, `"fitted"` or `"function"`.
      series: how many there are, or None for one without an axis of its own.
      shared: whether several series have one initial state in common.
      sees_all: whether what is observed is the state itself.
      forward: whether derivatives are taken by forward sensitivities, see `many_starts`.
      method: what `solve_ode` takes besides, static: pairs of names and values.
    """

    field: Any
    observe: Any
    y0: Any
    t0: Any
    options: dict[str, Any]
    initial: str = dataclasses.field(metadata={"static": True})
    series: int | None = dataclasses.field(metadata={"static": True})
    shared: bool = dataclasses.field(metadata={"static": True})
    sees_all: bool = dataclasses.field(metadata={"static": True})
    forward: bool = dataclasses.field(metadata={"static": True})
    method: tuple[tuple[str, Any], ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, fitted: PyTree, ts: Float[Array, "..."]) -> Array:
        """What is observed at times of any number and order, NaN before `t0` and after a failure.

        Args:
          fitted: the parameters, a `Fitted` where initial states are fitted.
          ts: shape `(times,)`, the same for all series; or `(series, times)`.

        Returns:
          Shape `(times, ...)`, for several series `(series, times, ...)`.
        """
        params, starts, t0 = self.begin(fitted)
        ts = jnp.asarray(ts, time_dtype(params, starts))
        one_time = ts.ndim == 0
        ts = jnp.broadcast_to(ts, (t0.shape[0], *(ts.shape[-1:] or (1,))))
        seen = self.observations(params, starts, t0, ts)
        seen = seen[:, 0] if one_time else seen
        return seen[0] if self.series is None else seen

    def begin(self, fitted: PyTree) -> tuple[PyTree, PyTree, Float[Array, " series"]]:
        """The parameters, and states and times at the beginning with a leading axis of series."""
        params, y0 = fitted, self.y0
        if self.initial == "fitted":
            params, y0 = fitted.params, fitted.y0
        elif self.initial == "function":
            y0 = self.y0(params)
        count = self.series or 1
        if self.series is None or self.shared:
            y0 = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), y0)
        t0 = jnp.broadcast_to(jnp.asarray(self.t0, time_dtype(params, y0)), (count,))
        return params, jax.tree.map(jnp.asarray, y0), t0

    def observations(self, params: PyTree, starts: PyTree, t0: Array, ts: Array) -> Array:
        """What is observed of many solutions: `(series, times, ...)`."""
        evaluate = with_sensitivities if self.forward else along_all
        return evaluate(_observe, self, params, starts, t0, ts)

    def ends(self, params: PyTree, starts: PyTree, t0: Array, ts: Array) -> tuple[Array, Array]:
        """What is observed of many solutions, and their states, raveled, at the last of `ts`."""
        evaluate = with_sensitivities if self.forward else along_all
        return evaluate(_observe_with_end, self, params, starts, t0, ts)

    def states(self, params: PyTree, start: PyTree, t0: Any, ts: Float[Array, " times"]) -> PyTree:
        """One solution at times in any order, NaN before t0."""
        order = jnp.argsort(ts)
        grid = jnp.maximum(ts[order], t0)
        solution = solve_ode(self.field, start, grid, params, t0=t0, **self.options, **dict(self.method))
        back = jnp.argsort(order)
        before = ts < t0

        def arrange(leaf: Array) -> Array:
            rows = leaf[back]
            return jnp.where(before.reshape(-1, *[1] * (rows.ndim - 1)), jnp.nan, rows)

        return jax.tree.map(arrange, solution.ys)


def observation(trajectory: Any, state: PyTree, params: PyTree) -> Array:
    """What is seen of one state, in one array."""
    seen = trajectory.observe(state, params)
    return seen if jax.tree_util.all_leaves([seen]) else ravel_leaves(seen)


def time_dtype(*trees: PyTree) -> Any:
    """The dtype in which times are counted: that of parameters and states."""
    return jnp.result_type(*jax.tree.leaves(trees))


def _observe(trajectory: Trajectory, params: PyTree, start: PyTree, t0: Array, ts: Array) -> Array:
    states = trajectory.states(params, start, t0, ts)
    return jax.vmap(lambda state: observation(trajectory, state, params))(states)


def _observe_with_end(
    trajectory: Trajectory, params: PyTree, start: PyTree, t0: Array, ts: Array
) -> tuple[Array, Array]:
    states = trajectory.states(params, start, t0, ts)
    seen = jax.vmap(lambda state: observation(trajectory, state, params))(states)
    return seen, ravel_leaves(jax.tree.map(lambda leaf: leaf[-1], states))
