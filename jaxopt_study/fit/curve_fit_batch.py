"""`curve_fit_batch`: one model fitted to many data sets, every fit with its uncertainties.

The fits are `batch`'s. What they say about the parameters is that of `curve_fit`, from JᵀJ where that is
good enough, and by the SVD for those fits where it is not.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import check_bounds, sides
from jaxopt_study.derivatives import THIN, residual_and_columns, residual_and_jacobian, thin_gram
from jaxopt_study.fit import uncertainty
from jaxopt_study.fit.answers import at_solution
from jaxopt_study.fit.axes import Axes, check_axes, fill, in_axes, one_of
from jaxopt_study.fit.batch import choose_slots, least_squares_batch
from jaxopt_study.fit.check_input import (
    check_model,
    check_params,
    check_x,
    fill_missing,
    fill_rows,
    is_concrete,
)
from jaxopt_study.fit.curve import Curve
from jaxopt_study.fit.curve_fit import assemble
from jaxopt_study.fit.fit import Fit
from jaxopt_study.pytree import params_dtype, ravel_leaves, size, traceable
from jaxopt_study.solvers.implicit import only_where
from jaxopt_study.types import PyTree

SVD_BLOCK = 64  # fits at a time whose information has to be found by the SVD


def curve_fit_batch(
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
    slots: int | str = "auto",
    damping: ArrayLike = 1e-3,
    max_steps: ArrayLike = 1000,
    max_trials: ArrayLike = 60,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
) -> Fit:
    """Fit `y[k] ≈ model_fn(params[k], x)` for every k, and say how well the parameters are known.

    As `curve_fit` for every k, in one call of `least_squares_batch`. Works under `jit`. Parameters and errors
    have derivatives, as those of `curve_fit`; NaN for the errors of fits that needed the SVD.

    Args:
      model_fn: `model_fn(params, x)` of a *single* fit returns an array like `y[k]`.
      x: an array or a pytree of arrays, that all fits have in common.
      y: shape `(fits, ...)`; NaN is missing.
      params: where to start, every leaf with a leading axis of fits.
      x_axes: 0 where every array of x has a leading axis of fits.
      params_axes: None where all fits start at the same `params`, without a leading axis; or a prefix of
        `params` with 0 and None.
      sigma: standard deviations, broadcast to y: of shape `(fits, ...)` or of one fit.
      absolute_sigma: see `curve_fit`.
      weights: instead of sigma, what the squared residuals are multiplied with, broadcast to y. A point
        with weight 0 counts as missing.
      bounds: of a single fit's parameters, the same for all.
      loss, loss_scale: see `curve_fit`.
      slots, damping, max_steps, max_trials, ftol, xtol, gtol: see `least_squares_batch`.

    Returns:
      A `Fit` whose arrays have a leading axis of fits; `fit[k]` is one of them. A fit without a single
      point is one of rank 0.

    Raises:
      TypeError, ValueError: as `curve_fit` and `least_squares_batch`. Covariances as sigma are not taken.

    Example:
      >>> import jaxopt_study as jos
      >>> def line(p, x):
      ...     return p["a"] + p["b"] * x
      >>> x = jnp.arange(4.0)
      >>> y = jnp.array([[1.0, 2.9, 5.1, 7.0], [0.0, 1.1, 1.9, 3.0]])
      >>> fit = jos.curve_fit_batch(line, x, y, {"a": 0.0, "b": 1.0}, params_axes=None)
      >>> for b, error in zip(fit.params["b"], fit.stderr["b"]):
      ...     print(f"{b:.2f} ± {error:.2f}")
      2.02 ± 0.04
      0.98 ± 0.04
      >>> print(fit)
      2 fits (2,): 2 gradient converged; fit[i] is one of them
    """
    params = check_params(params)
    x = check_x(x)
    y = _check_y(y, params)
    if x_axes not in (0, None) or isinstance(x_axes, bool):
        raise ValueError(f"x_axes: expected 0 or None, got {x_axes!r}")
    if sigma is not None and weights is not None:
        raise ValueError("sigma, weights: give one of them, not both")
    sigma = _like_y("sigma", sigma, y)
    weights = _like_y("weights", weights, y)
    if weights is not None:
        y = jnp.where(weights > 0, y, jnp.nan)
    axes = Axes(params=fill("params", params_axes, params), args=(fill("x", x_axes, x), True))
    check_axes(axes, params, (x, y))
    one_params, (one_x, one_y) = one_of(params, (x, y), axes)
    check_model(model_fn, one_params, one_x, one_y)
    numbers = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one_params)
    lower_and_upper = None if bounds is None else check_bounds(bounds, _inside(bounds, numbers))
    curve = Curve(
        model=traceable(model_fn),
        x=_fill_missing(x, y, x_axes),
        y=y,
        sigma=sigma,
        weights=weights,
        bounds=lower_and_upper,
        loss_scale=loss_scale,
        loss=loss,
        absolute_sigma=bool(absolute_sigma),
        shared=("model", "bounds", "loss_scale", *(("x",) if x_axes is None else ())),
    )
    whitening = None if sigma is None and weights is None else 0
    result = least_squares_batch(
        curve.objective,
        params,
        curve.args,
        params_axes=params_axes,
        args_axes=(x_axes, 0, whitening),
        slots=slots,
        bounds=bounds,
        damping=damping,
        max_steps=max_steps,
        max_trials=max_trials,
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
    )
    ends = (result.status, result.num_steps, result.num_evals)
    block = choose_slots(one_y.size, 2 * size(one_params), params_dtype(params), "cpu")
    return _measure_all(block, curve, result.params, result.value, ends)


def _check_y(y: Any, params: PyTree) -> Array:
    if not isinstance(y, jax.Array):
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y: expected real numbers, got dtype {y.dtype}")
    y = jnp.asarray(y)
    if y.ndim < 2:
        raise ValueError(f"y: expected shape (fits, ...), got {y.shape}; for one data set use curve_fit")
    return y if jnp.issubdtype(y.dtype, jnp.floating) else y.astype(params_dtype(params))


def _fill_missing(x: PyTree, y: Array, x_axes: int | None) -> PyTree:
    """x with finite numbers at points that are missing: of an x in common, missing in every fit."""
    leaves = [leaf for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if all(is_concrete(leaf) and bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves):
        return x  # as a rule; to look for what is missing is a pass over all data
    if x_axes == 0:
        return jax.vmap(fill_missing)(x, y)
    return fill_rows(x, jnp.all(jnp.isnan(y), axis=(0, *range(2, y.ndim))))


def _like_y(name: str, given: Any, y: Array) -> Array | None:
    """sigma or weights in the shape of y."""
    if given is None:
        return None
    given = jnp.asarray(given, y.dtype)
    try:
        spread = jnp.broadcast_to(given, y.shape)
    except ValueError:
        words = "covariances are for curve_fit" if name == "sigma" else "of one fit or of all"
        raise ValueError(
            f"{name}: shape {given.shape} does not broadcast to the shape {y.shape} of y ({words})"
        ) from None
    if is_concrete(given):
        values = np.asarray(given)
        bad = values[~((values > 0 if name == "sigma" else values >= 0) & np.isfinite(values))]
        if bad.size and given.shape == y.shape and is_concrete(y):  # what is missing may have any
            present = ~np.isnan(np.asarray(y))
            bad = values[present & ~((values > 0 if name == "sigma" else values >= 0) & np.isfinite(values))]
        if bad.size:
            what = "positive standard deviations" if name == "sigma" else "numbers >= 0"
            raise ValueError(f"{name}: expected {what}, got {bad[0]}")
    return spread


def _inside(bounds: Any, like: PyTree) -> PyTree:
    """Any point within bounds: starts are checked by `least_squares_batch`."""
    lower, upper = check_bounds(bounds, jax.tree.map(lambda leaf: leaf + jnp.nan, like)) or (like, like)
    return jax.tree.map(jnp.clip, like, lower, upper)


@functools.partial(jax.jit, static_argnums=0)
def _measure_all(block: int, curve: Any, params: PyTree, cost: Array, ends: tuple) -> Fit:
    """The `Fit` of every solution."""
    has_axis = curve.has_axis
    fits = cost.shape[0]

    def one_curve(varying: Any) -> Any:
        return jax.tree.map(lambda has, one, all_: one if has else all_, has_axis, varying, curve)

    def quickly(inputs: tuple) -> tuple:
        varying, params, cost = inputs
        return _at_solution(one_curve(varying), params, cost)

    # What is shared is not cut into rows; zeros stand in for it.
    rows = jax.tree.map(lambda has, leaf: leaf if has else jnp.zeros(fits), has_axis, curve)
    known, good = jax.lax.map(quickly, (rows, params, cost), batch_size=min(block, fits))

    order = jnp.argsort(good)  # those that are not good come first
    width = min(SVD_BLOCK, fits)

    # A loop of as many turns as are needed has no reverse mode: what it finds is a constant.
    data = jax.lax.stop_gradient((rows, params, cost))

    def some(i: Array, known: tuple) -> tuple:
        place = jnp.minimum(i * width + jnp.arange(width), fits - 1)
        few = jax.tree.map(lambda leaf: leaf[order[place]], data)
        slowly = jax.vmap(lambda inputs: at_solution(one_curve(inputs[0]), *inputs[1:]))(few)
        return jax.tree.map(lambda all_, part: all_.at[order[place]].set(part), known, slowly)

    blocks = (jnp.sum(~good) + width - 1) // width
    constant = jax.lax.fori_loop(0, blocks, some, jax.lax.stop_gradient(known))
    known = jax.tree.map(functools.partial(_constant_unless, good), constant, known)

    def whole(varying: Any, params: PyTree, cost: Array, ends: tuple, known: tuple) -> Fit:
        return assemble(one_curve(varying), params, cost, ends, known)

    return jax.vmap(whole, out_axes=_out_axes(curve))(rows, params, cost, ends, known)


def _constant_unless(good: Array, constant: Array, known: Array) -> Array:
    """`known` where it is good, else `constant`, whose tangents are NaN: it was not differentiated."""
    chosen = jnp.where(good.reshape(-1, *[1] * (known.ndim - 1)), known, constant)
    return jax.vmap(only_where)(good, chosen) if jnp.issubdtype(known.dtype, jnp.floating) else chosen


def _out_axes(curve: Any) -> Any:
    fields = {field.name: 0 for field in dataclasses.fields(Fit)}
    return Fit(**{**fields, "curve": in_axes(curve.has_axis)})


def _at_solution(curve: Any, params: PyTree, cost: Array) -> tuple[tuple, Array]:
    """As `answers.at_solution`, from JᵀJ, and whether that is good enough."""
    at_bound = jnp.zeros(ravel_leaves(params).size, jnp.int8)
    if curve.bounds is not None:
        at_bound = ravel_leaves(sides(curve.bounds, params))
    if at_bound.size <= THIN:
        residuals, columns = residual_and_columns(curve.objective, params, curve.args)
        gram, _ = thin_gram(columns, residuals)
    else:
        residuals, jacobian_t = residual_and_jacobian(curve.objective, params, curve.args)
        gram = jacobian_t @ jacobian_t.T
    found, good = uncertainty.information_of_gram(gram, at_bound != 0)
    points = jnp.sum(curve.present, dtype=jnp.int32)
    of_noise = uncertainty.noise(curve, residuals, cost, found.rank, points - found.rank)
    return (residuals, found, of_noise, at_bound), good
