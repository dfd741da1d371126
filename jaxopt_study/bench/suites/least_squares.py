"""Levenberg-Marquardt on 500 residuals × 41 parameters, per trial and per accepted step.

The problem is a 2-10-1 tanh network on points of Rosenbrock's surface, in float64. Every contestant runs
from the same start for a fixed number of trials, without tolerances; the error is the value that it reached.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.models import mlp
from jaxopt_study.types import PyTree

POINTS = 500
STEPS = 100
SETTINGS = "{0}; as many trials as we take steps, tolerances off"


def network_problem(seed: int) -> tuple[Callable[..., Array], PyTree, tuple[Array, Array]]:
    """The residual function, a Glorot start and the data."""
    key_x, key_p = jax.random.split(jax.random.key(seed))
    x = jax.random.uniform(key_x, (POINTS, 2), minval=-2.0, maxval=2.0)
    z = (2.5 - x[:, 0]) ** 2 + 2.5 * (x[:, 1] - x[:, 0] ** 2) ** 2

    def residual(params: PyTree, x: Array, z: Array) -> Array:
        return (mlp.apply(params, x, "tanh")[:, 0] - z) / math.sqrt(POINTS / 2)

    return residual, mlp.init(key_p, (2, 10, 1)), (x, z)


def _network_case(accepted: bool, wanted: Callable[[str], bool]) -> Case:
    residual, params, args = network_problem(1)
    objective = jos.LeastSquares(residual, pointwise=True)

    def value(result: Any) -> float:
        return float(objective(result.params, *args))

    def ours(rule: Any, what: str) -> Contestant:
        optimizer = jos.levenberg_marquardt(damping_rule=rule)

        def work() -> jos.Result:
            return jos.minimize(
                objective, params, optimizer, args, max_steps=STEPS, ftol=0.0, xtol=0.0, gtol=0.0
            )

        settings = f"damping_rule={rule!r}, {what}; pointwise=True, {STEPS} steps, tolerances off"
        units = steps if accepted else trials
        return Contestant(work, value, settings, units, lambda result: int(result.num_evals))

    contestants = {OURS: ours("nielsen", "the default")}
    contestants[f"{OURS}, radius"] = ours("radius", "that of `least_squares`")
    contestants[f"{OURS}, delayed"] = ours("delayed", "for networks")

    def theirs(work: Callable[[], Any], settings: str) -> Contestant:
        def count(result: Any) -> int:
            return int(result.trials)

        def units(result: Any) -> int:
            return int(result.accepted) if accepted else count(result)

        return Contestant(work, value, SETTINGS.format(settings), units, count)

    if wanted("optimistix"):
        contestants["optimistix"] = theirs(
            peers.optimistix_levenberg_marquardt(residual, params, args, STEPS), "QR, its default"
        )
    if wanted("scipy"):
        contestants["scipy (MINPACK)"] = theirs(
            peers.scipy_levenberg_marquardt(residual, params, args, STEPS),
            "residual and Jacobian jitted",
        )
    if wanted("jaxopt") and not accepted:  # which it does not count
        contestants["jaxopt"] = theirs(
            peers.jaxopt_levenberg_marquardt(residual, params, args, STEPS),
            "Cholesky, its default; it stops far from the solution",
        )
    return Case("step" if accepted else "trial", contestants, rounds=9)


def steps(result: jos.Result) -> int:
    """Steps that were accepted."""
    return int(result.num_steps)


def trials(result: jos.Result) -> int:
    """Steps that were tried; each accepted one linearizes once besides.

    So does the measurement at the end, and the start is evaluated once more.
    """
    return int(result.num_evals) - int(result.num_steps) - 2


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned(
            "network 500 x 41, a trial",
            functools.partial(_network_case, False),
            claim={"optimistix": 8.0, "scipy (MINPACK)": 10.0},
        ),
        Planned(
            "network 500 x 41, an accepted step",
            functools.partial(_network_case, True),
            claim={"optimistix": 10.0, "scipy (MINPACK)": 10.0},
        ),
    )
