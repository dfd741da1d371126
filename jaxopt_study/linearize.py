"""Residuals near a point: their value, gradient and curvature, in columns scaled to be comparable.

The trust region of Levenberg and Marquardt is an ellipsoid `‖D d‖ ≤ Δ` with D the norms of the
Jacobian's columns, each the largest seen (Moré 1978, section 6). Everything downstream works in
the variables `e = D d`, in which that ellipsoid is a ball and no column is longer than 1.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_study.derivatives import residual_and_jacobian
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.pytree import norm, norms, ravel_leaves
from jaxopt_study.types import Float, JacobianMode, PyTree


class Linearization(NamedTuple):
    """`r(θ + d) ≈ r + J d`, with `Ĵ = J D⁻¹` the Jacobian with respect to `e = D d`.

    Attributes:
      value: ½‖r‖².
      residual: r, shape `(residuals,)`.
      jacobian_t: the transposed Jacobian up to the factors in `to_scaled`, `(params, residuals)`.
      to_scaled: what the rows of `jacobian_t` have to be multiplied with to be those of Ĵᵀ. They
        are not multiplied until somebody needs Ĵ itself, because a pass over the whole Jacobian
        costs as much as computing it.
      scale: the diagonal of D, shape `(params,)`.
      gradient: `Ĵᵀr`, the gradient with respect to e, shape `(params,)`.
      gram: `ĴᵀĴ`, shape `(params, params)`, or None if it was not asked for.
      gradient_test: `max |cos(Jⱼ, r)|` over the columns, what `gtol` is compared with. It does not
        change with the units of parameters or residuals (MINPACK's `gnorm`).
      grad_norm: norm of the gradient with respect to the parameters themselves, `‖Jᵀr‖`.
      params_norm: `‖D θ‖`, the length of the parameters in the metric of the trust region.
      rounding: by how much the value may be off because of rounding errors of size ε in the terms
        `Jⱼ θⱼ` that a residual is made of: residuals that are small beside the data carry larger
        relative errors than ε.
    """

    value: Float[Array, ""]
    residual: Float[Array, " residuals"]
    jacobian_t: Float[Array, "params residuals"]
    to_scaled: Float[Array, " params"]
    scale: Float[Array, " params"]
    gradient: Float[Array, " params"]
    gram: Float[Array, "params params"] | None
    gradient_test: Float[Array, ""]
    grad_norm: Float[Array, ""]
    params_norm: Float[Array, ""]
    rounding: Float[Array, ""]

    @property
    def scaled_jacobian(self) -> Float[Array, "residuals params"]:
        """Ĵ itself."""
        return (self.jacobian_t * self.to_scaled[:, None]).T


def linearize(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    largest_norms: Float[Array, " params"],
    *,
    jacobian: JacobianMode = "auto",
    gram: bool = True,
) -> Linearization:
    """Linearize the residuals at `params`.

    Args:
      objective: the residuals.
      params: pytree of real float arrays.
      args: what the residual function takes besides.
      largest_norms: the largest norm seen so far of each column of J; zeros at the start.
      jacobian: how J is computed, see `derivatives.residual_and_jacobian`.
      gram: whether ĴᵀĴ is wanted.

    Returns:
      A `Linearization` whose `scale` is the larger of `largest_norms` and the norms now;
      1 for a column that has been zero all along.
    """
    residual, jacobian_t = residual_and_jacobian(objective, params, args, jacobian)
    unit = jnp.ones_like(largest_norms)
    if jnp.finfo(jacobian_t.dtype).maxexp < 1024:
        # In float32 squares overflow from 1e19 and vanish below 1e-23: parameters in SI units do
        # that. In float64 they do not, and are spared two passes over the Jacobian.
        largest = jnp.max(jnp.abs(jacobian_t), axis=1, initial=0.0)
        unit = jnp.where(largest > 0, largest, 1.0)
        jacobian_t = jacobian_t / unit[:, None]
    product = jacobian_t @ jacobian_t.T if gram else None
    squares = jnp.sum(jacobian_t**2, axis=1) if product is None else jnp.diagonal(product)
    columns = unit * jnp.sqrt(squares)
    scale = jnp.maximum(columns, largest_norms)
    scale = jnp.where(scale > 0, scale, 1.0)
    to_scaled = unit / scale
    gradient = to_scaled * (jacobian_t @ residual)
    length = norm(residual)
    value = 0.5 * length**2
    theta = ravel_leaves(params)
    vectors = jnp.stack([scale * gradient, scale * theta, columns * theta])
    grad_norm, params_norm, terms = norms(vectors)
    error = jnp.finfo(scale.dtype).eps * terms
    lengths = columns / scale * length
    cosines = jnp.where(lengths > 0, jnp.abs(gradient) / jnp.where(lengths > 0, lengths, 1.0), 0.0)
    return Linearization(
        value=value,
        residual=residual,
        jacobian_t=jacobian_t,
        to_scaled=to_scaled,
        scale=scale,
        gradient=gradient,
        gram=None if product is None else product * jnp.outer(to_scaled, to_scaled),
        gradient_test=jnp.max(cosines, initial=0.0),
        grad_norm=grad_norm,
        params_norm=params_norm,
        rounding=error * (length + error) + 4 * jnp.finfo(scale.dtype).eps * value,
    )
