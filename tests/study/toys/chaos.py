"""A chaotic map stirred by random numbers: whatever step is lost, done twice or rounded otherwise shows."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec

from jaxopt_study import study
from jaxopt_study.result import Status


@study.config
class Config:
    growth: float = 3.99
    seed: int = 0
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(1000)
    lanes: int = study.static(3)
    dtype: Literal["float32", "float64"] = study.static("float64")


class Carry(NamedTuple):
    x: Any
    key: Any
    step: Any
    trace: Any


def init(config, key):
    key, start = jax.random.split(key)
    x = jax.random.uniform(start, (config.lanes,), minval=0.1, maxval=0.9)
    return Carry(x, key, 0, jnp.full((config.lanes, 101), jnp.nan).at[:, 0].set(x))


def advance(config, carry, n):
    every = -(-config.max_steps // 100)

    def step(_, carry):
        key, stir = jax.random.split(carry.key)
        x = config.growth * carry.x * (1 - carry.x)
        x = jnp.clip(x + 1e-3 * jax.random.normal(stir, x.shape), 0.01, 0.99)
        count = carry.step + 1
        trace = jnp.where(count % every == 0, carry.trace.at[:, count // every].set(x), carry.trace)
        return Carry(x, key, count, trace)

    return jax.lax.fori_loop(0, jnp.minimum(n, config.max_steps - carry.step), step, carry)


def outcome(config, carry):
    ended = jnp.where(carry.step < config.max_steps, Status.RUNNING, Status.OUT_OF_STEPS)
    lanes = carry.x.shape
    return study.Outcome(
        jnp.broadcast_to(ended, lanes),
        jnp.broadcast_to(carry.step, lanes),
        carry.x,
        {"x": carry.x, "key": jax.random.key_data(carry.key)},
        {"x": carry.trace},
    )
