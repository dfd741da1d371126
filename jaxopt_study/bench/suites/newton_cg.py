"""Newton by conjugate gradients on 10⁵ variables against optax's L-BFGS, to the same value, in one run.

`rosenbrock`: the extended Rosenbrock function from its standard start, until f ≤ 1e-6. `digits`: softmax
regression of the 1797 digits that scikit-learn bundles on 10⁴ random Fourier features, with a ridge of 1e-6,
from zero, until f is within 1e-6 of the minimum that a long run found. Float64; no Hessian is formed: it
would take 80 GB.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns

VARIABLES = 100_000
FEATURES = 10_000
CLASSES = 10
RIDGE = 1e-6
GAP = 1e-6


def rosenbrock(x: Array) -> Array:
    """The extended Rosenbrock function."""
    return jnp.sum(100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2)


def softmax_regression(weights: Array, features: Array, labels: Array) -> Array:
    """Mean cross-entropy and ridge; weights of shape (features, classes)."""
    scores = features @ weights
    chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    fit = jnp.mean(jax.nn.logsumexp(scores, axis=1) - chosen)
    return fit + 0.5 * RIDGE * jnp.sum(weights**2)


def digits(features: int = FEATURES) -> tuple[Array, Array]:
    """Random Fourier features (Rahimi and Recht 2007) of the digits, for a Gaussian of width 4; labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    directions = draw.normal(size=(pixels.shape[1], features)) / 4
    phases = draw.uniform(0, 2 * np.pi, features)
    waves = np.sqrt(2 / features) * np.cos(pixels / 4 @ directions + phases)
    return jnp.asarray(waves), jnp.asarray(labels)


def run(
    name: str, objective: Callable[..., Any], start: Array, args: tuple, lowest: float, rounds: int
) -> None:
    """Time both to the same value, in turns, and print."""
    target = lowest + GAP
    newton = jos.newton(solver="cg")
    contestants: dict[str, Callable[[], Any]] = {
        "jos.newton": lambda: jos.minimize(
            objective, start, newton, args, target=target, ftol=0, xtol=0, gtol=0
        )
    }
    if peers.installed("optax"):
        theirs = peers.optax_lbfgs_to(objective, args, target)
        contestants["optax lbfgs"] = lambda: theirs(start)
    timed = take_turns(contestants, rounds)
    ours = timed["jos.newton"]
    print(f"{name}: {start.size} variables, float64, to {target:.9g}, {rounds} rounds in turns")
    for contestant, one in timed.items():
        if contestant == "jos.newton":
            counted = one.result.opt_state.evaluations
            value, work = (
                one.result.value,
                (
                    f"{int(counted.values) + 1} values, {int(counted.gradients)} gradients, "
                    f"{int(counted.products)} products"
                ),
            )
        else:
            value, evaluations = one.result
            work = f"{int(evaluations)} values and gradients"
        print(
            f"  {contestant:<12}{one.median:8.3f} s {ratio(one, ours):6.2f}x ours   "
            f"value {float(value):.9g}   {work}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("rosenbrock", "digits"), help="both if not given")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with jax.enable_x64(True):
        if options.only != "digits":
            start = jnp.tile(jnp.array([-1.2, 1.0]), VARIABLES // 2)
            run("rosenbrock", rosenbrock, start, (), 0.0, options.rounds)
        if options.only != "rosenbrock":
            args = digits()
            weights = jnp.zeros((FEATURES, CLASSES))
            long = jos.minimize(softmax_regression, weights, jos.newton(solver="cg"), args, max_steps=200)
            print(f"digits: the long run ends at {float(long.value):.12g}: {long.message}")
            run("digits", softmax_regression, weights, args, float(long.value), options.rounds)


if __name__ == "__main__":
    main()
