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
    """`optax.lbfgs` with its default line search, until `max |g| <= tolerance max(1, |f|)` or it is stuck.

    The loop is the one of optax's documentation: the line search's last value and gradient are used again.
    """
    import jax.numpy as jnp
    import optax

    optimizer = optax.lbfgs()

    @jax.jit
    def solve(params: Any, args: tuple) -> Any:
        fn = lambda p: objective(p, *args)  # noqa: E731
        value_and_grad = optax.value_and_grad_from_state(fn)

        def flat(value: Any, grad: Any) -> Any:
            return jnp.max(jnp.abs(grad)) <= tolerance * jnp.maximum(1.0, jnp.abs(value))

        def body(carry: Any) -> Any:
            params, state, evals, steps, _ = carry
            value, grad = value_and_grad(params, state=state)
            updates, state = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=fn)
            moved = optax.apply_updates(params, updates)
            info = optax.tree_utils.tree_get(state, "info")
            new_value = optax.tree_utils.tree_get(state, "value")
            new_grad = optax.tree_utils.tree_get(state, "grad")
            done = flat(new_value, new_grad) | jnp.all(moved == params) | ~jnp.isfinite(new_value)
            return moved, state, evals + info.num_linesearch_steps, steps + 1, done

        zero = jnp.zeros((), jnp.int32)
        start = (params, optimizer.init(params), zero + 1, zero, jnp.zeros((), bool))
        params, state, evals, steps, _ = jax.lax.while_loop(
            lambda carry: ~carry[-1] & (carry[-2] < max_steps), body, start
        )
        value, grad = jax.value_and_grad(fn)(params)
        return params, evals, steps, flat(value, grad)

    def run(params: Any) -> Minimized:
        params, evals, steps, flat = solve(params, args)
        return Minimized(params, int(evals), int(evals), 0, bool(flat), f"{int(steps)} steps")

    return run


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
