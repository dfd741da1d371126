"""The one loop: any optimizer on any objective, whole or in parts.

`minimize` is `start`, `advance` and `finish` in one jitted call. What one step does is in `step`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds, project_tree, sides
from jaxopt_study.compiling import Task, jit_small
from jaxopt_study.objectives import LeastSquares, check_objective
from jaxopt_study.one_kernel import one_kernel
from jaxopt_study.optimizers.combine import trained_leaves
from jaxopt_study.optimizers.step_info import StepInfo
from jaxopt_study.pytree import params_dtype
from jaxopt_study.result import Result, Status, Trace
from jaxopt_study.solvers.flat import on_a_vector
from jaxopt_study.solvers.implicit import follow_the_data
from jaxopt_study.solvers.minimize_input import Objective, check_inputs, check_max_steps, check_state
from jaxopt_study.solvers.step import Carry, Progress, Setup, begin, is_running, is_stationary, measure, step
from jaxopt_study.stopping import Tolerances, default_tolerances
from jaxopt_study.traced_once import traced_once
from jaxopt_study.types import PyTree


def minimize(
    objective: Objective,
    params: PyTree,
    optimizer: optax.GradientTransformation,
    args: tuple = (),
    *,
    bounds: Bounds | None = None,
    max_steps: ArrayLike = 1000,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
    target: ArrayLike | None = None,
    trace: bool | Callable[[PyTree], PyTree] = False,
    batch_fn: Callable[[Array, Array], tuple] | None = None,
    key: Array | None = None,
    opt_state: Any = None,
) -> Result:
    """Minimize `objective(params, *args)` with an optimizer.

    A function is compiled for once per function *object*: define objectives once, and pass data
    that changes through `args`. Callables that are pytrees (a `jax.tree_util.Partial`, an Equinox
    module) are traced, so their arrays may change. Changing tolerances, hyperparameters of this
    package's optimizers, `params` or `args` recompiles nothing; nor does `max_steps` without a trace.

    Args:
      objective: a scalar function of `(params, *args)`, or a `LeastSquares`. Every optimizer runs
        on a `LeastSquares`; Gauss-Newton and Levenberg-Marquardt run on nothing else.
      params: where to start, a pytree of real float arrays.
      optimizer: of this package, of optax, or made of both.
      args: a tuple of further arguments of the objective, traced.
      bounds: `(lower, upper)`, each a number, a pytree like `params` or a prefix of it; infinite
        where there is none (None for a whole side), equal where a parameter is fixed. Steps of Gauss-Newton,
        Levenberg-Marquardt, dogleg and Newton end on bounds; those of other optimizers are projected.
      max_steps: end with `OUT_OF_STEPS` after so many steps.
      ftol: end when a step lowers the value by less, relatively. For this and the next two, 0
        switches the test off, and None is the default for the dtype if the optimizer accepts and
        refuses its own steps (`newton`, `gauss_newton`, `levenberg_marquardt`, `dogleg`), no test if not,
        nor with `batch_fn`: a minimum of one batch is none of all.
      xtol: end when a step is shorter, relative to the parameters.
      gtol: end when the gradient is smaller, see `stopping.gradient_test`.
      target: end when the value is at or below this.
      trace: True to record the value at every step, or a function of the parameters to record its
        result besides. Its length is `max_steps + 1`, which is then static.
      batch_fn: `batch_fn(step, key)` gives the `args` of a step, counted from 0, for minibatches.
      key: the key that `batch_fn` gets, folded with the step; `jax.random.key(0)` if not given.
      opt_state: a state of the optimizer to go on from, instead of a fresh one. (To go on with the
        same minibatches use `start` and `advance`.)

    Derivatives of `params` and `value` with respect to `args` (and to all else that the objective closes
    over, and the bounds) are those of the implicit function theorem, in forward and reverse mode and more
    than once; NaN where the end is not stationary. With `batch_fn` there are none, and other fields carry
    none. A leaf that `jos.masked` around the whole optimizer freezes follows its start, and the others follow
    it as they follow `args`.

    Returns:
      A `Result`. `value` and `grad_norm` are those at `params`; with `jos.masked` around the whole
      optimizer, the gradient is that of the trained leaves.

    Raises:
      TypeError: if an argument is of the wrong kind, or `params` has a leaf that is not a real
        float array.
      ValueError: if the objective is not a real scalar, `params` has no leaves, or a residual breaks
        the promise of `pointwise`.

    Example:
      >>> import jaxopt_study as jos
      >>> bowl = lambda p, center: jnp.sum((p - center) ** 2)
      >>> result = jos.minimize(bowl, jnp.zeros(2), jos.adam(0.1), (jnp.array([1.0, 2.0]),), max_steps=500)
      >>> print(jnp.round(result.params, 3), result.message)
      [1. 2.] not converged: max_steps were taken
      >>> print(jos.minimize(bowl, jnp.zeros(2), jos.newton(), (jnp.array([1.0, 2.0]),)).num_steps)
      1
    """
    tolerances = Tolerances(ftol, xtol, gtol, target)
    inputs = check_inputs(
        objective, params, optimizer, args, bounds, max_steps, tolerances, trace, batch_fn, key, opt_state
    )
    return _minimize(*inputs)


def start(
    objective: Objective,
    params: PyTree,
    optimizer: optax.GradientTransformation,
    args: tuple = (),
    *,
    bounds: Bounds | None = None,
    max_steps: ArrayLike = 1000,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
    target: ArrayLike | None = None,
    trace: bool | Callable[[PyTree], PyTree] = False,
    batch_fn: Callable[[Array, Array], tuple] | None = None,
    key: Array | None = None,
    opt_state: Any = None,
) -> Carry:
    """The first part of `minimize`, with the same arguments: evaluate the start.

    Returns:
      A `Carry`, a pytree of arrays. `jax.vmap` over starts may leave `carry.setup` unbatched:
      `out_axes=Carry(setup=None, state=0)`.

    Example:
      >>> import jaxopt_study as jos
      >>> carry = jos.start(lambda x: x**2, jnp.array(1.0), jos.sgd(0.25), max_steps=10)
      >>> carry = jos.advance(carry, 1)
      >>> print(carry.state.params, carry.state.num_steps)
      0.5 1
      >>> print(jos.finish(jos.advance(carry, 100)).num_steps)
      10
    """
    tolerances = Tolerances(ftol, xtol, gtol, target)
    inputs = check_inputs(
        objective, params, optimizer, args, bounds, max_steps, tolerances, trace, batch_fn, key, opt_state
    )
    return _start(*inputs)


def _task(objective: Any, params: PyTree, args: tuple) -> Task | None:
    """What is known of how much there is to compute; None where it says nothing, because it is closed over.

    It is the same for all parts of a minimization, so that its bits do not depend on them.
    """
    if not isinstance(objective, LeastSquares) or not args:
        return None
    return Task((params, args), objective.residual_fn, (params, *args))


@jit_small(lambda carry, n: _task(carry.setup.objective, carry.state.params, carry.setup.args))
def advance(carry: Carry, n: Any) -> Carry:
    """The second part of `minimize`: at most `n` more steps, fewer if the iteration ends.

    `n` is traced: one program serves any number of steps, and the steps taken are the same to the
    last bit however they are divided between calls.

    Args:
      carry: from `start` or `advance`.
      n: a number of steps, int.

    Returns:
      The `Carry` after them.

    Raises:
      TypeError, ValueError: if `n` is not one whole number >= 0.

    Example:
      >>> import jaxopt_study as jos
      >>> carry = jos.start(lambda x: x**2, jnp.array(1.0), jos.sgd(0.25), max_steps=10)
      >>> for _ in range(3):
      ...     carry = jos.advance(carry, 2)
      >>> print(carry.state.num_steps)
      6
    """
    return Carry(carry.setup, _advance(carry.setup, carry.state, check_max_steps(n, "n")))


def finish(carry: Carry) -> Result:
    """The last part of `minimize`: what has been reached, at any time.

    Args:
      carry: from `start` or `advance`.

    Returns:
      A `Result`; its status is `RUNNING` if the iteration has not ended.

    Example:
      >>> import jaxopt_study as jos
      >>> carry = jos.start(lambda x: x**2, jnp.array(1.0), jos.sgd(0.25), max_steps=10)
      >>> jos.finish(carry).message
      'still running: no test of convergence holds yet'
    """
    setup, state = carry.setup, carry.state
    return Result(
        params=state.params,
        value=state.value,
        grad_norm=state.grad_norm,
        status=state.status,
        num_steps=state.num_steps,
        num_evals=state.num_evals,
        opt_state=state.opt_state,
        trace=state.trace,
        active=None if setup.bounds is None else sides(setup.bounds, state.params),
    )


def _advance(setup: Setup, state: Progress, n: Any) -> Progress:
    setup = dataclasses.replace(setup, objective=traced_once(setup.objective))
    return one_kernel(lambda state: _run(setup, state, n), state)


def _run(setup: Setup, state: Progress, n: Any) -> Progress:
    last = state.num_steps + jnp.minimum(n, setup.max_steps - state.num_steps)  # n may be 2³¹ - 1

    def going(state: Progress) -> Array:
        # A pending end is not a step: it is measured in the call in which it came up.
        return is_running(state) & ((state.num_steps < last) | (state.pending != Status.RUNNING))

    inside, state, back = on_a_vector(setup, state)
    return measure(setup, back(jax.lax.while_loop(going, functools.partial(step, inside), state)))


def _start_task(
    length: Any, objective: Any, optimizer: Any, observe: Any, batch_fn: Any, *rest: Any
) -> Task | None:
    del length, optimizer, observe, batch_fn
    params, args, *_ = rest
    return _task(objective, params, args)


@jit_small(_start_task, static_argnums=0)
def _start(length: int | None, *inputs: Any) -> Carry:
    objective, *rest = inputs
    setup, _, at_start = _prepare(length, traced_once(objective), *rest)
    return Carry(dataclasses.replace(setup, objective=objective), one_kernel(at_start))


def _prepare(
    length: int | None,
    objective: Any,
    optimizer: Any,
    observe: Any,
    batch_fn: Any,
    params: PyTree,
    args: tuple,
    bounds: Bounds | None,
    max_steps: Any,
    tolerances: Tolerances,
    key: Any,
    opt_state: Any,
) -> tuple[Setup, PyTree, Callable[[], Progress]]:
    """What stays the same, the parameters at the start, and what evaluates the objective there."""
    # Shapes are checked here, while tracing: once for every program, not at every call.
    first_args = args if batch_fn is None else batch_fn(jnp.zeros((), jnp.int32), key)
    check_objective(objective, params, first_args)
    if bounds is not None:
        params = project_tree(bounds, params)
    fresh = jax.eval_shape(optimizer.init, params)
    if opt_state is not None:
        check_state(opt_state, fresh)
    reports = jax.tree.leaves(fresh, is_leaf=lambda node: isinstance(node, StepInfo))
    if batch_fn is None and any(isinstance(node, StepInfo) for node in reports):
        defaults = default_tolerances(params_dtype(params))
        tolerances = Tolerances(*[d if t is None else t for d, t in zip(defaults, tolerances, strict=True)])
    tolerances = jax.tree.map(jnp.asarray, tolerances)
    setup = Setup(
        objective,
        optimizer,
        args,
        bounds,
        jnp.asarray(max_steps, jnp.int32),
        tolerances,
        observe,
        batch_fn,
        key,
    )

    def at_start() -> Progress:
        record = None
        if length is not None:
            record = jax.tree.map(
                lambda leaf: jnp.full((length, *leaf.shape), jnp.nan, _inexact(leaf.dtype)),
                jax.eval_shape(
                    lambda p: Trace(jnp.zeros((), params_dtype(p)), None if observe is None else observe(p)),
                    params,
                ),
            )
        return begin(setup, params, optimizer.init(params) if opt_state is None else opt_state, record)

    return setup, params, at_start


def _inexact(dtype: Any) -> Any:
    """A dtype that has NaN, for the entries of a trace after its end."""
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


@jit_small(_start_task, static_argnums=0)
def _minimize(length: int | None, *inputs: Any) -> Result:
    objective, *rest_of_inputs = inputs
    setup, params, at_start = _prepare(length, traced_once(objective), *rest_of_inputs)

    def solve() -> tuple[PyTree, Array, Array, Result]:
        # In one function: what the start is made of is no argument of the loop's.
        state = one_kernel(lambda: _run(setup, at_start(), setup.max_steps))
        end = finish(Carry(setup, state))
        return (
            end.params,
            end.value,
            is_stationary(setup, state),
            dataclasses.replace(end, params=None, value=None),
        )

    if setup.batch_fn is not None:  # there is no one function that the end is a minimum of
        params, value, _, rest = solve()
        return dataclasses.replace(rest, params=params, value=value)
    params, value, rest = follow_the_data(
        lambda params: setup.objective(params, *setup.args),
        solve,
        params,
        setup.bounds,
        trained_leaves(setup.optimizer, params),
    )
    return dataclasses.replace(rest, params=params, value=value)
