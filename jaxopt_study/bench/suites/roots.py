"""Roots of small and middling systems, and in brackets: a whole solve.

Each solver has the loosest of its tolerances, of 1e-6, 1e-8, ... 1e-14, with which `‖f‖` falls to 1e-10 of
what it was at the start (in a bracket: with which x has 12 digits), so that nobody pays for digits that
others leave out. Ours and Optimistix are jitted whole, as people would who solve many; so is what SciPy
calls. Everything is in float64.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned, loosest
from jaxopt_study.problems.more_garbow_hillstrom import equations, small_systems
from jaxopt_study.problems.problem import Problem

TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)
ENOUGH = 1e-10


def cube(p: jax.Array) -> jax.Array:
    """z³ - 1 as two real equations."""
    x, y = p
    return jnp.stack([x**3 - 3 * x * y**2 - 1, 3 * x**2 * y - y**3])


SYSTEMS: dict[str, Callable[[], Problem] | None] = {
    "z^3 = 1": None,
    "helical valley": small_systems.helical_valley,
    "Powell badly scaled": small_systems.powell_badly_scaled,
    "boundary value, n = 10": functools.partial(equations.discrete_boundary_value, 10),
    "Broyden banded, n = 10": functools.partial(equations.broyden_banded, 10),
    "Broyden banded, n = 100": functools.partial(equations.broyden_banded, 100),
    "integral equation, n = 200": functools.partial(equations.discrete_integral_equation, 200),
}


def system(name: str) -> tuple[Callable[..., Any], Any, tuple]:
    """Function, start and arguments."""
    make = SYSTEMS[name]
    if make is None:
        return cube, jnp.array([2.0, 0.5]), ()
    problem = make()
    objective: Any = problem.objective
    return objective.residual_fn, problem.init, problem.data


BRACKETS: dict[str, tuple[Callable[[Any], Any], tuple[float, float]]] = {
    "cos x = x": (lambda x: jnp.cos(x) - x, (0.0, 1.0)),
    "x exp(-x) = 0.1": (lambda x: x * jnp.exp(-x) - 0.1, (1.0, 100.0)),
}


ROOTS = {"cos x = x": 0.7390851332151606, "x exp(-x) = 0.1": 3.577152063957297}  # Lambert's W, to 16 digits


def _system_case(name: str, wanted: Callable[[str], bool]) -> Case:
    fn, start, args = system(name)

    def ours(tolerance: float) -> Callable[[Any], Any]:
        # A new function each time, so that the first call is one that compiles.
        solve = jax.jit(lambda x, args: jos.find_root(fn, x, args, xtol=tolerance).params)
        return lambda x: solve(x, args)

    makers: dict[str, Callable[[float], Callable[[Any], Any]]] = {OURS: ours}
    if wanted("optimistix"):
        for method in ("Newton", "Dogleg"):
            makers[f"optimistix {method}"] = functools.partial(peers.optimistix_root, fn, args, method)
    if wanted("scipy"):
        makers["scipy hybrj"] = functools.partial(peers.scipy_root, fn, args)
    first = float(jnp.linalg.norm(fn(start, *args)))

    def error(x: Any) -> float:
        return float(jnp.linalg.norm(fn(jnp.asarray(x), *args))) / first

    return _loosest_of_each(makers, start, error, ENOUGH)


def _bracket_case(name: str, wanted: Callable[[str], bool]) -> Case:
    fn, bracket = BRACKETS[name]

    def ours(tolerance: float) -> Callable[[Any], Any]:
        solve = jax.jit(lambda a, b: jos.find_root(fn, bracket=(a, b), xtol=tolerance).params)
        return lambda _: solve(*bracket)

    makers: dict[str, Callable[[float], Callable[[Any], Any]]] = {OURS: ours}
    if wanted("optimistix"):
        makers["optimistix Bisection"] = functools.partial(peers.optimistix_bisection, fn, bracket)
    if wanted("scipy"):
        makers["scipy brentq"] = functools.partial(peers.scipy_brentq, fn, bracket)
    exact = ROOTS[name]
    middle = jnp.asarray(0.5 * (bracket[0] + bracket[1]))
    return _loosest_of_each(makers, middle, lambda x: abs(float(x) - exact) / abs(exact), 1e-12)


def _loosest_of_each(
    makers: dict[str, Callable[[float], Callable[[Any], Any]]],
    start: Any,
    error: Callable[[Any], float],
    enough: float,
) -> Case:
    contestants = {}
    for name, make in makers.items():
        work, tolerance, first = loosest(
            functools.partial(_from_start, make, start), TOLERANCES, lambda x: error(x) <= enough
        )
        words = f"tolerance {tolerance:.0e}, the loosest that is enough; jitted"
        contestants[name] = Contestant(work, error, words, first_seconds=first)
    return Case("solve", contestants, most_error=enough)


def _from_start(
    make: Callable[[float], Callable[[Any], Any]], start: Any, tolerance: float
) -> Callable[[], Any]:
    return functools.partial(make(tolerance), start)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        *(Planned(name, functools.partial(_system_case, name)) for name in SYSTEMS),
        *(Planned(name, functools.partial(_bracket_case, name)) for name in BRACKETS),
    )
