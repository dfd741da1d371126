"""Levenberg-Marquardt: Gauss-Newton steps shortened by a damping that follows their success."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study import damping as rule
from jaxopt_study.bounds import as_box
from jaxopt_study.derivatives import check_mode
from jaxopt_study.linear_solve import Direction, Held, Solve, check_solver, damped_solver, within_box
from jaxopt_study.linearize import Linearization
from jaxopt_study.objectives import LeastSquares, as_least_squares
from jaxopt_study.optimizers.step_info import StepInfo, unmeasured
from jaxopt_study.optimizers.step_length import first_radius, fit_length, follow_length
from jaxopt_study.optimizers.transform import check_solvable, positive, transformation, whole
from jaxopt_study.optimizers.trial import (
    MARGIN,
    Trial,
    follow_damping,
    linearize_for,
    linearized_point,
    nothing_seen,
    reduction,
    search,
    try_direction,
)
from jaxopt_study.pytree import norm, params_dtype, ravel, shown
from jaxopt_study.types import DampingRule, Float, JacobianMode, LinearSolver, PyTree

ACCELERATION_LIMIT = 0.75  # Transtrum and Sethna's α


class LevenbergMarquardtState(NamedTuple):
    """State of `levenberg_marquardt`.

    Attributes:
      damping: λ and its growth, for the next update.
      radius: Δ, for the next update, infinite before it is known; used by `damping_rule="radius"` alone.
      scale: the largest norm seen of each column of the Jacobian, shape `(params,)`, `()` for "cg".
      last: the last update and the slope along it before, shape `(params + 1,)`; `(0,)` for "cg".
      info: what the last update did.
    """

    damping: rule.Damping
    radius: Float[Array, ""]
    scale: Float[Array, "..."]
    last: Float[Array, " numbers"]
    info: StepInfo


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    solver: LinearSolver
    jacobian: JacobianMode
    damping_rule: DampingRule
    geodesic: bool


def levenberg_marquardt(
    damping: ArrayLike = 1e-3,
    *,
    solver: LinearSolver = "auto",
    jacobian: JacobianMode = "auto",
    damping_rule: DampingRule = "nielsen",
    geodesic: bool = False,
    max_trials: ArrayLike = 60,
) -> optax.GradientTransformationExtraArgs:
    """The method of Levenberg and Marquardt for sums of squares, in the scaled norm of Moré.

    One update linearizes the residuals at `params`, `r(θ + d) ≈ r + J d`, solves

        (JᵀJ + λ D²) d = -Jᵀr

    and tries `θ + d`; until the sum of squares falls, λ grows and d shortens and turns towards the
    negative gradient. D holds the norms of J's columns, each the largest seen, so that the path
    does not depend on the units of the parameters. λ follows the gain ratio by Nielsen's rule, or is chosen
    for the length of the step. A trial that is not finite counts as rejected.

    Args:
      damping: λ at the start, relative to D² (dimensionless): small trusts the start, as with 1e-3;
        1 or more is for starts that are far off. With `"radius"` the first step is at most
        `0.01 / damping` times as long as the parameters. A leaf: sweeping it recompiles nothing.
      solver: `"cholesky"` of the scaled normal equations; `"qr"` of `[J; √λ D]`, slower and
        accurate for ill-conditioned J; `"dual"`, for fewer residuals than parameters; `"cg"`, which
        never holds J, and takes one number for D; `"auto"`: by the shapes, see
        `linear_solve.choose_solver`.
      jacobian: `"forward"`, `"reverse"`, `"pointwise"` or `"auto"`, see
        `derivatives.residual_and_jacobian`.
      damping_rule: how λ follows the trials: `"nielsen"`; `"radius"`, Moré's, where λ is the least for
        which `‖D d‖ ≤ Δ` and the radius Δ follows the trials, which solves one or two systems a trial and
        is the surer one from far starts (with `solver="cg"`, for which systems are dear, it is
        `"nielsen"`); or `"delayed"` gratification, which takes more trials and gets further in as many
        steps where parameters are badly determined, as in networks; see `damping`.
      geodesic: whether to add half the second derivative of the geodesic to every step whose
        acceleration is at most ¾ of its velocity: one more derivative and one more solution a trial,
        for fewer steps along narrow, curved valleys.
      max_trials: how many dampings one update tries before it gives up.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `residual_fn` (a
      function or a `LeastSquares`), and `args`, `loss` (instead of the `LeastSquares`' own) and
      `bounds`, a pair of pytrees like `params`. `grads` is not used and may be None. The update is
      a descent step, to be added; it is zero when no trial was accepted. See `StepInfo` for
      `state.info`. What a step would take out of the bounds is put on them, and the step of
      the other parameters is solved for again.

    Raises:
      ValueError: if `damping` is not positive, or `solver`, `jacobian` or `damping_rule` is unknown.
      TypeError: if `geodesic` is neither True nor False; from `init`, if the parameters are in half
        precision or hidden by `optax.masked`; from `update`, if there is no `residual_fn`.

    Source:
      J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, 1978;
      H. B. Nielsen, Damping parameter in Marquardt's method, 1999; M. K. Transtrum and
      J. P. Sethna, Improvements to the Levenberg-Marquardt algorithm, 2012.

    Example:
      >>> residual_fn = lambda p: jnp.stack([p["x"] - 1.0, 10 * (p["y"] - p["x"] ** 2)])
      >>> params = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
      >>> optimizer = levenberg_marquardt()
      >>> state = optimizer.init(params)
      >>> for _ in range(15):
      ...     updates, state = optimizer.update(None, state, params, residual_fn=residual_fn)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{params['x']:.3f} {params['y']:.3f}")
      1.000 1.000
    """
    damping = positive("damping", damping)
    check_solver(solver)
    check_mode(jacobian)
    rule.check_rule(damping_rule)
    if not isinstance(geodesic, bool):
        raise TypeError(f"geodesic: expected True or False, got {shown(geodesic)}")
    options = _Options(solver, jacobian, damping_rule, geodesic)
    return transformation(_init, _update, damping, whole("max_trials", max_trials, 1), options)


def _init(bound: Any, /, params: PyTree) -> LevenbergMarquardtState:
    damping, *_ = bound
    check_solvable(params, "levenberg_marquardt")
    dtype, scale = params_dtype(params), nothing_seen(params, bound[-1].solver)
    return LevenbergMarquardtState(
        damping=rule.start(jnp.maximum(jnp.asarray(damping, dtype), jnp.finfo(dtype).eps ** 2)),
        radius=jnp.full((), jnp.inf, dtype),
        scale=scale,
        last=jnp.zeros(scale.size + 1 if scale.ndim else 0, dtype),
        info=unmeasured(dtype),
    )


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: LevenbergMarquardtState,
    params: PyTree,
    *,
    residual_fn: Any = None,
    args: tuple = (),
    loss: Any = None,
    bounds: Any = None,
    measure_only: Any = False,
    last_look: Any = False,
    **extra: Any,
) -> tuple[PyTree, LevenbergMarquardtState]:
    del updates, extra
    first_damping, max_trials, options = bound
    objective = as_least_squares(residual_fn, "levenberg_marquardt", loss)
    box = as_box(bounds, params)
    theta, unravel = ravel(params)
    here, solver = linearize_for(objective, params, args, state.scale, options.solver, options.jacobian, box)
    solve = damped_solver(here, solver)
    last = state.info
    hidden = last.accepted & last.at_rounding
    # With other data, or from elsewhere, the last steps of a fit say nothing.
    begun_anew = hidden & ~(jnp.abs(here.value - last.value) <= MARGIN * here.rounding)
    hidden &= ~begun_anew
    eps, tiny = jnp.finfo(theta.dtype).eps, jnp.finfo(theta.dtype).tiny
    by_length = options.damping_rule == "radius" and solver != "cg"
    if by_length:
        first = first_radius(here, jnp.asarray(first_damping, theta.dtype))
        radius = jnp.where(jnp.isfinite(state.radius) & ~begun_anew, state.radius, first)
        # Where rounding hides the gains, lengths say nothing either: λ itself follows the slopes.
        used = state._replace(damping=rule.Damping(last.damping, state.damping.growth))
        told = jnp.stack([jnp.full_like(radius, jnp.inf), _by_slopes(used, here).value])
        control = jnp.where(hidden, told, jnp.stack([radius, state.damping.value]))
        free, follow = jnp.stack([jnp.full_like(radius, jnp.inf), eps**2]), follow_length
    else:
        control = jnp.where(hidden, jnp.stack(_by_slopes(state, here)), jnp.stack(state.damping))
        free = jnp.stack(rule.start(jnp.full_like(here.value, eps**2)))
        follow = follow_damping(options.damping_rule)
    # Before an end is believed, one step without damping: columns that are parallel but for their last digits
    # make every damped step short, and short too what each parameter would do alone.
    look = jnp.asarray(last_look)
    control = jnp.where(look, free, control)
    worthwhile = eps**0.5 * here.value + MARGIN * here.rounding + tiny

    def damped(damping: Float[Array, ""]) -> tuple[Direction, Held | None]:
        if box is None:
            return solve(damping), None
        return within_box(lambda held: solve(damping, held), here, box, theta)

    def attempt(control: Float[Array, " 2"]) -> Trial:
        if by_length:
            radius, guess = control[0], control[1]
            direction, held, damping = fit_length(
                damped, here.gradient, radius, guess, bounded=box is not None, fixed=hidden & ~look
            )
        else:
            damping = control[0]
            direction, held = damped(damping)
        predicted, length = reduction(here, direction.step, held, damping)
        if solver == "cg":  # its solution is inexact
            moved = here.push(direction.step)
            predicted = -jnp.vdot(direction.step, here.gradient) - 0.5 * jnp.vdot(moved, moved)
        if options.geodesic:
            direction = _bend(objective, theta, unravel, args, here, solve, damping, held, direction)
        return try_direction(
            objective, theta, unravel, args, here, direction, predicted, box, length, damping
        )

    step, control, info = search(
        attempt,
        follow,
        control,
        theta,
        linearized_point(here),
        max_trials=jnp.where(look, 1, max_trials),
        measure_only=measure_only & ~look,
        least=jnp.where(look, worthwhile, -jnp.inf),
        extra_evals=int(options.geodesic),
    )
    if by_length:
        damping, radius = rule.Damping(control[1], state.damping.growth), control[0]
    else:
        damping, radius = rule.Damping(control[0], control[1]), state.radius
    seen = state.last
    if seen.size:
        seen = jnp.append(step, jnp.vdot(step, here.scale * here.gradient))
    return unravel(step), LevenbergMarquardtState(damping, radius, here.largest, seen, info)


def _by_slopes(state: LevenbergMarquardtState, here: Linearization) -> rule.Damping:
    """The damping after a step whose gain was hidden; without its slope, as for "cg", from what there is."""
    last = state.info
    if not state.last.size:
        return rule.by_gradient(state.damping, last.gradient_test, here.gradient_test)
    step, before = state.last[:-1], state.last[-1]
    after = jnp.vdot(step, here.scale * here.gradient)
    tests = last.gradient_test, here.gradient_test
    return rule.where_hidden(state.damping, tests, last.step_norm, last.predicted, (before, after))


def _bend(
    objective: LeastSquares,
    theta: Float[Array, " params"],
    unravel: Callable[[Array], PyTree],
    args: tuple,
    here: Linearization,
    solve: Solve,
    damping: Float[Array, ""],
    held: Held | None,
    velocity: Direction,
) -> Direction:
    """Add half the acceleration along the geodesic, where it is small beside the velocity."""
    d = velocity.step / here.scale

    def along(t: Array) -> Array:
        return objective.residual(unravel(theta + t * d), *args)

    zero, one = jnp.zeros((), theta.dtype), jnp.ones((), theta.dtype)
    _, second = jax.jvp(lambda t: jax.jvp(along, (t,), (one,))[1], (zero,), (one,))
    _, factor = objective.weigh(here.plain)
    still = None if held is None else Held(held.mask, jnp.zeros_like(theta))
    acceleration = solve(damping, still, second if factor is None else factor * second).step
    small = 2 * norm(acceleration) <= ACCELERATION_LIMIT * norm(velocity.step)  # False for NaN
    return velocity._replace(step=jnp.where(small, velocity.step + 0.5 * acceleration, velocity.step))
