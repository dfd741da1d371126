"""Residuals near a point: their value, gradient and curvature, in columns scaled to be comparable.

The trust region of Levenberg and Marquardt is an ellipsoid `‖D d‖ ≤ Δ` with D the norms of the
Jacobian's columns, each the largest seen (Moré 1978, section 6). Everything downstream works in
the variables `e = D d`, in which that ellipsoid is a ball and no column is longer than 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box, held
from jaxopt_study.derivatives import (
    gram_and_gradient,
    residual_and_columns,
    residual_and_jacobian,
    thin_gram,
)
from jaxopt_study.device_sums import sums_over_devices
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.pytree import norm, norms, ravel, ravel_leaves
from jaxopt_study.tall import Passes, is_tall, tall_products
from jaxopt_study.types import Bool, Float, JacobianMode, PyTree


class Linearization(NamedTuple):
    """`r(θ + d) ≈ r + J d`, with `Ĵ = J D⁻¹` the Jacobian with respect to `e = D d`.

    Where the loss is robust, r and J are the weighted ones of `LeastSquares.weigh`, and `plain`
    alone is what the residual function returned.

    Attributes:
      value: the objective, ½‖r‖² for the linear loss.
      plain: what the residual function returned, shape `(residuals,)`.
      residual: r, shape `(residuals,)`.
      jacobian_t: the transposed Jacobian up to the factors in `to_scaled`, `(params, residuals)`; None
        if there is no matrix, or it is made again from `passes`. (They are not multiplied until somebody
        needs Ĵ itself, because a pass over the whole Jacobian costs as much as computing it.)
      to_scaled: what the rows of `jacobian_t` have to be multiplied with to be those of Ĵᵀ.
      products: `(e -> Ĵe, w -> Ĵᵀw)`, where there is no matrix; else None.
      largest: the largest norm seen of each column of J, now included, shape `(params,)`.
      scale: the diagonal of D: `largest`, and 1 for a column that has been zero all along.
      gradient: `Ĵᵀr`, the gradient with respect to e, shape `(params,)`; zero where a bound holds.
      gram: `ĴᵀĴ`, shape `(params, params)`, or None if it was not asked for.
      held: which parameters a bound holds, shape `(params,)`; None without bounds.
      gradient_test: `max |cos(Jⱼ, r)|` over the columns that no bound holds, what `gtol` is compared
        with. It does not change with the units of parameters or residuals (MINPACK's `gnorm`).
      grad_norm: norm of the gradient with respect to the parameters themselves, `‖Jᵀr‖`, over those
        that no bound holds.
      coordinate_norm: `‖ĝⱼ / ‖Ĵⱼ‖²‖`, the length of the step that every parameter would take if it were
        the only one. However short damping makes a step, this one is not.
      params_norm: `‖D θ‖`, the length of the parameters in the metric of the trust region.
      rounding: by how much the value may be off because of rounding errors of size ε in the terms
        `Jⱼ θⱼ` that a residual is made of: residuals that are small beside the data carry larger
        relative errors than ε.
      vanished: whether a column that once counted is gone, as at a saturated unit: no change of that
        parameter by its own size would change the residual, and a gradient of zero says nothing of it.
      sharding: how residuals lie over devices, None for one device.
      passes: what `jacobian_t` is made from again where it was not kept; else None.
    """

    value: Float[Array, ""]
    plain: Float[Array, " residuals"]
    residual: Float[Array, " residuals"]
    jacobian_t: Float[Array, "params residuals"] | None
    to_scaled: Float[Array, " params"]
    products: tuple[Callable[[Array], Array], Callable[[Array], Array]] | None
    largest: Float[Array, " params"]
    scale: Float[Array, " params"]
    gradient: Float[Array, " params"]
    gram: Float[Array, "params params"] | None
    held: Bool[Array, " params"] | None
    gradient_test: Float[Array, ""]
    grad_norm: Float[Array, ""]
    coordinate_norm: Float[Array, ""]
    params_norm: Float[Array, ""]
    rounding: Float[Array, ""]
    vanished: Bool[Array, ""]
    sharding: Any = None
    passes: Passes | None = None

    @property
    def scaled_jacobian_t(self) -> Float[Array, "params residuals"]:
        """Ĵᵀ itself."""
        return self._matrix() * self.to_scaled[:, None]

    def _matrix(self) -> Float[Array, "params residuals"]:
        if self.passes is not None:
            return self.passes.matrix()
        if self.jacobian_t is None:
            raise ValueError("linearization: holds no matrix, which only solver='cg' can do without")
        return self.jacobian_t

    def push(self, e: Float[Array, " params"]) -> Float[Array, " residuals"]:
        """Ĵe."""
        if self.products is not None:
            return self.products[0](e)
        if self.passes is not None:
            return self.passes.push(self.to_scaled * e)
        return (self.to_scaled * e) @ self._matrix()

    def pull(self, w: Float[Array, " residuals"]) -> Float[Array, " params"]:
        """Ĵᵀw."""
        if self.products is not None:
            return self.products[1](w)
        if self.passes is not None:
            return self.to_scaled * self.passes.pull(w)
        return self.to_scaled * (self._matrix() @ w)

    def curvature(self, e: Float[Array, " params"]) -> Float[Array, " params"]:
        """ĴᵀĴe."""
        return self.pull(self.push(e)) if self.gram is None else self.gram @ e


def linearize(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    largest_norms: Float[Array, " params"],
    *,
    jacobian: JacobianMode = "auto",
    gram: bool = True,
    box: Box | None = None,
    batched: bool = False,
) -> Linearization:
    """Linearize the residuals at `params`.

    Args:
      objective: the residuals, and their loss.
      params: pytree of real float arrays.
      args: what the residual function takes besides.
      largest_norms: the largest norm seen so far of each column of J; zeros at the start.
      jacobian: how J is computed, see `derivatives.residual_and_jacobian`.
      gram: whether ĴᵀĴ is wanted.
      box: bounds on the parameters.
      batched: whether this is going to be under `vmap`.

    Returns:
      A `Linearization`.
    """
    if gram and not batched and is_tall(objective, params, args, jacobian):
        plain, residual, of_j, of_r, passes = tall_products(objective, params, args)
        one = jnp.ones_like(largest_norms)
        return _scaled(objective, params, plain, residual, of_j, of_r, largest_norms, one, box, passes=passes)
    plain, jacobian_t = residual_and_jacobian(objective, params, args, jacobian, batched=batched)
    residual, factor = objective.weigh(plain)
    jacobian_t = objective.weighted(jacobian_t, factor)
    unit, length, value = jnp.ones_like(largest_norms), None, None
    if jnp.finfo(jacobian_t.dtype).maxexp < 1024:
        # Squares would overflow, see `pytree.norms`. Over devices the largest norms seen have to do.
        alone = objective.sharding is None
        unit = scale_of(jnp.max(jnp.abs(jacobian_t), axis=1, initial=0.0) if alone else largest_norms)
        jacobian_t = jacobian_t / unit[:, None]
    stored = unit
    if objective.sharding is not None:
        product, slope, unit, columns, length, value = sums_over_devices(
            objective, jacobian_t, plain, residual, unit, gram
        )
    elif gram:
        product, slope = gram_and_gradient(jacobian_t, residual)
        columns = unit * jnp.sqrt(jnp.diagonal(product))
    else:
        product, slope = None, jacobian_t @ residual
        columns = unit * jnp.sqrt(jnp.sum(jacobian_t**2, axis=1))
    largest = jnp.maximum(columns, largest_norms)
    scale = scale_of(largest)
    to_scaled = unit / scale
    return _measured(
        objective,
        params,
        plain,
        residual,
        columns,
        largest,
        to_scaled * slope,
        box,
        jacobian_t=jacobian_t,
        to_scaled=stored / scale,
        gram=None if product is None else product * jnp.outer(to_scaled, to_scaled),
        length=length,
        value=value,
    )


def linearize_thin(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    largest_norms: Float[Array, " params"],
    unit: Float[Array, " params"],
    *,
    box: Box | None = None,
) -> Linearization:
    """Linearize the residuals for a handful of parameters, under `vmap`, in one pass over the data.

    As `linearize`, without keeping the Jacobian: its products are all that Cholesky needs.

    Args:
      objective, params, args, largest_norms, box: see `linearize`.
      unit: what columns are divided by before they are squared, of their size to a factor of 10¹⁵ in
        float32, so that no square overflows. (To look for the largest element first would be
        another pass over the data.)

    Returns:
      A `Linearization` without matrices but `gram`.
    """
    plain, columns = residual_and_columns(objective, params, args)
    residual, factor = objective.weigh(plain)
    columns = [objective.weighted(column, factor) for column in columns]
    columns = [column / unit[i] for i, column in enumerate(columns)]
    product, slope = thin_gram(columns, residual)
    length = jnp.sqrt(jnp.sum(residual**2))
    return _scaled(
        objective, params, plain, residual, product, slope, largest_norms, unit, box, length=length
    )


def _scaled(
    objective: LeastSquares,
    params: PyTree,
    plain: Float[Array, " residuals"],
    residual: Float[Array, " residuals"],
    product: Float[Array, "params params"],
    slope: Float[Array, " params"],
    largest_norms: Float[Array, " params"],
    unit: Float[Array, " params"],
    box: Box | None,
    **more: Any,
) -> Linearization:
    """From the products of columns that were divided by `unit`, and are not kept."""
    columns = unit * jnp.sqrt(jnp.diagonal(product))
    largest = jnp.maximum(columns, largest_norms)
    to_scaled = unit / scale_of(largest)
    return _measured(
        objective,
        params,
        plain,
        residual,
        columns,
        largest,
        to_scaled * slope,
        box,
        to_scaled=to_scaled,
        gram=product * jnp.outer(to_scaled, to_scaled),
        **more,
    )


def linearize_without_matrix(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    largest_norms: Float[Array, "..."],
    *,
    box: Box | None = None,
) -> Linearization:
    """Linearize through products with J and Jᵀ, never holding J.

    The columns' norms are not known then. D is one number, their root mean square, estimated as that
    of `Jᵀv` for one fixed vector v of signs: `E (Jᵀv)ⱼ² = ‖Jⱼ‖²` (Hutchinson 1990).

    Args:
      objective, params, args, largest_norms, box: see `linearize`.

    Returns:
      A `Linearization` without matrices; its `gradient_test` compares `‖Jᵀr‖` with `‖J‖‖r‖`,
      both estimated.
    """
    theta, unravel = ravel(params)
    plain, pull = jax.vjp(lambda t: objective.residual(unravel(t), *args), theta)
    residual, factor = objective.weigh(plain)
    factor = jnp.ones_like(plain) if factor is None else factor
    signs = jnp.where(jax.random.bernoulli(jax.random.key(0), shape=plain.shape), 1.0, -1.0)
    (probe,) = pull((signs * factor).astype(plain.dtype))
    (slope,) = pull(factor * residual)
    at_bound = jnp.zeros_like(theta, bool) if box is None else held(box, theta, slope)
    # Signs may cancel in a sum; but ‖Jᵀr‖ ≤ ‖J‖‖r‖. What a bound holds has no say.
    seen, slope_norm, length = (
        norm(jnp.where(at_bound, 0.0, probe)),
        norm(jnp.where(at_bound, 0.0, slope)),
        norm(residual),
    )
    least = jnp.where(length > 0, slope_norm / jnp.where(length > 0, length, 1.0), 0.0)
    free = jnp.maximum(jnp.sum(~at_bound), 1)
    # A scalar if `largest_norms` is one, as where it was known from the start that there is no matrix.
    columns = jnp.full_like(largest_norms, jnp.maximum(seen, least) / jnp.sqrt(free))
    largest = jnp.maximum(columns, largest_norms)
    scale = scale_of(largest)

    def forward(e: Array) -> Array:
        _, tangent = jax.jvp(lambda t: objective.residual(unravel(t), *args), (theta,), (e / scale,))
        return factor * tangent

    def backward(w: Array) -> Array:
        return pull(factor * w)[0] / scale

    return _measured(
        objective,
        params,
        plain,
        residual,
        columns,
        largest,
        slope / scale,
        box,
        to_scaled=jnp.ones_like(theta),
        products=(forward, backward),
    )


def _measured(
    objective: LeastSquares,
    params: PyTree,
    plain: Float[Array, " residuals"],
    residual: Float[Array, " residuals"],
    columns: Float[Array, "..."],
    largest: Float[Array, "..."],
    gradient: Float[Array, " params"],
    box: Box | None,
    *,
    to_scaled: Float[Array, " params"],
    jacobian_t: Any = None,
    gram: Any = None,
    products: Any = None,
    length: Any = None,
    value: Any = None,
    passes: Passes | None = None,
) -> Linearization:
    eps = jnp.finfo(gradient.dtype).eps
    scale = scale_of(largest)
    theta = ravel_leaves(params)
    at_bound = None
    if box is not None:
        at_bound = held(box, theta, gradient)
        gradient = jnp.where(at_bound, 0.0, gradient)
    length = norm(residual) if length is None else length
    if objective.loss == "linear":
        value = 0.5 * length**2
    elif value is None:
        value = 0.5 * jnp.sum(objective.costs(plain))
    squares = (columns / scale) ** 2
    alone = jnp.where(squares > 0, gradient / jnp.where(squares > 0, squares, 1.0), 0.0)
    grad_norm, coordinate_norm, params_norm, terms = norms(
        scale * gradient, alone, scale * theta, columns * theta
    )
    error = eps * terms
    if products is None:
        lengths = columns / scale * length
        # A length of zero with a gradient has lost its squares, and says nothing of angles.
        unseen = jnp.where((length == 0) & (gradient != 0), 1.0, 0.0)
        cosines = jnp.where(lengths > 0, jnp.abs(gradient) / jnp.where(lengths > 0, lengths, 1.0), unseen)
        gradient_test = jnp.max(cosines, initial=0.0)
    else:
        lengths = norm(jnp.broadcast_to(columns, theta.shape)) * length
        gradient_test = jnp.where(lengths > 0, grad_norm / jnp.where(lengths > 0, lengths, 1.0), 0.0)
    gone = (columns <= eps * largest) & (columns * jnp.abs(theta) < eps * length)
    # Where every residual is an outlier that Tukey's loss does not count, all is flat.
    out_of_reach = (length == 0) & (value > 0)
    return Linearization(
        value=value,
        plain=plain,
        residual=residual,
        jacobian_t=jacobian_t,
        to_scaled=to_scaled,
        products=products,
        largest=largest,
        scale=scale,
        gradient=gradient,
        gram=gram,
        held=at_bound,
        gradient_test=gradient_test,
        grad_norm=grad_norm,
        coordinate_norm=coordinate_norm,
        params_norm=params_norm,
        rounding=error * (length + error) + 4 * eps * value,
        vanished=jnp.any(gone & (largest > 0)) | out_of_reach,
        sharding=objective.sharding,
        passes=passes,
    )


def scale_of(largest: Float[Array, "..."]) -> Float[Array, "..."]:
    """D: the largest column norms seen, 1 for a column that has been zero all along."""
    return jnp.where(largest > 0, largest, 1.0)
