"""Towers of derivatives: f, f', f'', ... of a scalar function, and Taylor coefficients of any function.

Nesting `jax.grad` n times compiles and computes exponentially much in n. Here the function is evaluated
once, on truncated power series (`jaxopt_study.series`), which costs the square of the order. Gradients
and Jacobians of functions of many variables are not here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.pytree import check_real, traceable
from jaxopt_study.series.elementwise import check_elementwise
from jaxopt_study.series.fallback import mutates, nested
from jaxopt_study.series.interpreter import Expansion
from jaxopt_study.series.series import coefficients
from jaxopt_study.types import PyTree, Shaped

IN_CACHE = 2**14  # elements of one series: with more, a CPU works on the points in pieces


def derivatives(fn: Callable[[Any], Any], order: int) -> Callable[[Any], Shaped[Array, "orders ..."]]:
    """A function and its derivatives up to `order`, elementwise, by Taylor mode.

    Row k is the k-th derivative: `f(x), f'(x), ..., f⁽ⁿ⁾(x)`. The result compiles, maps and is
    differentiated like any function; the derivatives are those that `jax.grad`, nested, has.

    Args:
      fn: a function of one real scalar that returns one scalar: anything JAX can differentiate once,
        with loops, branches, hand-written rules and arrays inside. It is compiled once per function
        object.
      order: the highest derivative, >= 0; static.

    Returns:
      A function of a float array x of any shape, which gives an array of shape `(order + 1, *x.shape)`
      and of the dtype of `fn(x)`.

    Raises:
      TypeError: if `order` is no integer, x no real float array, or `fn` no function of numbers.
      ValueError: if `order` is negative, or `fn` mixes the elements of an array or makes an array of a
        scalar; that is seen when x is given.

    Source:
      Griewank and Walther, Evaluating Derivatives, 2nd ed. (2008), chapter 13.

    Example:
      >>> print(derivatives(jnp.exp, 3)(0.0))
      [1. 1. 1. 1.]
      >>> print(derivatives(lambda x: x**3, 4)(jnp.array([0.0, 2.0])))
      [[ 0.  8.]
       [ 0. 12.]
       [ 0. 12.]
       [ 6.  6.]
       [ 0.  0.]]
    """
    _check_order(order)
    if not callable(fn):
        raise TypeError(f"fn: expected a function of one scalar, got {type(fn).__name__}")

    def tower(x: Any) -> Array:
        return _tower(traceable(fn), check_real("x", x), int(order))

    return tower


@functools.partial(jax.jit, static_argnames="order")
def _tower(fn: Callable[[Any], Any], x: Array, order: int) -> Array:
    check_elementwise(fn, x)
    factorials = np.array([math.factorial(k) if k <= 170 else np.inf for k in range(order + 1)])
    factorials = np.where(factorials <= jnp.finfo(x.dtype).max, factorials, np.inf).astype(x.dtype)

    def at_point(x: Array) -> Array:
        series = _expand(fn, x, jnp.ones_like(x), order)
        # Beyond order 34 in float32 and 170 in float64 what is not zero overflows; what is zero stays so.
        return jnp.where(np.isinf(factorials) & (series == 0), 0.0, series * factorials)

    def at_points(points: Array) -> Array:
        return jax.vmap(at_point, out_axes=1)(points)

    def in_pieces(points: Array) -> Array:
        # Series that stay in the cache: without, ten thousand points of order 31 take three times as long,
        # and the time grows faster than with the square of the order.
        length = max(1, IN_CACHE // (2 * (order + 1)))
        pieces = jnp.pad(points, (0, -points.size % length), mode="edge").reshape(-1, length)
        return jnp.moveaxis(jax.lax.map(at_points, pieces), 1, 0).reshape(order + 1, -1)[:, : points.size]

    if x.size * (order + 1) <= IN_CACHE:
        rows = at_points(x.ravel())
    else:
        rows = jax.lax.platform_dependent(x.ravel(), cpu=in_pieces, default=at_points)
    return rows.reshape(order + 1, *x.shape)


def taylor(fn: Callable[..., PyTree], params: PyTree, direction: PyTree, order: int, *args: Any) -> PyTree:
    """Taylor coefficients of a function along a line.

    `fn(params + t · direction, *args) = c₀ + c₁ t + … + cₙ tⁿ + O(tⁿ⁺¹)`; the k-th derivative along the
    line is `k! c_k`.

    Args:
      fn: a function of a pytree; anything JAX can differentiate once.
      params: pytree of real float arrays, where to expand.
      direction: pytree like `params`.
      order: the highest power, >= 0; static.
      *args: what else `fn` takes; constant along the line.

    Returns:
      What `fn` returns, with a leading axis of `order + 1` on every array: entry k is c_k. Integers and
      booleans have zeros after the first.

    Raises:
      TypeError: if `order` is no integer, or a leaf of `params` or `direction` no real float array.
      ValueError: if `order` is negative, or `direction` is not like `params`.

    Source:
      Griewank and Walther, Evaluating Derivatives, 2nd ed. (2008), chapter 13.

    Example:
      >>> area = lambda p: p["a"] * p["b"]
      >>> print(taylor(area, {"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 10.0}, 3))
      [ 6. 23. 10.  0.]
    """
    _check_order(order)
    params, direction = check_real("params", params), check_real("direction", direction)
    _check_direction(params, direction)
    return _coefficients(traceable(fn), params, direction, int(order), args)


@functools.partial(jax.jit, static_argnames="order")
def _coefficients(
    fn: Callable[..., PyTree], params: PyTree, direction: PyTree, order: int, args: tuple
) -> PyTree:
    return _expand(lambda p: fn(p, *args), params, direction, order)


def _expand(fn: Callable[[PyTree], PyTree], params: PyTree, direction: PyTree, order: int) -> PyTree:
    """The coefficients of every result."""
    if order == 0:
        return jax.tree.map(lambda y: jnp.asarray(y)[None], fn(params))
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(params)
    if mutates(closed.jaxpr):
        return nested(fn, params, direction, order)
    lines = [
        jnp.zeros((order + 1, *p.shape), p.dtype).at[0].set(p).at[1].set(v)
        for p, v in zip(jax.tree.leaves(params), jax.tree.leaves(direction), strict=True)
    ]
    expansion = Expansion()
    operands = expansion.unpack(lines, [True] * len(lines))
    results = expansion.evaluate(closed.jaxpr, closed.consts, operands, order)
    return jax.tree.unflatten(jax.tree.structure(shapes), [coefficients(y, order) for y in results])


def _check_order(order: Any) -> None:
    if isinstance(order, bool) or not isinstance(order, int | np.integer):
        raise TypeError(f"order: expected an integer >= 0, got {order!r}")
    if order < 0:
        raise ValueError(f"order: expected an integer >= 0, got {order}")


def _check_direction(params: PyTree, direction: PyTree) -> None:
    wanted: Any = jax.tree.structure(params)
    got: Any = jax.tree.structure(direction)
    if wanted != got:
        raise ValueError(f"direction: expected a pytree like params, {wanted}, got {got}")
    leaves = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(direction), strict=True)
    for (path, p), v in leaves:
        if jnp.shape(p) != jnp.shape(v):
            where = "direction" + jax.tree_util.keystr(path)
            raise ValueError(f"{where}: expected the shape of params, {jnp.shape(p)}, got {jnp.shape(v)}")
