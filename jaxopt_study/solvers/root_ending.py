"""What an iteration that came to rest away from zero has found: no root, a way on, or a root in the noise.

Where ‖f‖ looks stationary and f is not zero, the second derivatives of the merit tell a minimum (there is no
root here) from a saddle or a maximum (there is a way down) and from a root where J is singular (the merit
can still fall by a part of itself). Nothing here is part of an iteration that goes well.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.linearize import scale_of
from jaxopt_study.result import Status
from jaxopt_study.solvers.root_model import Function, lengths, uses_matrix
from jaxopt_study.solvers.root_newton import (
    SUSPECT,
    NewtonOptions,
    RootProgress,
    RootTolerances,
    begin,
    run,
)
from jaxopt_study.solvers.root_sprint import Sprint, last_step, sprint
from jaxopt_study.types import Bool, Float, Int

LARGEST_HESSIAN = 64  # unknowns: it takes their square of forward passes
STATIONARY = 1e-6  # of the merit, that it could still fall: less is none
NO_WAY = 1e-3  # the same where no trial succeeded: rounding hides the rest
HELPS = 0.9  # of ‖f‖: what a step must leave less than, to help
NEIGHBORS = 4  # points beside x, a rounding error or two away
NOISE = 4  # how many times its own noise f may be and still be zero
ROUNDS = 8  # times that an iteration goes on from where it came to rest
FINER = 1e4  # times, that the slope must be smaller before the next look
LENGTHS = 24  # that a way down from a saddle is looked for with, each half of the one before
DIRECTIONS = 3  # of least curvature, along which it is looked for


class RootEnd(NamedTuple):
    """What is known at the end; the names are those of `RootProgress` and of its model."""

    x: Float[Array, " n"]
    residual: Float[Array, " n"]
    grad_norm: Float[Array, ""]
    radius: Float[Array, ""]
    singular: Bool[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    num_evals: Int[Array, ""]
    num_jacobians: Int[Array, ""]


class _Search(NamedTuple):
    """Between two iterations: how the last of them ended, or how the next begins.

    Attributes:
      end: the iteration, whose `status` is `RUNNING` where it is to go on.
      gtol: how small a slope calls for the next look.
      rounds: iterations so far.
    """

    end: RootProgress
    gtol: Float[Array, ""]
    rounds: Int[Array, ""]


def solve(
    fn: Function,
    x: Float[Array, " n"],
    radius: Float[Array, ""],
    max_steps: Any,
    tolerances: RootTolerances,
    options: NewtonOptions,
) -> RootEnd:
    """Iterate from a start to an end that is understood.

    Args:
      fn: f, from a vector to a vector as long.
      x: the start.
      radius: of the trust region, relative to `‖D x‖`.
      max_steps: end after so many steps.
      tolerances: when a root is known.
      options: of the method.
    """
    if options.broyden or not uses_matrix(options.model, x.size):
        return _iterate(fn, begin(x, radius, options), radius, max_steps, tolerances, options)
    quick = sprint(fn, x, radius, max_steps, tolerances, options.model)
    which = jnp.where(quick.ending != Status.RUNNING, 1, jnp.where(quick.last, 2, 0))

    def arrived(end: Sprint) -> RootEnd:
        (grad_norm,) = lengths(end.gradient)
        return RootEnd(
            x=end.x,
            residual=end.residual,
            grad_norm=grad_norm,
            radius=radius,
            singular=jnp.zeros((), bool),
            status=end.ending,
            num_steps=end.accepted - 1,
            num_evals=end.tried,
            num_jacobians=quick.tried,
        )

    def in_trouble() -> RootEnd:
        # In a batch every way is gone: a lane that has arrived has nothing to do here.
        status = jnp.where(which == 0, Status.RUNNING, Status.STALLED).astype(jnp.int32)
        state = begin(quick.x, radius, options, quick.largest)._replace(
            status=status,
            num_steps=jnp.maximum(quick.accepted - 1, 0),
            num_evals=quick.tried,
            num_jacobians=quick.tried,
        )
        return _iterate(fn, state, radius, max_steps, tolerances, options)

    ways = in_trouble, lambda: arrived(quick), lambda: arrived(last_step(fn, quick, tolerances))
    return jax.lax.switch(which, ways)


def _iterate(
    fn: Function,
    state: RootProgress,
    radius: Float[Array, ""],
    max_steps: Any,
    tolerances: RootTolerances,
    options: NewtonOptions,
) -> RootEnd:
    """Go on, with a look at every place where it comes to rest."""

    def again(search: _Search) -> _Search:
        finer = tolerances._replace(gtol=search.gtol)
        end = run(fn, search.end, max_steps, finer, options)
        search = search._replace(end=end, rounds=search.rounds + 1)
        resting = (end.status == SUSPECT) | (end.status == Status.STALLED)
        look = functools.partial(_examine, fn, radius, options)
        return jax.lax.cond(resting, look, lambda search: search, search)

    first = _Search(state, tolerances.gtol, jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda search: search.end.status == Status.RUNNING, again, first).end
    return RootEnd(
        x=end.x,
        residual=end.residual,
        grad_norm=end.model.grad_norm,
        radius=end.radius,
        singular=end.model.singular,
        status=end.status,
        num_steps=end.num_steps,
        num_evals=end.num_evals,
        num_jacobians=end.num_jacobians,
    )


def _examine(fn: Function, radius: Float[Array, ""], options: NewtonOptions, search: _Search) -> _Search:
    """Say what this end is, or show a way on."""
    state = search.end
    x, dtype = state.x, state.x.dtype
    eps = jnp.finfo(dtype).eps
    scale = scale_of(state.largest)
    if x.size > LARGEST_HESSIAN:
        noise = is_noise(fn, x, state.residual)
        resting = jnp.where(state.status == SUSPECT, Status.NO_ROOT, state.status)
        status = jnp.where(noise, Status.VALUE_CONVERGED, resting)
        return search._replace(end=state._replace(status=status.astype(jnp.int32)))
    slopes, hessian = _merit_derivatives(fn, x, state.residual / state.size, state.size, scale)
    curvature, basis = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
    along = basis.T @ slopes
    steepest = jnp.max(jnp.abs(curvature))
    flat = ~(steepest > 0)
    # The merit is ½ in these units. By how much of it could it still fall?
    least = jnp.where(flat, 1.0, x.size * eps * steepest)
    fall = jnp.sum(along**2 / jnp.maximum(jnp.abs(curvature), least))
    noise = is_noise(fn, x, state.residual)
    # Near a root at which J is singular Newton's full step takes a part of ‖f‖ away; the curvature in the
    # directions that the linear model has lost is lost beside that in others.
    helps = newton_helps(fn, state)
    lowest, way, tried = _way_down(fn, state, basis, scale)
    downhill = (curvature[0] < -(eps**0.5) * steepest) | flat
    kick = downhill & (lowest < state.size * (1 - 10 * eps)) & ~noise
    limit = jnp.where(state.status == SUSPECT, STATIONARY, NO_WAY)
    stationary = (fall <= limit) & ~kick & ~helps
    # Stationary neither to first nor to second order: a root at which J is singular, far or near.
    goes_on = kick | ((state.status == SUSPECT) & ~stationary)
    goes_on &= (search.rounds < ROUNDS) & ~noise
    resting = jnp.where(flat, Status.RANK_DEFICIENT, Status.NO_ROOT)
    status = jnp.where(stationary, resting, Status.STALLED)
    status = jnp.where(noise, Status.VALUE_CONVERGED, status)
    status = jnp.where(goes_on, Status.RUNNING, status)
    reach = state.model.reach
    last = jnp.where(reach > 0, state.radius / jnp.where(reach > 0, reach, 1.0), radius)
    finer = jnp.where(search.rounds < ROUNDS - 1, jnp.minimum(search.gtol, state.model.slope) / FINER, 0.0)
    ended = state._replace(
        status=status.astype(jnp.int32),
        num_steps=state.num_steps + kick.astype(jnp.int32),
        num_evals=state.num_evals + NEIGHBORS + tried + 2,
    )
    onward = jnp.where(kick, radius, last).astype(dtype)
    begun = begin(jnp.where(kick, x + way, x), onward, options, state.largest)
    begun = begun._replace(
        num_steps=ended.num_steps, num_evals=ended.num_evals, num_jacobians=ended.num_jacobians
    )
    return _Search(
        jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), begun, ended),
        jnp.where(kick, search.gtol, finer).astype(dtype),
        search.rounds,
    )


def newton_helps(fn: Function, state: RootProgress) -> Bool[Array, ""]:
    """Whether Newton's full step takes a part of ‖f‖ away."""
    step = state.size * state.model.newton / scale_of(state.largest)
    return lengths(fn(state.x + step))[0] < HELPS * state.size


def _way_down(
    fn: Function, state: RootProgress, basis: Float[Array, "n n"], scale: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, " n"], int]:
    """The least ‖f‖ along the directions of least curvature, both ways, far and near; the step; evaluations.

    One after the other: this is hardly ever needed, and a program in which no array is longer than 64 numbers
    runs in half the time on a CPU, whether or not they are ever computed (XLA has another executor for it).
    """
    reach = state.model.reach
    far = jnp.where(reach > 0, reach, 1.0)
    directions = (basis / scale[:, None]).T[:DIRECTIONS]
    count = len(directions)

    def look(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        halvings = (k // count) % LENGTHS
        sign = jnp.where(k < count * LENGTHS, 1.0, -1.0)
        step = (sign * far * jnp.exp2(-halvings.astype(far.dtype))).astype(far.dtype) * directions[k % count]
        (size,) = lengths(fn(state.x + step))
        lower = size < best[0]  # False for NaN
        return jnp.where(lower, size, best[0]), jnp.where(lower, step, best[1])

    tried = 2 * LENGTHS * count
    nothing = jnp.full_like(far, jnp.inf), jnp.zeros_like(state.x)
    return *jax.lax.fori_loop(0, tried, look, nothing), tried


def _merit_derivatives(
    fn: Function, x: Array, unit: Array, size: Array, scale: Array
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Gradient and Hessian of `½‖f‖² / ‖f(x)‖²` with respect to e, by forward mode alone."""

    def relative(e: Array) -> Array:
        return fn(x + size * e / scale) / size

    zero, axes = jnp.zeros_like(x), jnp.eye(x.size, dtype=x.dtype)

    def gradient(e: Array) -> tuple[Array, Array]:
        jacobian_t = jax.vmap(lambda v: jax.jvp(relative, (e,), (v,))[1])(axes)
        return jacobian_t @ unit, jacobian_t

    # Row after row, see `_way_down`.
    bent = jax.lax.map(lambda v: jax.jvp(lambda e: gradient(e)[0], (zero,), (v,))[1], axes)
    slopes, jacobian_t = gradient(zero)
    return slopes, jacobian_t @ jacobian_t.T + bent


def is_noise(fn: Function, x: Float[Array, " n"], residual: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether f is zero as far as can be seen: no more than it changes between neighboring floats."""
    return _within_noise(residual, jax.vmap(fn)(_neighbors(x)))


def _neighbors(x: Float[Array, " n"]) -> Float[Array, "neighbors n"]:
    # Signs of no pattern, fixed.
    i, j = jnp.arange(1, NEIGHBORS + 1)[:, None], jnp.arange(1, x.size + 1)[None, :]
    signs = jnp.where((i * j * (i + j) // 2 + i) % 2 == 0, 1.0, -1.0).astype(x.dtype)
    apart = jnp.ceil(i / 2).astype(x.dtype)
    return x[None] * (1 + jnp.finfo(x.dtype).eps * apart * signs)


def _within_noise(residual: Float[Array, " n"], beside: Float[Array, "neighbors n"]) -> Bool[Array, ""]:
    changes = jnp.max(jnp.abs(beside - residual[None]), axis=0)
    return jnp.all(jnp.abs(residual) <= NOISE * changes)
