"""Many curves, checked and brought into one form, before anything is fitted: the first half of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.fit.axes import Axes, check_axes, fill, in_axes, one_of
from jaxopt_study.fit.batch_bounds import check_batch_bounds
from jaxopt_study.fit.check_errors import Errors, check_batch_sigma, check_weights
from jaxopt_study.fit.check_input import (
    as_real,
    check_callable,
    check_model,
    check_params,
    check_x,
    fill_missing,
    fill_rows,
    is_concrete,
)
from jaxopt_study.fit.curve import Curve, Factor
from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import traceable
from jaxopt_study.solvers.minimize_input import check_flag
from jaxopt_study.types import PyTree


class Curves(NamedTuple):
    """Many curves.

    Attributes:
      curve: all of them; `curve.has_axis` says what has a leading axis of fits.
      args: what the residuals of all take, `(x, y, whitening)`.
      params: where they start.
      axes: which of params and args have a leading axis of fits.
    """

    curve: Curve
    args: tuple
    params: PyTree
    axes: Axes


def prepare_batch(
    model_fn: Callable[..., Any],
    x: PyTree,
    y: Any,
    params: PyTree,
    *,
    x_axes: int | None = None,
    params_axes: Any = 0,
    sigma: Any = None,
    absolute_sigma: bool = False,
    weights: Any = None,
    bounds: Any = None,
    loss: Any = "linear",
    loss_scale: ArrayLike = 1.0,
    pointwise: bool = False,
    complete: bool | None = None,
) -> Curves:
    """Check everything and compute next to nothing.

    Args:
      model_fn, x, y, params: as in `curve_fit_batch`, and all others but one.
      complete: whether no fit lacks some of its points, but not all; None to look.
    """
    check_callable(model_fn)
    params = check_params(params)
    x = check_x(x)
    y = as_real(y, params)
    if y.ndim < 2:
        raise ValueError(f"y: expected shape (fits, ...), got {y.shape}; for one data set use curve_fit")
    if x_axes not in (0, None) or isinstance(x_axes, bool):
        raise ValueError(f"x_axes: expected 0 or None, got {x_axes!r}")
    if sigma is not None and weights is not None:
        raise ValueError("sigma, weights: give one of them, not both")
    axes = Axes(params=fill("params", params_axes, params), args=(fill("x", x_axes, x), True))
    fits = check_axes(axes, params, (x, y), ("x", "y"))
    errors = check_batch_sigma(sigma, y, pointwise)
    weights = check_weights(weights, y)
    if weights is not None:
        y = jnp.where(weights > 0, y, jnp.nan)
    one_params, (one_x, one_y) = one_of(params, (x, y), axes)
    check_model(model_fn, one_params, one_x, one_y)
    bounds, own_bounds = check_batch_bounds(bounds, params, axes.params, fits)
    in_common = {"x": x_axes is None, "sigma": errors.shared, "bounds": not own_bounds}
    curve = Curve(
        model=traceable(model_fn),
        x=_fill_missing(x, y, x_axes),
        y=y,
        sigma=errors.sigma,
        weights=weights,
        bounds=bounds,
        loss_scale=number("loss_scale", loss_scale),
        loss=loss,
        absolute_sigma=check_flag("absolute_sigma", absolute_sigma),
        pointwise=check_flag("pointwise", pointwise),
        shared=("model", "loss_scale", *(name for name, common in in_common.items() if common)),
    )
    whitening, own_whitening = _whiten(curve, errors, complete)
    axes = Axes(axes.params, (*axes.args, fill("whitening", 0 if own_whitening else None, whitening)))
    return Curves(curve, (curve.x, curve.y, whitening), params, axes)


def _fill_missing(x: PyTree, y: Array, x_axes: int | None) -> PyTree:
    """x with finite numbers at points that are missing: of an x in common, missing in every fit."""
    leaves = [leaf for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if all(is_concrete(leaf) and bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves):
        return x  # as a rule; to look for what is missing is a pass over all data
    if x_axes == 0:
        return jax.vmap(fill_missing)(x, y)
    return fill_rows(x, jnp.all(jnp.isnan(y), axis=(0, *range(2, y.ndim))))


def _whiten(curve: Curve, errors: Errors, complete: bool | None) -> tuple[Any, bool]:
    """`Curve.whitening` of all curves, and whether it has a leading axis of fits.

    Where points are missing a covariance in common has a factor of its own for every fit.
    """
    if not errors.covariance:
        return curve.whitening, True
    if errors.shared and (_is_complete(curve.y) if complete is None else complete):
        return Factor(jnp.linalg.cholesky(curve.sigma)), False
    return jax.vmap(lambda curve: curve.whitening, in_axes=(in_axes(curve.has_axis),))(curve), True


def _is_complete(y: Array) -> bool:
    """Whether no fit lacks some of its points; a fit of nothing has no use for a factor."""
    if not is_concrete(y):
        return False
    missing = jnp.isnan(y)
    others = tuple(range(1, y.ndim))
    return bool(jnp.all(jnp.any(missing, axis=others) == jnp.all(missing, axis=others)))
