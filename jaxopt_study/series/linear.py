"""Primitives that are linear or bilinear in what varies, and solves with triangular matrices.

A linear primitive does the same to every coefficient: one `vmap` over all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_study.series.series import Series, coefficients, convolve, recurrence

Bind = Callable[..., Any]

# By name, the operands in which a primitive is linear together; None for all of them.
LINEAR: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        (
            "add",
            "add_any",
            "broadcast_in_dim",
            "complex",
            "concatenate",
            "conj",
            "convert_element_type",
            "copy",
            "copy_p",
            "cumsum",
            "device_put",
            "expand_dims",
            "fft",
            "imag",
            "name",
            "neg",
            "pad",
            "real",
            "reduce_precision",
            "reduce_sum",
            "reduce_window_sum",
            "reshape",
            "rev",
            "sharding_constraint",
            "slice",
            "split",
            "squeeze",
            "stack",
            "sub",
            "tile",
            "transpose",
            "unstack",
        )
    ),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "gather": (0,),
    "scatter": (0, 2),
    "scatter-add": (0, 2),
    "scatter-sub": (0, 2),
}

BILINEAR = frozenset({"conv_general_dilated", "dot_general", "mul"})


def linear_operands(name: str, count: int) -> Sequence[int] | None:
    """The positions of the operands in which a primitive is linear together; None if it is not linear."""
    if name == "select_n":
        return range(1, count)
    positions = LINEAR.get(name, ())
    return range(count) if positions is None else positions or None


def apply_linear(order: int, values: Sequence[Any], bind: Bind, positions: Sequence[int]) -> Any:
    """A primitive that is linear in the operands at `positions`, the others being constant."""
    axes = [0 if i in positions else None for i in range(len(values))]
    stacked = [coefficients(value, order) if i in positions else value for i, value in enumerate(values)]
    return jax.vmap(bind, in_axes=tuple(axes))(*stacked)


def apply_bilinear(order: int, values: Sequence[Any], bind: Bind) -> Array:
    """A product of any kind; of a constant with a series it is linear."""
    varying = [i for i, value in enumerate(values) if isinstance(value, Series)]
    if len(varying) == 1:
        return apply_linear(order, values, bind, varying)
    a, b = values
    return convolve(bind, a.coefficients, b.coefficients)


def triangular_solve(
    order: int,
    a: Any,
    b: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Array:
    """A x = b with a triangle A: A₀ x_k = b_k − Σ_{j≥1} A_j x_{k−j}."""

    def solve(a: Any, b: Array) -> Array:
        return lax.linalg.triangular_solve(
            a,
            b,
            left_side=left_side,
            lower=lower,
            transpose_a=transpose_a,
            conjugate_a=conjugate_a,
            unit_diagonal=unit_diagonal,
        )

    if not isinstance(a, Series):
        return jax.vmap(solve, in_axes=(None, 0))(a, b.coefficients)
    triangle = (jnp.tril if lower else jnp.triu)(
        a.coefficients[1:], (-1 if lower else 1) if unit_diagonal else 0
    )
    triangle = jnp.swapaxes(triangle, -1, -2) if transpose_a else triangle
    triangle = jnp.conj(triangle) if conjugate_a else triangle
    rhs = coefficients(b, order)

    def push(x: Array, i: Any) -> Array:
        return -(triangle @ x if left_side else x @ triangle)

    return recurrence(solve(a.primal, rhs[0]), rhs[1:], push, lambda rest, k: solve(a.primal, rest))
