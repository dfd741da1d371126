"""What a fitted model predicts, and how well it knows it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.fit.check_errors import check_new_sigma
from jaxopt_study.fit.curve import Curve
from jaxopt_study.fit.uncertainty import Information, Noise, variance_along
from jaxopt_study.modes import value_and_jacobian
from jaxopt_study.pytree import ravel, shown
from jaxopt_study.types import Bool, PyTree


def variance_of_prediction(
    curve: Curve,
    params: PyTree,
    held: Bool[Array, " params"],
    found: Information,
    of_noise: Noise,
    x: PyTree,
) -> tuple[Array, Array]:
    """The model at x, and the variance that the uncertainty of the parameters gives it.

    The delta method: `gᵀ C g` with g the gradient of the model with respect to the parameters.
    Both in the shape of the model's value.
    """
    theta, unravel = ravel(params)

    def model(theta: Array) -> Array:
        return jnp.asarray(curve.model(unravel(theta), x))

    shape = jax.eval_shape(model, theta).shape
    y, jacobian_t = value_and_jacobian(lambda theta: model(theta).ravel(), theta)
    directions = jnp.where(held[:, None], 0.0, jacobian_t).T
    return y.reshape(shape), variance_along(found, of_noise, directions.astype(theta.dtype)).reshape(shape)


def check_kind(kind: Any, curve: Curve, sigma: Any) -> None:
    """Check that a prediction band can be had.

    Raises:
      TypeError: if sigma is no real number.
      ValueError: if `kind` is unknown, or sigma negative; for a prediction band: if the size of a new error
        is not known, because the fit had a sigma or weights and none is given here, or because a robust
        loss makes no statement about it.
    """
    if not (isinstance(kind, str) and kind in ("confidence", "prediction")):
        raise ValueError(f"kind: expected 'confidence' or 'prediction', got {shown(kind)}")
    if sigma is not None:
        check_new_sigma(sigma)
    if kind == "prediction":
        if curve.loss != "linear":
            raise ValueError("kind: a prediction band needs normal errors; a robust loss assumes none")
        if sigma is None and (curve.sigma is not None or curve.weights is not None):
            raise ValueError("sigma: a prediction band of a weighted fit needs that of the new points")


def variance_of_noise(of_noise: Noise, sigma: ArrayLike | None, y: Array) -> Any:
    """The variance of a new observation about the model: `s² sigma²`, in a shape that goes with y."""
    if sigma is None:
        return of_noise.dispersion
    sigma = jnp.asarray(sigma, y.dtype)
    try:
        sigma = jnp.broadcast_to(sigma, y.shape)
    except ValueError:
        raise ValueError(f"sigma: shape {sigma.shape} does not broadcast to {y.shape}, that at x") from None
    return of_noise.dispersion * sigma**2
