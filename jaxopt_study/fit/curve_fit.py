"""`curve_fit`: a model fitted to data, with its uncertainties."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import check_bounds
from jaxopt_study.compiling import Task, jit_small
from jaxopt_study.fit import uncertainty
from jaxopt_study.fit.answers import at_solution
from jaxopt_study.fit.check_errors import check_sigma, check_some_weight, check_weights
from jaxopt_study.fit.check_input import (
    check_callable,
    check_model,
    check_params,
    check_x,
    check_y,
    fill_missing,
)
from jaxopt_study.fit.curve import Curve
from jaxopt_study.fit.fit import Fit
from jaxopt_study.layout import on_mesh, rows_of
from jaxopt_study.losses import check_loss
from jaxopt_study.optimizers.combine import trained_leaves
from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import ravel, traceable
from jaxopt_study.result import Status
from jaxopt_study.solvers.least_squares import least_squares
from jaxopt_study.solvers.minimize_input import check_flag, check_max_steps, check_optimizer, check_tolerances
from jaxopt_study.stopping import Tolerances
from jaxopt_study.traced_once import traced_once
from jaxopt_study.types import PyTree


def curve_fit(
    model_fn: Callable[..., Any],
    x: PyTree,
    y: Any,
    params: PyTree,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    weights: Any = None,
    bounds: Any = None,
    loss: Any = "linear",
    loss_scale: ArrayLike = 1.0,
    pointwise: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    max_steps: ArrayLike = 1000,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
) -> Fit:
    """Fit `y ≈ model_fn(params, x)` and say how well the parameters are known.

    Minimizes `½ Σ C² ρ(rᵢ²/C²)`, `rᵢ = (model_fn(params, x)ᵢ - yᵢ) / sigmaᵢ`: half the sum of squares
    for the linear loss. Works under `jit`, and under `vmap` over y, x, sigma and starts; data may change
    without compiling anything again, a plain `model_fn` is compiled for once per function object.

    Parameters that belong together, or are fixed, need no language of their own: the model is
    a function of any pytree. Tie two by using one number in two places, write what is fixed into the
    model or into x, transform what has to be positive; or fix an element by equal bounds.

    Args:
      model_fn: `model_fn(params, x)` returns an array like y; a plain function or a callable pytree.
      x: an array, or any pytree of arrays.
      y: real array of any shape; NaN is missing. Where a row of y is missing, that of x may be NaN too.
      params: where to start, a pytree of real float arrays or numbers.
      sigma: standard deviations of the errors, broadcast to y, in the unit of y; or their
        covariance, `(y.size, y.size)`, for y raveled. 1 if not given.
      absolute_sigma: whether sigma is known as it is. If not, only its ratios count, and a common
        factor is estimated from the residuals.
      weights: instead of sigma, what the *squared* residuals are multiplied with; broadcast to y. A point
        with weight 0 counts as missing.
      bounds: `(lower, upper)`, each a number, a pytree like params or a prefix of it.
      loss: `"linear"`, `"huber"`, `"soft_l1"`, `"cauchy"`, `"arctan"`, `"tukey"`, or a function ρ(z).
      loss_scale: C, from which size on a residual, in units of sigma, is an outlier.
      pointwise: promise that a row of y uses only that row of every array in x; makes the Jacobian of
        models with many parameters cheaper.
      optimizer: see `least_squares`. Leaves that a `jos.masked` around it freezes count as fixed.
      max_steps, ftol, xtol, gtol: see `minimize`.

    Returns:
      A `Fit`. Covariances come from the SVD of the scaled Jacobian, times s²; with a robust loss
      they are Huber's, see `uncertainty.noise`.

    Raises:
      TypeError: if an argument is of the wrong kind, or a parameter is no real float.
      ValueError: if shapes do not fit, sigma is not positive or no covariance, a weight is negative,
        sigma and weights are both given, all of y is missing; see also `least_squares`.

    Example:
      >>> import jaxopt_study as jos
      >>> def decay(params, t):
      ...     return params["a"] * jnp.exp(-params["k"] * t)
      >>> t = jnp.linspace(0.0, 4.0, 9)
      >>> noise = jnp.array([1.0, -2.0, 1.5, 0.5, -1.0, 0.0, 1.0, -0.5, -1.0])
      >>> y = decay({"a": 3.0, "k": 0.5}, t) + 0.02 * noise
      >>> fit = jos.curve_fit(decay, t, y, {"a": 1.0, "k": 1.0})
      >>> print(f"{fit.params['k']:.3f} ± {fit.stderr['k']:.3f}")
      0.502 ± 0.006

      Two curves with a common rate, and an offset that is fixed:

      >>> def both(params, t):
      ...     return jnp.stack([decay({"a": a, "k": params["k"]}, t) + 0.1 for a in params["a"]])
      >>> two = jnp.stack([y, 2.0 * y]) + 0.1
      >>> fit = jos.curve_fit(both, t, two, {"a": jnp.ones(2), "k": 1.0})
      >>> print(jnp.round(fit.params["a"], 1), f"{fit.params['k']:.3f}")
      [3. 6.] 0.502
    """
    controls = check_controls(max_steps, ftol, xtol, gtol)
    curve, params = prepare(
        model_fn,
        x,
        y,
        params,
        sigma=sigma,
        absolute_sigma=absolute_sigma,
        weights=weights,
        bounds=bounds,
        loss=loss,
        loss_scale=loss_scale,
        pointwise=pointwise,
        optimizer=optimizer,
    )
    return fit_curve(curve, params, optimizer, controls)


def prepare(
    model_fn: Callable[..., Any],
    x: PyTree,
    y: Any,
    params: PyTree,
    *,
    sigma: Any,
    absolute_sigma: Any,
    weights: Any,
    bounds: Any,
    loss: Any,
    loss_scale: Any,
    pointwise: Any,
    optimizer: optax.GradientTransformation | None,
) -> tuple[Curve, PyTree]:
    """The first half of `curve_fit`: everything is checked, nothing computed."""
    absolute_sigma = check_flag("absolute_sigma", absolute_sigma)
    pointwise = check_flag("pointwise", pointwise)
    check_callable(model_fn)
    check_loss(loss, loss_scale)
    if optimizer is not None:
        check_optimizer(optimizer)
    params = check_params(params, keep_numpy=True)
    rows = rows_of((x, y, sigma, weights))
    if rows is not None:
        params, x, y, sigma, weights = on_mesh((params, x, y, sigma, weights), rows)
    x = check_x(x, keep_numpy=True)
    y = check_y(y, params, keep_numpy=True)
    if sigma is not None and weights is not None:
        raise ValueError("sigma, weights: give one of them, not both")
    weights = check_weights(weights, y)
    check_some_weight(weights, y)
    if weights is not None:
        y = jnp.where(weights > 0, y, jnp.nan)
    curve = Curve(
        model=traceable(model_fn),
        x=fill_missing(x, y),
        y=y,
        sigma=check_sigma(sigma, y, pointwise),
        weights=weights,
        bounds=_frozen(optimizer, check_bounds(bounds, params), params),
        loss_scale=number("loss_scale", loss_scale),
        loss=loss,
        absolute_sigma=absolute_sigma,
        pointwise=pointwise,
        sharding=rows,
    )
    return curve, params


class Controls(NamedTuple):
    """When the iteration ends, as `least_squares` takes it."""

    max_steps: Any
    ftol: Any
    xtol: Any
    gtol: Any


def check_controls(max_steps: Any, ftol: Any, xtol: Any, gtol: Any) -> Controls:
    """Numbers that are traced, in one type; None stays None."""
    tolerances = check_tolerances(Tolerances(ftol, xtol, gtol))
    return Controls(check_max_steps(max_steps), tolerances.ftol, tolerances.xtol, tolerances.gtol)


def fit_curve(
    curve: Curve,
    params: PyTree,
    optimizer: optax.GradientTransformation | None,
    controls: Controls,
) -> Fit:
    """The second half of `curve_fit`: the solution, and what is known there, in one program.

    Args:
      curve, params: from `prepare`.
      optimizer: None for Levenberg-Marquardt.
      controls: from `check_controls`.
    """
    return _fit(curve, params, traceable(optimizer), controls)


@jit_small(lambda curve, params, *_: Task((curve, params), curve.model, (params, curve.x)))
def _fit(curve: Any, params: PyTree, optimizer: Any, controls: Controls) -> Fit:
    # Shapes are checked here, while tracing: once for every program, not at every call.
    check_model(curve.model, params, curve.x, curve.y)
    result = least_squares(
        curve.objective,
        params,
        curve.args,
        bounds=curve.bounds,
        optimizer=optimizer,
        **controls._asdict(),
    )
    ends = result.status, result.num_steps, result.num_evals
    once = dataclasses.replace(curve, model=traced_once(curve.model))
    return assemble(curve, result.params, result.value, ends, at_solution(once, result.params, result.value))


def _frozen(optimizer: Any, bounds: Any, params: PyTree) -> Any:
    """The bounds, equal for leaves that `jos.masked` freezes: they are not fitted, and have no errors."""
    trained = None if optimizer is None else trained_leaves(optimizer, params)
    if trained is None or all(jax.tree.leaves(trained)):
        return bounds
    sides = check_bounds((None, None), params) if bounds is None else bounds
    fix = lambda trains, bound, leaf: bound if trains else leaf  # noqa: E731
    return tuple(jax.tree.map(fix, trained, side, params) for side in sides or ())


def assemble(curve: Any, params: PyTree, cost: Any, ends: tuple[Any, Any, Any], known: tuple) -> Fit:
    """The `Fit`, from its status and counts and what is known of the solution.

    Args:
      curve: what was fitted.
      params, cost: the solution.
      ends: status, number of steps and of evaluations.
      known: residuals, information, noise, and which parameters stand on a bound; see `at_solution`.
    """
    _, unravel = ravel(params)
    residuals, found, of_noise, at_bound = known
    points = jnp.sum(curve.present, dtype=jnp.int32)
    matrix = uncertainty.covariance(found, of_noise)
    free = jnp.sum(at_bound == 0, dtype=jnp.int32)
    missing = ~curve.present
    status, num_steps, num_evals = ends
    # Of no points any parameters are a minimum, but no answer.
    status = jnp.where(points == 0, Status.RANK_DEFICIENT, status)
    return Fit(
        params=params,
        stderr=unravel(uncertainty.standard_errors(matrix)),
        covariance=matrix,
        residuals=jnp.where(missing, jnp.nan, residuals.reshape(curve.y.shape)),
        cost=cost,
        dispersion=of_noise.dispersion,
        dof=points - found.rank,
        num_points=points,
        rank=found.rank,
        rank_deficient=found.rank < free,
        at_bound=_like(params, at_bound),
        status=status,
        num_steps=num_steps,
        num_evals=num_evals,
        curve=curve,
    )


def _like(params: PyTree, flat: Array) -> PyTree:
    """A raveled vector of another dtype as a pytree like `params`."""
    leaves, tree = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = jnp.split(flat, ends)
    return jax.tree.unflatten(
        tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )
