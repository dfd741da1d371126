"""The coefficients of a one-step method, as diffrax has them, and what of a step is kept.

A step is a few rows: the state at its start, that at its end, and the slopes of all stages times its length.
Every state in it is a weighted sum of those.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.ode.continuous import extension_of
from jaxopt_study.types import Float

VectorField = Callable[[Any, Array, Any], Array]


class Stepped(NamedTuple):
    """One step.

    Attributes:
      y: the state at its end, `(n,)`.
      slope: the field there, with which the next step begins.
      error: the estimate of its error, `(n,)`; None for a method that has none.
      ends: the state at its start and that at its end, `(2, n)`.
      slopes: of all stages, times its length, `(stages, n)`.
    """

    y: Array
    slope: Array
    error: Array | None
    ends: Array
    slopes: Array

    @property
    def rows(self) -> Array:
        """What `Tableau.observe` needs, `(rows, n)`."""
        return jnp.concatenate([self.ends, self.slopes])


class Stage(NamedTuple):
    """One evaluation of the field, at `t + c h` and `y + Σ weights · h k + diagonal h k` of its own slope."""

    c: float
    weights: np.ndarray
    diagonal: float


@dataclasses.dataclass(frozen=True, eq=False)
class Tableau:
    """A Runge-Kutta method whose last stage is at the end of the step, and is where the solution is.

    The first slope is that of the field at the start. A method whose last stage is elsewhere has one more
    here: the next step begins with its slope.

    Attributes:
      stages: all after the first.
      error_weights: of the slopes times the length, the estimate of the error; None without.
      order: the power of the length that the error of a step goes with.
      extension: what of the rows the state at a part of the step is, `(times,) -> (times, rows)`.
    """

    stages: tuple[Stage, ...]
    error_weights: np.ndarray | None
    order: int
    extension: Callable[[Array], Array]

    @property
    def rows(self) -> int:
        """Of what is kept of a step."""
        return len(self.stages) + 3

    def weights(self, t: Array, h: Array, ats: Array) -> Float[Array, "times rows"]:
        """What of the rows the states at times within the step are, or at its end where they are later."""
        parts = (ats - t) / h
        weights = self.extension(parts)
        row = np.arange(self.rows)[None, :]
        # At the ends exactly the states there; the derivative by time is still that of the interpolant.
        ends = jnp.where((parts >= 1)[:, None], row == 1, row == 0).astype(parts.dtype)
        exact = jnp.where(((parts >= 1) | (parts <= 0))[:, None], ends, weights)
        return weights + jax.lax.stop_gradient(exact - weights)

    def observe(self, t: Array, h: Array, rows: Array, ats: Array) -> Float[Array, "times n"]:
        """The states there: the continuous extension."""
        return jnp.matmul(self.weights(t, h, ats), rows, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=64)
def tableau_of(solver: Any) -> Tableau:
    """The tableau of a one-step method of diffrax."""
    import diffrax

    order = solver.order(diffrax.ODETerm(lambda t, y, args: y))
    if isinstance(solver, diffrax.Euler):
        return Tableau((Stage(1.0, np.ones(1), 0.0),), None, order, extension_of(solver, 4, 2))
    if isinstance(solver, diffrax.ImplicitEuler):
        # Its error is estimated by the trapezoidal rule, one order higher.
        return Tableau(
            (Stage(1.0, np.zeros(1), 1.0),), np.array([-0.5, 0.5]), order + 1, extension_of(solver, 4, 2)
        )
    given = solver.tableau
    diagonal = np.zeros(len(given.b_sol)) if given.a_diagonal is None else given.a_diagonal
    stages = [
        Stage(float(c), np.asarray(weights), float(own))
        for c, weights, own in zip(given.c, given.a_lower, diagonal[1:], strict=True)
    ]
    last = np.append(given.a_lower[-1], diagonal[-1])
    if given.c[-1] == 1.0 and np.array_equal(given.b_sol, last):
        extension = extension_of(solver, len(stages) + 3, len(stages) + 1)
        return Tableau(tuple(stages), given.b_error, order, extension)
    # Its interpolation knows nothing of the slope that is one more.
    extension = extension_of(solver, len(stages) + 4, len(stages) + 1)
    stages.append(Stage(1.0, np.asarray(given.b_sol), 0.0))
    return Tableau(tuple(stages), given.b_error, order, extension)


def combined(weights: Any, slopes: list[Array]) -> Array:
    """`Σ weights · slopes`, of those that are not zero."""
    terms = [float(w) * k for w, k in zip(weights, slopes, strict=False) if w != 0.0]
    return sum(terms[1:], terms[0])
