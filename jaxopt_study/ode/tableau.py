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
      interpolation: diffrax's.
    """

    stages: tuple[Stage, ...]
    error_weights: np.ndarray | None
    order: int
    interpolation: Any

    @property
    def rows(self) -> int:
        """Of what is kept of a step."""
        return len(self.stages) + 3

    def observe(self, t: Array, h: Array, rows: Array, ats: Array) -> Float[Array, "times n"]:
        """States at times within the step, or at its end where they are later: the continuous extension."""
        basis = jnp.eye(self.rows, dtype=h.dtype)
        zero, one = jnp.zeros_like(h), jnp.ones_like(h)
        local = self.interpolation(t0=zero, t1=one, y0=basis[0], y1=basis[1], k=basis[2:])
        parts = (ats - t) / h
        weights = jax.vmap(local.evaluate)(parts)
        # At the ends exactly the states there; the derivative by time is still that of the interpolant.
        exact = jnp.where(
            (parts >= 1)[:, None], basis[1], jnp.where((parts <= 0)[:, None], basis[0], weights)
        )
        weights = weights + jax.lax.stop_gradient(exact - weights)
        return jnp.matmul(weights, rows, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=64)
def tableau_of(solver: Any) -> Tableau:
    """The tableau of a one-step method of diffrax."""
    import diffrax

    order = solver.order(diffrax.ODETerm(lambda t, y, args: y))
    if isinstance(solver, diffrax.Euler):
        return Tableau((Stage(1.0, np.ones(1), 0.0),), None, order, _straight)
    if isinstance(solver, diffrax.ImplicitEuler):
        # Its error is estimated by the trapezoidal rule, one order higher.
        return Tableau((Stage(1.0, np.zeros(1), 1.0),), np.array([-0.5, 0.5]), order + 1, _straight)
    given = solver.tableau
    diagonal = np.zeros(len(given.b_sol)) if given.a_diagonal is None else given.a_diagonal
    stages = [
        Stage(float(c), np.asarray(weights), float(own))
        for c, weights, own in zip(given.c, given.a_lower, diagonal[1:], strict=True)
    ]
    interpolation = solver.interpolation_cls
    last = np.append(given.a_lower[-1], diagonal[-1])
    if given.c[-1] == 1.0 and np.array_equal(given.b_sol, last):
        return Tableau(tuple(stages), given.b_error, order, interpolation)
    stages.append(Stage(1.0, np.asarray(given.b_sol), 0.0))
    without_last = functools.partial(_all_but_last, interpolation)
    return Tableau(tuple(stages), given.b_error, order, without_last)


def combined(weights: Any, slopes: list[Array]) -> Array:
    """`Σ weights · slopes`, of those that are not zero."""
    terms = [float(w) * k for w, k in zip(weights, slopes, strict=False) if w != 0.0]
    return sum(terms[1:], terms[0])


def _straight(k: Any, **ends: Any) -> Any:
    import diffrax

    del k
    return diffrax.LocalLinearInterpolation(**ends)


def _all_but_last(interpolation: Any, k: Array, **ends: Any) -> Any:
    return interpolation(k=k[:-1], **ends)
