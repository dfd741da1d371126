"""Newton's whole steps, while they do well: nearly all that most systems need, in as few kernels as it takes.

A system of few unknowns is solved in microseconds, which go into starting kernels: the path, the region and
the tests of an iteration in trouble (`root_newton`) are four times as many as those of Newton's step. So that
takes over where ‖f‖ does not fall any more.

‖f‖ may rise for a step or two. The level that it has to stay below follows it down, by half in a step at
most: Powell's badly scaled function takes 13 steps, and 48 where nothing may rise. Numbers whose squares
overflow or vanish are left to `root_newton` too. Source: L. Grippo, F. Lampariello and S. Lucidi, A
nonmonotone line search technique for Newton's method, 1986.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.one_kernel import one_kernel
from jaxopt_study.result import Status
from jaxopt_study.solvers.root_model import Function, ModelOptions, lengths, take_jacobian
from jaxopt_study.solvers.root_newton import RootTolerances
from jaxopt_study.square_solve import solve_scaled
from jaxopt_study.types import Bool, Float, Int

FALL = 1 - 1e-4  # of the level, that ‖f‖ has to be below


class Sprint(NamedTuple):
    """Between two steps, and at the end.

    Attributes:
      x: the last point that was accepted.
      step: Newton's, from there.
      residual, gradient: f and `Jᵀf` at the last point that was tried.
      level: what ‖f‖ has to stay below.
      largest: the largest element of each column of J that was seen.
      ending: a `Status`: how it converged, or `RUNNING`.
      going: whether to go on.
      last: whether the step is so short that it is the last.
      tried, accepted: points, the start being one.
    """

    x: Float[Array, " n"]
    step: Float[Array, " n"]
    residual: Float[Array, " n"]
    gradient: Float[Array, " n"]
    level: Float[Array, ""]
    largest: Float[Array, " n"]
    ending: Int[Array, ""]
    going: Bool[Array, ""]
    last: Bool[Array, ""]
    tried: Int[Array, ""]
    accepted: Int[Array, ""]


def sprint(
    fn: Function,
    x: Float[Array, " n"],
    radius: Float[Array, ""],
    max_steps: Any,
    tolerances: RootTolerances,
    options: ModelOptions,
) -> Sprint:
    """Where Newton's whole steps lead: to a root, to the last step before it, or to where they do no good.

    Args:
      fn: f, from a vector to a vector as long.
      x: the start.
      radius: how long a step may be, relative to x, both weighted with the columns of J.
      max_steps: end after so many.
      tolerances: when a root is known.
      options: how the Jacobian is taken.
    """

    def again(now: Sprint) -> Sprint:
        x = now.x + now.step
        residual = fn(x)
        jacobian_t = take_jacobian(fn, x, options)
        columns = jnp.max(jnp.abs(jacobian_t), axis=1)
        columns = jnp.where(columns > 0, columns, 1.0)
        solution = solve_scaled(jacobian_t / columns[:, None], -residual)
        step = solution.x / columns
        rows = jnp.stack([residual, solution.x, columns * x])
        size, far, here = jnp.sqrt(jnp.sum(rows**2, axis=1))
        terms = jnp.sum(jnp.abs(x)[:, None] * jnp.abs(jacobian_t), axis=0)
        below = jnp.abs(jnp.stack([residual, residual, step]))
        above = jnp.stack([0 * terms + tolerances.ftol, jnp.finfo(x.dtype).eps * terms, tolerances.floor])
        small, vanished, tiny = jnp.all(below <= above, axis=1)
        first = now.tried == 0
        accepted = jnp.isfinite(size + far + here) & (first | (size < FALL * now.level)) & ~solution.singular
        short = tiny | (far <= tolerances.xtol * here)
        ending = jnp.where(vanished, Status.VALUE_CONVERGED, Status.RUNNING)
        ending = jnp.where(small, Status.TARGET_REACHED, ending)
        ending = jnp.where(accepted, ending, Status.RUNNING).astype(jnp.int32)
        running = accepted & (ending == Status.RUNNING)
        allowed = (far <= radius * jnp.where(here > 0, here, 1.0)) & (now.accepted < max_steps)
        return Sprint(
            x=jnp.where(accepted, x, now.x),
            step=step,
            residual=residual,
            gradient=jacobian_t @ residual,
            level=jnp.where(first, size, jnp.maximum(size, 0.5 * now.level)),
            largest=jnp.where(accepted, jnp.maximum(now.largest, columns), now.largest),
            ending=ending,
            going=running & ~short & allowed,
            last=running & short,
            tried=now.tried + 1,
            accepted=now.accepted + accepted.astype(jnp.int32),
        )

    nothing, none, no = jnp.zeros_like(x), jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    status, zero = jnp.asarray(Status.RUNNING, jnp.int32), jnp.zeros((), x.dtype)
    first = Sprint(x, nothing, nothing, nothing, zero, nothing, status, ~no, no, none, none)
    return one_kernel(functools.partial(jax.lax.while_loop, lambda now: now.going, again), first)


def last_step(fn: Function, end: Sprint, tolerances: RootTolerances) -> Sprint:
    """Take the last step; it is so short that rounding errors of f may be all that it changes.

    Args:
      fn: f.
      end: of a sprint whose `last` is true.
      tolerances: those of the sprint.
    """
    x = end.x + end.step
    residual = fn(x)
    size, there = lengths(end.residual, residual)
    moves = there <= size
    residual = jnp.where(moves, residual, end.residual)
    small = jnp.all(jnp.abs(residual) <= tolerances.ftol)
    ending = jnp.where(small, Status.TARGET_REACHED, Status.STEP_CONVERGED)
    return end._replace(
        x=jnp.where(moves, x, end.x),
        residual=residual,
        ending=ending.astype(jnp.int32),
        tried=end.tried + 1,
        accepted=end.accepted + moves.astype(jnp.int32),
    )
