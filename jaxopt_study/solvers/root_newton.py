"""Newton's method for `f(x) = 0` in a trust region, with an exact Jacobian or Broyden's.

The merit is ‖f‖. A step goes along Powell's dogleg path, from the steepest descent of the merit to the
Newton step, as far as the region reaches; far away it descends, near a root it is Newton's. One trial is one
turn of one flat loop, so that in a batch no lane waits for the trials of another.

Source: M. J. D. Powell, A hybrid method for nonlinear equations, 1970, as in MINPACK's HYBRJ; C. G. Broyden,
A class of methods for solving nonlinear simultaneous equations, 1965.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.damping import gain_ratio, next_radius
from jaxopt_study.linearize import scale_of
from jaxopt_study.one_kernel import one_kernel
from jaxopt_study.result import Status
from jaxopt_study.solvers.root_model import (
    Function,
    ModelOptions,
    Path,
    RootModel,
    column_norms,
    dense_model,
    lengths,
    matrix_free_model,
    take_jacobian,
    uses_matrix,
)
from jaxopt_study.trust_region import path_fractions
from jaxopt_study.types import Bool, Float, Int

SUSPECT = -1  # a status inside this floor: ‖f‖ looks stationary, and whether it is has to be examined
SUFFICIENT = 1e-4  # of the predicted reduction
SLOW = 0.7  # a Broyden step that leaves more of ‖f‖ than this is followed by an exact Jacobian


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NewtonOptions:
    """What of the method is structure.

    Attributes:
      model: how the linear model is made.
      broyden: whether J follows by rank-one updates while they do well.
    """

    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    broyden: bool = False


class RootTolerances(NamedTuple):
    """When a root is known; traced numbers.

    Attributes:
      ftol: the largest |fᵢ| that is as good as zero.
      xtol: the length of a Newton step, relative to x.
      floor: the same as a length, one an unknown.
      gtol: how small the slope of ‖f‖ must be to look stationary, relative to the largest one seen.
    """

    ftol: Float[Array, ""]
    xtol: Float[Array, ""]
    floor: Float[Array, " n"]
    gtol: Float[Array, ""]


class RootProgress(NamedTuple):
    """What is carried from trial to trial.

    Attributes:
      x: where the iteration is.
      residual: f there.
      size: ‖f‖.
      model: of f near x.
      jacobian_t: of Broyden's method; None for others.
      largest: the largest column norms of J seen.
      radius: of the trust region, in `e = D d`.
      first: whether f has not been evaluated yet.
      fresh: whether the model's Jacobian is exact.
      last: whether the Newton step is so short that it is the last.
      status: a `Status`, or `SUSPECT`.
      num_steps, num_evals, num_jacobians: counts.
    """

    x: Float[Array, " n"]
    residual: Float[Array, " n"]
    size: Float[Array, ""]
    model: RootModel
    jacobian_t: Any
    largest: Float[Array, " n"]
    radius: Float[Array, ""]
    first: Bool[Array, ""]
    fresh: Bool[Array, ""]
    last: Bool[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    num_evals: Int[Array, ""]
    num_jacobians: Int[Array, ""]


def begin(
    x: Float[Array, " n"],
    radius: Float[Array, ""],
    options: NewtonOptions,
    seen: Float[Array, " n"] | None = None,
) -> RootProgress:
    """An iteration of which nothing is known but where it starts: its first trial is the start itself.

    So there is one place where f is linearized, and half as much to compile.

    Args:
      x: the start.
      radius: of the trust region, relative to `‖D x‖`.
      options: of the method.
      seen: the largest column norms seen before, if any.
    """
    zero, no = jnp.zeros((), x.dtype), jnp.zeros((), bool)
    nothing, count = jnp.zeros_like(x), jnp.zeros((), jnp.int32)
    path = Path(nothing, nothing, nothing, nothing, zero, zero, zero, zero)
    return RootProgress(
        x=x,
        residual=nothing,
        size=zero + 1,
        model=RootModel(nothing, path, zero, zero, zero, zero, no, no),
        jacobian_t=jnp.zeros((x.size, x.size), x.dtype) if options.broyden else None,
        largest=nothing if seen is None else seen,
        radius=jnp.asarray(radius, x.dtype),
        first=~no,
        fresh=~no,
        last=no,
        status=jnp.asarray(Status.RUNNING, jnp.int32),
        num_steps=count,
        num_evals=count,
        num_jacobians=count,
    )


def run(
    fn: Function, state: RootProgress, max_steps: Any, tolerances: RootTolerances, options: NewtonOptions
) -> RootProgress:
    """Try steps until the iteration ends."""

    def going(state: RootProgress) -> Bool[Array, ""]:
        return (state.status == Status.RUNNING) & ((state.num_steps < max_steps) | state.first)

    loop = functools.partial(jax.lax.while_loop, going, lambda state: trial(fn, state, tolerances, options))
    state = one_kernel(loop, state)
    stopped = jnp.where(state.status == Status.RUNNING, Status.OUT_OF_STEPS, state.status)
    return state._replace(status=stopped.astype(jnp.int32))


def trial(
    fn: Function, state: RootProgress, tolerances: RootTolerances, options: NewtonOptions
) -> RootProgress:
    """Go one step, or find that it is too long, or look at the start; and say whether that is the end."""
    model, size = state.model, state.size
    scale = scale_of(state.largest)
    path = model.path
    first, second = path_fractions(path.short, path.far, path.leg_square, path.turn, state.radius / size)
    first, second = jnp.where(state.last, 1.0, first), jnp.where(state.last, 1.0, second)
    e = first * path.cauchy + second * path.leg
    pushed = first * path.pushed_cauchy + second * path.pushed_leg
    unit = state.residual / size
    predicted = -jnp.vdot(pushed, 2 * unit + pushed)
    x = state.x + size * e / scale
    residual = fn(x)
    far, there = lengths(size * e, residual)
    ratio = there / size
    actual = jnp.where(jnp.isfinite(there) & jnp.all(jnp.isfinite(x)), (1 - ratio) * (1 + ratio), -jnp.inf)
    accepted = ((actual > SUFFICIENT * predicted) & (actual > 0)) | state.first
    # The last step is so short that rounding errors of f may be all that it changes.
    moves = accepted | (state.last & (actual >= 0))
    radius = next_radius(state.radius, gain_ratio(actual, predicted), far)
    radius = jnp.where(accepted, radius, 0.25 * jnp.minimum(state.radius, far))
    lost = ~accepted & ((far <= jnp.finfo(x.dtype).eps * model.reach) | ~(radius > 0))
    new = state._replace(
        x=jnp.where(moves, x, state.x),
        residual=jnp.where(moves, residual, state.residual),
        size=jnp.where(moves, there, size),
        radius=radius,
        first=jnp.zeros((), bool),
        num_steps=state.num_steps + (moves & ~state.first).astype(jnp.int32),
        num_evals=state.num_evals + 1,
    )
    moved = accepted & ~state.last
    if options.broyden:
        stale = ~state.fresh & ~state.last
        refresh = stale & (~accepted | (ratio > SLOW))
        new = new._replace(radius=jnp.where(refresh & ~accepted, state.radius, radius))
        lost &= ~refresh
        square = size * jnp.vdot(e, e)
        off = (residual - state.residual - size * pushed) / jnp.where(square > 0, square, 1.0)
        followed = state.jacobian_t + jnp.where(accepted, jnp.outer(e * scale, off), 0.0)
        new = _relinearize(fn, new, moved, refresh | state.first, followed, options)
    else:
        new = _relinearize(fn, new, moved, moved, None, options)
    reach = new.model.reach
    first_radius = state.radius * jnp.where(reach > 0, reach, 1.0)
    new = new._replace(radius=jnp.where(state.first, first_radius, new.radius))
    not_finite = jnp.where(state.first, Status.NON_FINITE_START, Status.NON_FINITE)
    ending = jnp.where(lost, Status.STALLED, Status.RUNNING)
    ending = jnp.where(state.last, Status.STEP_CONVERGED, ending)
    new = new._replace(status=ending.astype(jnp.int32))
    judged = _judge(new, tolerances, not_finite)
    if not options.broyden:
        return judged
    # What a Jacobian that is not exact says of an end is not believed, but gone into.
    claims = judged.last | (judged.status == SUSPECT) | (judged.status == Status.VALUE_CONVERGED)
    doubtful = ~judged.fresh & claims & (ending == Status.RUNNING)
    exact = _relinearize(fn, new, jnp.zeros((), bool), doubtful, new.jacobian_t, options)
    return jax.tree.map(lambda a, b: jnp.where(doubtful, a, b), _judge(exact, tolerances, not_finite), judged)


def _linearize(
    fn: Function, x: Array, residual: Array, size: Array, largest: Array, options: NewtonOptions
) -> tuple[RootModel, Any, Array]:
    """The model with an exact Jacobian; that, for Broyden's method; the largest column norms."""
    if not uses_matrix(options.model, x.size):
        return matrix_free_model(fn, x, residual, size), None, largest
    jacobian_t = take_jacobian(fn, x, options.model)
    columns = column_norms(jacobian_t)
    largest = jnp.maximum(largest, columns)
    model = dense_model(jacobian_t, x, residual, size, columns, largest)
    return model, jacobian_t if options.broyden else None, largest


def _relinearize(
    fn: Function, state: RootProgress, moved: Array, exact: Array, followed: Any, options: NewtonOptions
) -> RootProgress:
    """The model at another point, with an exact Jacobian or with the one that followed."""

    def fresh() -> tuple:
        linear = _linearize(fn, state.x, state.residual, state.size, state.largest, options)
        return *linear, jnp.ones((), bool)

    def same() -> tuple:
        return state.model, state.jacobian_t, state.largest, state.fresh

    def follow() -> tuple:
        columns = column_norms(followed)
        model = dense_model(followed, state.x, state.residual, state.size, columns, state.largest)
        return model, followed, state.largest, jnp.zeros((), bool)

    if options.broyden:
        which = jnp.where(exact, 2, jnp.where(moved, 1, 0))
        model, jacobian_t, largest, is_fresh = jax.lax.switch(which, [same, follow, fresh])
    else:
        model, jacobian_t, largest, is_fresh = jax.lax.cond(exact, fresh, same)
    return state._replace(
        model=model,
        jacobian_t=jacobian_t,
        largest=largest,
        fresh=is_fresh,
        num_jacobians=state.num_jacobians + exact.astype(jnp.int32),
    )


def _judge(state: RootProgress, tolerances: RootTolerances, not_finite: Int[Array, ""]) -> RootProgress:
    """How the iteration ends at this point, if it does."""
    model = state.model
    step = state.size * model.newton / scale_of(state.largest)
    running = state.status == Status.RUNNING
    short = (model.relative <= tolerances.xtol) | jnp.all(jnp.abs(step) <= tolerances.floor)
    short &= ~model.singular
    status = jnp.where(running & (model.slope <= tolerances.gtol) & ~short, SUSPECT, state.status)
    known = jnp.isfinite(model.slope) & jnp.isfinite(state.size)
    status = jnp.where(running & ~known, not_finite, status)
    status = jnp.where(running & model.at_rounding, Status.VALUE_CONVERGED, status)
    status = jnp.where(jnp.max(jnp.abs(state.residual)) <= tolerances.ftol, Status.TARGET_REACHED, status)
    return state._replace(status=status.astype(jnp.int32), last=short)
