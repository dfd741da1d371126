"""How an iteration of a method that judges its own steps ends: the tests put together.

One test a tolerance is in `stopping`; here is which of them has the last word. Shared by the one
loop and by the one over many fits.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxopt_study.optimizers.trial import MARGIN
from jaxopt_study.result import Status
from jaxopt_study.stopping import Tolerances, gradient_test, step_test, value_test
from jaxopt_study.types import Bool, Float, Int


def after_step(tolerances: Tolerances, report: Any, value: Float[Array, ""]) -> Int[Array, ""]:
    """The end that an accepted step brings by its length or its gain; `RUNNING` if none.

    Args:
      tolerances: of `ftol` and `xtol`, None for no test.
      report: of the step, a `StepInfo` or what has its names.
      value: the objective after the step.
    """
    ending = jnp.asarray(Status.RUNNING, jnp.int32)
    if tolerances.xtol is not None:
        short = step_test(report.step_norm, report.params_norm, tolerances.xtol, report.coordinate_norm)
        ending = jnp.where(short, Status.STEP_CONVERGED, ending)
    if tolerances.ftol is not None:
        # ½ cos² ‖r‖², the most that a parameter can do alone, as far as rounding lets it be seen.
        alone = report.gradient_test**2 * jnp.abs(value) - MARGIN * report.rounding
        still = value_test(report.actual, report.predicted, value, tolerances.ftol, alone)
        # What is promised is lost in rounding; but a gain of about 1 says that the model still knows better.
        credible = (report.gain_ratio > 0.1) & (report.gain_ratio < 10)
        # Heavy damping promises as little anywhere.
        zero = jnp.zeros_like(alone)
        flat = value_test(zero, zero, value, tolerances.ftol, alone)
        # However uncertain the value: who still goes a long way, in a valley without end, has not arrived.
        near = report.step_norm <= jnp.finfo(value.dtype).eps ** 0.25 * report.params_norm
        still |= report.at_rounding & ~credible & flat & near
        ending = jnp.where(still, Status.VALUE_CONVERGED, ending)
    # An undamped step leaves out the directions that singular curvature does not determine: that
    # it was short says nothing about them, unless the value is zero but for rounding errors.
    blind = report.rank_deficient & (report.damping == 0) & (value > report.rounding)
    blind &= ending != Status.RUNNING
    return jnp.where(blind, Status.RANK_DEFICIENT, ending)


def by_value(
    tolerances: Tolerances,
    max_steps: Int[Array, ""],
    value: Float[Array, ""],
    num_steps: Int[Array, ""],
    ending: Any,
) -> Int[Array, ""]:
    """The end that the value, or the number of steps, brings; `ending` if none."""
    stopped = (num_steps >= max_steps) & (ending == Status.RUNNING)
    ending = jnp.where(stopped, Status.OUT_OF_STEPS, ending)
    if tolerances.target is not None:
        ending = jnp.where(value <= tolerances.target, Status.TARGET_REACHED, ending)
    return jnp.where(jnp.isfinite(value), ending, Status.NON_FINITE).astype(jnp.int32)


def by_gradient(tolerances: Tolerances, measure: Float[Array, ""], ending: Any) -> Int[Array, ""]:
    """The end that the gradient brings; `ending` if none."""
    if tolerances.gtol is not None:
        ending = jnp.where(gradient_test(measure, tolerances.gtol), Status.GRADIENT_CONVERGED, ending)
    return jnp.asarray(ending, jnp.int32)


def at_point(
    tolerances: Tolerances,
    report: Any,
    num_steps: Int[Array, ""],
    ending: Int[Array, ""],
    better: Bool[Array, ""],
) -> Int[Array, ""]:
    """The end that a linearization brings, after that which the step to it brought.

    Args:
      tolerances: of `gtol`, None for no test.
      report: of the point, a `StepInfo` or a `Linearization`.
      num_steps: taken so far.
      ending: what came with the step.
      better: whether a gradient of zero says more than that.
    """
    flat = by_gradient(tolerances, report.gradient_test, ending)
    lost_sight = (flat == Status.GRADIENT_CONVERGED) & report.vanished
    ending = jnp.where(better, jnp.where(lost_sight, Status.RANK_DEFICIENT, flat), ending)
    lost = jnp.where(num_steps == 0, Status.NON_FINITE_START, Status.NON_FINITE)
    return jnp.where(jnp.isfinite(report.grad_norm), ending, lost)


def refused(report: Any) -> Int[Array, ""]:
    """How an iteration ends in which no trial was accepted."""
    return jnp.where(report.rank_deficient, Status.RANK_DEFICIENT, Status.STALLED)
