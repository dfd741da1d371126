"""One fit of many, one damping trial at a time: what a slot of `slots` holds, and what happens to it.

Everything here is of a single fit; `slots` maps it over many. The parts are those of
`levenberg_marquardt` and of the one loop, in another order: the residuals after a step are linearized
with the trial, because under `vmap` a lane that does without a Jacobian saves nothing. So a trial
that is accepted leaves nothing to be measured.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study import damping as rule
from jaxopt_study.bounds import Box
from jaxopt_study.derivatives import THIN
from jaxopt_study.fit.raveled import raveled
from jaxopt_study.linear_solve import Direction, Held, damped_solver, lost, within_box
from jaxopt_study.linearize import Linearization, linearize, linearize_thin
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.trial import MARGIN, Trial, follow_damping, half_sums, judge, move, reduction
from jaxopt_study.result import Status
from jaxopt_study.solvers.ending import after_step, at_point, by_value, refused
from jaxopt_study.stopping import Tolerances
from jaxopt_study.types import Bool, Float, Int, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rules:
    """What is the same for all fits.

    Attributes:
      objective: the residuals and their loss.
      tolerances, max_steps, max_trials: see `levenberg_marquardt` and `minimize`.
      damping: λ at the start.
    """

    objective: LeastSquares
    tolerances: Tolerances
    max_steps: Any
    max_trials: Any
    damping: Any


class Data(NamedTuple):
    """What a fit is given.

    Attributes:
      args: what the residual function takes besides the parameters.
      box: bounds, or None.
    """

    args: tuple
    box: Any


# Squares of columns are trusted in float32 if the columns are between these sizes.
SMALL, LARGE = 1e-15, 1e15
LOOKS = 2  # at the start in other units, which covers all that float32 can hold


class Lane(NamedTuple):
    """A fit under way.

    Attributes:
      theta: the parameters, raveled.
      here: the linearization there, without its matrices; of nothing where `fresh`.
      control: λ and its growth.
      unit: in which the columns are measured at the start, where their sizes are not known.
      fresh: whether the start has not been looked at.
      trials: how many were refused at this point; at the start, how often it was looked at.
      at_rounding, rank_deficient: what the first of them said, see `StepInfo`.
      status, num_steps, num_evals: as in `Result`.
    """

    theta: Float[Array, "..."]
    here: Linearization
    control: Float[Array, "..."]
    unit: Float[Array, "..."]
    fresh: Bool[Array, "..."]
    trials: Int[Array, "..."]
    at_rounding: Bool[Array, "..."]
    rank_deficient: Bool[Array, "..."]
    status: Int[Array, "..."]
    num_steps: Int[Array, "..."]
    num_evals: Int[Array, "..."]


class _Report(NamedTuple):
    """What `ending.after_step` asks of a step; the names are those of `StepInfo`."""

    step_norm: Any
    params_norm: Any
    coordinate_norm: Any
    gradient_test: Any
    rounding: Any
    actual: Any
    predicted: Any
    gain_ratio: Any
    at_rounding: Any
    rank_deficient: Any
    damping: Any


def start(rules: Rules, theta: Float[Array, " params"], here: Linearization) -> Lane:
    """A fit that has not been looked at; `here` is of any numbers."""
    no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    return Lane(
        theta=theta,
        here=here,
        control=jnp.stack(rule.start(rules.damping)),
        unit=jnp.ones_like(theta),
        fresh=~no,
        trials=zero,
        at_rounding=no,
        rank_deficient=no,
        status=zero,
        num_steps=zero,
        num_evals=zero,
    )


def linearized(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    theta: Float[Array, " params"],
    data: Data,
    largest_norms: Float[Array, " params"],
    unit: Float[Array, " params"],
) -> Linearization:
    """The residuals near `theta`, without what only the making of it needs."""
    objective, params, box = rules.objective, unravel(theta), data.box

    def products(params: PyTree, args: tuple, largest: Array, unit: Array) -> Any:
        if theta.size <= THIN:
            return linearize_thin(objective, params, args, largest, unit, box=box)
        return linearize(objective, params, args, largest, box=box, batched=True)

    here = raveled(products)(params, data.args, largest_norms, unit)
    nothing: Any = None
    return here._replace(residual=nothing, jacobian_t=nothing, to_scaled=nothing, passes=nothing)


def advance(
    rules: Rules,
    unravel: Callable[[Array], PyTree],
    lane: Lane,
    data: Data,
) -> Lane:
    """Try one damping, or look at the start; take the step or refuse it; end, or not.

    Args:
      rules: of all fits.
      unravel: from a vector to parameters.
      lane: the fit.
      data: what it is given.
    """
    here, fresh, damping = lane.here, lane.fresh, lane.control[0]
    direction, held = _direction(lane, data.box)
    predicted, length = reduction(here, direction.step, held, damping)
    step = jnp.where(fresh, 0.0, direction.step / here.scale)
    theta = move(lane.theta, step, data.box)
    unit = jnp.where(fresh, lane.unit, here.scale)
    there = linearized(rules, unravel, theta, data, jnp.where(fresh, 0.0, here.largest), unit)
    again, other_unit = _look_again(lane, there.largest)
    (actual,) = half_sums(rules.objective.falls(here.plain, there.plain))
    trial = Trial(
        step, there.value, actual, predicted, length, direction.rank_deficient, direction.orthogonal, damping
    )
    margin = MARGIN * here.rounding
    follow = follow_damping("nielsen", raise_to=lost(theta))
    verdict = judge(
        trial, lane.trials == 0, lane.at_rounding, lane.rank_deficient, lane.control, follow, margin
    )
    accepted = fresh | verdict.accepted
    # With pivots lost in rounding a step with less damping would be noise.
    least = jnp.where(direction.rank_deficient, lost(theta), 0.0)
    before, after = half_sums(direction.step * here.gradient, step * there.scale * there.gradient)
    tests, slopes = (here.gradient_test, there.gradient_test), (2 * before, 2 * after)
    told = rule.where_hidden(rule.Damping(*verdict.control), tests, length, predicted, slopes)
    control = jnp.where(verdict.accepted & verdict.at_rounding, jnp.stack(told), verdict.control)
    control = control.at[0].max(least)
    report = _Report(
        step_norm=length,
        params_norm=here.params_norm,
        coordinate_norm=here.coordinate_norm,
        gradient_test=here.gradient_test,
        rounding=here.rounding,
        actual=actual,
        predicted=predicted,
        gain_ratio=verdict.gain_ratio,
        at_rounding=verdict.at_rounding,
        rank_deficient=verdict.rank_deficient | here.vanished,
        damping=damping,
    )
    num_steps = lane.num_steps + (accepted & ~fresh).astype(jnp.int32)
    trials = jnp.where(accepted, 0, lane.trials + 1)
    running = jnp.asarray(Status.RUNNING, jnp.int32)
    ending = jnp.where(fresh, running, after_step(rules.tolerances, report, there.value))
    ending = by_value(rules.tolerances, rules.max_steps, there.value, num_steps, ending)
    better = (ending == Status.RUNNING) | (ending == Status.OUT_OF_STEPS)
    ending = at_point(rules.tolerances, there, num_steps, ending, better)
    ending = jnp.where(fresh & ~jnp.isfinite(there.value), Status.NON_FINITE_START, ending)
    # Residuals whose squares are lost: no step can be judged, and a value of zero is no fit.
    unseen = (there.value < jnp.finfo(theta.dtype).tiny) & jnp.any(there.gradient != 0)
    ending = jnp.where(fresh & unseen & (ending != Status.TARGET_REACHED), Status.STALLED, ending)
    # No shorter step can change the parameters.
    hopeless = (length < jnp.finfo(theta.dtype).eps * here.params_norm) | (trials >= rules.max_trials)
    ending = jnp.where(accepted, ending, jnp.where(hopeless, refused(report), running))
    ending = jnp.where(again, running, ending)

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(accepted, new, old)

    return Lane(
        theta=choose(lane.theta, theta),
        here=jax.tree.map(choose, here, there),
        control=jnp.where(fresh, lane.control, control),
        unit=other_unit,
        fresh=again,
        trials=jnp.where(again, lane.trials + 1, trials),
        at_rounding=verdict.at_rounding,
        rank_deficient=verdict.rank_deficient,
        status=ending,
        num_steps=num_steps,
        num_evals=lane.num_evals + (~again).astype(jnp.int32),
    )


def _look_again(
    lane: Lane, norms: Float[Array, " params"]
) -> tuple[Bool[Array, ""], Float[Array, " params"]]:
    """Whether a start has to be looked at in other units, because squares may have been lost; and which.

    To look for the largest element of every column first, as for a single fit, would be another pass
    over the data at every trial.
    """
    if jnp.finfo(norms.dtype).maxexp >= 1024:
        return jnp.zeros_like(lane.fresh), lane.unit
    relative = norms / lane.unit
    low, high = relative < SMALL, relative > LARGE
    again = lane.fresh & (lane.trials < LOOKS) & jnp.any(low | high)
    return again, lane.unit * jnp.where(low, SMALL, jnp.where(high, LARGE, 1.0))


def _direction(lane: Lane, box: Box | None) -> tuple[Direction, Held | None]:
    """The step for the present λ; NaN, which is refused, where it would be noise."""
    here, damping = lane.here, lane.control[0]
    solve = damped_solver(here, "cholesky")
    if box is None:
        direction, held = solve(damping), None
    else:
        direction, held = within_box(lambda held: solve(damping, held), here, box, lane.theta)
    noise = direction.rank_deficient & (damping < lost(lane.theta))
    return direction._replace(step=jnp.where(noise, jnp.nan, direction.step)), held
