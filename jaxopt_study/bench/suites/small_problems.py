"""A small fit after another: a whole solve, to the same accuracy.

The problems are those of Moré, Garbow and Hillstrom for least squares from their standard starts
(n ≤ 12, m ≤ 65), in float64. Each solver has its documented tolerances, and the loosest of 1e-6, 1e-8, ...
1e-14 with which it reaches a minimum to 6 digits, so that nobody pays for digits that others leave out: these
are the best settings, which ratios are about. Ours, Optimistix and JAXopt are jitted whole, as people would
who solve many; so is what SciPy calls. The error is that of the value, relative to the minimum's or to the
start's where that is zero.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Group, Planned, loosest
from jaxopt_study.bench.timer import one_call
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES
from jaxopt_study.problems.problem import Problem

TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)
ENOUGH = 1e-6
DOCUMENTED = {"optimistix": 1e-8, "scipy lm": 1e-8, "jaxopt": 1e-3}
Solve = Callable[[Any], Any]


def _case(name: str, wanted: Callable[[str], bool]) -> Case:
    problem = NONLINEAR_LEAST_SQUARES[name]()
    objective: Any = problem.objective
    fn = objective.residual_fn
    makers: dict[str, Callable[[float], Solve]] = {
        OURS: _ours(objective, problem.data),
    }
    if wanted("optimistix"):
        makers["optimistix"] = peers.optimistix_jitted(fn, problem.data)
    if wanted("scipy"):
        makers["scipy lm"] = functools.partial(peers.scipy_jitted, fn, problem.data)
    if wanted("jaxopt"):
        makers["jaxopt"] = functools.partial(peers.jaxopt_jitted, fn, problem.data)
    error = _error_of(problem)
    contestants = {}
    for solver, make in makers.items():
        at = functools.partial(_from_start, make, problem.init)
        # Where the tolerance is traced, the first of them compiles for all.
        compiling = one_call(at(TOLERANCES[0]))[0] if solver in (OURS, "optimistix") else None
        work, tolerance, first = loosest(at, TOLERANCES, lambda params: error(params) <= ENOUGH)
        words = f"tolerance {tolerance:.0e}: the loosest of {TOLERANCES} that gives 6 digits"
        contestants[solver] = Contestant(work, error, words, first_seconds=compiling or first)
        if solver in DOCUMENTED and tolerance != DOCUMENTED[solver]:
            documented = DOCUMENTED[solver]
            words = f"tolerance {documented:.0e}, as documented"
            contestants[f"{solver}, as documented"] = Contestant(at(documented), error, words)
    return Case("solve", contestants, most_error=ENOUGH, rounds=11)


def _from_start(make: Callable[[float], Solve], start: Any, tolerance: float) -> Callable[[], Any]:
    return functools.partial(make(tolerance), start)


def _ours(objective: Any, data: tuple) -> Callable[[float], Solve]:
    @jax.jit
    def solve(params: Any, data: tuple, tolerance: Any) -> Any:
        return jos.least_squares(objective, params, data, ftol=tolerance, xtol=tolerance).params

    return lambda tolerance: lambda params: solve(params, data, tolerance)


def _error_of(problem: Problem) -> Callable[[Any], float]:
    objective: Any = problem.objective
    value_of = jax.jit(lambda params: objective(params, *problem.data))
    start = float(value_of(problem.init))

    def error(params: Any) -> float:
        value = float(value_of(params))
        # Where the minimum is zero, 12 digits of the first value are as good as 6 of another.
        return min(abs(value - low) / low if low > 0 else 1e6 * value / start for low in problem.minima)

    return error


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    many = len(NONLINEAR_LEAST_SQUARES)
    together = Group("small problems, geometric mean", many, {"optimistix": 2.5, "scipy lm": 10.0})
    return tuple(
        Planned(name, functools.partial(_case, name), group=together) for name in NONLINEAR_LEAST_SQUARES
    )
