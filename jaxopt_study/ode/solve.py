"""`solve_ode`: initial value problems, on diffrax's methods."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.ode.flow import flow
from jaxopt_study.ode.march import Numbers, Plan, slots_for
from jaxopt_study.ode.methods import check_solver, method_of
from jaxopt_study.ode.solution import Solution, Stats
from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.pytree import check_real, params_dtype, ravel, ravel_leaves, traceable
from jaxopt_study.result import Status
from jaxopt_study.solvers.implicit import closed
from jaxopt_study.types import Float, PyTree

Adjoint = Literal["auto", "checkpoint", "backsolve", "direct", "forward"]
Field = Callable[[Any, PyTree, PyTree], PyTree]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Options:
    """What is compiled for."""

    solver: Any
    adjoint: Adjoint
    max_steps: int
    dense: bool


def solve_ode(
    field: Field,
    y0: PyTree,
    ts: Float[ArrayLike, " times"],
    params: PyTree = None,
    *,
    solver: Any = None,
    rtol: ArrayLike | None = None,
    atol: Any = None,
    adjoint: Adjoint = "auto",
    t0: ArrayLike | None = None,
    event: Callable[[Any, PyTree, PyTree], Any] | None = None,
    first_step: ArrayLike | None = None,
    step: ArrayLike | None = None,
    max_steps: int = 4096,
    dense: bool = False,
) -> Solution:
    """Solve `dy/dt = field(t, y, params)` from y0 at t0."""
    y0 = check_real("y0", y0)
    dtype = params_dtype(y0)
    times = jnp.asarray(ts, dtype)
    start = times[0] if t0 is None else jnp.asarray(t0, dtype)
    options = Options(check_solver(solver or "tsit5"), adjoint, max_steps, dense)
    eps = float(jnp.finfo(dtype).eps)
    rtol = eps**0.5 if rtol is None else rtol
    atol = eps**0.5 * 1e-2 if atol is None else atol
    numbers = Numbers(Tolerances(jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype)), first_step, step)
    return _solve(options, traceable(field), y0, times, params, start, numbers)


@jax.jit
def _solve(
    options: Options, field: Field, y0: PyTree, ts: Array, params: PyTree, t0: Array, numbers: Numbers
) -> Solution:
    flat, unravel = ravel(y0)

    def plain(t: Array, y: Array, params: PyTree) -> Array:
        return ravel_leaves(field(t, unravel(y), params)).astype(flat.dtype)

    of_closure, closure = closed(plain, t0, flat, params)
    direction = jnp.where(ts[-1] >= t0, 1.0, -1.0).astype(flat.dtype)

    def forwards(t: Array, y: Array, theta: PyTree) -> Array:
        closure, direction, params = theta
        return direction * of_closure(closure, direction * t, y, params)

    method = method_of(options.solver, *numbers.tolerances)
    row = flat.size * flat.dtype.itemsize
    plan = Plan(forwards, method, options.max_steps, slots_for(options.max_steps, 2 * row, options.adjoint == "checkpoint"), options.dense)
    theta = (closure, jax.lax.stop_gradient(direction), params)
    moves, done = flow(plan, theta, flat, direction * t0, direction * ts, numbers)
    kept = done.kept
    stats = Stats(done.tries, kept.num_steps, done.tries - kept.num_steps)
    ys = jax.vmap(unravel)(moves.ys)
    return Solution(ts, ys, done.status, stats, direction * done.t, unravel(done.y))
