"""A function whose elementwise work is done on vectors, whatever the shapes of its arrays.

A compiler for CPUs turns the last axis of an array into vector instructions. An image of 15 × 15 pixels
has 15 there, no multiple of anything; the same pixels raveled are 225, and the same fit takes a third of
the time. Nobody should have to write models with this in mind, so the program of the function is
interpreted: elementwise operations on arrays of two axes or more are done on the raveled arrays, all
others as they were.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

# Those of `jax.lax` whose every element of the result needs that one element of each operand.
ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "cbrt",
        "ceil",
        "clamp",
        "copy",
        "convert_element_type",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "pow",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}


class _Value:
    """An array, as it is or raveled; each made from the other when it is asked for."""

    def __init__(self, natural: Any = None, flat: Any = None, shape: tuple[int, ...] | None = None) -> None:
        self._natural, self._flat = natural, flat
        self.shape: tuple[int, ...] = np.shape(natural) if shape is None else shape

    @property
    def natural(self) -> Any:
        if self._natural is None:
            self._natural = jnp.reshape(self._flat, self.shape)
        return self._natural

    @property
    def flat(self) -> Any:
        if self._flat is None:
            self._flat = jnp.ravel(self._natural)
        return self._flat


def raveled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, elementwise work on vectors. Only its values are kept: differentiate `fn`, not the result.

    >>> pixels = jnp.arange(4.0).reshape(2, 2)
    >>> print(raveled(lambda a, x: jnp.exp(a * x).sum(0))(0.0, pixels))
    [2. 2.]
    """

    def run(*args: Any) -> Any:
        program, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        inputs = [_Value(leaf) for leaf in jax.tree.leaves(args)]
        out = _interpret(program, inputs)
        return jax.tree.unflatten(jax.tree.structure(shapes), [value.natural for value in out])

    return run


def _interpret(program: core.ClosedJaxpr, inputs: list[Any]) -> list[Any]:
    known: dict[Any, _Value] = {}

    def read(variable: Any) -> _Value:
        return _Value(variable.val) if isinstance(variable, core.Literal) else known[variable]

    jaxpr = program.jaxpr
    known.update(zip(jaxpr.constvars, map(_Value, program.consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        results = _on_vectors(equation, operands)
        if results is None:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, params = bound if isinstance(bound, tuple) else ((), bound)  # by version of JAX
            out = equation.primitive.bind(*functions, *[value.natural for value in operands], **params)
            results = [_Value(array) for array in (out if equation.primitive.multiple_results else [out])]
        known.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _on_vectors(equation: Any, operands: list[Any]) -> list[Any] | None:
    """The results, `_Value`s, of an operation on raveled arrays, None if it has to be done as it is."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        inner = params[CALLS[name]]
        inner = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
        return _interpret(inner, operands)
    shape = equation.outvars[0].aval.shape
    if name == "reshape" and len(operands) == 1 and params["dimensions"] is None:
        return [_Value(flat=operands[0].flat, shape=shape)]
    if len(shape) < 2:
        return None
    size = int(np.prod(shape))
    if name == "broadcast_in_dim" and operands[0].shape == ():
        return [_Value(flat=jnp.broadcast_to(operands[0].natural, (size,)), shape=shape)]
    if name not in ELEMENTWISE or any(value.shape not in ((), shape) for value in operands):
        return None
    if all(value.shape == () for value in operands):
        return None
    flat = [value.natural if value.shape == () else value.flat for value in operands]
    return [_Value(flat=equation.primitive.bind(*flat, **params), shape=shape)]
