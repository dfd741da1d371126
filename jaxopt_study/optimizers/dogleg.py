"""Powell's dogleg: between the steepest descent and the Gauss-Newton step, in a trust region."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import as_box, project
from jaxopt_study.derivatives import check_mode
from jaxopt_study.linear_solve import check_solver, undamped, within_box
from jaxopt_study.objectives import as_least_squares
from jaxopt_study.optimizers.step_info import StepInfo, unmeasured
from jaxopt_study.optimizers.transform import check_solvable, positive, transformation, whole
from jaxopt_study.optimizers.trial import (
    Trial,
    follow_radius,
    linearize_for,
    linearized_point,
    nothing_seen,
    search,
    try_direction,
)
from jaxopt_study.pytree import norm, params_dtype, ravel
from jaxopt_study.trust_region import path_fractions
from jaxopt_study.types import Float, JacobianMode, LinearSolver, PyTree


class DoglegState(NamedTuple):
    """State of `dogleg`.

    Attributes:
      radius: of the trust region for the next update, in the scaled norm ‖D d‖; infinite at first.
      scale: the largest norm seen of each column of the Jacobian, shape `(params,)`, `()` for "cg".
      info: what the last update did; its `damping` is the radius of the last trial.
    """

    radius: Float[Array, ""]
    scale: Float[Array, "..."]
    info: StepInfo


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    solver: LinearSolver
    jacobian: JacobianMode


def dogleg(
    radius: ArrayLike = 1.0,
    *,
    solver: LinearSolver = "auto",
    jacobian: JacobianMode = "auto",
    max_trials: ArrayLike = 60,
) -> optax.GradientTransformationExtraArgs:
    """Powell's dogleg method for sums of squares, in the scaled norm of Moré.

    One update linearizes the residuals at `params`, `r(θ + d) ≈ r + J d`, and goes along a path of two
    straight lines, from θ to the minimum of the model along the steepest descent, and from there to
    the Gauss-Newton step, as far as `‖D d‖ ≤ Δ` allows. It costs one factorization an update, however
    many radii are tried, where `levenberg_marquardt` factors anew for every damping; where J is nearly
    singular its path is worse.

    Args:
      radius: Δ at the start, relative to `‖D θ‖`, or to 1 where that is zero (dimensionless); a leaf.
      solver: of the Gauss-Newton step, see `gauss_newton`.
      jacobian: `"forward"`, `"reverse"`, `"pointwise"` or `"auto"`, see
        `derivatives.residual_and_jacobian`.
      max_trials: how many radii one update tries before it gives up.

    Returns:
      An `optax.GradientTransformationExtraArgs` with the keywords and the report of
      `levenberg_marquardt`.

    Raises:
      ValueError: if `radius` is not positive, or `solver` or `jacobian` is unknown.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`;
        from `update`, if there is no `residual_fn`.

    Source: M. J. D. Powell, A hybrid method for nonlinear equations, 1970; Nocedal and Wright 2006,
      section 4.1.

    Example:
      >>> residual_fn = lambda p: jnp.stack([p["x"] - 1.0, 10 * (p["y"] - p["x"] ** 2)])
      >>> params = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
      >>> optimizer = dogleg()
      >>> state = optimizer.init(params)
      >>> for _ in range(15):
      ...     updates, state = optimizer.update(None, state, params, residual_fn=residual_fn)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{params['x']:.3f} {params['y']:.3f}")
      1.000 1.000
    """
    radius = positive("radius", radius)
    check_solver(solver)
    check_mode(jacobian)
    return transformation(
        _init, _update, radius, whole("max_trials", max_trials, 1), _Options(solver, jacobian)
    )


def _init(bound: Any, /, params: PyTree) -> DoglegState:
    check_solvable(params, "dogleg")
    dtype = params_dtype(params)
    return DoglegState(
        jnp.full((), jnp.inf, dtype), nothing_seen(params, bound[-1].solver), unmeasured(dtype)
    )


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: DoglegState,
    params: PyTree,
    *,
    residual_fn: Any = None,
    args: tuple = (),
    loss: Any = None,
    bounds: Any = None,
    measure_only: Any = False,
    **extra: Any,
) -> tuple[PyTree, DoglegState]:
    del updates, extra
    first_radius, max_trials, options = bound
    objective = as_least_squares(residual_fn, "dogleg", loss)
    box = as_box(bounds, params)
    theta, unravel = ravel(params)
    here, solver = linearize_for(objective, params, args, state.scale, options.solver, options.jacobian, box)
    if box is None:
        newton = undamped(here, solver)
    else:
        newton, _ = within_box(lambda held: undamped(here, solver, held), here, box, theta)
    # Steepest descent: -g, whose best multiple is ‖g‖² / ‖Ĵg‖².
    bend = here.push(here.gradient)
    square, along = jnp.vdot(here.gradient, here.gradient), jnp.vdot(bend, bend)
    cauchy = -here.gradient * jnp.where(along > 0, square / jnp.where(along > 0, along, 1.0), 1.0)
    # A Gauss-Newton step that failed, or that is shorter than the steepest descent's, is no aim.
    usable = jnp.all(jnp.isfinite(newton.step))
    aim = jnp.where(usable, newton.step, cauchy)
    length = jnp.where(here.params_norm > 0, here.params_norm, 1.0)
    radius = jnp.where(jnp.isfinite(state.radius), state.radius, first_radius * length).astype(theta.dtype)

    def attempt(control: Float[Array, " 1"]) -> Trial:
        radius = control[0]
        e = _along_the_path(cauchy, aim, radius)
        if box is not None:
            e = here.scale * (project(box, theta + e / here.scale) - theta)
        predicted = -jnp.vdot(e, here.gradient + 0.5 * here.curvature(e))
        direction = newton._replace(step=e)
        return try_direction(
            objective, theta, unravel, args, here, direction, predicted, box, norm(e), radius
        )

    step, control, info = search(
        attempt,
        follow_radius,
        radius[None],
        theta,
        linearized_point(here),
        max_trials=max_trials,
        measure_only=measure_only,
    )
    return unravel(step), DoglegState(control[0], here.largest, info)


def _along_the_path(
    cauchy: Float[Array, " params"], aim: Float[Array, " params"], radius: Float[Array, ""]
) -> Float[Array, " params"]:
    """The last point of the path 0, `cauchy`, `aim` that is not further than `radius` from 0."""
    leg = aim - cauchy
    first, second = path_fractions(norm(cauchy), norm(aim), jnp.vdot(leg, leg), jnp.vdot(cauchy, leg), radius)
    return first * cauchy + second * leg
