"""Other people's solvers of least squares, each behind one signature."""

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
      accepted: how many of them it accepted; None where it does not tell.
    """

    params: PyTree
    trials: Any
    accepted: Any = None


class Ended(NamedTuple):
    """How a peer's run to its own end went.

    Attributes:
      params: where it ended.
      num_evals: evaluations of the residual, alone or with its Jacobian.
      claims: whether it says that it converged.
      reason: in its own words.
    """

    params: PyTree
    num_evals: int
    claims: bool
    reason: str


def optimistix_levenberg_marquardt(
    residual_fn: Callable[..., PyTree], params: PyTree, args: tuple, max_steps: int
) -> Callable[[], Peer]:
    """`optimistix.LevenbergMarquardt` (QR, its default) for `max_steps` trials, jitted.

    Tolerances are zero, so that it does all of them.
    """
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=0.0, atol=0.0)

    @jax.jit
    def solve(params: PyTree, args: tuple) -> Peer:
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return Peer(solution.value, solution.stats["num_steps"], solution.state.num_accepted_steps)

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
        # It linearizes at the start and after each accepted step, the last of which may be an end.
        return Peer(unravel(solution.x), solution.nfev, solution.njev)

    return solve


def jaxopt_levenberg_marquardt(
    residual_fn: Callable[..., PyTree], params: PyTree, args: tuple, max_steps: int
) -> Callable[[], Peer]:
    """`jaxopt.LevenbergMarquardt` (Cholesky, its default) for `max_steps` trials, jitted."""
    import jaxopt

    flat, unravel = ravel(params)
    solver: Any = jaxopt.LevenbergMarquardt(
        lambda theta: ravel(residual_fn(unravel(theta), *args))[0],
        maxiter=max_steps,
        tol=0.0,
        xtol=0.0,
        gtol=0.0,
    )
    run = jax.jit(solver.run)

    def solve() -> Peer:
        solution = run(flat)
        return Peer(unravel(solution.params), solution.state.iter_num)

    return solve


def optimistix_verdict(solution: Any) -> tuple[bool, str]:
    """Whether one of Optimistix' solutions says that it converged, and in which words."""
    import optimistix

    results: Any = optimistix.RESULTS
    claims = bool(solution.result == results.successful)
    return claims, "successful" if claims else str(results[solution.result]).split(". ")[0]


def optimistix_to_the_end(
    residual_fn: Callable[..., PyTree], args: tuple, tolerance: float = 1e-10, max_steps: int = 1000
) -> Callable[[PyTree], Ended]:
    """`optimistix.LevenbergMarquardt` from a start to its own end."""
    import equinox
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)

    @equinox.filter_jit
    def solve(params: PyTree, args: tuple) -> Any:
        return optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )

    def run(params: PyTree) -> Ended:
        solution = solve(params, args)
        claims, reason = optimistix_verdict(solution)
        return Ended(solution.value, int(solution.stats["num_steps"]), claims, reason)

    return run


def scipy_to_the_end(
    residual_fn: Callable[..., PyTree],
    args: tuple,
    method: str,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
) -> Callable[[Any], Ended]:
    """`scipy.optimize.least_squares` from a start to its own end, with the Jacobian given.

    Variables are scaled as is the method's own default from SciPy 1.16 on: by the Jacobian's columns
    for `"lm"`, as MINPACK does, and not at all for `"trf"`, which scaled does worse on the problems
    of `robustness`. Parameters are one vector here.
    """
    from scipy.optimize import least_squares

    @jax.jit
    def residual(theta: Any) -> Any:
        return ravel(residual_fn(theta, *args))[0]

    jacobian = jax.jit(jax.jacfwd(residual))

    def run(params: Any) -> Ended:
        try:
            with np.errstate(all="ignore"):  # far starts overflow, and it goes on
                solution = least_squares(
                    lambda theta: np.asarray(residual(theta)),
                    np.asarray(params),
                    jac=lambda theta: np.asarray(jacobian(theta)),
                    method=method,
                    x_scale="jac" if method == "lm" else 1.0,
                    xtol=tolerance,
                    ftol=tolerance,
                    gtol=tolerance,
                    max_nfev=max_steps,
                )
        except (ValueError, np.linalg.LinAlgError) as error:  # residuals or Jacobians that are not finite
            return Ended(params, 0, False, str(error))
        evals = int(solution.nfev) + int(solution.njev)
        return Ended(solution.x, evals, bool(solution.success), solution.message)

    return run


def optimistix_jitted(
    residual_fn: Callable[..., PyTree], args: tuple, max_steps: int = 2000
) -> Callable[[float], Callable[[PyTree], PyTree]]:
    """`optimistix.LevenbergMarquardt` to its own end, by tolerance; nothing but the solve, to be timed.

    Jitted by JAX: to call what `equinox.filter_jit` makes, as in Optimistix's examples, takes as long as a
    small fit. One program is for all tolerances.
    """
    import optimistix

    @jax.jit
    def solve(params: PyTree, args: tuple, tolerance: Any) -> PyTree:
        solver: Any = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return lambda tolerance: lambda params: solve(params, args, tolerance)


def scipy_jitted(
    residual_fn: Callable[..., PyTree], args: tuple, tolerance: float, max_evals: int = 2000
) -> Callable[[Any], Any]:
    """MINPACK through SciPy to its own end, residual and Jacobian jitted, to be timed."""
    solve = scipy_to_the_end(residual_fn, args, "lm", tolerance, max_evals)
    return lambda params: solve(params).params


def jaxopt_jitted(
    residual_fn: Callable[..., PyTree], args: tuple, tolerance: float, max_steps: int = 2000
) -> Callable[[Any], Any]:
    """`jaxopt.LevenbergMarquardt` to its own end; nothing but the solve, to be timed."""
    import jaxopt

    solver: Any = jaxopt.LevenbergMarquardt(
        lambda theta, args: ravel(residual_fn(theta, *args))[0],
        maxiter=max_steps,
        tol=tolerance,
        xtol=tolerance,
        gtol=tolerance,
    )
    solve = jax.jit(lambda theta, args: solver.run(theta, args).params)
    return lambda params: solve(params, args)
