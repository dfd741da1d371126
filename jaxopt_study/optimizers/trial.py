"""From a proposed step to an update: try it, accept or refuse it, and report.

Shared by the methods that judge their own steps. How a step is proposed is theirs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study import damping as rule
from jaxopt_study.bounds import Box, project
from jaxopt_study.layout import summed
from jaxopt_study.linear_solve import Direction, Held, choose_solver
from jaxopt_study.linearize import Linearization, linearize, linearize_without_matrix
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.step_info import StepInfo, step_info
from jaxopt_study.pytree import SHORT, params_dtype, size
from jaxopt_study.types import Bool, Float, Int, JacobianMode, LinearSolver, PyTree

MARGIN = 8  # an estimate of rounding errors is good to a factor of a few
NOTHING = -0.0  # the update that changes no bit: -0.0 + 0.0 would be 0.0


class Trial(NamedTuple):
    """A step and what came of it.

    Attributes:
      step: the update tried, all leaves in one vector.
      value: the objective at `params + step`.
      actual: by how much it is lower there.
      predicted: by how much the model said it would be.
      step_norm: length of the step in the method's metric.
      rank_deficient, orthogonal: see `StepInfo`.
      damping: λ, or the radius, that it was made with.
    """

    step: Float[Array, " params"]
    value: Float[Array, ""]
    actual: Float[Array, ""]
    predicted: Float[Array, ""]
    step_norm: Float[Array, ""]
    rank_deficient: Bool[Array, ""]
    orthogonal: Bool[Array, ""]
    damping: Float[Array, ""]


class Point(NamedTuple):
    """What is known of the parameters before any trial; the names are those of `StepInfo`."""

    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    gradient_test: Float[Array, ""]
    rounding: Float[Array, ""]
    coordinate_norm: Float[Array, ""]
    params_norm: Float[Array, ""]
    vanished: Bool[Array, ""] | bool = False
    way_down: Bool[Array, ""] | bool = False


def linearize_for(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    largest_norms: Float[Array, "..."],
    solver: LinearSolver,
    jacobian: JacobianMode,
    box: Box | None,
) -> tuple[Linearization, LinearSolver]:
    """Choose the solver by the shapes, and linearize with what it needs."""
    residuals = jax.eval_shape(objective.residual, params, *args).size
    chosen = choose_solver(solver, residuals, size(params))
    if chosen == "cg":
        return linearize_without_matrix(objective, params, args, largest_norms, box=box), chosen
    gram = chosen in ("auto", "cholesky")
    here = linearize(objective, params, args, largest_norms, jacobian=jacobian, gram=gram, box=box)
    return here, chosen


def nothing_seen(params: PyTree, solver: LinearSolver) -> Float[Array, "..."]:
    """The largest norms of columns before any was seen; one number where columns are never seen."""
    return jnp.zeros(() if solver == "cg" else size(params), params_dtype(params))


def linearized_point(here: Linearization) -> Point:
    """What a linearization knows."""
    return Point(
        value=here.value,
        grad_norm=here.grad_norm,
        gradient_test=here.gradient_test,
        rounding=here.rounding,
        coordinate_norm=here.coordinate_norm,
        params_norm=here.params_norm,
        vanished=here.vanished,
    )


def move(
    theta: Float[Array, " params"], step: Float[Array, " params"], box: Box | None
) -> Float[Array, " params"]:
    """The parameters after a step, in the box."""
    return theta + step if box is None else project(box, theta + step)


def try_direction(
    objective: LeastSquares,
    theta: Float[Array, " params"],
    unravel: Callable[[Array], PyTree],
    args: tuple,
    here: Linearization,
    direction: Direction,
    predicted: Float[Array, ""],
    box: Box | None,
    step_norm: Float[Array, ""],
    damping: Float[Array, ""],
) -> Trial:
    """Evaluate the residuals after a step in scaled variables."""
    step = direction.step / here.scale
    plain = objective.residual(unravel(move(theta, step, box)), *args)
    value, actual = _value_and_fall(objective, here, plain, predicted)
    return Trial(
        step, value, actual, predicted, step_norm, direction.rank_deficient, direction.orthogonal, damping
    )


def _value_and_fall(
    objective: LeastSquares,
    here: Linearization,
    plain: Float[Array, " residuals"],
    predicted: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The objective after a step, and by how much it is lower than at `here`.

    Both are sums over residuals, neither of which is the difference of the other and `here.value` without a
    loss: of a fall that is a small part of the value the difference keeps few digits, and of the little that
    a great fall leaves. Over several devices one of them is summed, so that one number is sent: the one that
    the model says is small.
    """
    costs, falls = objective.costs(plain), objective.falls(here.plain, plain)
    if objective.sharding is None:
        value, actual = half_sums(costs, falls)
        return value, actual
    great = predicted > 0.5 * here.value
    small = 0.5 * summed(jnp.sum, objective.sharding, jnp.where(great, costs, falls))
    other = here.value - small
    return jnp.where(great, small, other), jnp.where(great, other, small)


def half_sums(*terms: Float[Array, " n"]) -> tuple[Float[Array, ""], ...]:
    """Half the sum of each vector; of short ones in one reduction, each of which costs as much as its sum."""
    if terms[0].size > SHORT:
        return tuple(0.5 * jnp.sum(term) for term in terms)
    return tuple(0.5 * jnp.sum(jnp.stack(terms), axis=1))


def reduction(
    here: Linearization, e: Float[Array, " params"], held: Held | None, damping: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The reduction that the linear model promises of a solution of its damped system, and `‖e‖`.

    `½‖r‖² - ½‖r + Ĵe‖² = -ĝᵀe - ½eᵀĴᵀĴe`. Where `(ĴᵀĴ + λI) e = -ĝ` this is `½λ‖e‖² - ½ĝᵀe`: two terms
    that are positive, so that nothing cancels. That holds of the parameters that are not held, the
    others' share is added.
    """
    half_square, half_slope = half_sums(e**2, e * here.gradient)
    length = jnp.sqrt(2 * half_square)
    if held is None:
        return damping * half_square - half_slope, length
    fixed = held.step
    free_square = half_square - 0.5 * jnp.sum(fixed**2)
    fixed_slope = jnp.sum(fixed * here.gradient)
    promised = damping * free_square - (half_slope - 0.5 * fixed_slope) - fixed_slope
    return promised - 0.5 * jnp.vdot(fixed, here.curvature(e)), length


def report(
    point: Point,
    trial: Trial,
    accepted: Bool[Array, ""],
    at_rounding: Bool[Array, ""],
    trials: Int[Array, ""] | int = 1,
    extra_evals: Int[Array, ""] | int = 0,
) -> StepInfo:
    """The report after the last trial."""
    tried = jnp.asarray(trials) > 0
    return step_info(
        trial.step.dtype,
        value=jnp.where(accepted, trial.value, point.value),
        grad_norm=point.grad_norm,
        gradient_test=point.gradient_test,
        actual=trial.actual,
        predicted=trial.predicted,
        rounding=point.rounding,
        gain_ratio=jnp.where(tried, rule.gain_ratio(trial.actual, trial.predicted), jnp.nan),
        step_norm=trial.step_norm,
        coordinate_norm=point.coordinate_norm,
        params_norm=point.params_norm,
        damping=trial.damping,
        trials=trials,
        num_evals=1 + trials + extra_evals,
        accepted=accepted,
        rank_deficient=trial.rank_deficient | point.vanished,
        at_rounding=at_rounding,
        orthogonal=trial.orthogonal,
        vanished=point.vanished,
        way_down=point.way_down,
    )


def full_step(
    trial: Trial, point: Point, measure_only: Bool[Array, ""] | bool
) -> tuple[Float[Array, " params"], StepInfo]:
    """Take the step, up or down; refuse it where it leads nowhere finite.

    A step up from singular curvature is refused too: its length is made of rounding errors.
    """
    at_rounding = jnp.abs(trial.predicted) <= MARGIN * point.rounding
    up = trial.rank_deficient & ~rule.is_decrease(trial.actual, at_rounding, MARGIN * point.rounding)
    accepted = jnp.isfinite(trial.value) & ~up & ~jnp.asarray(measure_only)
    return jnp.where(accepted, trial.step, NOTHING), report(point, trial, accepted, at_rounding)


class Verdict(NamedTuple):
    """What a trial was found to be worth.

    Attributes:
      accepted: whether to take it.
      at_rounding, rank_deficient: what the first trial at this point said, see `StepInfo`.
      gain_ratio: actual over predicted reduction.
      control: damping or radius, and what goes with it, for the next trial.
    """

    accepted: Bool[Array, ""]
    at_rounding: Bool[Array, ""]
    rank_deficient: Bool[Array, ""]
    gain_ratio: Float[Array, ""]
    control: Float[Array, " controls"]


def judge(
    trial: Trial,
    first: Bool[Array, ""],
    at_rounding: Bool[Array, ""],
    rank_deficient: Bool[Array, ""],
    control: Float[Array, " controls"],
    follow: Callable[..., Float[Array, " controls"]],
    margin: Float[Array, ""],
) -> Verdict:
    """Accept or refuse a trial.

    Args:
      trial: with the step and what came of it.
      first: whether it is the first at this point.
      at_rounding, rank_deficient: what the first one said, where this is another.
      control: that of this trial.
      follow: see `search`.
      margin: a reduction that rounding errors hide.
    """
    # What the first trial says of the point is right; later ones are short, and their systems
    # hardly those of the curvature.
    at_rounding = jnp.where(first, jnp.abs(trial.predicted) <= margin, at_rounding)
    rank_deficient = jnp.where(first, trial.rank_deficient, rank_deficient)
    accepted = rule.is_decrease(trial.actual, at_rounding, margin)
    gain = rule.gain_ratio(trial.actual, trial.predicted)
    # A gain made of rounding errors tells nothing: to follow it has been seen to lower λ to where
    # steps overshoot, at a minimum with large residuals.
    kept = accepted & at_rounding
    control = jnp.where(kept, control, follow(control, accepted, gain, trial))
    return Verdict(accepted, at_rounding, rank_deficient, gain, control)


class _Search(NamedTuple):
    """What is carried from trial to trial: few arrays, each costs as much as a norm.

    `control` and `tried` are what the next trial needs (damping or radius, and its growth), and the
    last trial's value, actual and predicted reduction, length and damping.
    """

    step: Float[Array, " params"]
    control: Float[Array, " controls"]
    tried: Float[Array, " 5"]
    trials: Int[Array, ""]
    flags: Bool[Array, " 4"]  # accepted, rank_deficient, at_rounding, orthogonal


def search(
    attempt: Callable[[Float[Array, " controls"]], Trial],
    follow: Callable[..., Float[Array, " controls"]],
    control: Float[Array, " controls"],
    theta: Float[Array, " params"],
    point: Point,
    *,
    max_trials: Int[Array, ""] | int,
    measure_only: Bool[Array, ""] | bool,
    extra_evals: int = 0,
    least: Float[Array, ""] | float = -jnp.inf,
) -> tuple[Float[Array, " params"], Float[Array, " controls"], StepInfo]:
    """Try one damping, or one radius, after the other until the value falls.

    Ends also when the step is lost in rounding.

    Args:
      attempt: from `control` to a trial.
      follow: `(control, accepted, gain_ratio, trial) -> control` of the next trial.
      control: where to start.
      theta: the parameters in one vector.
      point: what is known of them.
      max_trials: give up after so many.
      measure_only: try nothing.
      extra_evals: evaluations that a trial takes besides that of its value.
      least: by how much the value has to fall.

    Returns:
      The update in one vector (zero if no trial was accepted), the control for the next update,
      the report.
    """
    margin = MARGIN * point.rounding
    limit = jnp.where(measure_only, 0, max_trials)
    shortest = jnp.finfo(theta.dtype).eps * point.params_norm

    def again(state: _Search) -> _Search:
        trial = attempt(state.control)
        verdict = judge(
            trial, state.trials == 0, state.flags[2], state.flags[1], state.control, follow, margin
        )
        return _Search(
            trial.step,
            verdict.control,
            jnp.stack([trial.value, trial.actual, trial.predicted, trial.step_norm, trial.damping]),
            state.trials + 1,
            jnp.stack(
                [
                    verdict.accepted & (trial.actual >= least),
                    verdict.rank_deficient,
                    verdict.at_rounding,
                    trial.orthogonal,
                ]
            ),
        )

    def going(state: _Search) -> Bool[Array, ""]:
        lost = state.tried[3] < shortest  # no shorter step can change the parameters
        return ~state.flags[0] & ~lost & (state.trials < limit)

    nothing: Any = _Search(
        theta, control, jnp.full(5, jnp.nan, theta.dtype), jnp.zeros((), jnp.int32), jnp.zeros(4, bool)
    )
    end = jax.lax.while_loop(going, again, nothing)
    accepted, singular, at_rounding, orthogonal = end.flags
    value, actual, predicted, step_norm, last = end.tried
    trial = Trial(end.step, value, actual, predicted, step_norm, singular, orthogonal, last)
    info = report(point, trial, accepted, at_rounding, end.trials, extra_evals * end.trials)
    return jnp.where(accepted, end.step, NOTHING), end.control, info


def follow_radius(
    control: Float[Array, " 1"],
    accepted: Bool[Array, ""],
    gain: Float[Array, ""],
    trial: Trial,
) -> Float[Array, " 1"]:
    """How the radius of a trust region follows the trials."""
    # Also a trial that was refused for another reason than its gain has to be followed by a shorter one.
    shorter = 0.25 * jnp.minimum(control[0], trial.step_norm)
    return jnp.where(accepted, rule.next_radius(control[0], gain, trial.step_norm), shorter)[None]


def follow_damping(name: Any, raise_to: float = 0.0) -> Callable[..., Float[Array, " 2"]]:
    """How λ and its growth follow the trials by a rule of `damping`."""

    def follow(
        control: Float[Array, " 2"], accepted: Bool[Array, ""], gain: Float[Array, ""], trial: Trial
    ) -> Float[Array, " 2"]:
        del trial
        now = rule.Damping(control[0], control[1])
        lower, higher = rule.accept(now, gain, name), rule.reject(now, name, raise_to)
        return jnp.where(accepted, jnp.stack(lower), jnp.stack(higher))

    return follow
