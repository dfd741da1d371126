"""Functions that Python runs once in a program, however often the program calls them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from jaxopt_study.compiling import seeks_leaks
from jaxopt_study.objectives import LeastSquares


def traced_once(fn: Callable[..., Any]) -> Any:
    """The same function, or the same `LeastSquares`, which is traced once for all calls with like arguments.

    A fit calls its residual for the value at the start, for the value and the derivatives at every step, for
    the value at a trial, and for the derivatives of the solution: nine times. Of a model that diffrax solves
    that took two fifths of the first call. What was traced is written out where it is called.

    Args:
      fn: may close over traced values. What is kept goes when the returned function does, so hand that to no
        jitted function: it would be kept there, with the values.

    >>> traced = []
    >>> square = traced_once(lambda x: traced.append(x.shape) or x * x)
    >>> print(jax.jit(lambda x: square(x) + jax.grad(square)(x))(3.0), traced)
    15.0 [()]
    """
    if seeks_leaks():  # what is kept holds what it closes over
        return fn
    if isinstance(fn, LeastSquares):
        return dataclasses.replace(fn, residual_fn=traced_once(fn.residual_fn))
    return Partial(jax.jit(lambda *args: fn(*args), inline=True))
