"""`curve_fit_batch`: one model fitted to many data sets, every fit with its uncertainties.

The data are prepared in `batch_curve`, the fits are `batch`'s, what they say about the parameters is found in
`batch_measure`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxopt_study.fit.axes import in_axes
from jaxopt_study.fit.batch import least_squares_batch
from jaxopt_study.fit.batch_curve import Curves, prepare_batch
from jaxopt_study.fit.batch_measure import measure_all
from jaxopt_study.fit.fit import Fit
from jaxopt_study.fit.slots import choose_slots
from jaxopt_study.pytree import params_dtype, size
from jaxopt_study.types import PyTree


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
    pointwise: bool = False,
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
      sigma: standard deviations, broadcast to y: of shape `(fits, ...)` or of one fit. Or covariances of
        the points of a fit, raveled: `(fits, points, points)`, or `(points, points)` for all; written
        `sigma[None]` where there are as many fits as points.
      absolute_sigma: see `curve_fit`.
      weights: instead of sigma, what the squared residuals are multiplied with, broadcast to y. A point
        with weight 0 counts as missing.
      bounds: of a single fit's parameters, the same for all; or some a fit's own, with one axis more.
      loss, loss_scale, pointwise: see `curve_fit`.
      slots, damping, max_steps, max_trials, ftol, xtol, gtol: see `least_squares_batch`.

    Returns:
      A `Fit` whose arrays have a leading axis of fits; `fit[k]` is one of them. A fit without a single
      point ends as `RANK_DEFICIENT`, of rank 0.

    Raises:
      TypeError, ValueError: as `curve_fit` and `least_squares_batch`.

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
    curves = prepare_batch(
        model_fn,
        x,
        y,
        params,
        x_axes=x_axes,
        params_axes=params_axes,
        sigma=sigma,
        absolute_sigma=absolute_sigma,
        weights=weights,
        bounds=bounds,
        loss=loss,
        loss_scale=loss_scale,
        pointwise=pointwise,
    )
    return fit_curves(
        curves,
        slots=slots,
        damping=damping,
        max_steps=max_steps,
        max_trials=max_trials,
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
    )


def fit_curves(curves: Curves, **options: Any) -> Fit:
    """The second half of `curve_fit_batch`: the solutions, and what is known there.

    Args:
      curves: from `prepare_batch`.
      options: those of `least_squares_batch`.
    """
    curve, args, params, axes = curves
    result = least_squares_batch(
        curve.objective,
        params,
        args,
        params_axes=in_axes(axes.params),
        args_axes=in_axes(axes.args),
        bounds=curve.bounds,
        **options,
    )
    ends = (result.status, result.num_steps, result.num_evals)
    fits, points = len(curve.y), int(np.prod(curve.y.shape[1:]))
    block = choose_slots(points, 2 * size(result.params) // fits, params_dtype(params), "cpu")
    own_whitening = any(jax.tree.leaves(axes.args[2]))
    return measure_all(block, own_whitening, curve, args[2], result.params, result.value, ends)
