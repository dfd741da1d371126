"""All that a linearization sums over residuals which lie on several devices, in one message.

On one device float32 looks for the largest elements before anything is squared; over several that would
be another message. Here lengths travel in several units, one of which is right, and products in units
that are guessed, to be summed again only where the guess was so wrong that they are lost.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.derivatives import gram_and_gradient
from jaxopt_study.layout import summed
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.types import Float

FAR = 1e12  # a length whose square, of any number of residuals, is well within float32; so is that of 1 / FAR


class Sums(NamedTuple):
    """What is known of residuals and their Jacobian J on all devices.

    Attributes:
      product, slope: `JᵀJ` (None if it is not wanted) and `Jᵀr`, the columns of J divided by `unit`.
      unit: shape `(params,)`.
      columns: the norms of the columns of J.
      length: ‖r‖.
      value: the objective.
    """

    product: Float[Array, "params params"] | None
    slope: Float[Array, " params"]
    unit: Float[Array, " params"]
    columns: Float[Array, " params"]
    length: Float[Array, ""]
    value: Float[Array, ""]


def sums_over_devices(
    objective: LeastSquares,
    jacobian_t: Float[Array, "params residuals"],
    plain: Float[Array, " residuals"],
    residual: Float[Array, " residuals"],
    guess: Float[Array, " params"],
    gram: bool,
) -> Sums:
    """Sum, in one all-reduce.

    Args:
      objective: what is minimized, with its layout.
      jacobian_t: the columns of J divided by `guess`.
      plain, residual: what the residual function returned, and that after weighing.
      guess: about the norms of the columns, where that is known.
      gram: whether JᵀJ is wanted.

    Returns:
      The `Sums`.
    """
    narrow = _is_narrow(residual.dtype)

    def products(jacobian_t: Array, residual: Array) -> tuple[Any, Array]:
        return gram_and_gradient(jacobian_t, residual) if gram else (None, jacobian_t @ residual)

    def share(jacobian_t: Array, plain: Array, residual: Array) -> tuple[Any, ...]:
        squares = None if gram and not narrow else _squares(jacobian_t)
        return *products(jacobian_t, residual), squares, _squares(residual), jnp.sum(objective.costs(plain))

    product, slope, squares, square, costs = summed(share, objective.sharding, jacobian_t, plain, residual)
    lengths = jnp.sqrt(jnp.diagonal(product)) if squares is None else _length(squares)
    unit = guess
    if narrow:
        lost = jnp.any((lengths > 0) & ((lengths < 1 / FAR) | (lengths > FAR)))
        right = jnp.where(lengths > 0, lengths, 1.0)

        def again() -> tuple[Any, Array]:
            def in_units(jacobian_t: Array, residual: Array) -> tuple[Any, Array]:
                return products(jacobian_t / right[:, None], residual)

            return summed(in_units, objective.sharding, jacobian_t, residual)

        product, slope = jax.lax.cond(lost, again, lambda: (product, slope))
        unit = jnp.where(lost, guess * right, guess)
    return Sums(product, slope, unit, guess * lengths, _length(square), 0.5 * costs)


def _is_narrow(dtype: Any) -> bool:
    """Whether squares of numbers in everyday units overflow, or vanish."""
    return jnp.finfo(dtype).maxexp < 1024


def _units(dtype: Any) -> tuple[float, ...]:
    """Factors, one of which brings any length to where its square is a number; the largest first."""
    return (2.0**64, 1.0, 2.0**-64) if _is_narrow(dtype) else (1.0, 2.0**-600)


def _squares(rows: Float[Array, "*rows columns"]) -> Float[Array, "units *rows"]:
    """The sum of squares of each row, in all units."""
    return jnp.stack([jnp.sum((unit * rows) ** 2, axis=-1) for unit in _units(rows.dtype)])


def _length(squares: Float[Array, "units *rows"]) -> Float[Array, "*rows"]:
    """The norm of each row, by the first of its sums that has not overflowed.

    >>> print(_length(_squares(jnp.array([[3e30, 4e30], [3.0, 4.0], [3e-30, 4e-30]], "float32"))))
    [5.e+30 5.e+00 5.e-30]
    """
    units = _units(squares.dtype)
    found = jnp.sqrt(squares[-1]) / units[-1]
    for square, unit in zip(squares[-2::-1], units[-2::-1], strict=True):
        found = jnp.where(jnp.isfinite(square), jnp.sqrt(square) / unit, found)
    return found
