"""How long the next step is: Hairer's start, and the proportional-integral control of the error."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Bool, Float

SAFETY = 0.9
SHRINK, GROW = 0.2, 10.0
LEAST = math.log(1e-4)  # that is remembered
LARGE = 1e15  # in units of what is tolerated


class Tolerances(NamedTuple):
    """A step is accepted if its error is at most `atol + rtol |y|`, in the root mean square."""

    rtol: Any
    atol: Any


class Next(NamedTuple):
    """What the controller decides: whether to take the step, how long the next is, and what it remembers.

    That is the logarithm of the error over what is tolerated, of the last accepted step.
    """

    accept: Bool[Array, ""]
    h: Float[Array, ""]
    memory: Float[Array, ""]


def squared_error(
    error: Float[Array, " n"], y0: Float[Array, " n"], y1: Float[Array, " n"], tolerances: Tolerances
) -> Float[Array, ""]:
    """The error over what is tolerated, mean square; infinite where the state is not finite.

    No error is nothing, also of an element that is zero where only a relative error is tolerated.
    """
    scale = tolerances.atol + tolerances.rtol * jnp.maximum(jnp.abs(y0), jnp.abs(y1))
    # 0 y is NaN where y is not finite, and the sum is then.
    ratio = _mean_square(jnp.where(error == 0, 0.0, error / scale) + 0.0 * y1)
    return jnp.where(jnp.isfinite(ratio), ratio, jnp.inf)


def decide(
    square: Float[Array, ""],
    h: Float[Array, ""],
    memory: Float[Array, ""],
    order: int,
    proportional: float = 0.2,
) -> Next:
    """`h ← 0.9 h r^-α r_before^β` with β = 0.2 / order and α = 1 / order - 0.75 β, given r².

    Source: E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, 1996, section IV.2,
    as in their DOPRI5. After a refused step nothing is remembered and the step does not grow.
    """
    accept = square <= 1.0
    beta = proportional / order
    size = 0.5 * jnp.log(jnp.maximum(square, 1e-20))
    change = jnp.where(accept, beta * memory - (1.0 / order - 0.75 * beta) * size, -size / order)
    factor = jnp.clip(SAFETY * jnp.exp(change), SHRINK, jnp.where(accept, GROW, 1.0))
    return Next(accept, h * factor, jnp.where(accept, jnp.maximum(size, LEAST), memory))


def first_step(
    slope: Any,
    t0: Float[Array, ""],
    states: Float[Array, "2 n"],
    tolerances: Tolerances,
    order: int,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """A first step such that an explicit Euler step of it would be accurate; the controller does the rest.

    `states` are y0 and the slope k0 there; whether they are finite is told from the same sums.

    Source: E. Hairer, S. Nørsett and G. Wanner, Solving ODEs I, 1993, section II.4.
    """
    y0, k0 = states
    scale = tolerances.atol + jnp.abs(y0) * tolerances.rtol
    # What is zero, and may not be wrong, has no size to compare with.
    inverse = jnp.where(scale > 0, 1.0 / jnp.where(scale > 0, scale, 1.0), 0.0)
    # No square is infinite; and 0 x is NaN where x is not finite, and the sum is then.
    squares = jnp.minimum(jnp.abs(states * inverse[None, :]), LARGE) ** 2 + 0.0 * states
    d0, d1 = jnp.sum(squares, axis=1) / max(1, y0.size)
    h0 = jnp.where((d0 < 1e-10) | (d1 < 1e-10), 1e-6, 0.01 * jnp.sqrt(d0 / d1))
    k1 = slope(t0 + h0, y0 + h0 * k0)
    d2 = _mean_square(jnp.minimum(jnp.abs((k1 - k0) * inverse / h0), LARGE))
    largest = jnp.maximum(d1, d2)
    h1 = jnp.where(largest <= 1e-30, jnp.maximum(1e-6, h0 * 1e-3), (1e-4 / largest) ** (0.5 / order))
    h = jnp.minimum(100 * h0, h1)
    return jnp.where(jnp.isfinite(h) & (h > 0), h, h0), jnp.isfinite(d0 + d1)


def _mean_square(x: Float[Array, " n"]) -> Float[Array, ""]:
    """0 of nothing."""
    return jnp.sum(x**2) / max(1, x.size)
