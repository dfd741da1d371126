"""Levenberg-Marquardt on 500 residuals × 41 parameters, per trial step, against other people's.

The problem is a 2-10-1 tanh network on points of Rosenbrock's surface, in float64. Every
contestant runs from the same start for a fixed number of trials, without tolerances.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import Timed, machine, ratio, take_turns
from jaxopt_study.models import mlp
from jaxopt_study.types import PyTree

POINTS = 500
STEPS = 100


def network_problem(seed: int) -> tuple[Callable[..., Array], PyTree, tuple[Array, Array]]:
    """The residual function, a Glorot start and the data."""
    key_x, key_p = jax.random.split(jax.random.key(seed))
    x = jax.random.uniform(key_x, (POINTS, 2), minval=-2.0, maxval=2.0)
    z = (2.5 - x[:, 0]) ** 2 + 2.5 * (x[:, 1] - x[:, 0] ** 2) ** 2

    def residual(params: PyTree, x: Array, z: Array) -> Array:
        return (mlp.apply(params, x, "tanh")[:, 0] - z) / math.sqrt(POINTS / 2)

    return residual, mlp.init(key_p, (2, 10, 1)), (x, z)


def run_network(seed: int = 1, rounds: int = 15) -> None:
    """Measure and print.

    Args:
      seed: of the data and the start.
      rounds: how often each contestant is timed.
    """
    residual, params, args = network_problem(seed)
    objective = jos.LeastSquares(residual, pointwise=True)

    def ours(rule: Any) -> Callable[[], jos.Result]:
        optimizer = jos.levenberg_marquardt(damping_rule=rule)
        no_tests: dict[str, Any] = {"ftol": 0.0, "xtol": 0.0, "gtol": 0.0}
        return lambda: jos.minimize(objective, params, optimizer, args, max_steps=STEPS, **no_tests)

    contestants: dict[str, Callable[[], Any]] = {
        "jaxopt_study nielsen": ours("nielsen"),
        "jaxopt_study delayed": ours("delayed"),
    }
    if peers.installed("optimistix"):
        contestants["optimistix"] = peers.optimistix_levenberg_marquardt(residual, params, args, STEPS)
    if peers.installed("scipy"):
        contestants["scipy (MINPACK)"] = peers.scipy_levenberg_marquardt(residual, params, args, STEPS)
    timed = take_turns(contestants, rounds)
    trials = {name: _trials(one) for name, one in timed.items()}
    reference = "jaxopt_study nielsen"
    row = "{:<22}{:>9}{:>8}{:>13}{:>9}{:>13}{:>12}{:>14}"
    print(machine())
    print(f"{POINTS} residuals x 41 parameters, float64; {rounds} rounds in turns")
    heads = ("first s", "trials", "us a trial", "spread", "BLAS threads", "value", f"/ {reference[13:]}")
    print(row.format("", *heads))
    for name, one in timed.items():
        value = float(objective(one.result.params, *args))
        per_trial = ratio(one, timed[reference], trials[name], trials[reference])
        print(
            row.format(
                name,
                f"{one.first_seconds:.2f}",
                trials[name],
                f"{one.median / trials[name] * 1e6:.1f}",
                f"{one.spread:.0%}",
                one.blas_threads or "all",
                f"{value:.2e}",
                f"{per_trial:.1f}",
            )
        )


def _trials(one: Timed) -> int:
    if isinstance(one.result, jos.Result):
        # Every accepted step linearizes once, and so does the measurement at the end; the start is
        # evaluated once more.
        return int(one.result.num_evals) - int(one.result.num_steps) - 2
    return int(one.result.trials)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the data and the start")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    options = parser.parse_args()
    with jax.enable_x64(True):
        run_network(options.seed, options.rounds)


if __name__ == "__main__":
    main()
