"""`least_squares` under `jit(vmap)`: one start, many data sets, in float64.

A decay of three parameters, and two peaks on a decay, nine, each with noise. The error is the largest of a
fit's parameters, relative to the minimum that SciPy finds with all digits, that 99 % of the fits do not
exceed; every contestant has the loosest of its tolerances of 1e-2, 1e-3, ... with which that is 1e-6.
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
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned, loosest
from jaxopt_study.bench.timer import one_call

ENOUGH = 1e-6
TOLERANCES = tuple(10.0**-k for k in range(2, 13))
JUDGED = 50
SHARE = 0.99
Model = Callable[[Array, Array], Array]


def decay(p: Array, x: Array) -> Array:
    """`a exp(-k x) + c`, three parameters."""
    return p[0] * jnp.exp(-p[1] * x) + p[2]


def two_peaks(p: Array, x: Array) -> Array:
    """Two normal peaks on a decay and a level, nine parameters."""
    first = p[3] * jnp.exp(-(((x - p[4]) / p[5]) ** 2))
    second = p[6] * jnp.exp(-(((x - p[7]) / p[8]) ** 2))
    return decay(p[:3], x) + first + second


MODELS: dict[str, tuple[Model, tuple[float, ...], int]] = {
    "decays": (decay, (1.0, 1.0, 0.3), 50),
    "two peaks": (two_peaks, (1.0, 1.0, 0.1, 2.0, 1.0, 0.3, 1.5, 3.0, 0.4), 250),
}


def _case(name: str, count: int, wanted: Callable[[str], bool]) -> Case:
    model, middle, points = MODELS[name]
    start, x = jnp.asarray(middle), jnp.linspace(0.0, 4.0, points)
    random = np.random.default_rng(0)
    truths = jnp.asarray(middle * random.uniform(0.9, 1.1, (count, len(middle))))
    noise = 0.01 * random.standard_normal((count, points))
    data = jax.jit(jax.vmap(model, (0, None)))(truths, x) + noise

    def residual(p: Array, y: Array) -> Array:
        return model(p, x) - y

    def ours(y: Array, tolerance: Any) -> Array:
        return jos.least_squares(residual, start, (y,), ftol=tolerance, xtol=tolerance).params

    many = jax.jit(jax.vmap(ours, (0, None)))
    minima = _minima(residual, start, data[:JUDGED])

    def error(found: Array) -> float:
        errors = np.max(np.abs(np.asarray(found[:JUDGED]) / minima - 1.0), axis=1)
        return float(np.quantile(errors, SHARE))

    makers: dict[str, Callable[[float], Callable[[], Any]]] = {
        OURS: lambda tolerance: functools.partial(many, data, tolerance)
    }
    if wanted("optimistix"):
        starts = jnp.broadcast_to(start, truths.shape)
        makers["optimistix jit(vmap)"] = lambda tolerance: functools.partial(
            peers.optimistix_batch(residual, tolerance), starts, (data,)
        )
    contestants = {}
    for contestant, make in makers.items():
        # Where the tolerance is traced, the first of them compiles for all.
        compiling = one_call(make(TOLERANCES[0]))[0] if contestant == OURS else None
        work, tolerance, first = loosest(make, TOLERANCES, lambda found: error(found) <= ENOUGH)
        words = f"tolerance {tolerance:.0e}, the loosest that is enough; {count} fits a call"
        contestants[contestant] = Contestant(work, error, words, count, first_seconds=compiling or first)
    return Case("fit", contestants, most_error=ENOUGH, rounds=7)


def _minima(residual: Callable[..., Array], start: Array, data: Array) -> np.ndarray:
    if peers.installed("scipy"):
        return np.stack([peers.scipy_jitted(residual, (y,), 1e-15)(start) for y in data])
    exact = functools.partial(jos.least_squares, residual, start, ftol=0.0, xtol=0.0)
    return np.stack([np.asarray(exact((y,)).params) for y in data])


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned(
            "1000 decays under vmap",
            functools.partial(_case, "decays", 1000),
            claim={"optimistix jit(vmap)": 2.0},
        ),
        Planned("100 fits of two peaks under vmap", functools.partial(_case, "two peaks", 100)),
    )
