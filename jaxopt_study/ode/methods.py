"""Which method: diffrax's, by name or as an object, each of them its tableau.

One that is explicit is stepped by `explicit`, one that is not by `diagonally_implicit`.
"""

import functools
from typing import Any

import numpy as np

from jaxopt_study.ode.diagonally_implicit import DiagonallyImplicit
from jaxopt_study.ode.explicit import Explicit
from jaxopt_study.ode.tableau import tableau_of

Method = Explicit | DiagonallyImplicit

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


def check_solver(solver: Any) -> Any:
    """The solver as an object of diffrax.

    Raises:
      ValueError: for a name that is not known, a method of several steps or terms, or one whose stages
        are not solved one after the other with one matrix.
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
    name = type(solver).__name__
    # Derivatives begin every step afresh: what a method remembers besides the state would be lost in them.
    one_step = (diffrax.AbstractERK, diffrax.AbstractDIRK, diffrax.Euler, diffrax.ImplicitEuler)
    if not isinstance(solver, one_step):
        raise ValueError(
            f"solver: {name} is no one-step method of one term; take a Runge-Kutta method such as Tsit5()"
        )
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        _check_implicit(solver, name)
    return solver


def _check_implicit(solver: Any, name: str) -> None:
    import diffrax

    # VeryChord, Chord and Newton, all of which end where the error left is a part kappa of what is tolerated.
    if not hasattr(solver.root_finder, "kappa"):
        finder = type(solver.root_finder).__name__
        raise ValueError(f"solver: its equations are solved by Newton's method, VeryChord(), not by {finder}")
    if not isinstance(solver, diffrax.ImplicitEuler) and not _is_known(solver):
        raise ValueError(
            f"solver: {name} has no explicit first stage, one diagonal and its solution in the last stage "
            "as Kvaerno5() has"
        )


def _is_known(solver: Any) -> bool:
    first, *others = solver.tableau.a_diagonal
    ends = [*solver.tableau.a_lower[-1], others[-1]]
    return bool(
        first == 0
        and others[0] != 0
        and np.all(np.asarray(others) == others[0])
        and np.array_equal(ends, solver.tableau.b_sol)
    )


@functools.lru_cache(maxsize=64)
def method_of(solver: Any) -> Method:
    """How a solver of diffrax steps."""
    import diffrax

    tableau = tableau_of(solver)
    implicit, euler = (
        isinstance(solver, kind) for kind in (diffrax.AbstractImplicitSolver, diffrax.ImplicitEuler)
    )
    if not implicit:
        return Explicit(tableau)
    predictor = (np.ones(1),) if euler else solver.tableau.a_predictor
    turns, enough = int(solver.root_find_max_steps), float(solver.root_finder.kappa)
    return DiagonallyImplicit(tableau, predictor, turns, enough)
