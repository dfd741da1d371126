"""Bounds on parameters: a box, one interval an element, `lower ≤ θ ≤ upper`.

What an optimizer does about them is its own; here is what a bound is, which of them hold a
parameter, and how a point is brought into the box.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.pytree import owned, params_dtype, ravel_leaves, shown
from jaxopt_study.types import Bool, Float, Int, PyTree

Bounds = tuple[PyTree, PyTree]


class Box(NamedTuple):
    """Bounds as vectors, in the order in which parameters are raveled; infinite where there is none."""

    lower: Float[Array, "..."]
    upper: Float[Array, "..."]


def check_bounds(bounds: Any, params: PyTree, name: str = "params") -> Bounds | None:
    """Bring bounds into the form of `params`: a pair of pytrees with a bound for every element.

    Args:
      bounds: `(lower, upper)`; each a number, a pytree like `params` or a prefix of it, whose leaves
        broadcast to those of `params`. Infinities are no bounds, nor is None for a leaf or for a
        whole side; where the two are equal the parameter is fixed. None for no bounds.
      params: where to start.
      name: what that is called in messages.

    Returns:
      `(lower, upper)`, both with the structure, shapes and dtypes of `params`; None without bounds.

    Raises:
      TypeError: if `bounds` is not a pair, or holds what is no real number.
      ValueError: if a side does not fit `params`, a lower bound is above the upper one or not a number,
        or `params` start outside. Traced values are not checked: the start is moved into the box.

    Example:
      >>> params = {"rate": jnp.array(0.5), "shape": jnp.ones(2)}
      >>> lower, upper = check_bounds(({"rate": 0.0, "shape": -1.0}, jnp.inf), params)
      >>> print(lower["shape"], upper["rate"])
      [-1. -1.] inf
    """
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"bounds: expected a pair (lower, upper), got {type(bounds).__name__}")
    lower, upper = (
        _like(side, bound, params) for side, bound in zip(("lower", "upper"), bounds, strict=True)
    )
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    leaves = zip(paths, *map(jax.tree.leaves, (lower, params, upper)), strict=True)
    for path, low, start, high in leaves:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in (low, start, high)):
            continue
        low, start, high = map(np.asarray, (low, start, high))
        if not np.all(low <= high):
            raise ValueError(f"bounds{path}: the lower bound is above the upper one, or not a number")
        if np.any((start < low) | (start > high)):
            raise ValueError(f"{name}{path}: starts outside its bounds")
    return lower, upper


def _like(side: str, bound: Any, params: PyTree) -> PyTree:
    none = -jnp.inf if side == "lower" else jnp.inf

    def fill(bound: Any, below: PyTree) -> PyTree:
        bound = none if bound is None else owned(bound)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(bound, leaf.dtype), leaf.shape), below)

    for leaf in jax.tree.leaves(bound):
        dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise TypeError(f"bounds: expected real numbers for the {side} bounds, got {shown(leaf)}")
    if isinstance(bound, list | tuple) and jax.tree_util.all_leaves([params]):
        bound = np.asarray(bound)  # params are one array, whose bounds people write as a list
    try:
        return jax.tree.map(fill, bound, params, is_leaf=lambda node: node is None)
    except (ValueError, TypeError) as error:
        shapes = jax.tree.map(jnp.shape, params)
        raise ValueError(
            f"bounds: the {side} bounds do not fit params, whose leaves have the shapes {shapes}"
        ) from error


def as_box(bounds: Bounds | None, params: PyTree) -> Box | None:
    """Checked bounds as vectors, for parameters that one vector holds."""
    if bounds is None:
        return None
    dtype = params_dtype(params)
    return Box(*(ravel_leaves(side).astype(dtype) for side in bounds))


def project(box: Box, theta: Float[Array, "..."]) -> Float[Array, "..."]:
    """The nearest point of the box. A step to a bound that rounding left beside it ends on it."""
    slack = 4 * jnp.finfo(theta.dtype).eps
    near_lower = theta - box.lower <= slack * jnp.abs(box.lower)
    near_upper = box.upper - theta <= slack * jnp.abs(box.upper)
    # Without a bound both sides of a comparison are infinite, and it says nothing.
    theta = jnp.where(near_upper & jnp.isfinite(box.upper), box.upper, theta)
    theta = jnp.where(near_lower & jnp.isfinite(box.lower), box.lower, theta)
    return jnp.clip(theta, box.lower, box.upper)


def project_tree(bounds: Bounds, params: PyTree) -> PyTree:
    """`project`, leaf by leaf."""

    def leaf(low: Any, value: Any, high: Any) -> Array:
        return project(Box(low, high), value)

    return jax.tree.map(leaf, bounds[0], params, bounds[1])


def held(box: Box, theta: Float[Array, "..."], gradient: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Which parameters a bound holds: on it, with a descent direction that leads out of the box.

    >>> box = Box(jnp.zeros(3), jnp.ones(3))
    >>> print(held(box, jnp.array([0.0, 0.0, 0.5]), jnp.array([1.0, -1.0, 1.0])))
    [ True False False]
    """
    outward = ((theta <= box.lower) & (gradient >= 0)) | ((theta >= box.upper) & (gradient <= 0))
    return outward | (box.lower >= box.upper)


def free_part(bounds: Bounds, params: PyTree, gradient: PyTree) -> PyTree:
    """The gradient, zero where a bound holds the parameter."""

    def leaf(low: Any, value: Any, high: Any, slope: Array) -> Array:
        return jnp.where(held(Box(low, high), value, slope), 0.0, slope)

    return jax.tree.map(leaf, bounds[0], params, bounds[1], gradient)


def sides(bounds: Bounds, params: PyTree) -> PyTree:
    """-1 where a parameter is on its lower bound, 1 on its upper one, 0 between; int8.

    A parameter that equal bounds fix is on both, and counts as on the lower one.
    """

    def leaf(low: Any, value: Any, high: Any) -> Int[Array, "..."]:
        return jnp.where(value <= low, -1, jnp.where(value >= high, 1, 0)).astype(jnp.int8)

    return jax.tree.map(leaf, bounds[0], params, bounds[1])
