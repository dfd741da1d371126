"""From the outcome of a trial to the damping of the next one.

| rule        | accepted                          | rejected             | good for                        |
|-------------|-----------------------------------|----------------------|---------------------------------|
| `"nielsen"` | `λ ← λ max(1/10, 1 - (2ρ - 1)³)`  | `λ ← ν λ`, `ν ← 2 ν` | one system a trial              |
| `"radius"`  | λ such that `‖D d‖ ≤ Δ`; Δ follows the trials            | far starts, few evaluations     |
| `"delayed"` | `λ ← λ / 5`                       | `λ ← 1.5 λ`          | many badly determined parameters|

The second is in `optimizers.step_length`, the others are here. ρ is the gain ratio, actual over predicted
reduction. Nielsen's rule is a smooth function of it:
near 1 the model is good and λ falls by 10 (Nielsen's own choice is 3, which takes more steps on
nearly every problem of Moré, Garbow and Hillstrom), at ½ it stays, near 0 it doubles. Delayed gratification
creeps up to the least λ that lowers the value: more trials a step, which are cheap beside a
Jacobian, and on networks a much lower value after as many steps (on 500 points and 41 parameters,
100 steps from 20 starts, 11 times lower at the median).

Sources: H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, eq. 2.8;
M. K. Transtrum and J. P. Sethna, Improvements to the Levenberg-Marquardt algorithm, 2012, section 2.
"""

from typing import NamedTuple, get_args

import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Bool, DampingRule, Float

NEAR = 1e-3  # to a minimum: a cosine between the residuals and a column


class Damping(NamedTuple):
    """The state of the damping.

    Attributes:
      value: λ, relative to the curvature in scaled variables: at 1 it is as large.
      growth: Nielsen's ν, what λ is multiplied with at the next rejection.
    """

    value: Float[Array, ""]
    growth: Float[Array, ""]


def start(value: Float[Array, ""]) -> Damping:
    """The damping before the first trial."""
    return Damping(value, jnp.full_like(value, 2.0))


def check_rule(rule: str) -> None:
    """Raise a `ValueError` unless `rule` is one that this file knows."""
    if rule not in get_args(DampingRule):
        raise ValueError(f"damping_rule: expected one of {get_args(DampingRule)}, got {rule!r}")


def accept(damping: Damping, gain_ratio: Float[Array, ""], rule: DampingRule = "nielsen") -> Damping:
    """After an accepted trial.

    λ does not fall below ε², where it is without effect even on an orthogonal factorization, so
    that later rejections can raise it in a few trials.

    >>> float(accept(start(jnp.float32(10.0)), jnp.float32(1.0)).value)
    1.0
    """
    if rule == "delayed":
        factor = jnp.full_like(gain_ratio, 1 / 5)
    else:
        factor = jnp.maximum(1 / 10, 1 - (2 * jnp.clip(gain_ratio, 0, 1) - 1) ** 3)
    value = jnp.maximum(damping.value * factor, jnp.finfo(damping.value.dtype).eps ** 2)
    return Damping(value, jnp.full_like(damping.growth, 2.0))


def reject(damping: Damping, rule: DampingRule = "nielsen", at_least: float = 0.0) -> Damping:
    """After a rejected trial; λ becomes `at_least` so much.

    >>> reject(start(jnp.float32(1.0)))
    Damping(value=Array(2., dtype=float32), growth=Array(4., dtype=float32))
    """
    growth = jnp.full_like(damping.growth, 1.5) if rule == "delayed" else damping.growth
    return Damping(jnp.maximum(damping.value * growth, at_least), 2 * damping.growth)


def by_gradient(damping: Damping, before: Float[Array, ""], after: Float[Array, ""]) -> Damping:
    """After a trial that was accepted though rounding errors hide what it gained: λ follows the gradient.

    It still tells where the value does not. Where it falls to less than a half λ is right; where it falls
    slowly λ falls by 10, where it rises λ doubles. (A λ that stays leaves steps along a narrow valley as
    short as they were when the value was last seen to fall; one that follows gains made of rounding errors,
    or falls while all goes well, lets steps overshoot where residuals are large.)

    Args:
      damping: after the trial.
      before, after: the largest cosine between the residuals and a column, before and after the step.

    >>> by_gradient(start(jnp.float32(1.0)), jnp.float32(1e-3), jnp.float32(2e-3)).value
    Array(2., dtype=float32)
    """
    floor = jnp.finfo(damping.value.dtype).eps ** 2
    factor = jnp.where(after < before, jnp.where(after < 0.5 * before, 1.0, 0.1), 2.0)
    return Damping(jnp.maximum(damping.value * factor, floor), damping.growth)


def by_slopes(
    damping: Damping,
    step_norm: Float[Array, ""],
    predicted: Float[Array, ""],
    before: Float[Array, ""],
    after: Float[Array, ""],
) -> Damping:
    """As `by_gradient`, where the slopes along the step are known: λ is the curvature that the model lacks.

    From one end of a step e to the other the slope changes by `eᵀHe`, the model has `eᵀĴᵀĴe`. With the
    difference over `‖e‖²` as λ the next step is as long as the curvature has it, in this direction. Large
    residuals make JᵀJ alone too flat, so that undamped steps overshoot, and less damping than that too; where
    there is nothing to add, as along a narrow valley, λ is nothing.

    Args:
      damping: after the trial.
      step_norm: ‖e‖.
      predicted: `-before - ½ eᵀĴᵀĴe`, the reduction that the model promised.
      before, after: the slopes, gradient times e, at both ends of the step.

    Source: J. E. Dennis, D. M. Gay and R. E. Welsch, An adaptive nonlinear least-squares algorithm, 1981,
    who add a secant approximation of what the model lacks, as a matrix.

    >>> e, g = jnp.float32(-1.0), jnp.float32(2.0)         # a model of curvature 2, where there is 3
    >>> by_slopes(start(jnp.float32(0.1)), abs(e), -e * g - 1, e * g, e * (g + 3 * e)).value
    Array(1., dtype=float32)
    """
    square = step_norm**2
    lacking = ((after - before) + 2 * (before + predicted)) / jnp.where(square > 0, square, jnp.inf)
    least = jnp.finfo(damping.value.dtype).eps ** 2
    value = jnp.where(jnp.isfinite(lacking), jnp.maximum(lacking, least), damping.value)
    return Damping(value, jnp.full_like(damping.growth, 2.0))


def where_hidden(
    damping: Damping,
    tests: tuple[Float[Array, ""], Float[Array, ""]],
    step_norm: Float[Array, ""],
    predicted: Float[Array, ""],
    slopes: tuple[Float[Array, ""], Float[Array, ""]],
) -> Damping:
    """After a trial that was accepted though rounding errors hide what it gained.

    `by_slopes` near a minimum. Far from one steps are that short because they are held to be, and their
    curvature is rounding: `by_gradient`.

    Args:
      damping: after the trial.
      tests: before and after, as of `by_gradient`.
      step_norm, predicted, slopes: of `by_slopes`.
    """
    near = tests[1] <= NEAR
    far, told = by_gradient(damping, *tests), by_slopes(damping, step_norm, predicted, *slopes)
    return Damping(jnp.where(near, told.value, far.value), jnp.where(near, told.growth, far.growth))


def gain_ratio(actual: Float[Array, ""], predicted: Float[Array, ""]) -> Float[Array, ""]:
    """ρ, the actual reduction over the predicted one; -1 where that is not a number."""
    usable = jnp.isfinite(actual) & (predicted > 0)
    return jnp.where(usable, actual / jnp.where(usable, predicted, 1.0), -1.0)


def is_decrease(
    actual: Float[Array, ""], at_rounding: Bool[Array, ""], rounding: Float[Array, ""]
) -> Bool[Array, ""]:
    """Whether a trial is good enough to take.

    The value has to fall. But where the model promises less than the value's rounding errors the
    sign of the actual reduction means nothing, and not rising by more than they are is enough:
    this is how the last step before convergence is accepted.

    Args:
      actual: by how much the value fell; infinite or not a number is no decrease.
      at_rounding: whether already the first trial promised less than rounding errors. (A later one
        promises as little as one likes, being shorter.)
      rounding: the size of the value's rounding errors.

    >>> bool(is_decrease(jnp.float32(-1e-9), jnp.array(True), jnp.float32(1e-8)))
    True
    """
    return jnp.isfinite(actual) & ((actual > 0) | (at_rounding & (actual >= -rounding)))


def next_radius(
    radius: Float[Array, ""], gain_ratio: Float[Array, ""], step_norm: Float[Array, ""]
) -> Float[Array, ""]:
    """The radius of a trust region after a trial.

    It shrinks to a quarter of the step where the model was bad (ρ < ¼), and doubles where it was good
    (ρ > ¾) and the step was as long as it might be.

    Source: Nocedal and Wright, Numerical Optimization, 2006, algorithm 4.1.

    >>> print(next_radius(jnp.float32(1.0), jnp.float32(0.9), jnp.float32(1.0)))
    2.0
    """
    grown = jnp.where(step_norm >= 0.99 * radius, 2 * radius, radius)
    return jnp.where(
        gain_ratio < 0.25, 0.25 * jnp.minimum(step_norm, radius), jnp.where(gain_ratio > 0.75, grown, radius)
    )
