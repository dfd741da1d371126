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

    def rows(self) -> int:
        """How many states and slopes `dense` is, if it is one array of such; else 0."""

    def pull(
        self,
        field: VectorField,
        rebuild: Any,
        floats: list[Array],
        at: tuple,
        bars: tuple,
        dense: Array | None = None,
    ) -> tuple:
        """The transpose of the derivative of `advance` at `(t, h, y, slope)`: bars of floats, y and slope.

        `dense` is that of the step where it is known.
        """

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
        y1, after, rows, slopes = self._stages(field, theta, t, h, y, carry)
        return Stepped(y1, h * _combined(self.solver.tableau.b_error, slopes), after, rows)

    def advance(
        self, field: VectorField, theta: PyTree, t: Array, h: Array, y: Array, slope: Array
    ) -> tuple[Array, Array, PyTree]:
        """The stages; the slope at the end is that of the last where the method ends with the solution."""
        return self._stages(field, theta, t, h, y, slope)[:3]

    def rows(self) -> int:
        """Of `dense`: the state at the start, that at the end, and the slopes times the step's length."""
        return len(self.solver.tableau.c) + 3 + (not _ends_with_the_solution(self.solver.tableau))

    def pull(
        self,
        field: VectorField,
        rebuild: Any,
        floats: list[Array],
        at: tuple,
        bars: tuple,
        dense: Array | None = None,
    ) -> tuple:
        """The stages in reverse, `k̄_j += h a_ij Ȳ_i` with `Ȳ_i = (∂f/∂y)ᵀ k̄_i`; then the parameters at once.

        The field is linearized at all stages in one batch: small products, of which a step makes dozens,
        take their time in being called. What is in `dense` is not computed again.
        """
        t, h, y, slope = at
        theta = rebuild(floats)
        if dense is None:
            dense = self._stages(field, theta, t, h, y, slope)[2]
        stages = _stage_rows(self.solver.tableau)
        count = len(stages)
        y1_bar, after_bar, dense_bar = bars
        # The last stage is the end of the step; its state and slope are there whether it is used or not.
        states = jnp.stack(
            [dense[0] + _combined(row, list(dense[2:])) for _, row in stages[:-1]] + [dense[1]]
        )
        times = t + jnp.asarray([c for c, _ in stages], h.dtype) * h

        def linear(t: Array, y: Array) -> Any:
            return jax.vjp(lambda y: field(t, y, theta), y)[1]

        transposes = jax.vmap(linear)(times, states)
        # Cotangents of slopes times the length, the first of which is that of the slope given.
        pulls = [dense_bar[2 + i] for i in range(count + 1)]
        pulls[count] = pulls[count] + after_bar / h
        y_bar = dense_bar[0]
        end_bar = y1_bar + dense_bar[1]
        for i in reversed(range(count)):
            (state_bar,) = jax.tree.map(lambda leaf, i=i: leaf[i], transposes)(h * pulls[i + 1])
            state_bar = state_bar + end_bar if i == count - 1 else state_bar
            y_bar = y_bar + state_bar
            for k, weight in enumerate(stages[i][1]):
                if weight != 0.0:
                    pulls[k] = pulls[k] + float(weight) * state_bar
        nudges = h * jnp.stack(pulls[1:])
        return _of_parameters(field, rebuild, floats, times, states, nudges), y_bar, h * pulls[0]

    def observe(self, t: Array, h: Array, dense: PyTree, ats: Array) -> Float[Array, "times n"]:
        """The method's own continuous extension, as weights of the states and slopes of the step."""
        basis = jnp.eye(self.rows(), dtype=h.dtype)
        zero, one = jnp.zeros_like(h), jnp.ones_like(h)
        slopes = basis[2 : len(self.solver.tableau.c) + 3]
        local = self.solver.interpolation_cls(t0=zero, t1=one, y0=basis[0], y1=basis[1], k=slopes)
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
    ) -> tuple:
        """End, slope there, rows of `observe`, and slopes; the last of them at the end."""
        y1, slopes = y, [slope]
        for c, row in _stage_rows(self.solver.tableau):
            y1 = y + h * _combined(row, slopes)
            slopes.append(field(t + float(c) * h, y1, theta))
        rows = jnp.stack([y, y1, *(h * k for k in slopes)])
        return y1, slopes[-1], rows, slopes


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

    def rows(self) -> int:
        """None of it is kept."""
        return 0

    def pull(
        self,
        field: VectorField,
        rebuild: Any,
        floats: list[Array],
        at: tuple,
        bars: tuple,
        dense: Array | None = None,
    ) -> tuple:
        """By JAX: the equations of an implicit step have derivatives of their own."""
        del dense
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


def _stage_rows(tableau: Any) -> list[tuple[float, Any]]:
    """Where the field is taken after the start: part of the step, and weights; the last is the solution."""
    stages = list(zip(tableau.c, tableau.a_lower, strict=True))
    return stages if _ends_with_the_solution(tableau) else [*stages, (1.0, tableau.b_sol)]


def _combined(weights: Any, slopes: list[Array]) -> Array:
    terms = [float(w) * k for w, k in zip(weights, slopes, strict=False) if w != 0.0]
    return sum(terms[1:], terms[0])
