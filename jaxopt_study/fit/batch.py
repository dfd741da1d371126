"""`least_squares_batch`: many small fits of one model in one call.

What is the same for all and how many slots there are is settled here; the loop is in `slots`, a single
fit's way through it in `lane`, and batches that do not fit in memory are for `stream`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds, project, sides
from jaxopt_study.derivatives import check_pointwise
from jaxopt_study.fit.axes import (
    Axes,
    Layout,
    check_axes,
    fill,
    find_layout,
    first_of,
    in_axes,
    on_layout,
    one_of,
)
from jaxopt_study.fit.batch_bounds import as_boxes, check_batch_bounds
from jaxopt_study.fit.check_input import check_args
from jaxopt_study.fit.check_options import check_options
from jaxopt_study.fit.cores import Part, choose_parts, side_by_side
from jaxopt_study.fit.lane import Data, Rules
from jaxopt_study.fit.slots import Ends, choose_slots, fit_all
from jaxopt_study.losses import Loss, check_loss
from jaxopt_study.objectives import LeastSquares, check_objective, with_loss
from jaxopt_study.optimizers.transform import check_solvable, number, whole
from jaxopt_study.pytree import check_real, params_dtype, ravel, ravel_leaves, size, traceable
from jaxopt_study.result import Result, Status, is_converged
from jaxopt_study.solvers.implicit import follow_the_data
from jaxopt_study.solvers.minimize_input import check_tolerances
from jaxopt_study.stopping import Tolerances, default_tolerances
from jaxopt_study.traced_once import traced_once
from jaxopt_study.types import PyTree


def least_squares_batch(
    residual_fn: LeastSquares | Callable[..., PyTree],
    params: PyTree,
    args: tuple = (),
    *,
    params_axes: Any = 0,
    args_axes: Any = 0,
    slots: int | str = "auto",
    bounds: Bounds | None = None,
    loss: Loss = "linear",
    loss_scale: ArrayLike = 1.0,
    damping: ArrayLike = 1e-3,
    max_steps: ArrayLike = 1000,
    max_trials: ArrayLike = 60,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
    target: ArrayLike | None = None,
) -> Result:
    """Minimize `½ Σ C² ρ(rᵢ(θₖ, *argsₖ)² / C²)` over θₖ for every k, by Levenberg-Marquardt.

    Every fit has its own damping, steps, tests of convergence and status, and none touches another. The
    loop holds so many fits as stay in the cache; one that ends makes place for the next, so that a slow
    one costs one slot. Works under `jit`. Changing numbers, but for `slots`, recompiles nothing.

    Args:
      residual_fn: a function of `(params, *args)` of a *single* fit that returns a pytree of
        residuals, or a `LeastSquares`.
      params: where to start: a pytree of real float arrays, with a leading axis of fits.
      args: a tuple of further arguments, with a leading axis of fits.
      params_axes: None where all fits start at the same `params`, which then have no leading axis; or
        a prefix of `params` with 0 and None, as in `jax.vmap`.
      args_axes: the same for `args`: `(None, 0)` if the first is shared by all.
      slots: how many fits are under way at a time; `"auto"`: see `choose_slots`.
      bounds: `(lower, upper)` of a single fit's parameters, the same for all; see `minimize`. A bound
        with one axis more than its parameter, of fits and in front, is every fit's own.
      loss, loss_scale: as in `least_squares`.
      damping: λ at the start, see `levenberg_marquardt`.
      max_steps: accepted steps of a fit after which it ends with `OUT_OF_STEPS`.
      max_trials: dampings tried for one step before the fit ends as `STALLED`.
      ftol, xtol, gtol, target: as in `minimize`, the same for all fits.

    Derivatives of `params` and `value` are those of the implicit function theorem, as in `minimize`.

    Returns:
      A `Result` whose arrays have a leading axis of fits. `num_evals` counts every point at which residuals
      and Jacobian were taken, the start among them. `opt_state` and `trace` are None. Normal equations
      are solved by Cholesky; where its pivots are lost in rounding, λ is kept above them.

    Raises:
      TypeError: if an argument is of the wrong kind, or a parameter is no real float.
      ValueError: if leading axes differ, the residuals are none, a bound does not fit, or `slots` is
        no positive number.

    Source:
      J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, 1978; A. Przybylski et
      al., Gpufit: an open-source toolkit for GPU-accelerated curve fitting, 2017.

    Example:
      >>> import jaxopt_study as jos
      >>> def decay(p, t, y):
      ...     return p["a"] * jnp.exp(-p["k"] * t) - y
      >>> t = jnp.linspace(0.0, 4.0, 20)
      >>> rates = jnp.array([0.5, 1.0, 2.0])
      >>> y = 3.0 * jnp.exp(-rates[:, None] * t)
      >>> start = {"a": jnp.array(1.0), "k": jnp.array(1.0)}
      >>> result = jos.least_squares_batch(decay, start, (t, y), params_axes=None, args_axes=(None, 0))
      >>> print(jnp.round(result.params["k"], 3), result.converged)
      [0.5 1.  2. ] [ True  True  True]
    """
    objective = as_objective(residual_fn, loss, loss_scale)
    params = check_real("params", params)
    args = check_args(args)
    axes = Axes(params=fill("params", params_axes, params), args=fill("args", args_axes, args))
    check_solvable(params, "least_squares_batch")
    tolerances = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "target": target}
    check_options(slots=slots, max_steps=max_steps, max_trials=max_trials, damping=damping, **tolerances)
    fits = check_axes(axes, params, args)
    bounds, own = check_batch_bounds(bounds, params, axes.params, fits)
    axes = dataclasses.replace(axes, bounds=own)
    numbers = {
        "damping": number("damping", damping),
        "max_steps": whole("max_steps", max_steps),
        "max_trials": whole("max_trials", max_trials, 1),
        "tolerances": check_tolerances(Tolerances(**tolerances)),
    }
    plan = _Plan(axes, slots if slots == "auto" else int(slots), fits, find_layout((params, args), axes))
    inputs = (traceable(objective), params, args, bounds, numbers)
    parts = choose_parts(inputs, fits)
    if len(parts) == 1:
        return _least_squares_batch(plan, *inputs, 0)
    plan = dataclasses.replace(plan, count=parts[0].fits)
    inputs = jax.tree.map(jnp.asarray, inputs)
    program = _least_squares_batch.lower(plan, *inputs, np.int32(0)).compile()
    return side_by_side(program, inputs, parts)


def as_objective(residual_fn: Any, loss: Loss, loss_scale: Any) -> LeastSquares:
    """What was given, as a `LeastSquares` with its loss."""
    objective = with_loss(residual_fn, loss, loss_scale)
    if not callable(objective.residual_fn):
        raise TypeError(f"residual_fn: expected a function, got {type(residual_fn).__name__}")
    check_loss(objective.loss, objective.loss_scale)
    return dataclasses.replace(objective, loss_scale=number("loss_scale", objective.loss_scale))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is static in a batch: which arrays have an axis of fits, the slots, how many fits, the devices."""

    axes: Axes
    slots: int | str
    count: int
    layout: Layout | None


@functools.partial(jax.jit, static_argnums=0)
def _least_squares_batch(
    plan: _Plan,
    objective: Any,
    params: PyTree,
    args: tuple,
    bounds: Bounds | None,
    numbers: dict[str, Any],
    first: ArrayLike,
) -> Result:
    """All fits, or as many as the plan says, from the first of them on."""
    one_params, one_args = one_of(params, args, plan.axes)
    check_objective(objective, one_params, one_args)  # while tracing: once for every program
    if objective.pointwise:
        check_pointwise(objective, *first_of(params, args, plan.axes))
    slots = plan.slots
    if not isinstance(slots, int):
        residuals = jax.eval_shape(objective.residual, one_params, *one_args).size
        slots = choose_slots(residuals, size(one_params), params_dtype(params), jax.default_backend())
    if plan.layout is None:
        return _fit(plan.axes, slots, Part(first, plan.count), objective, params, args, bounds, numbers)
    run = on_layout(plan.layout, plan.axes, functools.partial(_fit, plan.axes, slots, None))
    return run(objective, params, args, bounds, numbers)


def _fit(
    axes: Axes,
    slots: int,
    part: Part | None,
    objective: Any,
    params: PyTree,
    args: tuple,
    bounds: Bounds | None,
    numbers: dict[str, Any],
) -> Result:
    given = numbers["tolerances"]
    fits = check_axes(axes, params, args)
    part = Part(0, fits) if part is None else part
    dtype = params_dtype(params)
    one_params, _ = one_of(params, args, axes)
    _, unravel = ravel(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one_params))
    starts = jax.vmap(ravel_leaves, in_axes=(in_axes(axes.params),), axis_size=fits)(params).astype(dtype)
    box = as_boxes(bounds, axes.bounds, one_params)
    bounds_axis = 0 if axes.bounds else None
    if box is not None:
        starts = jax.vmap(project, in_axes=(bounds_axis, 0))(box, starts)
    defaults = default_tolerances(dtype)
    rules = Rules(
        objective=objective,
        tolerances=Tolerances(*[d if t is None else t for d, t in zip(defaults, given, strict=True)]),
        max_steps=jnp.asarray(numbers["max_steps"], jnp.int32),
        max_trials=jnp.asarray(numbers["max_trials"], jnp.int32),
        damping=jnp.maximum(jnp.asarray(numbers["damping"], dtype), jnp.finfo(dtype).eps ** 2),
    )
    has_axis = Data(axes.args, jax.tree.map(lambda _: axes.bounds, box))
    # The loop is not differentiated; its ends are.
    rules, starts, data = jax.lax.stop_gradient((rules, starts, Data(args, box)))
    rules = dataclasses.replace(rules, objective=traced_once(rules.objective))
    ends = fit_all(rules, unravel, starts, data, has_axis, slots, part)
    if part.fits < fits:
        bounds = jax.tree.map(functools.partial(_rows_of, part, axes.bounds), bounds)
        args = jax.tree.map(functools.partial(_rows_of, part), axes.args, args)

    def one(end: Ends, args: tuple, bounds: Bounds | None) -> Result:
        params, value, _ = follow_the_data(
            lambda params: objective(params, *args),
            lambda: (unravel(end.theta), end.value, _is_minimum(end.status), ()),
            unravel(end.theta),
            bounds,
        )
        active = None if bounds is None else sides(bounds, params)
        counts = (end.status, end.num_steps, end.num_evals)
        return Result(params, value, end.grad_norm, *counts, opt_state=None, trace=None, active=active)

    return jax.vmap(one, in_axes=(0, in_axes(axes.args), bounds_axis))(ends, args, bounds)


def _rows_of(part: Part, has_axis: bool, leaf: Array) -> Array:
    return jax.lax.dynamic_slice_in_dim(leaf, part.first, part.fits) if has_axis else leaf


def _is_minimum(status: Array) -> Array:
    return is_converged(status) & (status != Status.TARGET_REACHED)
