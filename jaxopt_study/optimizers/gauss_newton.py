"""Gauss-Newton: the full step to the minimum of the linearized sum of squares."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxopt_study.bounds import as_box
from jaxopt_study.derivatives import check_mode
from jaxopt_study.linear_solve import check_solver, undamped, within_box
from jaxopt_study.objectives import as_least_squares
from jaxopt_study.optimizers.step_info import StepInfo, unmeasured
from jaxopt_study.optimizers.transform import check_solvable, transformation
from jaxopt_study.optimizers.trial import (
    full_step,
    linearize_for,
    linearized_point,
    nothing_seen,
    reduction,
    try_direction,
)
from jaxopt_study.pytree import params_dtype, ravel
from jaxopt_study.types import Float, JacobianMode, LinearSolver, PyTree


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`.

    Attributes:
      scale: the largest norm seen of each column of the Jacobian, shape `(params,)`, `()` for "cg".
        The steps do not depend on it; a column that is gone, as at a saturated unit, is told by it.
      info: what the last update did.
    """

    scale: Float[Array, "..."]
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
        `"dual"` for fewer residuals than parameters; `"cg"`, which never holds J; `"auto"`: by the
        shapes, see `linear_solve.choose_solver`, and Cholesky while its pivots say that J has full rank.
      jacobian: `"forward"`, `"reverse"`, `"pointwise"` or `"auto"`, see
        `derivatives.residual_and_jacobian`.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `residual_fn` (a
      function or a `LeastSquares`), and `args`, `loss` (instead of the `LeastSquares`' own) and
      `bounds`, a pair of pytrees like `params`. `grads` is not used and may be None. The update is
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
    check_solvable(params, "gauss_newton")
    dtype = params_dtype(params)
    return GaussNewtonState(nothing_seen(params, bound[-1].solver), unmeasured(dtype))


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: GaussNewtonState,
    params: PyTree,
    *,
    residual_fn: Any = None,
    args: tuple = (),
    loss: Any = None,
    bounds: Any = None,
    measure_only: Any = False,
    **extra: Any,
) -> tuple[PyTree, GaussNewtonState]:
    del updates, extra
    (options,) = bound
    objective = as_least_squares(residual_fn, "gauss_newton", loss)
    box = as_box(bounds, params)
    theta, unravel = ravel(params)
    here, solver = linearize_for(objective, params, args, state.scale, options.solver, options.jacobian, box)
    held = None
    if box is None:
        direction = undamped(here, solver)
    else:
        direction, held = within_box(lambda held: undamped(here, solver, held), here, box, theta)
    none = jnp.zeros((), theta.dtype)
    predicted, length = reduction(here, direction.step, held, none)
    trial = try_direction(objective, theta, unravel, args, here, direction, predicted, box, length, none)
    step, info = full_step(trial, linearized_point(here), measure_only)
    return unravel(step), GaussNewtonState(here.largest, info)
