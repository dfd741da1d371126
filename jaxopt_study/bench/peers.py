"""Other people's solvers behind one signature, for the suites alone.

The only file that imports them, and only when they are called: they are an optional extra.
"""

import contextlib
import importlib.metadata
import importlib.util
import time
import warnings
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
        results: Any = optimistix.RESULTS
        claims = bool(solution.result == results.successful)
        reason = "successful" if claims else str(results[solution.result]).split(". ")[0]
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
    residual_fn: Callable[..., PyTree], args: tuple, tolerance: float, max_steps: int = 2000
) -> Callable[[PyTree], PyTree]:
    """`optimistix.LevenbergMarquardt` to its own end; nothing but the solve, to be timed."""
    import equinox
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)

    @equinox.filter_jit
    def solve(params: PyTree, args: tuple) -> PyTree:
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return lambda params: solve(params, args)


def scipy_jitted(
    residual_fn: Callable[..., PyTree], args: tuple, tolerance: float, max_evals: int = 2000
) -> Callable[[Any], Any]:
    """MINPACK through SciPy to its own end, residual and Jacobian jitted, to be timed."""
    solve = scipy_to_the_end(residual_fn, args, "lm", tolerance, max_evals)
    return lambda params: solve(params).params


def optimistix_batch(residual_fn: Callable[..., PyTree], tolerance: float, max_steps: int = 200) -> Any:
    """`optimistix.LevenbergMarquardt` under `jit(vmap)`: `(params, args) -> params`, both batched."""
    import equinox
    import optimistix

    solver: Any = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)

    def one(params: PyTree, args: tuple) -> PyTree:
        solution: Any = optimistix.least_squares(
            lambda p, a: residual_fn(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return equinox.filter_jit(jax.vmap(one))


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


def optimistix_root(
    fn: Callable[..., PyTree], args: tuple, method: str, tolerance: float, max_steps: int = 500
) -> Callable[[PyTree], PyTree]:
    """`optimistix.root_find` by `"Newton"` or `"Dogleg"` to its own end, jitted whole, to be timed."""
    import equinox
    import optimistix

    solver: Any = getattr(optimistix, method)(rtol=tolerance, atol=tolerance)

    @equinox.filter_jit
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
    import equinox
    import optimistix

    make: Any = optimistix.Bisection  # of whose arguments the checker does not know the defaults
    solver = make(rtol=tolerance, atol=tolerance)
    low, high = bracket

    @equinox.filter_jit
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


class Minimized(NamedTuple):
    """How a minimizer's run to its own end went, its evaluations counted apart.

    Attributes:
      params: where it ended.
      values: evaluations of the objective alone, or with its gradient.
      gradients: evaluations of the gradient.
      products: Hessian-vector products; a Hessian is as many as there are parameters.
      claims: whether it says that it converged.
      reason: in its own words.
    """

    params: Any
    values: int
    gradients: int
    products: int
    claims: bool
    reason: str

    @property
    def evaluations(self) -> int:
        """All three together."""
        return self.values + self.gradients + self.products


Minimize = Callable[[Any], Minimized]


def optimistix_bfgs(
    objective: Callable[..., Any], args: tuple, tolerance: float = 1e-10, max_steps: int = 5000
) -> Minimize:
    """`optimistix.BFGS` from a start to its own end.

    It evaluates the objective once a step, and finishes the gradient at those that it accepts.
    """
    import equinox
    import optimistix

    solver: Any = optimistix.BFGS(rtol=tolerance, atol=tolerance)

    @equinox.filter_jit
    def solve(params: Any, args: tuple) -> Any:
        return optimistix.minimise(
            lambda p, a: objective(p, *a), solver, params, args, max_steps=max_steps, throw=False
        )

    def run(params: Any) -> Minimized:
        solution = solve(params, args)
        results: Any = optimistix.RESULTS
        claims = bool(solution.result == results.successful)
        reason = "successful" if claims else str(results[solution.result]).split(". ")[0]
        values = int(solution.stats["num_steps"])
        gradients = int(solution.stats.get("num_accepted_steps", values))
        return Minimized(solution.value, values, gradients, 0, claims, reason)

    return run


def optax_lbfgs(
    objective: Callable[..., Any], args: tuple, tolerance: float = 1e-10, max_steps: int = 5000
) -> Minimize:
    """`optax.lbfgs` with its default line search, until `max |g| <= tolerance max(1, |f|)` or it is stuck."""
    import jax.numpy as jnp

    def flat(value: Any, grad: Any) -> Any:
        return jnp.max(jnp.abs(grad)) <= tolerance * jnp.maximum(1.0, jnp.abs(value))

    solve = _optax_lbfgs(objective, flat, max_steps)

    def run(params: Any) -> Minimized:
        params, value, grad, evals, steps = solve(params, args)
        claims = bool(flat(value, grad))
        return Minimized(params, int(evals), int(evals), 0, claims, f"{int(steps)} steps")

    return run


def optax_lbfgs_to(
    objective: Callable[..., Any], args: tuple, target: float, max_steps: int = 5000
) -> Callable[[Any], tuple[Any, Any]]:
    """`optax.lbfgs` until the value is at or below a target; to be timed. Returns value and evaluations."""
    solve = _optax_lbfgs(objective, lambda value, grad: value <= target, max_steps)

    def run(params: Any) -> tuple[Any, Any]:
        _, value, _, evals, _ = solve(params, args)
        return value, evals

    return run


def _optax_lbfgs(objective: Callable[..., Any], ended: Callable[[Any, Any], Any], max_steps: int) -> Any:
    """The loop of optax's documentation: the line search's last value and gradient are used again."""
    import jax.numpy as jnp
    import optax

    optimizer = optax.lbfgs()

    @jax.jit
    def solve(params: Any, args: tuple) -> Any:
        fn = lambda p: objective(p, *args)  # noqa: E731
        value_and_grad = optax.value_and_grad_from_state(fn)

        def body(carry: Any) -> Any:
            params, state, evals, steps, _, _, _ = carry
            value, grad = value_and_grad(params, state=state)
            updates, state = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=fn)
            moved = optax.apply_updates(params, updates)
            search = optax.tree_utils.tree_get(state, "info")
            value = optax.tree_utils.tree_get(state, "value")
            grad = optax.tree_utils.tree_get(state, "grad")
            stuck = jnp.all(moved == params) | ~jnp.isfinite(value)
            done = ended(value, grad) | stuck
            evals = evals + jnp.asarray(search.num_linesearch_steps, evals.dtype)
            return moved, state, evals, steps + 1, done, value, grad

        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.full((), jnp.inf, params.dtype)
        start = (params, optimizer.init(params), zero + 1, zero, jnp.zeros((), bool), nothing, params)
        params, _, evals, steps, _, value, grad = jax.lax.while_loop(
            lambda carry: ~carry[4] & (carry[3] < max_steps), body, start
        )
        return params, value, grad, evals, steps

    return solve


def scipy_minimize(
    objective: Callable[..., Any],
    args: tuple,
    method: str = "trust-exact",
    tolerance: float = 1e-10,
    max_steps: int = 5000,
) -> Minimize:
    """`scipy.optimize.minimize` from a start to its own end, with jitted derivatives."""
    from scipy import optimize

    value = jax.jit(objective)
    gradient = jax.jit(jax.grad(objective))
    hessian = jax.jit(jax.hessian(objective))
    second = method in ("trust-exact", "dogleg", "trust-ncg", "trust-krylov", "Newton-CG")
    name = "maxfun" if method in ("L-BFGS-B", "TNC") else "maxiter"

    def run(params: Any) -> Minimized:
        start = np.asarray(params)
        try:
            with np.errstate(all="ignore"):
                found = optimize.minimize(
                    lambda x: float(value(x, *args)),
                    start,
                    jac=lambda x: np.asarray(gradient(x, *args)),
                    hess=(lambda x: np.asarray(hessian(x, *args))) if second else None,
                    method=method,
                    tol=tolerance,
                    options={name: max_steps},
                )
        except (ValueError, np.linalg.LinAlgError, OverflowError, ZeroDivisionError) as error:
            return Minimized(params, 0, 0, 0, False, str(error))
        hessians = int(found.get("nhev", 0)) if second else 0
        return Minimized(
            found.x,
            int(found.nfev),
            int(found.get("njev", found.nfev)),
            hessians * start.size,
            bool(found.success),
            str(found.message),
        )

    return run


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
