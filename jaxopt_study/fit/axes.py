"""Which arrays of a batch have a leading axis of fits, and over what devices that axis is laid out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from jaxopt_study.types import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Axes:
    """Whether each array has a leading axis of fits, hashable: pytrees of bools like `params` and `args`.

    Bounds have it all or none.
    """

    params: Any
    args: Any
    bounds: bool = False

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axes) and self._key == other._key

    @property
    def _key(self) -> Any:
        leaves, structure = jax.tree.flatten((self.params, self.args, self.bounds))
        return tuple(leaves), structure


def in_axes(has_axis: PyTree) -> PyTree:
    """What `jax.vmap` takes: 0 and None for True and False."""
    return jax.tree.map(lambda has: 0 if has else None, has_axis)


def fill(name: str, axes: Any, tree: PyTree) -> PyTree:
    """Whether each array of `tree` has an axis of fits, from 0 and None for it or for what it is part of.

    Raises:
      ValueError: if an axis is neither 0 nor None, or the prefix does not fit.
    """

    def below(axis: Any, branch: Any) -> Any:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int) or axis != 0):
            raise ValueError(f"{name}_axes: expected 0 or None for an array, got {axis!r}")
        return jax.tree.map(lambda _: axis is not None, branch)

    try:
        return jax.tree.map(below, axes, tree, is_leaf=lambda axis: axis is None)
    except (ValueError, TypeError) as error:
        if str(error).startswith(f"{name}_axes"):
            raise
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{name}_axes: does not fit {name} ({words})") from error


def check_axes(axes: Axes, params: PyTree, args: tuple, names: tuple[str, ...] | None = None) -> int:
    """The number of fits; `names` are what a person calls the arguments.

    Raises:
      ValueError: if leading axes have several lengths, are missing or empty.
    """
    fits, first = 0, ""
    called = names or [f"args[{place}]" for place in range(len(args))]
    for name, tree, of in (("params", params, axes.params), *zip(called, args, axes.args, strict=True)):
        paths = jax.tree_util.tree_leaves_with_path(tree)
        for (path, leaf), has in zip(paths, jax.tree.leaves(of), strict=True):
            if not has:
                continue
            where = name + jax.tree_util.keystr(path)
            if not np.shape(leaf):
                option = f"{name.partition('[')[0]}_axes"
                raise ValueError(
                    f"{where}: a scalar has no leading axis of fits ({option}=None if all share it)"
                )
            fits, first = (fits, first) if first else (leaf.shape[0], where)
            if leaf.shape[0] != fits:
                raise ValueError(f"{where}: has {leaf.shape[0]} fits where {first} has {fits}")
    if not fits:
        raise ValueError(
            f"{first or 'params, args'}: expected a leading axis of at least one fit in one array"
        )
    return fits


def one_of(params: PyTree, args: tuple, axes: Axes) -> tuple[PyTree, tuple]:
    """A single fit's parameters and arguments, as shapes."""

    def shape(has: bool, leaf: Array) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape[1:] if has else leaf.shape, leaf.dtype)

    return jax.tree.map(shape, axes.params, params), jax.tree.map(shape, axes.args, args)


def first_of(params: PyTree, args: tuple, axes: Axes) -> tuple[PyTree, tuple]:
    """The first fit's parameters and arguments."""

    def first(has: bool, leaf: Array) -> Array:
        return leaf[0] if has else leaf

    return jax.tree.map(first, axes.params, params), jax.tree.map(first, axes.args, args)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh of devices, and those of its axes that the axis of fits is laid out over."""

    mesh: Mesh | AbstractMesh
    names: tuple[str, ...]


def find_layout(data: tuple[PyTree, tuple], axes: Axes) -> Layout | None:
    """How the axis of fits is laid out over several devices; None if it is not."""
    for tree, of in zip(data, (axes.params, axes.args), strict=True):
        for leaf, has in zip(jax.tree.leaves(tree), jax.tree.leaves(of), strict=True):
            sharding = None if isinstance(leaf, jax.core.Tracer) else leaf.sharding
            if not has or not isinstance(sharding, NamedSharding) or not sharding.spec:
                continue
            names = sharding.spec[0]
            names = (names,) if isinstance(names, str) else tuple(names or ())
            if np.prod([sharding.mesh.shape[name] for name in names]) > 1:
                return Layout(sharding.mesh, names)
    return None


def on_layout(layout: Layout, axes: Axes, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run(objective, params, args, bounds, numbers)` on every device, on the fits that lie there.

    Nothing is sent between devices, and one that is done does not wait for others.
    """
    along = Spec(layout.names)

    def of(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda has: along if has else Spec(), tree)

    return jax.shard_map(
        run,
        mesh=layout.mesh,
        in_specs=(Spec(), of(axes.params), of(axes.args), of(axes.bounds), Spec()),
        out_specs=along,
        check_vma=False,
    )
