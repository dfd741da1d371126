"""The methods, all of them diffrax's, behind one small interface.

An explicit Runge-Kutta method is its tableau: here its stages are written out one after the other, which
compiles and runs several times faster than a loop that handles every kind of method. All others step by
`solver.step`. States are vectors: `field(t, y, theta) -> dy/dt`, both of shape `(n,)`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

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
      carry: what the next step may begin with.
      dense: what `Method.observe` needs.
    """

    y: Array
    error: Array | None
    carry: Any
    dense: PyTree


@runtime_checkable
class Method(Protocol):
    """A one-step method."""

    @property
    def order(self) -> int:
        """Of the solution."""

    @property
    def estimates(self) -> bool:
        """Whether there is an estimate of the error."""

    def begin(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array) -> Any:
        """What the first step begins with; the slope is that at (t, y)."""

    def step(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, carry: Any) -> Stepped:
        """A step from t to t + h."""

    def advance(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array
    ) -> tuple[Array, Array, PyTree]:
        """The step as a function of numbers alone, to be differentiated: `(y, slope, dense)` at its end."""

    def pull(self, field: VectorField, rebuild: Any, floats: list[Array], at: tuple, bars: tuple) -> tuple:
        """The transpose of the derivative of `advance` at `(t, h, y, slope)`: bars of floats, y and slope."""

    def observe(self, t: Array, h: Array, dense: PyTree, ats: Array) -> Float[Array, "times n"]:
        """The states at times within the step, or at its end where they are later; linear in `dense`."""


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

    def step(self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, carry: Array) -> Stepped:
        """The stages, written out."""
        y1, after, rows, slopes, _ = self._stages(field, theta, t, h, y, carry)
        return Stepped(y1, h * _combined(self.solver.tableau.b_error, slopes), after, rows)

    def advance(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array
    ) -> tuple[Array, Array, PyTree]:
        """The stages; the slope at the end is that of the last where the method ends with the solution."""
        return self._stages(field, theta, t, h, y, slope)[:3]

    def pull(self, field: VectorField, rebuild: Any, floats: list[Array], at: tuple, bars: tuple) -> tuple:
        """Stage by stage through the states, then through the parameters, all stages at once.

        A cotangent of a stage's slope is one of what is added to it. Small products, of which a step makes
        dozens, take their time in being called: so the parameters see one batch of them.
        """
        t, h, y, slope = at
        theta = rebuild(floats)

        def of_state(y: Array, slope: Array, nudges: list[Array]) -> tuple:
            y1, after, rows, _, points = self._stages(field, theta, t, h, y, slope, nudges)
            return (y1, after, rows), points

        count = len(self.solver.tableau.c) + (not _ends_with_the_solution(self.solver.tableau))
        nudges = [jnp.zeros_like(y)] * count
        pulled: Any = jax.vjp(of_state, y, slope, nudges, has_aux=True)
        _, transpose, (times, states) = pulled
        y_bar, slope_bar, nudge_bars = transpose(bars)
        return _of_parameters(field, rebuild, floats, times, states, jnp.stack(nudge_bars)), y_bar, slope_bar

    def observe(self, t: Array, h: Array, dense: PyTree, ats: Array) -> Float[Array, "times n"]:
        """The method's own continuous extension, as weights of the states and slopes of the step."""
        stages = len(self.solver.tableau.c) + 1
        basis = jnp.eye(stages + 2, dtype=h.dtype)
        zero, one = jnp.zeros_like(h), jnp.ones_like(h)
        local = self.solver.interpolation_cls(t0=zero, t1=one, y0=basis[0], y1=basis[1], k=basis[2:])
        parts = (ats - t) / h
        weights = jax.vmap(local.evaluate)(parts)
        # At the ends exactly the states there; the derivative by time is still that of the interpolant.
        exact = jnp.where(
            (parts >= 1)[:, None], basis[1], jnp.where((parts <= 0)[:, None], basis[0], weights)
        )
        weights = weights + jax.lax.stop_gradient(exact - weights)
        return jnp.matmul(weights, dense, precision=jax.lax.Precision.HIGHEST)

    def _stages(
        self,
        field: VectorField,
        theta: PyTree,
        t: Array,
        h: Array,
        y: Array,
        slope: Array,
        nudges: list[Array] | None = None,
    ) -> tuple:
        """End, slope there, rows of `observe`, slopes, and the points at which the field was taken."""
        tableau = self.solver.tableau
        times: list[Array] = []
        states: list[Array] = []
        slopes = [slope]

        def take(t: Array, y: Array) -> Array:
            k = field(t, y, theta)
            if nudges is not None:
                k = k + nudges[len(times)]
            times.append(t)
            states.append(y)
            return k

        y1 = y
        for row, c in zip(tableau.a_lower, tableau.c, strict=True):
            y1 = y + h * _combined(row, slopes)
            slopes.append(take(t + float(c) * h, y1))
        if _ends_with_the_solution(tableau):
            after = slopes[-1]
        else:
            y1 = y + h * _combined(tableau.b_sol, slopes)
            after = take(t + h, y1)
        rows = jnp.stack([y, y1, *(h * k for k in slopes)])
        return y1, after, rows, slopes, (jnp.stack(times), jnp.stack(states))


def _of_parameters(
    field: VectorField, rebuild: Any, floats: list[Array], times: Array, states: Array, bars: Array
) -> list[Array]:
    if not floats:
        return []

    def slopes(floats: list[Array]) -> Array:
        return jax.vmap(lambda t, y: field(t, y, rebuild(floats)))(times, states)

    return jax.vjp(slopes, floats)[1](bars)[0]


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

    def advance(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array
    ) -> tuple[Array, Array, PyTree]:
        """A step that begins afresh; it does not use the slope."""
        apart = dataclasses.replace(self, solver=_with_loop(self.solver, "bounded"))
        stepped = apart.step(field, theta, t, h, y, apart.begin(field, theta, t, h, y, slope))
        return stepped.y, jnp.zeros_like(slope), stepped.dense

    def pull(self, field: VectorField, rebuild: Any, floats: list[Array], at: tuple, bars: tuple) -> tuple:
        """By JAX: the equations of an implicit step have derivatives of their own."""
        t, h, y, slope = at
        _, transpose = jax.vjp(
            lambda floats, y, slope: self.advance(field, rebuild(floats), t, h, y, slope), floats, y, slope
        )
        return transpose(bars)

    def observe(self, t: Array, h: Array, dense: PyTree, ats: Array) -> Float[Array, "times n"]:
        """The method's own continuous extension."""
        local = self.solver.interpolation_cls(t0=t, t1=t + h, **dense)
        inside = jax.vmap(local.evaluate)(ats)
        return jnp.where(
            (ats >= t + h)[:, None], inside + (dense["y1"] - local.evaluate(t + h))[None, :], inside
        )

    @staticmethod
    def _terms(field: VectorField) -> Any:
        import diffrax

        return diffrax.ODETerm(field)


def check_solver(solver: Any) -> Any:
    """The solver as an object of diffrax.

    Raises:
      ValueError: for a name that is not known, or a method of several steps or terms.
      TypeError: for an object that is no ODE solver of diffrax.
    """
    import diffrax

    if isinstance(solver, str):
        if solver not in SOLVERS:
            raise ValueError(
                f"solver: expected one of {', '.join(SOLVERS)}, or a solver of diffrax, got {solver!r}"
            )
        return getattr(diffrax, SOLVERS[solver])()
    if isinstance(solver, type) or not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver: expected a name or a solver of diffrax such as Tsit5(), got {solver!r}")
    # Derivatives begin every step afresh: what a method remembers besides the state would be lost in them.
    one_step = (diffrax.AbstractERK, diffrax.AbstractDIRK, diffrax.Euler, diffrax.ImplicitEuler)
    if not isinstance(solver, one_step):
        name = type(solver).__name__
        raise ValueError(
            f"solver: {name} is no one-step method of one term; take a Runge-Kutta method such as Tsit5()"
        )
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
    return ByDiffrax(_with_loop(solver, "lax"), order, isinstance(solver, diffrax.AbstractAdaptiveSolver))


def _with_loop(solver: Any, kind: str) -> Any:
    """The solver with a loop over stages that is fast, "lax", or differentiable both ways, "bounded"."""
    import equinox

    if not hasattr(solver, "scan_kind"):
        return solver
    return equinox.tree_at(lambda s: s.scan_kind, solver, kind, is_leaf=lambda leaf: leaf is None)


def _is_set(value: Any) -> bool:
    return callable(value) or isinstance(value, (int, float, np.ndarray, np.generic, Array))


def _rms(tree: PyTree) -> Array:
    leaves = jax.tree.leaves(tree)
    total = sum(jnp.sum(leaf**2) for leaf in leaves)
    return jnp.sqrt(total / max(1, sum(leaf.size for leaf in leaves)))


def _ends_with_the_solution(tableau: Any) -> bool:
    return bool(
        tableau.c[-1] == 1.0
        and np.array_equal(tableau.b_sol[:-1], tableau.a_lower[-1])
        and tableau.b_sol[-1] == 0.0
    )


def _combined(weights: Any, slopes: list[Array]) -> Array:
    terms = [float(w) * k for w, k in zip(weights, slopes, strict=False) if w != 0.0]
    return sum(terms[1:], terms[0])
