"""Other people's solvers of equations."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_study.pytree import ravel
from jaxopt_study.types import PyTree


def optimistix_root(
    fn: Callable[..., PyTree], args: tuple, method: str, tolerance: float, max_steps: int = 500
) -> Callable[[PyTree], PyTree]:
    """`optimistix.root_find` by `"Newton"` or `"Dogleg"` to its own end, jitted whole, to be timed."""
    import optimistix

    solver: Any = getattr(optimistix, method)(rtol=tolerance, atol=tolerance)

    @jax.jit
    def solve(params: PyTree, args: tuple) -> PyTree:
        solution: Any = optimistix.root_find(
            lambda p, a: fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return lambda params: solve(params, args)


def optimistix_bisection(
    fn: Callable[..., Any], bracket: tuple[float, float], tolerance: float
) -> Callable[[Any], Any]:
    """`optimistix.Bisection` in a bracket, jitted whole, to be timed; takes a first point."""
    import optimistix

    make: Any = optimistix.Bisection  # of whose arguments the checker does not know the defaults
    solver = make(rtol=tolerance, atol=tolerance)
    low, high = bracket

    @jax.jit
    def solve(x: Any) -> Any:
        options = {"lower": low, "upper": high}
        solution: Any = optimistix.root_find(
            lambda x, _: fn(x), solver, x, options=options, max_steps=2000, throw=False
        )
        return solution.value

    return solve


def scipy_root(fn: Callable[..., PyTree], args: tuple, tolerance: float) -> Callable[[Any], Any]:
    """MINPACK's HYBRJ through `scipy.optimize.root`, function and Jacobian jitted, to be timed."""
    from scipy.optimize import root

    residual = jax.jit(lambda theta: ravel(fn(theta, *args))[0])
    jacobian = jax.jit(jax.jacfwd(residual))

    def solve(params: Any) -> Any:
        with np.errstate(all="ignore"):
            return root(
                lambda theta: np.asarray(residual(theta)),
                np.asarray(params),
                jac=lambda theta: np.asarray(jacobian(theta)),
                tol=tolerance,
            ).x

    return solve


def scipy_brentq(
    fn: Callable[..., Any], bracket: tuple[float, float], tolerance: float
) -> Callable[[Any], Any]:
    """Brent's method through `scipy.optimize.brentq`, the function jitted, to be timed."""
    from scipy.optimize import brentq

    jitted = jax.jit(fn)
    low, high = bracket
    return lambda _: brentq(lambda x: float(jitted(x)), low, high, xtol=1e-300, rtol=max(tolerance, 1e-15))
