"""One step of the loop in `minimize`, and what is carried from one to the next.

There are two kinds of optimizer. Those that accept and refuse their own steps evaluate the
objective themselves and report in a `StepInfo`; the loop evaluates nothing again. For all others,
and for chains, it evaluates value and gradient once a step.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import free_part, project_tree
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.combine import call_update, trained_part
from jaxopt_study.optimizers.step_info import Evaluations, StepInfo
from jaxopt_study.optimizers.transform import relative_gradient
from jaxopt_study.pytree import add, norm, params_dtype
from jaxopt_study.quasi_newton import Learned
from jaxopt_study.result import Status, Trace, is_converged
from jaxopt_study.solvers.ending import after_step, at_point, by_gradient, by_value, refused
from jaxopt_study.stopping import step_test, value_test
from jaxopt_study.types import Bool, Float, Int, PyTree

# The fields of a pytree are not typed by shape: `vmap`, `tree.map` and an `out_axes` make the same
# class hold batches, abstract values and axes.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same from step to step: the problem, the optimizer, the tests."""

    objective: Any
    optimizer: Any
    args: Any
    bounds: Any
    max_steps: Any
    tolerances: Any
    observe: Any
    batch_fn: Any
    key: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """What changes from step to step.

    Attributes:
      params, value, status, num_steps, num_evals, opt_state, trace: as in `Result`.
      grads: gradient at `params`, where the loop evaluates it; else None.
      grad_norm: its norm, where the optimizer reports it and has done so at these `params`; else
        the norm of `grads` when the last run of steps was over, see `measure`.
      pending: how the iteration will end once `grad_norm` is measured at `params`; `RUNNING` if
        it will not.
    """

    params: Any
    opt_state: Any
    value: Any
    grads: Any
    grad_norm: Any
    status: Any
    pending: Any
    num_steps: Any
    num_evals: Any
    trace: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carry:
    """A minimization between two calls of `advance`: a pytree of arrays."""

    setup: Any
    state: Any


def is_running(state: Progress) -> Bool[Array, ""]:
    """Whether the iteration has not ended."""
    return state.status == Status.RUNNING


def is_stationary(setup: Setup, state: Progress) -> Bool[Array, ""]:
    """Whether the iteration has ended where the gradient is zero, as far as that can be told.

    A method that accepts and refuses its own steps knows by their lengths and gains. The steps of others may
    be short for any reason, and only the gradient itself counts, to √ε.
    """
    ended = is_converged(state.status) & (state.status != Status.TARGET_REACHED)
    if state.grads is None:
        return ended
    flat = _gradient_measure(setup, state.params, state.grads, state.value)
    small = flat <= jnp.finfo(flat.dtype).eps ** 0.5
    return ended & ((state.status == Status.GRADIENT_CONVERGED) | small)


def begin(setup: Setup, params: PyTree, opt_state: Any, record: Trace | None) -> Progress:
    """Evaluate the objective at the start."""
    dtype = params_dtype(params)
    objective = _at_step(setup, jnp.zeros((), jnp.int32))
    status = jnp.asarray(Status.RUNNING, jnp.int32)
    if _own_report(opt_state) is None:
        value, grads = jax.value_and_grad(objective.value)(params)
        grad_norm = norm(_free(setup, params, grads))
        status = jnp.where(jnp.isfinite(norm(grads)), status, Status.NON_FINITE_START)
    else:
        value, grads, grad_norm = objective.value(params), None, jnp.full((), jnp.nan, dtype)
    status = jnp.where(jnp.isfinite(value), status, Status.NON_FINITE_START)
    state = Progress(
        params=params,
        opt_state=opt_state,
        value=value,
        grads=grads,
        grad_norm=grad_norm,
        status=status,
        pending=jnp.asarray(Status.RUNNING, jnp.int32),
        num_steps=jnp.zeros((), jnp.int32),
        num_evals=jnp.ones((), jnp.int32),
        trace=record,
    )
    ending = _end_by_value(setup, state, Status.RUNNING)
    if grads is None:
        state = dataclasses.replace(state, pending=ending)
    else:
        ending = by_gradient(setup.tolerances, _gradient_measure(setup, params, grads, value), ending)
        state = dataclasses.replace(state, status=jnp.where(is_running(state), ending, state.status))
    return _record(setup, state)


def measure(setup: Setup, state: Progress) -> Progress:
    """Take the norm of the gradient, which nothing needs before a run of steps is over."""
    if state.grads is None:
        return state
    grad_norm = norm(_free(setup, state.params, state.grads))
    lost = (state.status == Status.OUT_OF_STEPS) & ~jnp.isfinite(grad_norm)
    status = jnp.where(lost, Status.NON_FINITE, state.status)
    return dataclasses.replace(state, grad_norm=grad_norm, status=status)


def step(setup: Setup, state: Progress) -> Progress:
    """Take one step, or end."""
    if _own_report(state.opt_state) is None:
        return _plain_step(setup, state)
    return _reporting_step(setup, state)


def _plain_step(setup: Setup, state: Progress) -> Progress:
    here = _at_step(setup, state.num_steps)
    extra = {**here.extras, "value": state.value, "grad": state.grads}
    updates, opt_state = call_update(setup.optimizer, state.grads, state.opt_state, state.params, **extra)
    params = _move(setup, state.params, updates)
    value, grads = jax.value_and_grad(_at_step(setup, state.num_steps + 1).value)(params)
    new = dataclasses.replace(
        state,
        params=params,
        opt_state=opt_state,
        value=value,
        grads=grads,
        num_steps=state.num_steps + 1,
        num_evals=state.num_evals + 1 + sum(report.num_evals for report in _all_reports(opt_state)),
    )
    ending = jnp.asarray(Status.RUNNING, jnp.int32)
    tolerances = setup.tolerances
    moved = jnp.zeros(())
    if tolerances.xtol is not None or tolerances.ftol is not None:
        moved = norm(jax.tree.map(jnp.subtract, params, state.params))
    if tolerances.xtol is not None:
        short = step_test(moved, norm(state.params), tolerances.xtol)
        ending = jnp.where(short, Status.STEP_CONVERGED, ending)
    if tolerances.ftol is not None:
        fall = state.value - value
        still = value_test(fall, fall, state.value, tolerances.ftol)
        ending = jnp.where(still, Status.VALUE_CONVERGED, ending)
    if tolerances.xtol is not None or tolerances.ftol is not None:
        # A step of zero, of a warm-up, of gradients being gathered, or into a bound, says nothing.
        ending = jnp.where(moved > 0, ending, Status.RUNNING)
    for report in _all_reports(opt_state):
        ending = jnp.where(report.accepted, ending, refused(report))
    ending = by_gradient(setup.tolerances, _gradient_measure(setup, params, grads, value), ending)
    ending = _end_by_value(setup, new, ending)
    return _record(setup, dataclasses.replace(new, status=ending))


def _reporting_step(setup: Setup, state: Progress) -> Progress:
    """A step of an optimizer that measures itself.

    It reports the gradient at `state.params` together with the step away from them. So an end
    that comes with a step is pending until the next call, which only measures.
    """
    measure_only = state.pending != Status.RUNNING
    still = (state.pending == Status.STEP_CONVERGED) | (state.pending == Status.VALUE_CONVERGED)
    here = _at_step(setup, state.num_steps)
    updates, opt_state = call_update(
        setup.optimizer,
        None,
        state.opt_state,
        state.params,
        **here.extras,
        measure_only=measure_only,
        last_look=still & (state.num_steps < setup.max_steps),
        gtol=setup.tolerances.gtol,
        target=setup.tolerances.target,
    )
    report = _own_report(opt_state)
    if report is None:
        raise TypeError("optimizer: its state had an `info` before the update, and has none after it")
    # What looks like an end but has a way down is a saddle, or a valley that damping hid: it is left.
    way_down = report.way_down | (measure_only & report.accepted)
    pending = jnp.where(way_down & still, Status.RUNNING, state.pending)
    ending = jnp.where(measure_only, pending, Status.RUNNING)
    ending = jnp.where(report.accepted | measure_only, ending, refused(report))
    better = ~way_down & (~measure_only | (ending == Status.OUT_OF_STEPS))
    ending = at_point(setup.tolerances, report, state.num_steps, ending, better)
    ended = ending != Status.RUNNING

    # Where the iteration ends here, the step is not taken, and the optimizer's state goes on
    # telling of the last one that was, or of the one that was refused; but counts count, and what was
    # learned is true of these parameters, and as much to put back as to make.
    def choose(old: PyTree, new: PyTree, keep: Bool[Array, ""] = ended) -> Any:
        stays = lambda node: isinstance(node, Evaluations | Learned)  # noqa: E731
        return jax.tree.map(lambda o, n: n if stays(o) else jnp.where(keep, o, n), old, new, is_leaf=stays)

    value = choose(state.value, report.value)
    if setup.batch_fn is not None:  # the value goes with the gradient: both are of this step's batch
        value = jnp.where(measure_only, report.value, value)
    state = dataclasses.replace(
        state,
        params=choose(state.params, _move(setup, state.params, updates)),
        opt_state=choose(state.opt_state, opt_state, keep=ended & (measure_only | report.accepted)),
        value=value,
        grad_norm=jnp.where(ended, report.grad_norm, jnp.nan),
        status=ending,
        num_steps=state.num_steps + (~ended & report.accepted).astype(jnp.int32),
        num_evals=state.num_evals + report.num_evals,
    )
    pending = after_step(setup.tolerances, report, state.value)
    pending = _end_by_value(setup, state, pending)
    state = dataclasses.replace(state, pending=jnp.where(ended, Status.RUNNING, pending))
    return _record(setup, state)


def _move(setup: Setup, params: PyTree, updates: PyTree) -> PyTree:
    moved = add(params, updates)
    return moved if setup.bounds is None else project_tree(setup.bounds, moved)


def _free(setup: Setup, params: PyTree, grads: PyTree) -> PyTree:
    """The gradient of the leaves that are trained, zero where a bound holds a parameter."""
    if setup.bounds is not None:
        grads = free_part(setup.bounds, params, grads)
    return trained_part(setup.optimizer, grads)


def _end_by_value(setup: Setup, state: Progress, ending: Any) -> Int[Array, ""]:
    return by_value(setup.tolerances, setup.max_steps, state.value, state.num_steps, ending)


def _gradient_measure(setup: Setup, params: PyTree, grads: PyTree, value: Float[Array, ""]) -> Any:
    optimizer = setup.optimizer
    return relative_gradient(trained_part(optimizer, params), _free(setup, params, grads), value)


def _record(setup: Setup, state: Progress) -> Progress:
    if state.trace is None:
        return state
    seen = None if setup.observe is None else setup.observe(state.params)
    written = jax.tree.map(
        lambda whole, now: whole.at[state.num_steps].set(jnp.asarray(now, whole.dtype)),
        state.trace,
        Trace(state.value, seen),
    )
    return dataclasses.replace(state, trace=written)


def _own_report(opt_state: Any) -> StepInfo | None:
    """The optimizer's report, if its update is the step it reports on (not so inside a chain)."""
    info = getattr(opt_state, "info", None)
    return info if isinstance(info, StepInfo) else None


def _all_reports(opt_state: Any) -> list[StepInfo]:
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, StepInfo))
    return [leaf for leaf in leaves if isinstance(leaf, StepInfo)]


@dataclasses.dataclass(frozen=True)
class _AtStep:
    """The objective with the data of one step."""

    value: Any
    extras: dict[str, Any]


def _at_step(setup: Setup, num_steps: Int[Array, ""]) -> _AtStep:
    args = setup.args
    if setup.batch_fn is not None and setup.key is not None:
        args = setup.batch_fn(num_steps, jax.random.fold_in(setup.key, num_steps))

    # Line searches of optax hand the extras that they do not know to `value_fn`, and refuse those
    # that it does not take: it has to take what Gauss-Newton and Levenberg-Marquardt are given.
    def value_fn(
        params: PyTree, *, residual_fn: Any = None, args: Any = None, bounds: Any = None
    ) -> Float[Array, ""]:
        del residual_fn, args, bounds
        return jnp.asarray(setup.objective(params, *data), params_dtype(params))

    data = args
    extras: dict[str, Any] = {"value_fn": value_fn}
    if setup.bounds is not None:
        extras["bounds"] = setup.bounds
    if isinstance(setup.objective, LeastSquares):
        extras |= {"residual_fn": setup.objective, "args": data}
    return _AtStep(value_fn, extras)
