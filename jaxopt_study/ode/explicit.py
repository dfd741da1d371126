"""Explicit Runge-Kutta methods: `Y_i = y + h Σ a_ij k_j`, `k_i = f(t + c_i h, Y_i)`.

The stages are written out one after the other, which compiles and runs several times faster than a loop that
handles every kind of method. States are vectors: `field(t, y, theta) -> dy/dt`, both of shape `(n,)`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.tableau import Stepped, Tableau, VectorField, combined
from jaxopt_study.types import PyTree

ROUNDING = 2.0  # of a slope, in units of its last place
LEAST = 0.25  # of the estimate stays: with nothing left of it, the next step would be far too long


@dataclasses.dataclass(frozen=True, eq=False)
class Explicit:
    """A method, by its tableau.

    Attributes:
      tableau: its coefficients.
      proportional: how much of the error of the step before the step control sees.
    """

    tableau: Tableau
    proportional: float = 0.2

    def step(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array, tolerances: Any
    ) -> Stepped:
        """The step from t to t + h; the slope is that at (t, y)."""
        del tolerances
        y1, slopes = y, [slope]
        for stage in self.tableau.stages:
            y1 = y + h * combined(stage.weights, slopes)
            slopes.append(field(t + stage.c * h, y1, theta))
        weights = self.tableau.error_weights
        error = None if weights is None else h * _beyond_rounding(weights, slopes)
        return Stepped(y1, slopes[-1], error, jnp.stack([y, y1]), jnp.stack([h * k for k in slopes]))

    def pull(
        self, field: VectorField, rebuild: Any, floats: list[Array], at: tuple, rows: Array, bars: tuple
    ) -> tuple:
        """The transpose of the derivative of `(y, slope, rows)` at the end of a step.

        In reverse, `k̄_j += h a_ij Ȳ_i` with `Ȳ_i = (∂f/∂y)ᵀ k̄_i`; then the parameters at once. The field is
        linearized at all stages in one batch: small products, of which a step makes dozens, take their time
        in being called. Nothing that is in `rows` is computed again.

        Args:
          field: as above.
          rebuild: theta from floats.
          floats: what is differentiated of theta.
          at: `(t, h)`, where the step begins and its length.
          rows: those of the step.
          bars: cotangents of the state, the slope and the rows at its end.

        Returns:
          Cotangents of floats, and of the state and the slope at the start.
        """
        t, h = at
        theta = rebuild(floats)
        stages = self.tableau.stages
        count = len(stages)
        y1_bar, after_bar, rows_bar = bars
        # The last stage is the end of the step; its state and slope are there whether it is used or not.
        states = jnp.stack([rows[0] + combined(s.weights, list(rows[2:])) for s in stages[:-1]] + [rows[1]])
        times = t + jnp.asarray([stage.c for stage in stages], h.dtype) * h

        def linear(t: Array, y: Array) -> Any:
            return jax.vjp(lambda y: field(t, y, theta), y)[1]

        transposes = jax.vmap(linear)(times, states)
        # Cotangents of slopes times the length, the first of which is that of the slope given.
        pulls = [rows_bar[2 + i] for i in range(count + 1)]
        pulls[count] = pulls[count] + after_bar / h
        y_bar = rows_bar[0]
        end_bar = y1_bar + rows_bar[1]
        for i in reversed(range(count)):
            (state_bar,) = jax.tree.map(lambda leaf, i=i: leaf[i], transposes)(h * pulls[i + 1])
            state_bar = state_bar + end_bar if i == count - 1 else state_bar
            y_bar = y_bar + state_bar
            for k, weight in enumerate(stages[i].weights):
                if weight != 0.0:
                    pulls[k] = pulls[k] + float(weight) * state_bar
        nudges = h * jnp.stack(pulls[1:])
        return pull_floats(field, rebuild, floats, times, states, nudges), y_bar, h * pulls[0]


def _beyond_rounding(weights: Any, slopes: list[Array]) -> Array:
    """`|Σ weights · slopes|`, less what is rounding errors of the slopes: no shorter step would mend those.

    In float32 the estimate of the error is soon nothing else, and steps would be several times too short.
    Squares are taken in units of the largest slope: those of 1e-20 and of 1e20 are not numbers of float32.
    """
    tiny = 2 * float(jnp.finfo(slopes[0].dtype).tiny)
    unit = jnp.clip(functools.reduce(jnp.maximum, [jnp.abs(slope) for slope in slopes]), tiny, 1 / tiny)
    inverse = 1 / unit
    error = inverse * combined(weights, slopes)
    noise = ROUNDING * jnp.finfo(error.dtype).eps
    squares = combined(weights**2, [(inverse * slope) ** 2 for slope in slopes])
    return unit * jnp.sqrt(jnp.maximum(error**2 - noise**2 * squares, (LEAST * error) ** 2))


def pull_floats(
    field: VectorField, rebuild: Any, floats: list[Array], times: Array, states: Array, bars: Array
) -> list[Array]:
    """Cotangents of floats, for those of the field at many states."""
    if not floats:
        return []

    def slopes(floats: list[Array]) -> Array:
        return jax.vmap(lambda t, y: field(t, y, rebuild(floats)))(times, states)

    return jax.vjp(slopes, floats)[1](bars)[0]
