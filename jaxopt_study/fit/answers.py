"""What a fit answers, as pure functions of it; its methods, in `fit`, check words and ask here.

A batch of fits is asked one by one, by `vmap` over the axes that its statuses have.
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

from jaxopt_study.bounds import sides
from jaxopt_study.derivatives import residual_and_jacobian
from jaxopt_study.fit import predict, uncertainty
from jaxopt_study.fit.axes import in_axes
from jaxopt_study.fit.profile import profile_ends
from jaxopt_study.fit.quantile import t_quantile
from jaxopt_study.pytree import ravel, ravel_leaves
from jaxopt_study.types import PyTree


def each(method: Callable[..., Any]) -> Callable[..., Any]:
    """Ask every fit of a batch; a batch is known by the shape of its statuses."""

    @functools.wraps(method)
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        one = functools.partial(_call, method, args, options)
        axes = in_axes(has_axis(self))
        for _ in range(np.ndim(self.status)):
            one = jax.vmap(one, in_axes=(axes,))
        return one(self)

    return ask


def has_axis(fit: Any) -> Any:
    """For every array of a batch of fits whether it has a leading axis: a `Fit` of bools."""
    every = {f.name: jax.tree.map(lambda _: True, getattr(fit, f.name)) for f in dataclasses.fields(fit)}
    return dataclasses.replace(fit, **{**every, "curve": fit.curve.has_axis})


def _call(method: Callable[..., Any], args: tuple, options: dict[str, Any], fit: Any) -> Any:
    return method(fit, *args, **options)


def at_solution(curve: Any, params: PyTree, cost: Any, args: tuple | None = None) -> Any:
    """Residuals, information, noise, and which parameters stand on a bound, raveled.

    Args:
      curve, params, cost: the solution.
      args: `curve.args`, where they are at hand.
    """
    at_bound = jnp.zeros(ravel_leaves(params).size, jnp.int8)
    if curve.bounds is not None:
        at_bound = ravel_leaves(sides(curve.bounds, params))
    residuals, jacobian_t = residual_and_jacobian(
        curve.objective, params, curve.args if args is None else args
    )
    found = uncertainty.information(jacobian_t, at_bound != 0)
    points = jnp.sum(curve.present, dtype=jnp.int32)
    of_noise = uncertainty.noise(curve, residuals, cost, found.rank, points - found.rank)
    return residuals, found, of_noise, at_bound


def quantile(fit: Any, level: ArrayLike) -> Array:
    """t for the two-sided level: of the normal distribution where the noise is known."""
    known = fit.curve.absolute_sigma and fit.curve.loss == "linear"
    dof = jnp.full_like(fit.cost, jnp.inf) if known else fit.dof.astype(fit.cost.dtype)
    return t_quantile(level, dof).astype(fit.cost.dtype)


@jax.jit
@each
def correlation(fit: Any) -> Array:
    """See `Fit.correlation`."""
    return uncertainty.correlation(fit.covariance)


@jax.jit
@each
def r_squared(fit: Any) -> Array:
    """See `Fit.r_squared`."""
    present, y = fit.curve.present, fit.curve.y
    known = jnp.where(present, y, 0.0)
    rest = jnp.where(present, fit.curve.model(fit.params, fit.curve.x) - known, 0.0)
    mean = jnp.sum(known) / fit.num_points.astype(known.dtype)
    return 1.0 - jnp.sum(rest**2) / jnp.sum(jnp.where(present, (known - mean) ** 2, 0.0))


@jax.jit
@each
def criteria(fit: Any) -> tuple[Array, Array]:
    """Akaike's criterion and the Bayesian one."""
    fixed: Any = 0
    if fit.curve.bounds is not None:
        lower, upper = map(ravel_leaves, fit.curve.bounds)
        fixed = jnp.sum(lower >= upper)
    varied = jnp.asarray(ravel_leaves(fit.params).size - fixed, fit.cost.dtype)
    points = fit.num_points.astype(fit.cost.dtype)
    deviance = points * jnp.log(fit.chi2 / points)
    return deviance + 2 * varied, deviance + varied * jnp.log(points)


@jax.jit
def interval(fit: Any, level: ArrayLike) -> tuple[PyTree, PyTree]:
    """See `Fit.confidence_interval`."""
    return each(_interval_of_one)(fit, level)


def _interval_of_one(fit: Any, level: ArrayLike) -> tuple[PyTree, PyTree]:
    t = quantile(fit, level)

    def end(sign: float) -> PyTree:
        return jax.tree.map(lambda p, s: (p + sign * t * s).astype(p.dtype), fit.params, fit.stderr)

    return end(-1.0), end(1.0)


@jax.jit
def profile(fit: Any, level: ArrayLike) -> tuple[PyTree, PyTree]:
    """See `Fit.profile`."""
    return each(_profile_of_one)(fit, level)


def _profile_of_one(fit: Any, level: ArrayLike) -> tuple[PyTree, PyTree]:
    fit = jax.lax.stop_gradient(fit)
    _, unravel = ravel(fit.params)
    _, found, _, _ = at_solution(fit.curve, fit.params, fit.cost)
    errors = ravel_leaves(fit.stderr).astype(fit.covariance.dtype)
    ends = profile_ends(fit.curve, fit.params, fit.cost, fit.dispersion, found, errors, quantile(fit, level))
    return unravel(ends[:, 0]), unravel(ends[:, 1])


@jax.jit
def value(fit: Any, x: PyTree) -> Array:
    """The model at x."""
    return each(lambda fit: fit.curve.model(fit.params, x))(fit)


@functools.partial(jax.jit, static_argnums=3)
def band(fit: Any, x: PyTree, level: ArrayLike, of_new: bool, sigma: Any) -> tuple[Array, Array, Array]:
    """See `Fit.predict`; `of_new` for a prediction band."""
    return each(_band_of_one)(fit, x, level, of_new, sigma)


def _band_of_one(fit: Any, x: PyTree, level: ArrayLike, of_new: bool, sigma: Any) -> Any:
    _, found, of_noise, at_bound = at_solution(fit.curve, fit.params, fit.cost)
    y, variance = predict.variance_of_prediction(fit.curve, fit.params, at_bound != 0, found, of_noise, x)
    if of_new:
        variance = variance + predict.variance_of_noise(of_noise, sigma, y)
    positive = variance > 0
    half = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), variance)
    half = (quantile(fit, level) * half).astype(y.dtype)
    return y, y - half, y + half
