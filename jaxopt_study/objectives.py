"""What is minimized: a scalar function, or a sum of squares that second-order methods can see into.

What the value is, is said here; `linearize` and the trials of an optimizer compute it from
residuals that they have. Derivatives are in `derivatives` and `linearize`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.pytree import params_dtype, ravel_leaves
from jaxopt_study.types import Float, PyTree


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
        checked on a few rows by `minimize`, before the first solve; `residual_fn` is called with
        single rows, each keeping its leading axis, of length 1.

    Example:
      >>> line = LeastSquares(lambda p, x, y: p["a"] * x + p["b"] - y)
      >>> x = jnp.array([0.0, 1.0])
      >>> float(line({"a": 1.0, "b": 2.0}, x, jnp.array([2.0, 4.0])))
      0.5
    """

    residual_fn: Callable[..., PyTree]
    pointwise: bool = dataclasses.field(default=False, metadata={"static": True})

    def residual(self, params: PyTree, *args: Any) -> Float[Array, " residuals"]:
        """All residuals in one vector: the leaves of `residual_fn`'s value, raveled in order.

        In the dtype of the parameters, whatever that of the data.
        """
        return ravel_leaves(self.residual_fn(params, *args)).astype(params_dtype(params))

    def __call__(self, params: PyTree, *args: Any) -> Float[Array, ""]:
        """The value ½ Σ r²."""
        return 0.5 * jnp.sum(self.residual(params, *args) ** 2)


def as_least_squares(residual_fn: Any, method: str) -> LeastSquares:
    """What a method for sums of squares was given, as a `LeastSquares`.

    Raises:
      TypeError: it was given nothing, because the objective is a scalar function.
    """
    if residual_fn is None:
        raise TypeError(
            f"residual_fn: {method} needs the residuals of a sum of squares; minimize a "
            "jaxopt_study.LeastSquares, or choose an optimizer for scalar functions"
        )
    return residual_fn if isinstance(residual_fn, LeastSquares) else LeastSquares(residual_fn)


def check_objective(objective: Any, params: PyTree, args: tuple) -> None:
    """Check, without computing it, that an objective is one real number, or real residuals.

    Raises:
      ValueError: if not.
    """
    if isinstance(objective, LeastSquares):
        leaves = jax.tree.leaves(jax.eval_shape(objective.residual_fn, params, *args))
        if not any(leaf.size for leaf in leaves):
            raise ValueError("objective: residual_fn returns no residuals")
        complex_ = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.complexfloating)]
        if complex_:
            raise ValueError(f"objective: expected real residuals, got dtype {complex_[0]}")
        return
    out = jax.eval_shape(objective, params, *args)
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(f"objective: expected a real float scalar, got a {type(out).__name__}")
    if out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        got = f"shape {out.shape} and dtype {out.dtype}"
        raise ValueError(f"objective: expected a real float scalar, got {got} (residuals? use LeastSquares)")
