"""Bad input to a fit, said in one line that names the argument, before anything is traced."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.compiling import seeks_leaks
from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import as_array, check_real, params_dtype, shown, traceable
from jaxopt_study.solvers.minimize_input import check_tuple
from jaxopt_study.types import PyTree


def check_params(params: PyTree, *, keep_numpy: bool = False) -> PyTree:
    """params with real float arrays for leaves; a Python number is one, whole or not.

    Args:
      params: numbers and arrays.
      keep_numpy: see `pytree.check_real`.

    Raises:
      TypeError: for a leaf of another kind.
    """

    def as_float(leaf: Any) -> Any:
        is_number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
        return np.asarray(leaf, jnp.result_type(float)) if is_number else leaf

    return check_real("params", jax.tree.map(as_float, params), keep_numpy=keep_numpy)


def check_x(x: PyTree, *, keep_numpy: bool = False) -> PyTree:
    """x with arrays for leaves, those of NumPy as they are if these may stay.

    Raises:
      TypeError: for a list of numbers, which is a pytree of scalars and hardly meant; for a leaf that is no
        array of numbers.
    """
    if isinstance(x, list | tuple) and x and all(isinstance(item, int | float) for item in x):
        raise TypeError(f"x: a {type(x).__name__} of numbers is a pytree of scalars; make it one array")
    return _arrays("x", x, as_array if keep_numpy else jnp.asarray)


def check_args(args: Any) -> tuple:
    """args with arrays for leaves.

    Raises:
      TypeError: if they are no tuple, or a leaf is no array of numbers.
    """
    check_tuple(args)
    return _arrays("args", args, jnp.asarray)


def _arrays(name: str, tree: PyTree, convert: Callable[[Any], Any]) -> PyTree:
    def leaf_of(path: Any, leaf: Any) -> Any:
        try:
            return convert(leaf)
        except (TypeError, ValueError):
            where = name + jax.tree_util.keystr(path)
            kind = "a masked array" if np.ma.isMaskedArray(leaf) else f"dtype {np.asarray(leaf).dtype}"
            raise TypeError(f"{where}: expected an array of numbers, got {kind}") from None

    return jax.tree_util.tree_map_with_path(leaf_of, tree)


def check_y(y: Any, params: PyTree, *, keep_numpy: bool = False) -> Any:
    """y as `as_real` makes it, unless every value is missing.

    Raises:
      TypeError: as `as_real`.
      ValueError: if every value is missing.
    """
    y = as_real(y, params, keep_numpy=keep_numpy)
    if is_concrete(y) and np.all(np.isnan(y)):
        raise ValueError("y: there is no value that is not missing (NaN)")
    return y


def as_real(y: Any, params: PyTree, *, keep_numpy: bool = False) -> Any:
    """y as an array of float32 or float64, what is neither in the dtype of the parameters.

    What is masked in a masked array of NumPy is missing.

    Raises:
      TypeError: if it is complex or no array of numbers.
    """
    if not isinstance(y, jax.Array):
        if np.ma.isMaskedArray(y) and y.dtype.kind in "biuf":
            y = np.where(np.ma.getmaskarray(y), np.nan, np.ma.getdata(y))
        try:
            y = np.asarray(y)
        except ValueError:
            raise TypeError(f"y: expected one array, got {shown(y)} of rows of several lengths") from None
        if y.dtype.kind not in "biufc" and not jnp.issubdtype(y.dtype, jnp.floating):  # bfloat16 is of kind V
            raise TypeError(f"y: expected numbers, got dtype {y.dtype}")
    y = as_array(y) if keep_numpy else jnp.asarray(y)
    if jnp.issubdtype(y.dtype, jnp.complexfloating):
        raise TypeError(f"y: expected real numbers, got dtype {y.dtype}; give real and imaginary part")
    # In half precision sigma, which follows y, would lose its digits and its range.
    return y if y.dtype in ("float32", "float64") else y.astype(params_dtype(params))


def fill_missing(x: PyTree, y: Any) -> PyTree:
    """x with finite numbers at points that are missing, in the rows that belong to a missing row of y.

    What the model makes of them is not used; but backward derivatives of a number that is not finite
    are NaN, used or not. Rows of points that are there, and finite ones, stay as they are.
    """
    if y.ndim == 0 or (is_concrete(y) and not np.any(np.isnan(y))):
        return x
    return fill_rows(x, jnp.all(jnp.isnan(y), axis=tuple(range(1, y.ndim))))


def fill_rows(x: PyTree, missing: Array) -> PyTree:
    """`fill_missing`, where it is known which rows are missing: bools, one a row."""
    there = jnp.argmin(missing)  # the first row that is not missing

    def fill(leaf: Any) -> Any:
        if leaf.shape[:1] != missing.shape or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        wide = (slice(None), *[None] * (leaf.ndim - 1))
        leaf = jnp.asarray(leaf)
        return jnp.where(missing[wide] & ~jnp.isfinite(leaf), leaf[there][None], leaf)

    return jax.tree.map(fill, x)


def check_callable(model_fn: Any) -> None:
    """Raise a `TypeError` unless the model is a function."""
    if not callable(model_fn):
        raise TypeError(f"model_fn: expected a function of (params, x), got {type(model_fn).__name__}")


def check_model(model_fn: Callable[..., Any], params: PyTree, x: PyTree, y: Any) -> None:
    """Check, without computing it, that `model_fn(params, x)` is like y.

    Raises:
      TypeError: if it is no function of two arguments, or does not return one real array.
      ValueError: if its shape is another.
    """
    if not _takes_two(model_fn):
        takes = inspect.signature(model_fn)
        raise TypeError(
            f"model_fn: expected a function of (params, x), all parameters in one; it takes {takes}"
        )
    if seeks_leaks():
        out = jax.eval_shape(model_fn, params, x)
    else:
        out = _call.eval_shape(traceable(model_fn), params, x)
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise TypeError(f"model_fn: expected one array from model_fn(params, x), got a {type(out).__name__}")
    if out.shape != y.shape:
        raise ValueError(f"model_fn: returns shape {out.shape} where y has shape {y.shape}")
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise TypeError(f"model_fn: expected real numbers, got dtype {out.dtype}")


@jax.jit
def _call(model_fn: Callable[..., Any], params: PyTree, x: PyTree) -> Any:
    """Never run: traced once for a function and its shapes, not at every call."""
    return model_fn(params, x)


def check_level(level: Any) -> None:
    """Raise a `TypeError` or `ValueError` unless a level of confidence is one number within (0, 1)."""
    if np.ndim(number("level", level)):
        raise ValueError(f"level: expected one probability, got {shown(level)}")
    if is_concrete(level) and not 0 < float(level) < 1:
        raise ValueError(f"level: expected a probability within (0, 1), got {level}")


def is_concrete(*values: Any) -> bool:
    """Whether values are numbers, not traced."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature, as functions written in C
        return True
    return True
