"""What `minimize` is given: checked before anything is traced or computed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds, check_bounds
from jaxopt_study.derivatives import check_pointwise
from jaxopt_study.layout import on_mesh, rows_of
from jaxopt_study.losses import check_loss
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import check_real, shown, traceable
from jaxopt_study.stopping import Tolerances
from jaxopt_study.types import PyTree

Objective = LeastSquares | Callable[..., Any]


def check_inputs(
    objective: Objective,
    params: PyTree,
    optimizer: optax.GradientTransformation,
    args: tuple,
    bounds: Bounds | None,
    max_steps: ArrayLike,
    tolerances: Tolerances,
    trace: bool | Callable[[PyTree], PyTree],
    batch_fn: Callable[[Array, Array], tuple] | None,
    key: Array | None,
    opt_state: Any,
) -> tuple:
    """Check the arguments of `minimize` that can be checked before tracing; make pytrees of the functions.

    Returns:
      The length of the trace, and what the jitted loop takes.
    """
    if not callable(getattr(objective, "residual_fn", objective)):
        objective = getattr(objective, "residual_fn", objective)
        raise TypeError(f"objective: expected a function or a LeastSquares, got {type(objective).__name__}")
    check_optimizer(optimizer)
    check_tuple(args)
    max_steps = check_max_steps(max_steps)
    if not isinstance(trace, bool) and not callable(trace):
        raise TypeError(f"trace: expected a bool or a function of params, got {type(trace).__name__}")
    if batch_fn is not None and not callable(batch_fn):
        raise TypeError(f"batch_fn: expected a function of (step, key), got {type(batch_fn).__name__}")
    params = check_real("params", params, keep_numpy=True)
    rows = rows_of(args)
    if rows is not None:
        params, args, opt_state = on_mesh((params, args, opt_state), rows)
        if isinstance(objective, LeastSquares) and objective.sharding is None:
            objective = dataclasses.replace(objective, sharding=rows)
    bounds = check_bounds(bounds, params)
    tolerances = check_tolerances(tolerances)
    length, observe = None, None
    if trace is not False:
        if not isinstance(max_steps, int):
            raise TypeError("max_steps: has to be a Python int where a trace is wanted: it is its length")
        length = max_steps + 1
        observe = None if trace is True else trace
    first_args = args
    if batch_fn is not None:
        key = jax.random.key(0) if key is None else key
        if isinstance(objective, LeastSquares) and objective.pointwise:
            first_args = batch_fn(jnp.zeros((), jnp.int32), key)
    if isinstance(objective, LeastSquares):
        check_loss(objective.loss, objective.loss_scale)
        objective = dataclasses.replace(objective, loss_scale=number("loss_scale", objective.loss_scale))
        if objective.pointwise:
            check_pointwise(objective, params, first_args)
    functions = map(traceable, (objective, optimizer, observe, batch_fn))
    return length, *functions, params, args, bounds, max_steps, tolerances, key, opt_state


def check_optimizer(optimizer: Any) -> None:
    """Raise a `TypeError` unless this is an optimizer."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer: expected an optax.GradientTransformation, got {type(optimizer).__name__}"
        )


def check_max_steps(max_steps: Any, name: str = "max_steps") -> ArrayLike:
    """A number of steps as the loop counts them; what is traced stays.

    Raises:
      TypeError: if it is not a number.
      ValueError: if it is not one whole number, or negative.
    """
    dtype = getattr(max_steps, "dtype", np.result_type(type(max_steps)) if np.isscalar(max_steps) else object)
    if isinstance(max_steps, bool) or not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(f"{name}: expected a whole number >= 0, got {shown(max_steps)}")
    negative = isinstance(max_steps, int | np.integer) and max_steps < 0
    if np.ndim(max_steps) != 0 or negative or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"{name}: expected a whole number >= 0, got {shown(max_steps)}")
    if isinstance(max_steps, int | np.integer):
        return min(int(max_steps), np.iinfo(np.int32).max)  # more are never counted
    return max_steps


def check_tolerances(tolerances: Tolerances) -> Tolerances:
    """Numbers that are traced, in one type; None stays None.

    Raises:
      TypeError: for what is no real number.
      ValueError: for several, or a negative tolerance.
    """
    given = tolerances._asdict().items()
    numbers = {name: None if one is None else number(name, one) for name, one in given}
    for name, one in numbers.items():
        if getattr(one, "ndim", 0) != 0:
            raise ValueError(f"{name}: expected one number, got {shown(one)}")
        if isinstance(one, float) and name != "target" and not one >= 0:
            raise ValueError(f"{name}: expected a number >= 0, got {one}")
    return Tolerances(**numbers)


def check_flag(name: str, value: Any) -> bool:
    """What is True or False.

    Raises:
      TypeError: if it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def check_tuple(args: Any) -> None:
    """Raise a `TypeError` unless args are a tuple, of what can be traced."""
    if not isinstance(args, tuple):
        raise TypeError(f"args: expected a tuple, got {type(args).__name__} (for one argument write `(x,)`)")
    check_arrays("args", args)


def check_arrays(name: str, tree: Any) -> None:
    """Raise a `TypeError` where a leaf is neither a number nor an array of them."""
    if not any(map(_is_no_number, jax.tree.leaves(tree))):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if _is_no_number(leaf):
            how = "; close over it, or make it a jax.tree_util.Partial" if callable(leaf) else ""
            where = name + jax.tree_util.keystr(path)
            raise TypeError(f"{where}: expected an array of numbers, got {shown(leaf)}{how}")


def _is_no_number(leaf: Any) -> bool:
    words = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSU"
    return words or isinstance(leaf, str | bytes) or callable(leaf)


def check_state(given: Any, made: Any) -> None:
    """Raise a `TypeError` unless a state has the structure, shapes and dtypes that the optimizer makes."""

    def form(leaf: Any) -> str:
        return f"{jnp.shape(leaf)} {jnp.result_type(leaf)}"

    got, expected = (str(jax.tree.map(form, tree)) for tree in (given, made))
    if got != expected:
        raise TypeError(
            f"opt_state: this optimizer makes another one for these params: {expected}, got {got}"
        )
