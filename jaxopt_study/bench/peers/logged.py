"""Other people's minimizers with every evaluation logged, for data profiles."""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class Log:
    """What a minimizer evaluated, in order: the count of everything, and the lowest value so far.

    Attributes:
      evaluations: values, gradients and products until then, one number an entry.
      lowest: the lowest value until then.
    """

    def __init__(self) -> None:
        self.evaluations: list[int] = []
        self.lowest: list[float] = []
        self._count = 0

    def add(self, count: int, value: float | None = None) -> None:
        """So many evaluations; the last gave this value, if it gave one."""
        self._count += count
        best = self.lowest[-1] if self.lowest else float("inf")
        if value is not None and np.isfinite(value):
            best = min(best, float(value))
        self.evaluations.append(self._count)
        self.lowest.append(best)


def scipy_log(
    objective: Callable[..., Any], args: tuple, method: str, params: Any, max_steps: int = 2000
) -> tuple[Log, float]:
    """`scipy.optimize.minimize` with every evaluation logged; and the seconds of a second run."""
    from scipy import optimize

    log = Log()
    value = jax.jit(objective)
    gradient = jax.jit(jax.grad(objective))
    hessian = jax.jit(jax.hessian(objective))
    product = jax.jit(lambda x, v: jax.jvp(lambda p: jax.grad(objective)(p, *args), (x,), (v,))[1])

    def fun(x: Any) -> float:
        seen = float(value(x, *args))
        log.add(1, seen)
        return seen

    def jac(x: Any) -> np.ndarray:
        log.add(1)
        return np.asarray(gradient(x, *args))

    def hess(x: Any) -> np.ndarray:
        log.add(x.size)
        return np.asarray(hessian(x, *args))

    def hessp(x: Any, v: Any) -> np.ndarray:
        log.add(1)
        return np.asarray(product(x, v))

    more: dict[str, Any] = {}
    if method in ("trust-exact", "dogleg"):
        more["hess"] = hess
    elif method in ("trust-krylov", "trust-ncg", "Newton-CG"):
        more["hessp"] = hessp

    def solve() -> float:
        began = time.perf_counter()
        # Some end with an error; what they have seen until then counts.
        errors = (ValueError, np.linalg.LinAlgError, OverflowError, ZeroDivisionError)
        with contextlib.suppress(*errors), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = np.asarray(params)
            options = {"maxiter": max_steps}
            optimize.minimize(fun, start, jac=jac, method=method, tol=1e-12, options=options, **more)
        return time.perf_counter() - began

    solve()
    whole, log = log, Log()  # the second run is logged elsewhere
    return whole, solve()


def optimistix_log(
    objective: Callable[..., Any], args: tuple, name: str, params: Any, max_steps: int = 5000
) -> tuple[Log, float]:
    """A minimizer of Optimistix with every evaluation logged; and the seconds of a run without the log.

    Each step evaluates the objective, and finishes the gradient if it accepts: where the value falls.
    """
    import optimistix

    log = Log()

    def seen(value: Any) -> None:
        best = log.lowest[-1] if log.lowest else float("inf")
        log.add(2 if float(value) < best else 1, float(value))

    def logged(params: Any, args: tuple) -> Any:
        value = objective(params, *args)
        jax.debug.callback(seen, value, ordered=True)
        return value

    solver: Any = getattr(optimistix, name)(rtol=1e-12, atol=1e-12)

    def solve(fn: Callable[..., Any]) -> Callable[[Any], Any]:
        return jax.jit(
            lambda p: optimistix.minimise(fn, solver, p, args, max_steps=max_steps, throw=False).value
        )

    jax.block_until_ready(solve(logged)(params))
    jax.effects_barrier()
    plain = solve(lambda params, args: objective(params, *args))
    jax.block_until_ready(plain(params))
    began = time.perf_counter()
    jax.block_until_ready(plain(params))
    return log, time.perf_counter() - began
