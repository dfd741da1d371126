"""Whether a function treats every element of an array by itself, as a tower of derivatives takes it to.

A function of one scalar may do inside whatever it wants. What must not pass is a function that was meant
for arrays, whose derivatives element by element would be silently those of another function: a sum is the
identity on a scalar.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr

from jaxopt_study.series.dependence import CALLS, called, varying_outputs

# On a scalar they do nothing, on an array they mix its elements. All others that do, change the shape.
MIXING = frozenset(
    {"reduce_max", "reduce_min", "reduce_prod", "reduce_sum", "rev", "concatenate", "dot_general", "gather"}
)


def check_elementwise(fn: Callable[[Any], Any], x: Array) -> None:
    """Raise unless `fn` makes a scalar of a scalar, and of an array, if it can, the same element by element.

    Raises:
      TypeError: if `fn` gives something else than one float.
      ValueError: if it gives an array for a scalar, or mixes the elements of x.
    """
    scalar = jax.ShapeDtypeStruct((), x.dtype)
    whole = _shape_for(fn, x) if x.ndim else None
    try:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(scalar)
    except (TypeError, ValueError, IndexError) as error:
        if whole is None:
            raise
        # It takes arrays and no scalars.
        raise ValueError(
            f"fn: expected a function of one scalar, got one of arrays: {_line(error)}; use taylor for those"
        ) from error
    leaves = jax.tree.leaves(shape)
    if len(leaves) != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.inexact):
        kinds = ", ".join(str(leaf.dtype) for leaf in leaves) or "nothing"
        raise TypeError(f"fn: expected one float for a scalar x, got {kinds}")
    if leaves[0].shape:
        raise ValueError(f"fn: expected a scalar for a scalar x, got shape {leaves[0].shape}; use taylor")
    if whole is None or varying_outputs(closed.jaxpr, [True]) == [False]:
        return
    equations = list(_equations(closed.jaxpr))
    makes_arrays = any(var.aval.size > 1 for eqn in equations for var in eqn.outvars)
    if whole != x.shape:
        mixes = not makes_arrays
    else:
        mixes = any(eqn.primitive.name in MIXING for eqn in equations) and _differs(fn, x)
    if mixes:
        raise ValueError(
            "fn: expected a function of one scalar, got one that mixes the elements of an array: it gives "
            f"shape {whole} for x of shape {x.shape}; use taylor, or write it for a scalar"
        )


def _shape_for(fn: Callable[[Any], Any], x: Array | np.ndarray) -> tuple[int, ...] | None:
    """The shape of the one result for the whole array; None if it takes no arrays."""
    try:
        leaves = jax.tree.leaves(jax.eval_shape(fn, jax.ShapeDtypeStruct(x.shape, x.dtype)))
    except Exception:  # whatever a function of scalars raises when it is given something else
        return None
    return leaves[0].shape if len(leaves) == 1 else None


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in CALLS:
            yield from _equations(called(eqn)[0])
        else:
            yield eqn


def _differs(fn: Callable[[Any], Any], x: Array) -> bool:
    """Whether it gives something else for a few numbers together than for each alone."""
    shape = tuple(min(length, 3) for length in x.shape)
    few = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(x.dtype)
    if _shape_for(fn, few) != shape:
        return False
    with jax.ensure_compile_time_eval():
        together, apart = fn(jnp.asarray(few)), jax.vmap(fn)(few.ravel())
    if any(isinstance(value, jax.core.Tracer) for value in (together, apart)):
        return False  # it closes over what is traced: there are no numbers
    tolerance = 1e3 * float(jnp.finfo(x.dtype).eps)
    return not np.allclose(np.ravel(together), apart, rtol=tolerance, atol=tolerance, equal_nan=True)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
