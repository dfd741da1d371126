"""Rosenbrock's surface over (x, y), as a model whose parameters are its two constants.

The function to be minimized over (x, y) is in `jaxopt_study.problems.rosenbrock`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import Float

Params = dict[str, Array]


def init(a: float | Array, b: float | Array) -> Params:
    """Parameters from two numbers.

    Args:
      a: where the valley has its lowest point, in the unit of x.
      b: how steep the valley's walls are.

    Returns:
      `{"a", "b"}`, scalars.

    Example:
      >>> print(sorted(init(1.0, 100.0)))
      ['a', 'b']
    """
    dtype = jnp.result_type(float)
    return {"a": jnp.asarray(a, dtype), "b": jnp.asarray(b, dtype)}


def apply(
    params: Any, x: Float[Array | np.ndarray, "..."], y: Float[Array | np.ndarray, "..."]
) -> Float[Array | np.ndarray, "..."]:
    """`z = (a - x)² + b (y - x²)²`.

    Args:
      params: `{"a", "b"}`, from `init`.
      x, y: coordinates, of one shape.

    Returns:
      Heights z, of the same shape.

    Source:
      H. H. Rosenbrock, An automatic method for finding the greatest or least value of a
      function, 1960.

    Example:
      >>> print(apply(init(1.0, 100.0), jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0])))
      [  0. 101.]
    """
    return (params["a"] - x) ** 2 + params["b"] * (y - x**2) ** 2
