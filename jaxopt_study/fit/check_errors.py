"""sigma and weights, the sizes of errors in y: checked and brought into one form, for one fit and many."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.fit.check_input import is_concrete
from jaxopt_study.pytree import as_array, shown


def check_sigma(sigma: Any, y: Array | np.ndarray, pointwise: bool) -> Array | None:
    """sigma in the shape of y, or as a covariance.

    Raises:
      ValueError: if its shape is neither, a standard deviation of a present point is not positive and
        finite, or a covariance is not symmetric and positive definite, or comes with `pointwise`.
    """
    if sigma is None:
        return None
    sigma = _as_numbers("sigma", sigma, y)
    if _broadcasts(sigma.shape, y.shape):
        _check_values("sigma", sigma, y)
        return jnp.broadcast_to(sigma, y.shape)
    if sigma.shape != (y.size, y.size):
        raise ValueError(
            f"sigma: expected standard deviations that broadcast to the shape {y.shape} of y, or a "
            f"covariance of shape {(y.size, y.size)}, got shape {sigma.shape}"
        )
    _refuse_pointwise(pointwise)
    _check_covariances(sigma[None], y.ravel()[None])
    return sigma


class Errors(NamedTuple):
    """sigma of many fits.

    Attributes:
      sigma: standard deviations in the shape of y, `(fits, ...)`; or covariances of the points of
        a fit raveled, `(fits, points, points)` or `(points, points)`; None if not given.
      covariance: whether these are covariances; the shape does not tell where there are as many fits
        as points.
      shared: whether it is one covariance of all fits.
    """

    sigma: Any
    covariance: bool = False
    shared: bool = False


def check_batch_sigma(sigma: Any, y: Array | np.ndarray, pointwise: bool) -> Errors:
    """sigma of many fits; y has the shape `(fits, ...)`.

    Raises:
      ValueError: as `check_sigma`; if a covariance in common cannot be told from standard deviations.
    """
    if sigma is None:
        return Errors(None)
    sigma = _as_numbers("sigma", sigma, y)
    fits, points = y.shape[0], int(np.prod(y.shape[1:]))
    square = (points, points)
    if _broadcasts(sigma.shape, y.shape):
        if sigma.shape == square == y.shape and points > 1 and is_concrete(sigma):
            _refuse_covariance(np.asarray(sigma))
        _check_values("sigma", sigma, y)
        return Errors(jnp.broadcast_to(sigma, y.shape))
    if sigma.shape not in (square, (1, *square), (fits, *square)):
        raise ValueError(
            f"sigma: expected standard deviations that broadcast to the shape {y.shape} of y, or covariances "
            f"of shape {(fits, *square)}, or one of shape {square}, got shape {sigma.shape}"
        )
    _refuse_pointwise(pointwise)
    flat = y.reshape(fits, points)
    if sigma.shape == (fits, *square):
        _check_covariances(sigma, flat)
        return Errors(sigma, covariance=True)
    sigma = sigma.reshape(square)
    if is_concrete(sigma, y):  # what is missing in every fit may have any
        somewhere = np.all(np.isnan(np.asarray(flat)), axis=0)
        _check_covariances(sigma[None], np.where(somewhere, np.nan, 0.0)[None])
    return Errors(sigma, covariance=True, shared=True)


def check_new_sigma(sigma: Any) -> None:
    """Standard deviations of observations to come.

    Raises:
      TypeError: if they are no real numbers.
      ValueError: if one is negative, or not finite.
    """
    numbers = _as_real("sigma", sigma)
    if is_concrete(numbers) and not np.all((np.asarray(numbers) >= 0) & np.isfinite(numbers)):
        raise ValueError(f"sigma: expected standard deviations >= 0, got {shown(sigma)}")


def check_weights(weights: Any, y: Array | np.ndarray) -> Array | None:
    """weights in the shape of y, that of one fit or of many.

    Raises:
      ValueError: if they do not fit, or one of a present point is negative or not finite.
    """
    if weights is None:
        return None
    weights = _as_numbers("weights", weights, y)
    if not _broadcasts(weights.shape, y.shape):
        raise ValueError(f"weights: shape {weights.shape} does not broadcast to the shape {y.shape} of y")
    _check_values("weights", weights, y)
    return jnp.broadcast_to(weights, y.shape)


def check_some_weight(weights: Array | None, y: Array | np.ndarray) -> None:
    """Raise a `ValueError` where no point of a fit has both a value and a weight."""
    if weights is not None and is_concrete(weights, y) and not np.any(np.asarray(weights)[~np.isnan(y)] > 0):
        raise ValueError("weights: no point that is not missing has a weight above 0")


def _check_values(name: str, given: Array, y: Array | np.ndarray) -> None:
    """Signs and sizes, of points that are not missing."""
    if not is_concrete(given, y):
        return

    def wrong(values: np.ndarray) -> np.ndarray:
        return values[~((values > 0 if name == "sigma" else values >= 0) & np.isfinite(values))]

    bad = wrong(np.asarray(given))
    if bad.size:  # what is missing may have any
        bad = wrong(np.broadcast_to(given, y.shape)[~np.isnan(y)])
    if bad.size:
        wanted = "positive standard deviations" if name == "sigma" else "numbers >= 0"
        raise ValueError(f"{name}: expected {wanted}, got {bad[0]}")


def _check_covariances(sigma: Array, y: Array | np.ndarray) -> None:
    """Covariances `(fits, points, points)` of y, `(fits, points)`, symmetric and positive definite."""
    if not is_concrete(sigma, y):
        return
    present = ~np.isnan(np.asarray(y))
    both = present[:, :, None] & present[:, None, :]
    matrices = np.where(both, np.asarray(sigma), np.eye(sigma.shape[-1], dtype=sigma.dtype))
    # NaN is not symmetric either.
    _raise_for("symmetric", _symmetric(matrices))
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        _raise_for("positive definite", np.array([_has_cholesky(matrix) for matrix in matrices]))


def _symmetric(matrices: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.abs(np.diagonal(matrices, axis1=-2, axis2=-1)))
    tolerance = 100 * np.finfo(matrices.dtype).eps * size[..., :, None] * size[..., None, :]
    return np.all(np.abs(matrices - np.swapaxes(matrices, -2, -1)) <= tolerance, axis=(-2, -1))


def _has_cholesky(matrix: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _raise_for(what: str, good: np.ndarray) -> None:
    if not np.all(good):
        which = "" if good.size == 1 else f" of fit {int(np.argmin(good))}"
        raise ValueError(f"sigma: the covariance{which} is not {what}")


def _refuse_pointwise(pointwise: bool) -> None:
    if pointwise:
        raise ValueError("pointwise: a covariance in sigma makes every residual use every point")


def _refuse_covariance(sigma: np.ndarray) -> None:
    """As many fits as points: a square sigma is of the shape of y, but standard deviations look otherwise."""
    variance = np.diagonal(sigma)
    if not (np.all(variance > 0) and _symmetric(sigma[None])[0]):
        return
    least = np.linalg.eigvalsh(sigma / np.sqrt(np.outer(variance, variance)))[0]
    if least > sigma.size * np.finfo(sigma.dtype).eps:
        raise ValueError(
            f"sigma: of shape {sigma.shape} it holds the standard deviations of as many fits as points, but "
            "looks like a covariance; write sigma[None] for one that all fits have in common"
        )


def _as_numbers(name: str, value: Any, y: Array | np.ndarray) -> Array:
    return _as_real(name, value).astype(y.dtype)


def _as_real(name: str, value: Any) -> Array:
    try:
        numbers = jnp.asarray(as_array(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected real numbers, got {shown(value)}") from error
    if jnp.iscomplexobj(numbers):
        raise TypeError(f"{name}: expected real numbers, got dtype {numbers.dtype}")
    return numbers


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
