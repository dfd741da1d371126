"""From the gain ratio of a trial to the damping of the next one.

The rule is Nielsen's (1999): a smooth function of the gain ratio where Marquardt's has jumps, and
a growth that doubles at every rejection in a row.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float


class Damping(NamedTuple):
    """The state of the damping.

    Attributes:
      value: λ, relative to the curvature in scaled variables: at 1 it is as large.
      growth: ν, what λ is multiplied with at the next rejection.
    """

    value: Float[Array, ""]
    growth: Float[Array, ""]


def start(value: Float[Array, ""]) -> Damping:
    """The damping before the first trial."""
    return Damping(value, jnp.full_like(value, 2.0))


def accept(damping: Damping, gain_ratio: Float[Array, ""]) -> Damping:
    """After an accepted trial: `λ ← λ max(1/3, 1 - (2ρ - 1)³)`, `ν ← 2`.

    ρ is actual over predicted reduction: near 1 the model is good and λ falls by 3; at ½ it stays;
    near 0 it doubles. λ does not fall below ε², where it is without effect even on an
    orthogonal factorization, so that a later rejection can raise it in a few trials.

    Source: H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, eq. 2.8.

    >>> float(accept(start(jnp.float32(3.0)), jnp.float32(1.0)).value)
    1.0
    """
    factor = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(gain_ratio, 0, 1) - 1) ** 3)
    value = jnp.maximum(damping.value * factor, jnp.finfo(damping.value.dtype).eps ** 2)
    return Damping(value, jnp.full_like(damping.growth, 2.0))


def reject(damping: Damping, at_least: float = 0.0) -> Damping:
    """After a rejected trial: `λ ← max(ν λ, at_least)`, `ν ← 2 ν`.

    >>> reject(start(jnp.float32(1.0)))
    Damping(value=Array(2., dtype=float32), growth=Array(4., dtype=float32))
    """
    return Damping(jnp.maximum(damping.value * damping.growth, at_least), 2 * damping.growth)


def gain_ratio(actual: Float[Array, ""], predicted: Float[Array, ""]) -> Float[Array, ""]:
    """ρ, the actual reduction over the predicted one; -1 where that is not a number."""
    usable = jnp.isfinite(actual) & (predicted > 0)
    return jnp.where(usable, actual / jnp.where(usable, predicted, 1.0), -1.0)


def is_decrease(
    actual: Float[Array, ""], predicted: Float[Array, ""], value: Float[Array, ""]
) -> Bool[Array, ""]:
    """Whether a trial is good enough to take.

    The value has to fall; but where even the predicted reduction is lost in the value's rounding
    error the sign of the actual one means nothing, and not rising by more than that is enough:
    this is how the last step before convergence is accepted.
    """
    noise = 4 * jnp.finfo(value.dtype).eps * jnp.abs(value)
    return jnp.where(predicted <= noise, jnp.abs(actual) <= noise, actual > 0)
