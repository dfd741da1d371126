"""What is minimized: a scalar function, or a sum of squares that second-order methods can see into.

The one place where ½‖r‖² is written. Derivatives are in `derivatives` and `linearize`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxopt_study.pytree import ravel_leaves


def half_square_norm(residual: Float[Array, " residuals"]) -> Float[Array, ""]:
    """½‖r‖², the cost of a residual vector."""
    return 0.5 * jnp.vdot(residual, residual)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """The objective `½ Σᵢ rᵢ(params, *args)²`, a scalar function that shows its residuals.

    Every optimizer runs on it: first-order methods and Newton see its value,
    Gauss-Newton and Levenberg-Marquardt its residuals.

    Attributes:
      residual_fn: `residual_fn(params, *args)` returns a pytree of real float arrays, the
        residuals; a plain function, or a callable pytree.
      pointwise: promise that residual i uses only row i (of axis 0) of every array in `args`.
        The Jacobian then takes one backward pass a row instead of one forward pass a parameter
        (5 times cheaper on 500 residuals of a network with 41 parameters). The promise is
        checked on a few rows before the first solve; `residual_fn` is called with single rows,
        each keeping its leading axis, of length 1.

    Example:
      >>> line = LeastSquares(lambda p, x, y: p["a"] * x + p["b"] - y)
      >>> x = jnp.array([0.0, 1.0])
      >>> float(line({"a": 1.0, "b": 2.0}, x, jnp.array([2.0, 4.0])))
      0.5
    """

    residual_fn: Callable[..., PyTree]
    pointwise: bool = dataclasses.field(default=False, metadata={"static": True})

    def residual(self, params: PyTree, *args: Any) -> Float[Array, " residuals"]:
        """All residuals in one vector: the leaves of `residual_fn`'s value, raveled in order."""
        return ravel_leaves(self.residual_fn(params, *args))

    def __call__(self, params: PyTree, *args: Any) -> Float[Array, ""]:
        """The value ½ Σ r²."""
        return half_square_norm(self.residual(params, *args))
