"""Roots of small and middling systems, and in brackets: time of a whole solve against other people's.

Each solver has the loosest of its tolerances, of 1e-6, 1e-8, ... 1e-14, with which `‖f‖` falls to 1e-10 of
what it was at the start (in a bracket: with which x has 12 digits), so that nobody pays for digits that
others leave out. Ours and Optimistix are jitted whole, as people would who solve many; so is what SciPy
calls. Everything is in float64.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.problems.more_garbow_hillstrom import equations, small_systems

TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)
OURS = "find_root"
ENOUGH = 1e-10


def cube(p: jax.Array) -> jax.Array:
    """z³ - 1 as two real equations."""
    x, y = p
    return jnp.stack([x**3 - 3 * x * y**2 - 1, 3 * x**2 * y - y**3])


def systems() -> dict[str, tuple[Any, Any, tuple]]:
    """Function, start and arguments of every system."""
    made = {"z^3 = 1": (cube, jnp.array([2.0, 0.5]), ())}
    for name, problem in {
        "helical valley": small_systems.helical_valley(),
        "Powell badly scaled": small_systems.powell_badly_scaled(),
        "boundary value, n = 10": equations.discrete_boundary_value(10),
        "Broyden banded, n = 10": equations.broyden_banded(10),
        "Broyden banded, n = 100": equations.broyden_banded(100),
        "integral equation, n = 200": equations.discrete_integral_equation(200),
    }.items():
        objective: Any = problem.objective
        made[name] = (objective.residual_fn, problem.init, problem.data)
    return made


BRACKETS: dict[str, tuple[Callable[[Any], Any], tuple[float, float]]] = {
    "cos x = x": (lambda x: jnp.cos(x) - x, (0.0, 1.0)),
    "x exp(-x) = 0.1": (lambda x: x * jnp.exp(-x) - 0.1, (1.0, 100.0)),
}


def run(rounds: int = 31) -> None:
    """Measure and print; `rounds` is how often each contestant is timed."""
    print(machine())
    print(f"float64, {rounds} rounds in turns; microseconds a solve, and how many times ours; 'compile' in s")
    others = ["optimistix Newton", "optimistix Dogleg", "scipy hybrj"]
    _table(others, rounds, {name: functools.partial(_on_system, *case) for name, case in systems().items()})
    others = ["optimistix Bisection", "scipy brentq"]
    _table(others, rounds, {name: functools.partial(_on_bracket, *case) for name, case in BRACKETS.items()})


def _table(others: list[str], rounds: int, cases: dict[str, Callable[[], dict[str, Any]]]) -> None:
    print(f"\n{'':<28}{OURS:>14}{'compile':>9}" + "".join(f"{name:>22}" for name in others))
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for name, make in cases.items():
        contestants = make()
        if OURS not in contestants:
            print(f"{name:<28}{'not solved':>14}")
            continue
        timed = take_turns(contestants, rounds)
        cells = f"{timed[OURS].median * 1e6:14.0f}{timed[OURS].first_seconds:9.2f}"
        for other in others:
            if other not in timed:
                cells += f"{'not solved':>22}"
                continue
            ratios[other].append(ratio(timed[other], timed[OURS]))
            cells += f"{timed[other].median * 1e6:12.0f}{ratios[other][-1]:9.2f}x"
        print(f"{name:<28}{cells}", flush=True)
    for other, values in ratios.items():
        if values:
            mean = float(np.exp(np.mean(np.log(values))))
            print(f"{other}: {mean:.2f} times ours in the geometric mean, solves {len(values)}/{len(cases)}")


def _on_system(fn: Any, start: Any, args: tuple) -> dict[str, Callable[[], Any]]:
    def ours(tolerance: float) -> Callable[[Any], Any]:
        # A new function each time, so that the first call is one that compiles.
        solve = jax.jit(lambda x, args: jos.find_root(fn, x, args, xtol=tolerance).params)
        return lambda x: solve(x, args)

    makers: dict[str, Callable[[float], Callable[[Any], Any]]] = {OURS: ours}
    if peers.installed("optimistix"):
        for method in ("Newton", "Dogleg"):
            makers[f"optimistix {method}"] = functools.partial(peers.optimistix_root, fn, args, method)
    if peers.installed("scipy"):
        makers["scipy hybrj"] = functools.partial(peers.scipy_root, fn, args)
    first = float(jnp.linalg.norm(fn(start, *args)))

    def solved(x: Any) -> bool:
        return float(jnp.linalg.norm(fn(jnp.asarray(x), *args))) <= ENOUGH * first

    return _loosest(makers, start, solved)


def _on_bracket(fn: Any, bracket: tuple[float, float]) -> dict[str, Callable[[], Any]]:
    def ours(tolerance: float) -> Callable[[Any], Any]:
        solve = jax.jit(lambda a, b: jos.find_root(fn, bracket=(a, b), xtol=tolerance).params)
        return lambda _: solve(*bracket)

    makers: dict[str, Callable[[float], Callable[[Any], Any]]] = {OURS: ours}
    if peers.installed("optimistix"):
        makers["optimistix Bisection"] = functools.partial(peers.optimistix_bisection, fn, bracket)
    if peers.installed("scipy"):
        makers["scipy brentq"] = functools.partial(peers.scipy_brentq, fn, bracket)
    exact = float(jos.find_root(fn, bracket=bracket).params)
    middle = jnp.asarray(0.5 * (bracket[0] + bracket[1]))
    return _loosest(makers, middle, lambda x: abs(float(x) - exact) <= 1e-12 * abs(exact))


def _loosest(
    makers: dict[str, Callable[[float], Callable[[Any], Any]]], start: Any, solved: Callable[[Any], bool]
) -> dict[str, Callable[[], Any]]:
    """Every solver with the loosest tolerance that is tight enough."""
    chosen: dict[str, Callable[[], Any]] = {}
    for name, make in makers.items():
        for tolerance in TOLERANCES:
            if solved(make(tolerance)(start)):
                chosen[name] = functools.partial(make(tolerance), start)
                break
    return chosen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="how often each is timed")
    options = parser.parse_args()
    with jax.enable_x64(True):
        run(options.rounds)


if __name__ == "__main__":
    main()
