"""Rows of data over several devices: who holds which, and sums over all of them in one collective.

A residual is a row. Each device holds its share of them, the parameters are everywhere, and what is
said between devices is what a step needs: sums over rows, all of them in one message. What a layout
means for the mathematics is said where it is used (`linearize`, `linear_solve`, `optimizers/trial`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_study.types import PyTree


def rows_of(tree: PyTree) -> NamedSharding | None:
    """How the leading axis of the arrays in a tree is laid out, over several devices or explicit axes.

    Args:
      tree: of concrete arrays; what is traced is not looked at.

    Returns:
      The layout of the first array that is laid out so, None if there is none.

    Raises:
      ValueError: an array is traced with explicit axes, where every operation has to be told its layout.

    Example:
      >>> mesh = jax.sharding.Mesh(jax.devices()[:1], "data")
      >>> rows = NamedSharding(mesh, PartitionSpec("data"))
      >>> print(rows_of(jax.device_put(jnp.zeros(8), rows)))
      None
    """
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, Array):
            continue
        if isinstance(leaf, jax.core.Tracer):
            _check_axes(leaf)
            continue
        sharding = leaf.sharding
        if isinstance(sharding, NamedSharding) and sharding.spec and sharding.spec[0] is not None:
            rows = NamedSharding(_auto(sharding.mesh), PartitionSpec(sharding.spec[0]))
            # Explicit axes stand in the way of every operation, also those over one device.
            if devices_along(rows) > 1 or rows.mesh != sharding.mesh:
                return rows
    return None


def on_mesh(tree: PyTree, rows: NamedSharding) -> PyTree:
    """The same tree for functions that know nothing of layouts: every array on the devices of `rows`.

    Arrays that lie on its devices stay as they are, with axes that the compiler divides (a mesh of
    `jax.make_mesh` wants to be told what becomes of them, in every operation); others are copied to
    each device. What is traced, and what is no array of JAX, stays.
    """
    everywhere = NamedSharding(rows.mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, Array) or isinstance(leaf, jax.core.Tracer):
            return leaf
        sharding = leaf.sharding
        if sharding.device_set != rows.device_set:
            return jax.device_put(leaf, everywhere) if leaf.is_fully_addressable else leaf
        if isinstance(sharding, NamedSharding) and sharding.mesh != rows.mesh:
            return jax.device_put(leaf, NamedSharding(_auto(sharding.mesh), sharding.spec))
        return leaf

    return jax.tree.map(put, tree)


def devices_along(rows: NamedSharding) -> int:
    """Over how many devices rows are divided."""
    axes = _axes(rows)
    return int(np.prod([rows.mesh.shape[name] for name in axes]))


def joined(parts: Sequence[Array], rows: NamedSharding | None) -> Array:
    """Arrays side by side along their last axis, which is that of residuals.

    Laid out, each device puts its own share of every part together, so that nothing is moved, and the
    order of residuals is another one. What cannot be divided evenly is filled up with zeros: a residual
    that is zero whatever the parameters are adds nothing to any sum.
    """
    if rows is None:
        return parts[0] if len(parts) == 1 else jnp.concatenate(list(parts), axis=-1)
    count = devices_along(rows)
    filled = []
    for part in parts:
        short = -part.shape[-1] % count
        filled.append(jnp.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, short)]) if short else part)
    if len(filled) == 1:
        spec = _last(rows, filled[0].ndim)
        return jax.lax.with_sharding_constraint(filled[0], NamedSharding(rows.mesh, spec))
    return _mapped(
        lambda *shares: jnp.concatenate(shares, axis=-1), rows, filled, _last(rows, filled[0].ndim)
    )


def summed(fn: Callable[..., Any], rows: NamedSharding | None, *arrays: Array) -> Any:
    """`fn(*arrays)`, where `fn` sums over the last axis of each.

    Laid out, each device calls `fn` on its own share, and the results are added, all in one all-reduce.

    >>> float(summed(lambda x: jnp.sum(x**2), None, jnp.arange(3.0)))
    5.0
    """
    if rows is None:
        return fn(*arrays)

    def share(*shares: Array) -> Any:
        flat, unravel = ravel_pytree(fn(*shares))
        return unravel(jax.lax.psum(flat, _axes(rows)))

    return _mapped(share, rows, arrays, PartitionSpec())


def gathered(fn: Callable[..., Array], rows: NamedSharding, *arrays: Array) -> Array:
    """What `fn` makes of each device's share, one below the other, on every device."""
    stacked = _mapped(fn, rows, arrays, PartitionSpec(_entry(rows)))
    return jax.lax.with_sharding_constraint(stacked, NamedSharding(rows.mesh, PartitionSpec()))


def _mapped(fn: Callable[..., Any], rows: NamedSharding, arrays: Sequence[Array], out: PartitionSpec) -> Any:
    specs = tuple(_last(rows, array.ndim) for array in arrays)
    return jax.shard_map(fn, mesh=rows.mesh, in_specs=specs, out_specs=out)(*arrays)


def _last(rows: NamedSharding, ndim: int) -> PartitionSpec:
    return PartitionSpec(*[None] * (ndim - 1), _entry(rows))


def _entry(rows: NamedSharding) -> Any:
    return rows.spec[0]


def _axes(rows: NamedSharding) -> tuple[str, ...]:
    entry = _entry(rows)
    return entry if isinstance(entry, tuple) else (entry,)


def _check_axes(traced: Array) -> None:
    sharding = jax.typeof(traced).sharding
    if any(entry is not None for entry in sharding.spec):
        raise ValueError(
            f"args: a traced array is laid out as {sharding.spec} over explicit axes; make the mesh with "
            "jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,)), or lay out concrete arrays"
        )


@functools.cache
def _auto(mesh: Mesh) -> Mesh:
    """The mesh with axes that the compiler divides; the same one where they are so already."""
    if all(kind == AxisType.Auto for kind in mesh.axis_types):
        return mesh
    return Mesh(mesh.devices, mesh.axis_names)
