"""Newton's direction alone, for a line search of optax; and which of the two ways computes it.

The whole method, which judges its own steps, is in `newton`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxopt_study.optimizers import newton_cg, newton_exact
from jaxopt_study.optimizers.step_info import Evaluations, no_evaluations
from jaxopt_study.optimizers.transform import check_solvable, transformation
from jaxopt_study.pytree import params_dtype, ravel, size
from jaxopt_study.types import PyTree

NewtonSolver = Literal["auto", "exact", "cg"]

EXACT_UP_TO = 3  # parameters: so many products a step conjugate gradients take as well


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NewtonOptions:
    """What of the method is structure.

    Attributes:
      solver: see `newton`.
      plain: whether full steps are taken, up or down.
      saddle_free: see `newton`.
    """

    solver: NewtonSolver
    plain: bool
    saddle_free: bool

    def exact(self, params: PyTree) -> bool:
        """Whether the Hessian is formed."""
        if self.plain or self.saddle_free or self.solver == "exact":
            return True
        return self.solver == "auto" and size(params) <= EXACT_UP_TO


def check_solver(solver: str) -> None:
    """Raise a `ValueError` unless a solver has this name."""
    if solver not in get_args(NewtonSolver):
        raise ValueError(f"solver: expected one of {get_args(NewtonSolver)}, got {solver!r}")


class ScaleByNewtonState(NamedTuple):
    """State of `scale_by_newton`.

    Attributes:
      seen: what conjugate gradients have learned of the curvature, None for the exact solver.
      evaluations: gradients and Hessian-vector products, from the start; values are the line search's.
    """

    seen: newton_cg.Seen | None
    evaluations: Evaluations


def scale_by_newton(*, solver: NewtonSolver = "auto") -> optax.GradientTransformationExtraArgs:
    """Newton's direction, for a line search: `|H|⁻¹ g`, a gradient in the metric of the curvature.

    |H| has the eigenvectors of H and the absolute values of its eigenvalues, none below 10⁻⁸ of the largest
    (in float64), so that the direction is always one of descent. With conjugate gradients, it is their last
    iterate before the curvature turns negative.

        optax.chain(scale_by_newton(), optax.scale(-1.0), optax.scale_by_backtracking_linesearch(20))

    is a whole optimizer; `newton(linesearch=...)` makes it in one call.

    Args:
      solver: as in `newton`.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `value_fn`; the gradient is
      what it is given. Bounds are not its concern: `minimize` projects.

    Raises:
      ValueError: if `solver` is unknown.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`.

    Source: Nocedal and Wright 2006, section 3.4, on modified Hessians, and algorithm 7.1.

    Example:
      >>> value_fn = lambda p: p[0] ** 2 - 2 * p[1] ** 2
      >>> rule, params = scale_by_newton(), jnp.array([1.0, 1.0])
      >>> scaled, _ = rule.update(jax.grad(value_fn)(params), rule.init(params), params, value_fn=value_fn)
      >>> print(scaled)
      [ 1. -1.]
    """
    check_solver(solver)
    return transformation(_init_scale, _update_scale, NewtonOptions(solver, plain=False, saddle_free=False))


def _init_scale(bound: Any, /, params: PyTree) -> ScaleByNewtonState:
    (options,) = bound
    check_solvable(params, "scale_by_newton")
    seen = None
    if not options.exact(params):
        seen = newton_cg.nothing_seen(size(params), params_dtype(params))
    return ScaleByNewtonState(seen, no_evaluations())


def _update_scale(
    bound: Any,
    /,
    updates: PyTree,
    state: ScaleByNewtonState,
    params: PyTree,
    *,
    value_fn: Callable[[PyTree], Array],
    **extra: Any,
) -> tuple[PyTree, ScaleByNewtonState]:
    del extra
    (options,) = bound
    theta, unravel = ravel(params)
    gradient = ravel(updates)[0].astype(theta.dtype)

    def of_vector(theta: Array) -> Array:
        return value_fn(unravel(theta)).astype(theta.dtype)

    if options.exact(params):
        seen, products = None, jnp.full((), theta.size, jnp.int32)
        direction = newton_exact.modified_direction(of_vector, theta, gradient)
    else:
        assert state.seen is not None
        direction, seen, products = newton_cg.direction(of_vector, theta, gradient, state.seen)
    return unravel(direction), ScaleByNewtonState(seen, state.evaluations.plus(0, 1, products))
