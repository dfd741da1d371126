"""The methods, all of them diffrax's, behind one small interface.

An explicit Runge-Kutta method is its tableau: here its stages are written out one after the other, which
compiles and runs several times faster than a loop that handles every kind of method. All others step by
`solver.step`. States are vectors: `field(t, y, theta) -> dy/dt`, both of shape `(n,)`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import Float, PyTree

VectorField = Callable[[Any, Array, Any], Array]

SOLVERS = {
    "euler": "Euler",
    "heun": "Heun",
    "midpoint": "Midpoint",
    "ralston": "Ralston",
    "bosh3": "Bosh3",
    "tsit5": "Tsit5",
    "dopri5": "Dopri5",
    "dopri8": "Dopri8",
    "implicit_euler": "ImplicitEuler",
    "kvaerno3": "Kvaerno3",
    "kvaerno4": "Kvaerno4",
    "kvaerno5": "Kvaerno5",
}


class Stepped(NamedTuple):
    """One step.

    Attributes:
      y: the state at its end, `(n,)`.
      error: the estimate of its error, `(n,)`; None for a method that has none.
      carry: what the next step may begin with, from `Method.begin` or a step that was accepted.
      dense: what `Method.interpolate` needs.
    """

    y: Array
    error: Array | None
    carry: Any
    dense: PyTree


class Method(Protocol):
    """A one-step method. `order` is that of the error estimate plus one; `estimates`: it has one."""

    order: int
    estimates: bool

    def begin(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array) -> Any:
        """What the first step begins with; the slope is that at (t, y)."""

    def step(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, carry: Any
    ) -> Stepped:
        """A step from t to t + h."""

    def interpolate(self, t: Array, h: Array, dense: PyTree, at: Array) -> Float[Array, " n"]:
        """The state at a time within the step."""


@dataclasses.dataclass(frozen=True)
class Explicit:
    """An explicit Runge-Kutta method: `Y_i = y + h Σ a_ij k_j`, `k_i = f(t + c_i h, Y_i)`."""

    solver: Any
    order: int
    estimates: bool = True

    def begin(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array) -> Array:
        """The slope: the last stage of the step before may have computed it already."""
        del field, theta, t, h, y
        return slope

    def step(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, carry: Any) -> Stepped:
        """The stages, written out."""
        tableau = self.solver.tableau
        slopes = [carry]
        y1 = y
        for row, c in zip(tableau.a_lower, tableau.c, strict=True):
            y1 = _moved(y, h, row, slopes)
            slopes.append(field(t + float(c) * h, y1, theta))
        last_is_new = _ends_with_the_solution(tableau)
        if not last_is_new:
            y1 = _moved(y, h, tableau.b_sol, slopes)
        error = h * _combined(tableau.b_error, slopes)
        after = slopes[-1] if last_is_new else field(t + h, y1, theta)
        return Stepped(y1, error, after, (y, y1, tuple(slopes)))

    def interpolate(self, t: Array, h: Array, dense: PyTree, at: Array) -> Float[Array, " n"]:
        """The method's own continuous extension."""
        y0, y1, slopes = dense
        local = self.solver.interpolation_cls(t0=t, t1=t + h, y0=y0, y1=y1, k=h * jnp.stack(slopes))
        return jnp.where(at >= t + h, y1, local.evaluate(at))


@dataclasses.dataclass(frozen=True)
class ByDiffrax:
    """Any other method of diffrax: implicit ones, and those without an error estimate."""

    solver: Any
    order: int
    estimates: bool

    def begin(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array) -> Any:
        """The solver's own state."""
        del slope
        return self.solver.init(self._terms(field), t, t + h, y, theta)

    def step(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, carry: Any) -> Stepped:
        """The solver's own step; its error is infinite where its equations were not solved."""
        import diffrax

        y1, error, dense, after, outcome = self.solver.step(
            self._terms(field), t, t + h, y, theta, carry, made_jump=False
        )
        if error is not None:
            error = jnp.where(diffrax.is_okay(outcome), error, jnp.inf)
        return Stepped(y1, error, after, dense)

    def interpolate(self, t: Array, h: Array, dense: PyTree, at: Array) -> Float[Array, " n"]:
        """The method's own continuous extension."""
        local = self.solver.interpolation_cls(t0=t, t1=t + h, **dense)
        return jnp.where(at >= t + h, dense["y1"], local.evaluate(at))

    @staticmethod
    def _terms(field: VectorField) -> Any:
        import diffrax

        return diffrax.ODETerm(field)


def check_solver(solver: Any) -> Any:
    """The solver as an object of diffrax.

    Raises:
      ValueError: for a name that is not known.
      TypeError: for an object that is no ODE solver of diffrax.
    """
    import diffrax

    if isinstance(solver, str):
        if solver not in SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(SOLVERS)}, or a solver of diffrax, got {solver!r}")
        return getattr(diffrax, SOLVERS[solver])()
    if isinstance(solver, type) or not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver: expected a name or a solver of diffrax such as Tsit5(), got {solver!r}")
    return solver


def method_of(solver: Any, rtol: Any, atol: Any) -> Method:
    """The method that a solver of diffrax is, with tolerances for the equations of an implicit one."""
    import diffrax
    import equinox

    order = int(solver.order(diffrax.ODETerm(lambda t, y, args: y)))
    if isinstance(solver, diffrax.AbstractERK):
        return Explicit(solver, order)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        finder: Any = solver.root_finder
        found = {"rtol": rtol, "atol": atol, "norm": _rms}
        # Solvers as diffrax makes them have placeholders here, which its own loop fills in.
        missing = [name for name in found if not _is_set(getattr(finder, name, 0.0))]
        if missing:
            solver = equinox.tree_at(
                lambda s: [getattr(s.root_finder, name) for name in missing],
                solver,
                [found[name] for name in missing],
            )
    return ByDiffrax(solver, order, isinstance(solver, diffrax.AbstractAdaptiveSolver))


def _is_set(value: Any) -> bool:
    return callable(value) or isinstance(value, (int, float, np.ndarray, np.generic, Array))


def _rms(tree: PyTree) -> Array:
    leaves = jax.tree.leaves(tree)
    total = sum(jnp.sum(leaf**2) for leaf in leaves)
    return jnp.sqrt(total / max(1, sum(leaf.size for leaf in leaves)))


def _ends_with_the_solution(tableau: Any) -> bool:
    return bool(tableau.c[-1] == 1.0 and np.array_equal(tableau.b_sol[:-1], tableau.a_lower[-1]) and tableau.b_sol[-1] == 0.0)


def _moved(y: Array, h: Array, weights: Any, slopes: list[Array]) -> Array:
    return y + h * _combined(weights, slopes)


def _combined(weights: Any, slopes: list[Array]) -> Array:
    terms = [float(w) * k for w, k in zip(weights, slopes, strict=False) if w != 0.0]
    return sum(terms[1:], terms[0])
