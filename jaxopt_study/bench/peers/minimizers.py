"""Other people's minimizers, with their evaluations counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_study.bench.peers.least_squares import optimistix_verdict


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
        claims, reason = optimistix_verdict(solution)
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
