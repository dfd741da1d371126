"""Fits of a curve by SciPy and lmfit, with standard errors, as their users write them."""

from collections.abc import Callable
from typing import Any

import numpy as np

Fitted = tuple[np.ndarray, np.ndarray]


def scipy_curve_fit(
    model: Callable[..., Any], jacobian: Callable[..., Any], x: np.ndarray, y: np.ndarray, start: tuple
) -> Callable[..., Fitted]:
    """`scipy.optimize.curve_fit` of `model(x, *params)`: a function of its tolerances; values and errors."""
    from scipy.optimize import curve_fit

    def fit(**tolerances: float) -> Fitted:
        values, covariance = curve_fit(model, x, y, start, jac=jacobian, **tolerances)
        return values, np.sqrt(np.diagonal(covariance))

    return fit


def lmfit_model(
    model: Callable[..., Any], x: np.ndarray, y: np.ndarray, start: dict[str, float]
) -> Callable[[], Fitted]:
    """`lmfit.Model(model).fit`: values and standard errors."""
    import lmfit

    whole = lmfit.Model(model)
    params = whole.make_params(**start)

    def fit() -> Fitted:
        done = whole.fit(y, params, x=x)
        found = [done.params[name] for name in start]
        return np.array([one.value for one in found]), np.array([one.stderr for one in found])

    return fit
