"""Diagonally implicit Runge-Kutta methods, for stiff problems.

    z_i = h f(t + c_i h, Y_i),   Y_i = y + Σ_{j<i} a_ij z_j + γ z_i

one system of equations a stage, all with the same γ, solved by Newton's method with the matrix `I - hγ ∂f/∂y`
of the step's start. Derivatives are those of the roots, by the implicit function theorem, with the
matrices of the stages themselves: no iteration is differentiated.

Source: E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, 1996, section IV.8, of the
iteration and its tests; A. Kværnø, BIT 44, 2004, of the methods.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.ode.explicit import pull_floats
from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.ode.tableau import Stepped, Tableau, VectorField, combined
from jaxopt_study.solvers.implicit import root_of, solve_regular
from jaxopt_study.square_solve import solve_square
from jaxopt_study.types import PyTree


class _Newton(NamedTuple):
    """Where the iteration is: the unknown, the size of the last change and of that before, and the turns."""

    z: Array
    change: Array
    before: Array
    turns: Array


@dataclasses.dataclass(frozen=True, eq=False)
class DiagonallyImplicit:
    """A method, by its tableau.

    Attributes:
      tableau: its coefficients; all stages after the first have the same diagonal one.
      predictor: of each stage after the first, the weights of the slopes before it that are a first guess.
      iterations: Newton steps after which a step is refused.
      enough: the error of a root, as a part of what is tolerated of a step.
      proportional: see `Explicit`.
    """

    tableau: Tableau
    predictor: Any
    iterations: int
    enough: float
    proportional: float = 0.0

    def step(
        self,
        field: VectorField,
        theta: PyTree,
        t: Array,
        h: Array,
        y: Array,
        slope: Array,
        tolerances: Tolerances,
    ) -> Stepped:
        """The step from t to t + h; its error is infinite where the equations were not solved."""
        stages = self.tableau.stages
        count, gamma = len(stages) + 1, stages[0].diagonal
        inverse = _inverse(_matrices(field, theta, t[None], y[None], gamma * h)[0])
        weights = np.array([np.pad(s.weights, (0, count - len(s.weights))) for s in stages])
        guesses = np.array([np.pad(w, (0, count - len(w))) for w in self.predictor])
        each = (
            jnp.arange(1, count),
            *(jnp.asarray(x, y.dtype) for x in (weights, guesses, [s.c for s in stages])),
        )

        def solve(slopes: Array, stage: tuple) -> tuple[Array, Array]:
            place, weights, guess, c = stage
            base = y + weights @ slopes

            def conditions(z: Array) -> Array:
                return z - h * field(t + c * h, base + gamma * z, theta)

            def found() -> tuple[Array, Array]:
                start = guess @ slopes
                return self._newton(conditions, inverse, start, gamma, y, tolerances)

            z, solved = root_of(conditions, found, y, solve_regular)
            return slopes.at[place].set(z), solved

        start = jnp.zeros((count, y.size), y.dtype).at[0].set(h * slope)
        slopes, solved = jax.lax.scan(solve, start, each)
        y1 = y + weights[-1].astype(y.dtype) @ slopes + gamma * slopes[-1]
        error = None
        if self.tableau.error_weights is not None:
            error = combined(self.tableau.error_weights, list(slopes))
            error = jnp.where(jnp.all(solved), error, jnp.inf)
        return Stepped(y1, slopes[-1] / h, error, jnp.stack([y, y1]), slopes)

    def _newton(
        self, conditions: Any, inverse: Array, start: Array, gamma: float, y: Array, tolerances: Tolerances
    ) -> tuple[Array, Array]:
        """The root, and whether it is one: what is left of the error is estimated from how fast it falls."""
        eps = jnp.finfo(y.dtype).eps
        # Less than rounding cannot be asked for.
        rtol = jnp.maximum(tolerances.rtol, 10 * eps / self.enough)

        def left(now: _Newton) -> Array:
            rate = now.change / now.before
            left = jnp.where(now.turns > 1, now.change * rate / (1 - rate), now.change)
            return jnp.where(rate < 1, left, jnp.inf)

        def going(now: _Newton) -> Array:
            diverges = (now.turns > 1) & ~(now.change <= 2 * now.before)
            return (now.turns == 0) | ((now.turns < self.iterations) & ~diverges & ~(left(now) < self.enough))

        def body(now: _Newton) -> _Newton:
            step = inverse @ conditions(now.z)
            z = now.z - step
            # Of the state in the stage: that at the start may be zero, where only relative errors count.
            scale = tolerances.atol + rtol * (jnp.abs(y) + gamma * jnp.abs(z))
            relative = jnp.where(step == 0, 0.0, gamma * step / scale)
            change = jnp.sqrt(jnp.sum(relative**2) / max(1, y.size))
            return _Newton(z, change, now.change, now.turns + 1)

        infinite = jnp.asarray(jnp.inf, y.dtype)
        ended = jax.lax.while_loop(going, body, _Newton(start, infinite, infinite, jnp.zeros((), jnp.int32)))
        return ended.z, left(ended) < self.enough

    def pull(
        self, field: VectorField, rebuild: Any, floats: list[Array], at: tuple, rows: Array, bars: tuple
    ) -> tuple:
        """As `Explicit.pull`; `(I - hγ J_i)ᵀ w = z̄_i` and `Ȳ_i = h J_iᵀ w` in every stage."""
        t, h = at
        theta = rebuild(floats)
        stages = self.tableau.stages
        gamma = stages[0].diagonal
        y1_bar, after_bar, rows_bar = bars
        slopes = list(rows[2:])
        states = jnp.stack([rows[0] + combined([*s.weights, gamma], slopes) for s in stages])
        times = t + jnp.asarray([stage.c for stage in stages], h.dtype) * h
        matrices = _matrices(field, theta, times, states, gamma * h)
        pulls = [rows_bar[2 + i] for i in range(len(stages) + 1)]
        pulls[-1] = pulls[-1] + after_bar / h
        end_bar = y1_bar + rows_bar[1]
        pulls[-1] = pulls[-1] + gamma * end_bar
        y_bar = rows_bar[0] + end_bar
        nudges: list[Array] = []
        for j, weight in enumerate(stages[-1].weights):
            pulls[j] = pulls[j] + float(weight) * end_bar
        for i in reversed(range(len(stages))):
            nudge = solve_square(matrices[i].T, pulls[i + 1]).x
            # h Jᵀw, without another product: Mᵀw = w - γ h Jᵀw is what was solved.
            state_bar = (nudge - pulls[i + 1]) / gamma
            nudges.insert(0, nudge)
            y_bar = y_bar + state_bar
            for j, weight in enumerate(stages[i].weights):
                if weight != 0.0:
                    pulls[j] = pulls[j] + float(weight) * state_bar
        more = pull_floats(field, rebuild, floats, times, states, h * jnp.stack(nudges))
        return more, y_bar, h * pulls[0]


def _matrices(field: VectorField, theta: PyTree, times: Array, states: Array, scale: Array) -> Array:
    """`I - scale ∂f/∂y` at each of the states."""
    jacobians = jax.vmap(jax.jacfwd(lambda y, t: field(t, y, theta)))(states, times)
    return jnp.eye(states.shape[-1], dtype=states.dtype)[None] - scale * jacobians


def _inverse(matrix: Array) -> Array:
    basis = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jax.vmap(lambda e: solve_square(matrix, e).x, out_axes=1)(basis)
