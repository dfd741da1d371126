"""From a proposed step to an update: try it, accept or refuse it, and report.

Shared by the methods that judge their own steps. How a step is proposed is theirs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study import damping as rule
from jaxopt_study.damping import Damping
from jaxopt_study.linearize import Linearization
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.transform import StepInfo
from jaxopt_study.pytree import add
from jaxopt_study.types import Bool, DampingRule, Float, Int, PyTree

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
    """

    step: Float[Array, " params"]
    value: Float[Array, ""]
    actual: Float[Array, ""]
    predicted: Float[Array, ""]
    step_norm: Float[Array, ""]
    rank_deficient: Bool[Array, ""]
    orthogonal: Bool[Array, ""]


def try_residual(
    objective: LeastSquares, params: PyTree, args: tuple, here: Linearization, step: PyTree
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The value at `params + step`, and by how much it is lower than at `params`.

    The difference of two sums of squares is taken as `½ (r - r₊)·(r + r₊)`, in which nothing
    cancels when the two are close.
    """
    residual = objective.residual(add(params, step), *args)
    value, actual = half_sums(residual**2, (here.residual - residual) * (here.residual + residual))
    return value, actual


def half_sums(*terms: Float[Array, " n"]) -> tuple[Float[Array, ""], ...]:
    """Half the sum of each vector, in one reduction: in a small trial each one costs as much as its sum."""
    return tuple(0.5 * jnp.sum(jnp.stack(terms), axis=1))


def take(
    trial: Trial, accepted: Bool[Array, ""], at_rounding: Bool[Array, ""], info: StepInfo
) -> tuple[Float[Array, " params"], StepInfo]:
    """The update, in one vector, and the report after a trial, given the report before it."""
    return jnp.where(accepted, trial.step, NOTHING), info._replace(
        value=jnp.where(accepted, trial.value, info.value),
        actual=trial.actual,
        predicted=trial.predicted,
        gain_ratio=rule.gain_ratio(trial.actual, trial.predicted),
        step_norm=trial.step_norm,
        trials=info.trials + 1,
        accepted=accepted,
        rank_deficient=trial.rank_deficient,
        at_rounding=at_rounding,
        orthogonal=trial.orthogonal,
        num_evals=info.num_evals + 1,
    )


def full_step(
    trial: Trial, info: StepInfo, measure_only: Bool[Array, ""] | bool
) -> tuple[Float[Array, " params"], StepInfo]:
    """Take the step, up or down; refuse it where it leads nowhere finite.

    A step up from singular curvature is refused too: its length is made of rounding errors.
    """
    at_rounding = trial.predicted <= MARGIN * info.rounding
    up = trial.rank_deficient & ~rule.is_decrease(trial.actual, at_rounding, MARGIN * info.rounding)
    accepted = jnp.isfinite(trial.value) & ~up & ~jnp.asarray(measure_only)
    return take(trial, accepted, at_rounding, info)


def damped_trials(
    attempt: Callable[[Float[Array, ""]], Trial],
    damping: Damping,
    theta: Float[Array, " params"],
    info: StepInfo,
    *,
    max_trials: Int[Array, ""] | int,
    measure_only: Bool[Array, ""] | bool,
    damping_rule: DampingRule = "nielsen",
    raise_to: float = 0.0,
) -> tuple[Float[Array, " params"], Damping, StepInfo]:
    """Try one damping after the other until the value falls, or the step is lost in rounding.

    Args:
      attempt: from a damping λ to a trial.
      damping: where to start.
      theta: the parameters in one vector.
      info: the report so far: `value`, `rounding` and `params_norm` where the steps start.
      max_trials: give up after so many.
      measure_only: try nothing.
      damping_rule: see `damping`.
      raise_to: the least damping after a rejection.

    Returns:
      The update in one vector (zero if no trial was accepted), the damping for the next update,
      the report.
    """

    def again(carry: tuple[Array, Damping, StepInfo]) -> tuple[Array, Damping, StepInfo]:
        _, damping, info = carry
        trial = attempt(damping.value)
        # What the first trial says of the point is right; later ones are short, and their systems
        # hardly those of the curvature.
        first = info.trials == 0
        at_rounding = jnp.where(first, trial.predicted <= MARGIN * info.rounding, info.at_rounding)
        singular = jnp.where(first, trial.rank_deficient, info.rank_deficient)
        trial = trial._replace(rank_deficient=singular)
        accepted = rule.is_decrease(trial.actual, at_rounding, MARGIN * info.rounding)
        step, after = take(trial, accepted, at_rounding, info._replace(damping=damping.value))
        lower = rule.accept(damping, after.gain_ratio, damping_rule)
        higher = rule.reject(damping, damping_rule, raise_to)
        chosen: Any = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), lower, higher)
        return step, chosen, after

    limit = jnp.where(measure_only, 0, max_trials)
    shortest = jnp.finfo(info.params_norm.dtype).eps * info.params_norm

    def going(carry: tuple[Array, Damping, StepInfo]) -> Bool[Array, ""]:
        _, _, info = carry
        lost = info.step_norm < shortest  # no larger damping can change the parameters
        return ~info.accepted & ~lost & (info.trials < limit)

    return jax.lax.while_loop(going, again, (jnp.full_like(theta, NOTHING), damping, info))
