"""A polynomial in one variable, of any degree; degree 1 is the straight line."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Float, Key


def init(key: Key[Array, ""], degree: int, scale: float = 1.0) -> Float[Array, " coefficients"]:
    """Normally distributed coefficients.

    Args:
      key: random key.
      degree: highest power, >= 0.
      scale: standard deviation of every coefficient.

    Returns:
      `degree + 1` coefficients, lowest power first, as in `numpy.polynomial`.

    Raises:
      ValueError: if `degree` is negative.

    Example:
      >>> print(init(jax.random.key(0), degree=2).shape)
      (3,)
    """
    if degree < 0:
        raise ValueError(f"degree: expected a number >= 0, got {degree}")
    return scale * jax.random.normal(key, (degree + 1,))


def apply(params: Float[Array, " coefficients"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`y = c₀ + c₁ x + c₂ x² + …`, by Horner's scheme.

    Args:
      params: coefficients c, lowest power first.
      x: where to evaluate, of any shape.

    Returns:
      y, of the shape of `x`.

    Example:
      >>> print(apply(jnp.array([1.0, 0.0, 2.0]), jnp.array([0.0, 3.0])))
      [ 1. 19.]
    """
    y = jnp.full_like(x, params[-1])
    for coefficient in params[-2::-1]:
        y = y * x + coefficient
    return y
