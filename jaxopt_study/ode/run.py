"""One solve of a problem of vectors: by the march, or for comparison by diffrax's own loop."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from jaxopt_study.ode.adjoint import Forward, backsolve
from jaxopt_study.ode.by_diffrax import solve_by_diffrax
from jaxopt_study.ode.check_input import Adjoint
from jaxopt_study.ode.dense_output import evaluate
from jaxopt_study.ode.event import first_crossing
from jaxopt_study.ode.flow import flow
from jaxopt_study.ode.plan import Numbers, Plan, plan_for
from jaxopt_study.ode.problem import Problem
from jaxopt_study.ode.solution import Solution, Stats
from jaxopt_study.result import Status
from jaxopt_study.solvers.implicit import root_of, solve_regular
from jaxopt_study.types import PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Options:
    """What is compiled for."""

    solver: Any
    adjoint: Adjoint
    max_steps: int
    dense: bool


def by_march(options: Options, has_event: bool, problem: Problem, ts: Array, numbers: Numbers) -> Solution:
    """Solve in the loop of `march`, with its derivatives; `ts` are the times as they were given."""
    field, _, theta, y0, t0, times, unravel, direction = problem
    save = options.adjoint == "checkpoint"
    plan = plan_for(field, y0, options.solver, options.max_steps, options.dense, save)
    if has_event:
        end, found = _event_time(dataclasses.replace(plan, dense=False), problem, numbers)
        asked = jnp.concatenate([jnp.where(times <= end, times, end), end[None]])
    else:
        asked = times
    moves, done = flow(plan, theta, y0, t0, asked, numbers)
    kept = done.kept
    status, ys, y_end, t_end = done.status, moves.ys, done.place.y, done.place.t
    if has_event:
        reached = status == Status.END_REACHED
        status = jnp.where(reached & found, Status.EVENT, status).astype(jnp.int32)
        ys, last = ys[:-1], ys[-1]
        ys = jnp.where((times <= end)[:, None], ys, jnp.nan)
        y_end, t_end = jnp.where(reached, last, y_end), jnp.where(reached, end, t_end)
    else:
        y_end = jnp.where(status == Status.END_REACHED, ys[-1], y_end)
    stats = Stats(done.tries, kept.num_steps, done.tries - kept.num_steps)
    dense = None
    if options.dense:
        dense = Partial(
            functools.partial(evaluate, plan, unravel),
            numbers,
            theta,
            jax.lax.stop_gradient(kept),
            moves.all_states,
            direction,
        )
    return Solution(ts, jax.vmap(unravel)(ys), status, stats, direction * t_end, unravel(y_end), dense)


def _event_time(plan: Plan, problem: Problem, numbers: Numbers) -> tuple[Array, Array]:
    """When the event comes, with the derivatives that the implicit function theorem says it has."""
    field, event, theta, y0, t0, times, _, _ = problem
    del field

    def height(t: Array) -> Array:
        there = flow(plan, theta, y0, t0, t[None], numbers).moves.ys[0]
        return event(t, there, theta)

    def search() -> tuple[Array, Array]:
        still = jax.lax.stop_gradient((theta, y0, t0, times[-1], numbers))
        theta_, y0_, t0_, end, numbers_ = still
        return first_crossing(plan, theta_, y0_, t0_, end, event, numbers_)

    def slope_solve(product: Any, target: Array, t: Array) -> Array:
        return solve_regular(lambda z: product(z[0])[None], target[None], t)[0]

    end, found = root_of(height, search, t0, slope_solve)
    # Without an event the end is the last time, and moves with it.
    return jnp.where(found, end, times[-1]), found


def by_other_loops(options: Options, problem: Problem, numbers: Numbers) -> tuple[Array, Any, Array]:
    """States, counts of steps and status, by diffrax's loop and one of its adjoints, or `backsolve`."""
    import diffrax

    field, theta = problem.field, problem.theta
    if options.adjoint == "backsolve":
        of_parts, floats, others = _in_parts(field, theta)
        how = Forward(of_parts, options.solver, options.max_steps)
        return backsolve(how, floats, others, problem.y0, problem.t0, problem.ts, numbers)
    adjoint = diffrax.DirectAdjoint() if options.adjoint == "direct" else diffrax.ForwardMode()
    return solve_by_diffrax(
        field, options.solver, theta, problem.y0, problem.t0, problem.ts, numbers.tolerances, adjoint,
        options.max_steps, numbers.first_step,
    )  # fmt: skip


def _in_parts(field: Any, theta: PyTree) -> tuple[Any, list[Array], list[Array]]:
    """The field as a function of theta's floats and its other leaves, and those."""
    leaves, structure = jax.tree.flatten(theta)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def of_parts(t: Array, y: Array, parts: tuple) -> Array:
        floats, others = (iter(part) for part in parts)
        filled = [next(floats) if yes else next(others) for yes in is_float]
        return field(t, y, jax.tree.unflatten(structure, filled))

    floats = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if yes]
    others = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if not yes]
    return of_parts, floats, others
