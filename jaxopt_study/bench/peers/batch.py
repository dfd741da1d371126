"""Other people's ways to fit many small data sets."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_study.types import PyTree


def optimistix_batch(residual_fn: Callable[..., PyTree], tolerance: float, max_steps: int = 200) -> Any:
    """`optimistix.LevenbergMarquardt` under `jit(vmap)`: `(params, args) -> params`, both batched."""
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)

    def one(params: PyTree, args: tuple) -> PyTree:
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return jax.jit(jax.vmap(one))


def scipy_leastsq_spots(
    images: np.ndarray, starts: np.ndarray, tolerance: float, max_evals: int = 2000
) -> np.ndarray:
    """`scipy.optimize.leastsq` (MINPACK) in a loop over images of spots, with an analytic Jacobian.

    Residual and Jacobian are NumPy, written out for this model and made of exponentials of a row and of a
    column, as a person would who wants this loop fast.

    Args:
      images: shape `(spots, rows, columns)`.
      starts: amplitude, background, width, x and y, shape `(spots, 5)`.
      tolerance: `ftol` and `xtol`.
      max_evals: see SciPy.
    """
    from scipy.optimize import leastsq

    rows, columns = (np.arange(length, dtype=float) for length in images.shape[1:])

    def peak(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from_x, from_y = rows - p[3], columns - p[4]
        inverse = -0.5 / p[2] ** 2
        return np.outer(np.exp(inverse * from_x**2), np.exp(inverse * from_y**2)), from_x, from_y

    def residual(p: np.ndarray, image: np.ndarray) -> np.ndarray:
        return (p[1] + p[0] * peak(p)[0] - image).ravel()

    def jacobian(p: np.ndarray, image: np.ndarray) -> np.ndarray:
        shape, from_x, from_y = peak(p)
        columns_of = np.empty((5, *shape.shape))
        columns_of[0] = shape
        columns_of[1] = 1.0
        scaled = shape * (p[0] / p[2] ** 2)
        columns_of[3] = scaled * from_x[:, None]
        columns_of[4] = scaled * from_y[None, :]
        columns_of[2] = scaled * ((from_x**2)[:, None] + (from_y**2)[None, :]) / p[2]
        return columns_of.reshape(5, -1)

    out = np.empty_like(starts, dtype=float)
    for k, (image, start) in enumerate(zip(images, starts, strict=True)):
        out[k] = leastsq(
            residual,
            start,
            (image,),
            jacobian,
            col_deriv=True,
            ftol=tolerance,
            xtol=tolerance,
            maxfev=max_evals,
        )[0]
    return out
