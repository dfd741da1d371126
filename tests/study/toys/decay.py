"""A decay fitted to many points: data without lanes, or lanes with data of their own."""

from typing import Literal

import jax
import jax.numpy as jnp

import jaxopt_study as jos
from jaxopt_study import study


@study.config
class Config:
    noise: float = 0.1
    seed: int = 0
    points: int = study.static(8000)
    lanes: int = study.static(0)
    max_steps: int = study.static(50)
    dtype: Literal["float32", "float64"] = study.static("float64")


def residual(p, x, y):
    return p["a"] * jnp.exp(-p["k"] * x) - y


def init(config, key):
    x = jnp.linspace(0.0, 4.0, config.points)

    def one(key):
        y = 3.0 * jnp.exp(-0.5 * x) + config.noise * jax.random.normal(key, x.shape)
        return jos.start(
            jos.LeastSquares(residual),
            {"a": jnp.array(1.0), "k": jnp.array(1.0)},
            jos.levenberg_marquardt(),
            (x, y),
            max_steps=config.max_steps,
            trace=True,
        )

    return jax.vmap(one)(jax.random.split(key, config.lanes)) if config.lanes else one(key)


def advance(config, carry, n):
    return jax.vmap(jos.advance, in_axes=(0, None))(carry, n) if config.lanes else jos.advance(carry, n)


def outcome(config, carry):
    r = jos.finish(carry)
    return study.Outcome(r.status, r.num_steps, r.value, values=r.params, traces={"loss": r.trace.value})
