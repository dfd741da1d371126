"""A small fit after another: time of a whole solve, to the same accuracy, against other people's.

The problems are those of Moré, Garbow and Hillstrom for least squares from their standard starts
(n ≤ 12, m ≤ 65), in float64. Each solver has the loosest of its tolerances, of 1e-6, 1e-8, ... 1e-14, with
which it reaches a minimum to 6 digits, so that nobody pays for digits that others leave out. Ours and
Optimistix are jitted whole, as people would who solve many; so is what SciPy calls.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES
from jaxopt_study.problems.problem import Problem

TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)
OURS = "jaxopt_study"


def run(rounds: int = 15, only: list[str] | None = None) -> None:
    """Measure and print.

    Args:
      rounds: how often each contestant is timed.
      only: names of problems; all of them if not given.
    """
    print(machine())
    print(f"float64, {rounds} rounds in turns; microseconds a solve, and how many times ours")
    names = [OURS, "optimistix", "scipy lm"]
    print(f"{'':<28}" + "".join(f"{name:>22}" for name in names))
    ratios: dict[str, list[float]] = {name: [] for name in names[1:]}
    for name in only or NONLINEAR_LEAST_SQUARES:
        problem = NONLINEAR_LEAST_SQUARES[name]()
        timed = take_turns(_contestants(problem), rounds)
        cells = []
        for other in names:
            if other not in timed:
                cells.append("not solved")
                continue
            times = "" if other == OURS else f"{ratio(timed[other], timed[OURS]):6.1f}x"
            cells.append(f"{timed[other].median * 1e6:10.0f}{times:>8}")
            if other != OURS:
                ratios[other].append(ratio(timed[other], timed[OURS]))
        print(f"{name:<28}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    for other, values in ratios.items():
        if values:
            mean = float(np.exp(np.mean(np.log(values))))
            print(f"{other}: {mean:.1f} times ours in the geometric mean over {len(values)} problems")


def _contestants(problem: Problem) -> dict[str, Callable[[], Any]]:
    objective: Any = problem.objective
    fn = objective.residual_fn
    solves: dict[str, Callable[[], Any]] = {}
    makers: dict[str, Callable[[float], Callable[[Any], Any]]] = {
        OURS: functools.partial(_ours, objective, problem.data)
    }
    if peers.installed("optimistix"):
        makers["optimistix"] = functools.partial(peers.optimistix_jitted, fn, problem.data)
    if peers.installed("scipy"):
        makers["scipy lm"] = functools.partial(peers.scipy_jitted, fn, problem.data)
    for name, make in makers.items():
        for tolerance in TOLERANCES:
            solve = make(tolerance)
            if _solved(problem, solve(problem.init)):
                solves[name] = functools.partial(solve, problem.init)
                break
    return solves


def _ours(objective: Any, data: tuple, tolerance: float) -> Callable[[Any], Any]:
    @jax.jit
    def solve(params: Any, data: tuple) -> Any:
        return jos.least_squares(objective, params, data, ftol=tolerance, xtol=tolerance).params

    return lambda params: solve(params, data)


def _solved(problem: Problem, params: Any) -> bool:
    objective: Any = problem.objective
    value, start = (float(objective(p, *problem.data)) for p in (params, problem.init))
    return any(abs(value - low) <= (1e-6 * low if low > 0 else 1e-12 * start) for low in problem.minima)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    parser.add_argument("--only", nargs="*", choices=sorted(NONLINEAR_LEAST_SQUARES), metavar="NAME")
    options = parser.parse_args()
    with jax.enable_x64(True):
        run(options.rounds, options.only)


if __name__ == "__main__":
    main()
