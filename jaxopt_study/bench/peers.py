"""Other people's solvers behind one signature, for the suites alone.

The only file that imports them, and only when they are called: they are an optional extra.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_study.pytree import ravel
from jaxopt_study.types import PyTree


class Peer(NamedTuple):
    """What a peer's run gives.

    Attributes:
      params: where it ended.
      trials: points at which it evaluated the residual to decide on a step.
    """

    params: PyTree
    trials: Any


def installed(name: str) -> str | None:
    """The version of a package, None if it is not installed.

    >>> installed("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def optimistix_levenberg_marquardt(
    residual_fn: Callable[..., PyTree], params: PyTree, args: tuple, max_steps: int
) -> Callable[[], Peer]:
    """`optimistix.LevenbergMarquardt` (QR, its default) for `max_steps` trials, jitted.

    Tolerances are zero, so that it does all of them.
    """
    import equinox
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=0.0, atol=0.0)

    @equinox.filter_jit
    def solve(params: PyTree, args: tuple) -> Peer:
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return Peer(solution.value, solution.stats["num_steps"])

    return lambda: solve(params, args)


def scipy_levenberg_marquardt(
    residual_fn: Callable[..., PyTree], params: PyTree, args: tuple, max_trials: int
) -> Callable[[], Peer]:
    """MINPACK through `scipy.optimize.least_squares(method="lm")`, residual and Jacobian jitted."""
    from scipy.optimize import least_squares

    flat, unravel = ravel(params)
    residual = jax.jit(lambda theta: ravel(residual_fn(unravel(theta), *args))[0])
    jacobian = jax.jit(jax.jacfwd(residual))
    eps = float(np.finfo(np.float64).eps)

    def solve() -> Peer:
        solution = least_squares(
            lambda theta: np.asarray(residual(theta)),
            np.asarray(flat),
            jac=lambda theta: np.asarray(jacobian(theta)),
            method="lm",
            xtol=eps,
            ftol=eps,
            gtol=eps,
            max_nfev=max_trials,
        )
        return Peer(unravel(solution.x), solution.nfev)

    return solve
