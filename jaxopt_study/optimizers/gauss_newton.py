"""Gauss-Newton: the full step to the minimum of the linearized sum of squares."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_study.derivatives import check_mode
from jaxopt_study.linear_solve import check_solver, undamped
from jaxopt_study.linearize import linearize
from jaxopt_study.objectives import as_least_squares
from jaxopt_study.optimizers.transform import (
    StepInfo,
    check_solvable,
    linearized_info,
    transformation,
    unmeasured,
)
from jaxopt_study.optimizers.trial import Trial, full_step, try_residual
from jaxopt_study.pytree import params_dtype, ravel
from jaxopt_study.types import JacobianMode, LinearSolver, PyTree


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`: nothing but `info`, what the last update did."""

    info: StepInfo


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    solver: LinearSolver
    jacobian: JacobianMode


def gauss_newton(
    *, solver: LinearSolver = "auto", jacobian: JacobianMode = "auto"
) -> optax.GradientTransformationExtraArgs:
    """Gauss's method for sums of squares, undamped.

    One update is the least-squares solution of `J d ≈ -r`: exact in one step where the residuals
    are linear in the parameters, quadratically convergent where they are small at the solution,
    and without any safeguard elsewhere: the value may rise. Where J is rank deficient it is the
    solution of least `‖D d‖`, D the norms of J's columns, `info.rank_deficient` says so, and the
    step is refused if the value rises.
    When in doubt use `levenberg_marquardt`; chain with an optax line search for a safeguard.

    Args:
      solver: `"cholesky"` of the scaled normal equations; `"qr"`: QR and SVD of its triangle;
        `"auto"`: Cholesky while its pivots say that J has full rank.
      jacobian: `"forward"`, `"reverse"`, `"pointwise"` or `"auto"`, see
        `derivatives.residual_and_jacobian`.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `residual_fn` (a
      function or a `LeastSquares`), and `args`. `grads` is not used and may be None. The update is
      to be added; it is zero if the value there is not finite. See `StepInfo` for `state.info`.

    Raises:
      ValueError: if `solver` or `jacobian` is unknown.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`;
        from `update`, if there is no `residual_fn`.

    Source: C. F. Gauss, Theoria motus, 1809, art. 179; Nocedal and Wright 2006, section 10.3.

    Example:
      >>> x, y = jnp.arange(4.0), jnp.array([1.0, 3.0, 5.0, 7.0])
      >>> params = {"intercept": jnp.array(0.0), "slope": jnp.array(0.0)}
      >>> optimizer = gauss_newton()
      >>> residual_fn = lambda p, x, y: p["intercept"] + p["slope"] * x - y
      >>> updates, state = optimizer.update(
      ...     None, optimizer.init(params), params, residual_fn=residual_fn, args=(x, y))
      >>> print(f"{updates['intercept']:.3f} {updates['slope']:.3f}")
      1.000 2.000
    """
    check_solver(solver)
    check_mode(jacobian)
    return transformation(_init, _update, _Options(solver, jacobian))


def _init(bound: Any, /, params: PyTree) -> GaussNewtonState:
    del bound
    check_solvable(params, "gauss_newton")
    return GaussNewtonState(unmeasured(params_dtype(params)))


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: GaussNewtonState,
    params: PyTree,
    *,
    residual_fn: Any = None,
    args: tuple = (),
    measure_only: Any = False,
    **extra: Any,
) -> tuple[PyTree, GaussNewtonState]:
    del updates, state, extra
    (options,) = bound
    objective = as_least_squares(residual_fn, "gauss_newton")
    theta, unravel = ravel(params)
    here = linearize(
        objective, params, args, jnp.zeros_like(theta), jacobian=options.jacobian, gram=options.solver != "qr"
    )
    direction = undamped(here, options.solver)
    e = direction.step
    step = e / here.scale
    value, actual = try_residual(objective, params, args, here, unravel(step))
    # ½‖r‖² - ½‖r + Ĵe‖² = -½ eᵀĝ, because Ĵᵀ(Ĵe + r) = 0.
    predicted = -0.5 * jnp.vdot(e, here.gradient)
    trial = Trial(
        step, value, actual, predicted, jnp.linalg.norm(e), direction.rank_deficient, direction.orthogonal
    )
    undamped_info = linearized_info(here)._replace(damping=jnp.zeros_like(value))
    step, info = full_step(trial, undamped_info, measure_only)
    return unravel(step), GaussNewtonState(info)
