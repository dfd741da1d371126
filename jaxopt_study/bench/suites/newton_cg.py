"""Newton by conjugate gradients on 10⁵ variables against optax's L-BFGS, to the same value.

`Rosenbrock`: the extended Rosenbrock function from its standard start, until f ≤ 1e-6. `digits`: softmax
regression of the 1797 digits that scikit-learn bundles on 10⁴ random Fourier features, with a ridge of 1e-6,
from zero, until f is within 1e-6 of the minimum. Float64; no Hessian is formed: it would take 80 GB.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned

VARIABLES = 100_000
FEATURES = 10_000
CLASSES = 10
RIDGE = 1e-6
GAP = 1e-6
DIGITS_MINIMUM = 0.0076642928792557  # where a long run of Newton ends, its gradient 1e-12


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


def _case(
    make: Callable[[], tuple[Callable[..., Any], Array, tuple, float]],
    rounds: int,
    wanted: Callable[[str], bool],
) -> Case:
    objective, start, args, lowest = make()
    target = lowest + GAP
    newton = jos.newton(solver="cg")

    def error(value: Any) -> float:
        return max(0.0, float(value) - lowest)

    contestants = {
        OURS: Contestant(
            work=lambda: jos.minimize(objective, start, newton, args, target=target, ftol=0, xtol=0, gtol=0),
            error=lambda result: error(result.value),
            settings='jos.newton(solver="cg") until the target; values, gradients and products are counted',
            evaluations=lambda result: int(sum(result.opt_state.evaluations)) + 1,
        )
    }
    if wanted("optax"):
        theirs = peers.optax_lbfgs_to(objective, args, target)
        contestants["optax lbfgs"] = Contestant(
            work=lambda: theirs(start),
            error=lambda found: error(found[0]),
            settings="its defaults (10 pairs, zoom line search) until the target; values and gradients",
            evaluations=lambda found: 2 * int(found[1]),
        )
    return Case("solve", contestants, most_error=GAP, rounds=rounds)


def _rosenbrock() -> tuple[Callable[..., Any], Array, tuple, float]:
    return rosenbrock, jnp.tile(jnp.array([-1.2, 1.0]), VARIABLES // 2), (), 0.0


def _digits() -> tuple[Callable[..., Any], Array, tuple, float]:
    weights = jnp.zeros((FEATURES, CLASSES))
    return softmax_regression, weights, digits(), DIGITS_MINIMUM


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    claim = {"optax lbfgs": 1.0}
    return (
        Planned("Newton-CG, Rosenbrock, 10^5", functools.partial(_case, _rosenbrock, 5), claim=claim),
        Planned("Newton-CG, digits, 10^5", functools.partial(_case, _digits, 1), claim=claim),
    )
