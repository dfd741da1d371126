"""Derivatives of many solutions by forward sensitivities, each with respect to its own few numbers.

A solution depends on the parameters, which all have in common, and on its own initial state alone. JAX's
forward mode does not know that: with fifty segments of three states it would push 150 directions through
every solution, all but three of them zero. Here the Jacobian of every solution with respect to
`(params, start)` is computed once, and directions are multiplied with it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxopt_study.pytree import ravel, ravel_leaves
from jaxopt_study.types import PyTree


def along_all(function: Any, trajectory: Any, params: PyTree, starts: PyTree, t0: Array, ts: Array) -> Any:
    """`function(trajectory, params, start, t0, ts)` for a leading axis of `starts`, `t0` and `ts`."""
    return jax.vmap(lambda *series: function(trajectory, params, *series))(starts, t0, ts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def with_sensitivities(
    function: Any, trajectory: Any, params: PyTree, starts: PyTree, t0: Array, ts: Array
) -> Any:
    """`along_all`, with another derivative.

    The Jacobian in it does not depend on directions: under `vmap` over these, as in `jax.jacfwd`, it is
    computed once.
    """
    return along_all(function, trajectory, params, starts, t0, ts)


@functools.partial(with_sensitivities.defjvp, symbolic_zeros=True)
def _(function: Any, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    trajectory, params, starts, t0, ts = primals
    moving = [not _still(tangent) for tangent in tangents[1:3]]  # params, starts
    places = [place for place, moves in enumerate(moving) if moves]

    def one(start: PyTree, t0: Array, ts: Array) -> tuple[Any, Any]:
        inputs = (params, start)
        theta, unravel = ravel(tuple(inputs[place] for place in places))

        def along(theta: Array) -> Any:
            parts = list(inputs)
            for place, part in zip(places, unravel(theta), strict=True):
                parts[place] = part
            return function(trajectory, *parts, t0, ts)

        def push(direction: Array) -> tuple[Any, Any]:
            return jax.jvp(along, (theta,), (direction,))

        return jax.vmap(push, out_axes=(None, -1))(jnp.eye(theta.size, dtype=theta.dtype))

    if not places:
        value = along_all(function, trajectory, params, starts, t0, ts)
        change = jax.tree.map(jnp.zeros_like, value)
    else:
        value, jacobian = jax.vmap(one)(starts, t0, ts)
        given = [_dense(tangent) for tangent in tangents[1:3]]

        def direction(start: PyTree) -> Array:
            whole = (given[0], start)
            return ravel_leaves(tuple(whole[place] for place in places))

        directions = jax.vmap(direction, axis_size=t0.shape[0])(given[1])
        change = jax.tree.map(
            lambda matrix: jnp.einsum("s...p,sp->s...", matrix, directions.astype(matrix.dtype)), jacobian
        )
    others = (tangents[0], *tangents[3:])
    if not _still(others):  # the data: times, and what the field and the rest hold in arrays
        _, more = jax.jvp(
            lambda trajectory, t0, ts: along_all(function, trajectory, params, starts, t0, ts),
            (trajectory, t0, ts),
            _dense(others),
        )
        change = jax.tree.map(jnp.add, change, more)
    return value, change


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _still(tangents: Any) -> bool:
    return all(_is_zero(leaf) for leaf in jax.tree.leaves(tangents, is_leaf=_is_zero))


def _dense(tangents: Any) -> Any:
    def fill(leaf: Any) -> Any:
        return jnp.zeros(leaf.shape, leaf.dtype) if _is_zero(leaf) else leaf

    return jax.tree.map(fill, tangents, is_leaf=_is_zero)
