"""`solve_ode`: initial value problems, on diffrax's methods, with derivatives of every kind."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from jaxopt_study.ode.adjoint import Forward, backsolve
from jaxopt_study.ode.by_diffrax import solve_by_diffrax
from jaxopt_study.ode.event import first_crossing
from jaxopt_study.ode.flow import flow
from jaxopt_study.ode.march import Kept, Numbers, Plan, keeps_stages, slots_for
from jaxopt_study.ode.methods import check_solver
from jaxopt_study.ode.solution import Solution, Stats
from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.pytree import check_real, params_dtype, ravel, ravel_leaves, traceable
from jaxopt_study.result import Status
from jaxopt_study.solvers.implicit import closed, root_of, solve_regular
from jaxopt_study.types import PyTree

Adjoint = Literal["auto", "checkpoint", "backsolve", "direct", "forward"]
Field = Callable[[Any, PyTree, PyTree], PyTree]
MAX_STEPS = 4096


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    """What is compiled for."""

    solver: Any
    adjoint: Adjoint
    max_steps: int
    dense: bool


def solve_ode(
    field: Field,
    y0: PyTree,
    ts: Any,
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
    max_steps: int = MAX_STEPS,
    dense: bool = False,
) -> Solution:
    """Solve `dy/dt = field(t, y, params)` from y0 at the first time to the last.

    Under `adjoint="auto"` everything may be differentiated with `jax.grad`, `jacfwd`, `jacrev`, `hessian`,
    `jvp`, in any order and under `vmap`, with respect to y0, params, ts, t0 and what the field closes over.

    | adjoint        | what it is, and when                                                              |
    |----------------|-----------------------------------------------------------------------------------|
    | `"auto"`       | the derivative of the numerical solution: forward mode along the steps, reverse   |
    |                | mode back over kept states; all of them where that is little memory               |
    | `"checkpoint"` | the same with at most 256 kept states, whatever `max_steps` is                    |
    | `"direct"`     | diffrax's `DirectAdjoint`, through its loop: slow to compile; for comparison      |
    | `"forward"`    | diffrax's `ForwardMode`: no reverse mode; for comparison                          |
    | `"backsolve"`  | the continuous adjoint, solved backwards (`ode.adjoint`): reverse mode only, and  |
    |                | **wrong without a sign of it** where the problem is stiff                         |

    Args:
      field: `field(t, y, params) -> dy/dt`, a pytree like y. Compiled for once per function *object*: define
        it once, and pass what changes through `params`.
      y0: the state at the start, a pytree of real float arrays. A batch that is an axis of y0 has one step
        size, which is fastest; under `vmap` each sample has its own steps.
      ts: the times at which the state is wanted, increasing or decreasing, shape `(times,)`.
      params: passed to the field; any pytree.
      solver: a name (`"tsit5"`, the default, `"dopri5"`, `"dopri8"`, `"bosh3"`, ...; for stiff problems
        `"kvaerno3"`, `"kvaerno5"`), or a Runge-Kutta method of diffrax.
      rtol: a step's error may be `atol + rtol |y|`, in the root mean square over all of y; √ε by default
        (1.5e-8 in float64, 3.5e-4 in float32).
      atol: one number, or a pytree like y0; √ε / 100 by default.
      adjoint: see above.
      t0: where y0 is; the first of ts by default.
      event: `event(t, y, params) -> scalar`: the solve ends where it changes its sign.
      first_step: the length of the first step; chosen by default.
      step: a constant step length, without control of the error.
      max_steps: end with `OUT_OF_STEPS` after so many tries, static.
      dense: whether `Solution.evaluate` is wanted: every state is then kept.

    Returns:
      A `Solution`. Where the solve failed, states are NaN from there on, and so are the derivatives of those;
      `status` says why: `OUT_OF_STEPS`, `STEP_TOO_SMALL`, `NON_FINITE_START`, `NON_FINITE` (a constant step).
      Derivatives hold the steps fixed. That of a state by its own time is the field there, that by t0 minus
      the field at the start, carried along. `status`, `stats` and `t_end` without an event carry none.

    Raises:
      TypeError: if an argument is of the wrong kind, or y0 has a leaf that is not a real float array.
      ValueError: if ts is not one row of finite, monotone times (found within `jit`, they are NaN and the
        status is `NON_FINITE_START`), the field returns other shapes than y0's, or an
        option is unknown or does not go with another.

    Source: methods: diffrax (P. Kidger, On Neural Differential Equations, 2021); see `step_control`.

    Example:
      >>> import jaxopt_study as jos
      >>> def oscillator(t, y, frequency):
      ...     return {"x": y["v"], "v": -frequency**2 * y["x"]}
      >>> def at_the_end(frequency):
      ...     start = {"x": jnp.array(0.0), "v": jnp.array(1.0)}
      ...     ts = jnp.array([0.0, 0.5])
      ...     return jos.solve_ode(oscillator, start, ts, frequency, rtol=1e-6, atol=1e-6).ys["x"][-1]
      >>> print(f"{at_the_end(1.0):.4f} {jax.grad(at_the_end)(1.0):.4f}")
      0.4794 -0.0406
    """
    _check(field, ts, adjoint, event, max_steps, dense)
    y0 = check_real("y0", y0)
    dtype = params_dtype(y0)
    given = jnp.asarray(ts)
    if jnp.iscomplexobj(given):
        raise TypeError(f"ts: expected real times, got dtype {given.dtype}")
    times = jnp.asarray(ts, dtype)
    start = times[0] if t0 is None else jnp.asarray(t0, dtype)
    _check_times(times, start)
    chosen = check_solver("tsit5" if solver is None else solver)
    numbers_given: dict[str, Any] = {"rtol": rtol, "first_step": first_step, "step": step}
    for name, value in numbers_given.items():
        if np.ndim(value) != 0:
            raise ValueError(f"{name}: expected one number, got shape {np.shape(value)}")
        if value is not None and not isinstance(value, jax.core.Tracer) and not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    if step is not None and adjoint not in ("auto", "checkpoint"):
        raise ValueError(f"step: adjoint {adjoint!r} takes none; 'auto' and 'checkpoint' do")
    if step is None and not _estimates(chosen):
        raise ValueError(
            f"step: {type(chosen).__name__} has no estimate of its error: give it a constant step"
        )
    eps = float(jnp.finfo(dtype).eps)
    numbers = Numbers(
        Tolerances(jnp.asarray(eps**0.5 if rtol is None else rtol, dtype), _spread(atol, y0, eps**0.5 / 100)),
        None if first_step is None else jnp.asarray(first_step, dtype),
        None if step is None else jnp.asarray(step, dtype),
    )
    options = _Options(chosen, adjoint, int(max_steps), dense)
    functions = (traceable(field), None if event is None else traceable(event))
    return _solve(options, functions, y0, times, params, start, numbers)


def _check(field: Any, ts: Any, adjoint: Any, event: Any, max_steps: Any, dense: Any) -> None:
    for name, value in (("field", field), ("event", event)):
        if not callable(value) and not (name == "event" and value is None):
            raise TypeError(f"{name}: expected a function of (t, y, params), got {type(value).__name__}")
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        raise ValueError(f"ts: expected one row of times, got shape {np.shape(ts)}")
    if adjoint not in get_args(Adjoint):
        raise ValueError(f"adjoint: expected one of {get_args(Adjoint)}, got {adjoint!r}")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 1:
        raise ValueError(f"max_steps: expected a whole number >= 1, got {max_steps!r}")
    for name, wanted in (("event", event is not None), ("dense", dense)):
        if wanted and adjoint not in ("auto", "checkpoint"):
            raise ValueError(f"{name}: adjoint {adjoint!r} has none; 'auto' and 'checkpoint' do")


def _check_times(ts: Array, t0: Array) -> None:
    if t0.ndim != 0:
        raise ValueError(f"t0: expected one time, got shape {t0.shape}")
    if isinstance(ts, jax.core.Tracer) or isinstance(t0, jax.core.Tracer):
        return
    times = np.concatenate([np.asarray(t0)[None], np.asarray(ts)])
    if not np.all(np.isfinite(times)):
        raise ValueError(f"ts: expected finite times, got {times[~np.isfinite(times)][0]}")
    steps = np.diff(times)
    if np.any(steps > 0) and np.any(steps < 0):
        raise ValueError("ts: expected times that increase, or decrease, from t0 on; they do both")


def _estimates(solver: Any) -> bool:
    import diffrax

    return isinstance(solver, diffrax.AbstractAdaptiveSolver)


def _spread(atol: Any, y0: PyTree, default: float) -> Array:
    """The absolute tolerance: one number, or one an element of the state."""
    dtype = params_dtype(y0)
    for leaf in jax.tree.leaves(atol):
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.asarray(leaf) >= 0):
            raise ValueError(f"atol: expected no negative number, got {leaf}")
    if atol is None:
        return jnp.asarray(default, dtype)
    given: Any = jax.tree.structure(atol)
    if given != jax.tree.structure(y0):
        if given != jax.tree.structure(0) or np.ndim(atol) != 0:
            raise ValueError("atol: expected one number, or a pytree like y0")
        return jnp.asarray(atol, dtype)
    if all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(atol)) and given.num_leaves == 1:
        return jnp.asarray(jax.tree.leaves(atol)[0], dtype)
    return ravel_leaves(jax.tree.map(lambda a, y: jnp.broadcast_to(jnp.asarray(a, dtype), y.shape), atol, y0))


class _Problem(NamedTuple):
    """The problem as vectors, with time running forwards."""

    field: Any
    event: Any
    theta: PyTree
    y0: Array
    t0: Array
    ts: Array
    unravel: Any
    direction: Array


def _as_vectors(functions: tuple, y0: PyTree, ts: Array, params: PyTree, t0: Array) -> _Problem:
    field, event = functions
    flat, unravel = ravel(y0)
    _check_slope(jax.eval_shape(field, t0, y0, params), y0)
    if event is not None:
        _check_height(jax.eval_shape(event, t0, y0, params))

    def slope(t: Array, y: Array, params: PyTree) -> Array:
        return ravel_leaves(field(t, unravel(y), params)).astype(flat.dtype)

    def height(t: Array, y: Array, params: PyTree) -> Array:
        return jnp.asarray(0.0 if event is None else event(t, unravel(y), params), flat.dtype)

    # What they close over becomes an argument, so that it is differentiated too.
    of_slope, slope_closure = closed(slope, t0, flat, params)
    of_height, height_closure = closed(height, t0, flat, params)
    direction = jax.lax.stop_gradient(jnp.where(ts[-1] >= t0, 1.0, -1.0).astype(flat.dtype))

    def forwards(t: Array, y: Array, theta: Any) -> Array:
        closure, _, direction, params = theta
        return direction * of_slope(closure, direction * t, y, params)

    def crossing(t: Array, y: Array, theta: Any) -> Array:
        _, closure, direction, params = theta
        return of_height(closure, direction * t, y, params)

    theta = (slope_closure, height_closure, direction, params)
    # Traced once for all the places where a step needs it.
    return _Problem(
        jax.jit(forwards), crossing, theta, flat, direction * t0, direction * ts, unravel, direction
    )


def _check_slope(slope: Any, y0: PyTree) -> None:
    got: Any = jax.tree.structure(slope)
    if got != jax.tree.structure(y0):
        raise ValueError(f"field: expected dy/dt as a pytree like y0, {jax.tree.structure(y0)}, got {got}")
    shapes = [leaf.shape for leaf in jax.tree.leaves(slope)]
    expected = [leaf.shape for leaf in jax.tree.leaves(y0)]
    if shapes != expected:
        raise ValueError(f"field: expected dy/dt of the shapes of y0, {expected}, got {shapes}")
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(slope)):
        raise TypeError("field: expected a real dy/dt, got a complex one")


def _check_height(height: Any) -> None:
    """A condition has no sign that changes: taken as a number, it would never be seen to hold."""
    leaves = jax.tree.leaves(height)
    if len(leaves) != 1 or leaves[0].shape or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        got = ", ".join(f"{leaf.dtype} of shape {leaf.shape}" for leaf in leaves)
        raise TypeError(f"event: expected one real float, whose sign changes, got {got}")


@jax.jit
def _solve(
    options: _Options, functions: tuple, y0: PyTree, ts: Array, params: PyTree, t0: Array, numbers: Numbers
) -> Solution:
    problem = _as_vectors(functions, y0, ts, params, t0)
    if options.adjoint in ("auto", "checkpoint"):
        return _march(options, functions[1] is not None, problem, ts, numbers)
    ys, counts, status = _by_other_loops(options, problem, numbers)
    stats = Stats(*(counts[name] for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")))
    ys = jax.vmap(problem.unravel)(ys)
    return Solution(ts, ys, status, stats, ts[-1], jax.tree.map(lambda leaf: leaf[-1], ys))


def _by_other_loops(options: _Options, problem: _Problem, numbers: Numbers) -> tuple[Array, Any, Array]:
    import diffrax

    field, theta = problem.field, problem.theta
    if options.adjoint == "backsolve":
        how = Forward(*_of_floats(field, theta)[:1], options.solver, options.max_steps)
        floats = _of_floats(field, theta)[1]
        return backsolve(how, floats, problem.y0, problem.t0, problem.ts, numbers.tolerances)
    adjoint = diffrax.DirectAdjoint() if options.adjoint == "direct" else diffrax.ForwardMode()
    return solve_by_diffrax(
        field, options.solver, theta, problem.y0, problem.t0, problem.ts, numbers.tolerances, adjoint,
        options.max_steps, numbers.first_step,
    )  # fmt: skip


def _of_floats(field: Any, theta: PyTree) -> tuple[Any, list[Array]]:
    """The field as a function of the floats of theta alone, and those."""
    leaves, structure = jax.tree.flatten(theta)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def of_floats(t: Array, y: Array, floats: list[Array]) -> Array:
        given = iter(floats)
        filled = [next(given) if yes else leaf for yes, leaf in zip(is_float, leaves, strict=True)]
        return field(t, y, jax.tree.unflatten(structure, filled))

    return of_floats, [leaf for leaf, yes in zip(leaves, is_float, strict=True) if yes]


def _march(options: _Options, has_event: bool, problem: _Problem, ts: Array, numbers: Numbers) -> Solution:
    field, _, theta, y0, t0, times, unravel, direction = problem
    # A state and its slope are kept.
    slots = slots_for(options.max_steps, 2 * y0.size * y0.dtype.itemsize, options.adjoint == "checkpoint")
    plan = Plan(field, options.solver, options.max_steps, slots, options.dense)
    plan = dataclasses.replace(plan, wide=keeps_stages(plan.bound(numbers.tolerances), y0))
    if has_event:
        end, found = _event_time(dataclasses.replace(plan, dense=False), problem, numbers)
        asked = jnp.concatenate([jnp.where(times <= end, times, end), end[None]])
    else:
        asked = times
    moves, done = flow(plan, theta, y0, t0, asked, numbers)
    kept = done.kept
    status, ys, y_end, t_end = done.status, moves.ys, done.y, done.t
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
            functools.partial(_evaluate, plan, unravel),
            numbers.tolerances,
            theta,
            jax.lax.stop_gradient(kept),
            moves.all_states,
            direction,
        )
    return Solution(ts, jax.vmap(unravel)(ys), status, stats, direction * t_end, unravel(y_end), dense)


def _event_time(plan: Plan, problem: _Problem, numbers: Numbers) -> tuple[Array, Array]:
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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    plan: Plan,
    unravel: Any,
    tolerances: Tolerances,
    theta: PyTree,
    kept: Kept,
    states: Array,
    direction: Array,
    t: ArrayLike,
) -> PyTree:
    """The state at any time, from the step in which it lies, taken once more."""
    at = direction * jnp.asarray(t, states.dtype)
    plan = plan.bound(tolerances)

    def one(at: Array) -> PyTree:
        number = jnp.arange(kept.times.size)
        begins = (number < kept.num_steps) & (kept.times <= at)
        index = jnp.maximum(jnp.sum(begins) - 1, 0)
        t, t_new, y = kept.times[index], kept.times[index + 1], states[index]
        _, _, dense = plan.method.advance(plan.field, theta, t, t_new - t, y, plan.field(t, y, theta))
        here = plan.method.observe(t, t_new - t, dense, at[None])[0]
        here = jnp.where(kept.num_steps > 0, here, y)
        return unravel(jnp.where((at >= kept.times[0]) & (at <= kept.t_end), here, jnp.nan))

    flat = jax.vmap(one)(at.ravel())
    return jax.tree.map(lambda leaf: leaf.reshape(at.shape + leaf.shape[1:]), flat)
