"""A problem of vectors, with time running forwards, from one of pytrees."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.pytree import ravel, ravel_leaves
from jaxopt_study.solvers.implicit import closed
from jaxopt_study.types import PyTree


class Problem(NamedTuple):
    """The problem as vectors, with time running forwards."""

    field: Any
    event: Any
    theta: PyTree
    y0: Array
    t0: Array
    ts: Array
    unravel: Any
    direction: Array


def as_vectors(functions: tuple, y0: PyTree, ts: Array, params: PyTree, t0: Array) -> Problem:
    """The problem, its states raveled; what the functions close over is in `theta`."""
    field, event = functions
    flat, unravel = ravel(y0)
    _check_slope(jax.eval_shape(field, t0, y0, params), y0)
    if event is not None:
        _check_height(jax.eval_shape(event, t0, y0, params))

    def slope(t: Array, y: Array, params: PyTree) -> Array:
        return ravel_leaves(field(t, unravel(y), params)).astype(flat.dtype)

    def height(t: Array, y: Array, params: PyTree) -> Array:
        return jnp.asarray(0.0 if event is None else event(t, unravel(y), params), flat.dtype)

    # What they close over becomes an argument, so that it is differentiated too.
    of_slope, slope_closure = closed(slope, t0, flat, params)
    of_height, height_closure = closed(height, t0, flat, params)
    direction = jax.lax.stop_gradient(jnp.where(ts[-1] >= t0, 1.0, -1.0).astype(flat.dtype))

    def forwards(t: Array, y: Array, theta: Any) -> Array:
        closure, _, direction, params = theta
        return direction * of_slope(closure, direction * t, y, params)

    def crossing(t: Array, y: Array, theta: Any) -> Array:
        _, closure, direction, params = theta
        return of_height(closure, direction * t, y, params)

    theta = (slope_closure, height_closure, direction, params)
    # Traced once for all the places where a step needs it.
    return Problem(
        jax.jit(forwards), crossing, theta, flat, direction * t0, direction * ts, unravel, direction
    )


def _check_slope(slope: Any, y0: PyTree) -> None:
    got: Any = jax.tree.structure(slope)
    if got != jax.tree.structure(y0):
        raise ValueError(f"field: expected dy/dt as a pytree like y0, {jax.tree.structure(y0)}, got {got}")
    shapes = [leaf.shape for leaf in jax.tree.leaves(slope)]
    expected = [leaf.shape for leaf in jax.tree.leaves(y0)]
    if shapes != expected:
        raise ValueError(f"field: expected dy/dt of the shapes of y0, {expected}, got {shapes}")
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(slope)):
        raise TypeError("field: expected a real dy/dt, got a complex one")


def _check_height(height: Any) -> None:
    """A condition has no sign that changes: taken as a number, it would never be seen to hold."""
    leaves = jax.tree.leaves(height)
    if len(leaves) != 1 or leaves[0].shape or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        got = ", ".join(f"{leaf.dtype} of shape {leaf.shape}" for leaf in leaves)
        raise TypeError(f"event: expected one real float, whose sign changes, got {got}")
