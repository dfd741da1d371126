"""A JAX function in 50 digits, so that a solver's answer is judged by more digits than it had.

The function is traced, and its operations are carried out with mpmath instead: no second version of it
has to be written and kept. Only those operations are known here that test problems are made of.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

DIGITS = 50

# What only moves elements about is carried out by JAX, on their numbers.
_REARRANGEMENTS = frozenset(
    (
        "broadcast_in_dim",
        "concatenate",
        "copy",
        "expand_dims",
        "pad",
        "reshape",
        "rev",
        "slice",
        "squeeze",
        "stack",
        "transpose",
    )
)
_CALLS = frozenset(("jit", "pjit", "closed_call", "custom_jvp_call"))


def fifty_digits() -> AbstractContextManager[Any]:
    """Inside of it, arithmetic with what `extended` returns keeps all digits.

    Example:
      >>> with fifty_digits():
      ...     print(float(3 * extended(lambda x: 1 / x, 3.0)(3)[()] - 1))
      0.0
    """
    import mpmath

    return mpmath.workdps(DIGITS)


def extended(fn: Callable[..., Any], *args: Any) -> Callable[..., np.ndarray]:
    """The same function of arrays of mpmath numbers.

    Args:
      fn: a function of arrays that returns one array.
      args: arguments of the shapes and dtypes wanted; their values do not matter, unless the
        function takes another way for others in Python.

    Returns:
      A function of as many arrays, of numbers or of mpmath numbers, which returns an array of
      mpmath numbers.

    Raises:
      NotImplementedError: when called, if `fn` is made of an operation that is not known here.

    Example:
      >>> import mpmath
      >>> print(mpmath.nstr(extended(jnp.exp, 1.0)(1)[()], 30))
      2.71828182845904523536028747135
    """
    closed = jax.make_jaxpr(fn)(*args)

    def evaluate(*values: Any) -> np.ndarray:
        with fifty_digits():
            inputs = [_numbers(value) for value in values]
            (out,) = _run(closed.jaxpr, closed.consts, inputs)
            return out

    return evaluate


def jacobian(fn: Callable[[np.ndarray], np.ndarray], x: Any) -> np.ndarray:
    """The Jacobian of a function of `extended`, by central differences, to 30 digits.

    Args:
      fn: from a vector to a vector.
      x: where, shape `(n,)`.

    Returns:
      Shape `(m, n)`, mpmath numbers.

    Example:
      >>> print(float(jacobian(extended(jnp.exp, jnp.zeros(1)), [0.0])[0, 0]))
      1.0
    """
    with fifty_digits():
        x = _numbers(x)
        columns = []
        for j in range(x.size):
            step = max(abs(x[j]), 1) / 10**16
            ahead, behind = x.copy(), x.copy()
            ahead[j], behind[j] = x[j] + step, x[j] - step
            columns.append((fn(ahead) - fn(behind)) / (2 * step))
        return np.stack(columns, axis=1)


def _run(jaxpr: Any, consts: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    values = dict(zip(jaxpr.constvars, map(_numbers, consts), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> np.ndarray:
        return _numbers(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        values |= dict(zip(equation.outvars, _apply(equation, operands), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, operands: list[np.ndarray]) -> list[np.ndarray]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        return _run(inner.jaxpr, inner.consts, operands)
    if name in _REARRANGEMENTS:
        ends = np.cumsum([operand.size for operand in operands])
        places = [
            np.arange(end - operand.size, end).reshape(operand.shape)
            for end, operand in zip(ends, operands, strict=True)
        ]
        order = np.asarray(equation.primitive.bind(*map(jnp.asarray, places), **params))
        return [np.concatenate([operand.ravel() for operand in operands])[order.ravel()].reshape(order.shape)]
    if name == "iota":
        return [_numbers(equation.primitive.bind(**params))]
    if name == "convert_element_type":
        return [_elementwise(_kind(params["new_dtype"]), operands)]
    if name == "integer_pow":
        return [_elementwise(lambda base: base ** params["y"], operands)]
    if name == "select_n":
        return [_elementwise(lambda which, *cases: cases[int(which)], operands)]
    if name in ("reduce_sum", "reduce_prod"):
        total = np.sum if name == "reduce_sum" else np.prod
        return [np.asarray(total(operands[0], axis=params["axes"]), dtype=object)]
    if name == "dot_general" and not any(params["dimension_numbers"][1]):
        (left, right), _ = params["dimension_numbers"]
        a, b = operands
        return [np.asarray(np.tensordot(a, b, axes=(left, right)), dtype=object)]
    if name not in _operations():
        raise NotImplementedError(f"{name}: not among the operations that extended_precision knows")
    return [_elementwise(_operations()[name], operands)]


def _elementwise(fn: Callable[..., Any], operands: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.frompyfunc(fn, len(operands), 1)(*operands), dtype=object)


def _numbers(array: Any) -> np.ndarray:
    """An array of mpmath numbers, Python ints or bools; those that are mpmath numbers already stay."""
    array = np.asarray(array)
    return array if array.dtype == object else _elementwise(_kind(array.dtype), [array])


def _kind(dtype: Any) -> Callable[[Any], Any]:
    import mpmath

    if jnp.issubdtype(dtype, jnp.floating):
        return lambda number: mpmath.mpf(number if isinstance(number, mpmath.mpf | int) else float(number))
    return bool if dtype == np.bool_ else int


@functools.cache
def _operations() -> Mapping[str, Callable[..., Any]]:
    import mpmath

    return {
        "abs": abs,
        "add": operator.add,
        "atan2": mpmath.atan2,
        "cos": mpmath.cos,
        "div": operator.truediv,
        "eq": operator.eq,
        "exp": mpmath.exp,
        "ge": operator.ge,
        "gt": operator.gt,
        "le": operator.le,
        "log": mpmath.log,
        "lt": operator.lt,
        "max": max,
        "min": min,
        "mul": operator.mul,
        "ne": operator.ne,
        "neg": operator.neg,
        "pow": mpmath.power,
        "sin": mpmath.sin,
        "sqrt": mpmath.sqrt,
        "sub": operator.sub,
        "tanh": mpmath.tanh,
    }
