"""A linear map that JAX can transpose, batch and differentiate again, and traces no more of than it needs.

`apply(rules, fixed, moving)` is linear in `moving`. A person says how it is computed, and how its transpose
is; JAX's own means for that either trace both, and their derivatives, whether they are wanted or not
(`custom_linear_solve`), or have no derivatives by what the map depends on (`linear_call`). This is one
primitive, of which each rule is traced when it is asked for: a gradient then costs the tracing of the
transpose alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxopt_study.types import PyTree

Rule = Callable[[list[Any], PyTree], PyTree]


@dataclasses.dataclass(frozen=True, eq=False)
class Rules:
    """Two ways to compute each of a linear map and its transpose.

    Attributes:
      forward: `forward(fixed, moving) -> moved`, as it is to be run.
      backward: `backward(fixed, moved_bar) -> moving_bar`, its transpose, as it is to be run.
      plain: as `forward`, of operations that JAX differentiates and transposes: derivatives of the map
        and of its transpose by `fixed` are taken of it.
      moving, moved: shapes and dtypes of argument and value, pytrees.
    """

    forward: Rule
    backward: Rule
    plain: Rule
    moving: PyTree
    moved: PyTree

    def transposed(self) -> "Rules":
        """The rules of the transpose."""

        def plain(fixed: list[Any], bar: PyTree) -> PyTree:
            return jax.linear_transpose(functools.partial(self.plain, fixed), self.moving)(bar)[0]

        return Rules(self.backward, self.forward, plain, self.moved, self.moving)

    def batched(self, axes: list[int | None], size: int) -> "Rules":
        """Those of a batch: `moving` has it in front, `fixed` along the given axes."""

        def each(rule: Rule) -> Rule:
            return jax.vmap(rule, in_axes=(axes, 0), axis_size=size)

        def longer(shapes: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), shapes)

        forward, backward, plain = (each(rule) for rule in (self.forward, self.backward, self.plain))
        return Rules(forward, backward, plain, longer(self.moving), longer(self.moved))


def apply(rules: Rules, fixed: Sequence[Any], moving: PyTree) -> PyTree:
    """The map's value.

    Args:
      rules: how it is computed; they close over nothing that is traced.
      fixed: what the map depends on, arrays in a row.
      moving: what it is linear in, a pytree like `rules.moving`.

    Returns:
      A pytree like `rules.moved`.
    """
    out = _apply.bind(*fixed, *jax.tree.leaves(moving), rules=rules, count=len(fixed))
    return jax.tree.unflatten(jax.tree.structure(rules.moved), out)


_apply = Primitive("linear_map")
_apply.multiple_results = True


def _run(*operands: Any, rules: Rules, count: int) -> list[Any]:
    held, moving = _apart(operands, rules, count)
    moved = rules.forward(held, moving)
    return [
        jnp.asarray(leaf).astype(like.dtype)
        for leaf, like in zip(jax.tree.leaves(moved), jax.tree.leaves(rules.moved), strict=True)
    ]


def _apart(operands: Any, rules: Rules, count: int) -> tuple[list[Any], PyTree]:
    return list(operands[:count]), jax.tree.unflatten(jax.tree.structure(rules.moving), operands[count:])


def _shapes(*operands: Any, rules: Rules, count: int) -> list[Any]:
    del operands, count
    return [jax.core.ShapedArray(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(rules.moved)]


def _differentiate(primals: Any, tangents: Any, *, rules: Rules, count: int) -> tuple[list, list]:
    out = _apply.bind(*primals, rules=rules, count=count)
    parts: list[list[Any]] = []
    if any(type(leaf) is not ad.Zero for leaf in tangents[count:]):
        moves = [ad.instantiate_zeros(leaf) for leaf in tangents[count:]]
        parts.append(_apply.bind(*primals[:count], *moves, rules=rules, count=count))
    places = [i for i in range(count) if type(tangents[i]) is not ad.Zero]
    if places:
        moving = _apart(primals, rules, count)[1]

        def of_places(leaves: list[Any]) -> list[Any]:
            held = list(primals[:count])
            for place, leaf in zip(places, leaves, strict=True):
                held[place] = leaf
            return jax.tree.leaves(rules.plain(held, moving))

        at = ([primals[i] for i in places],)
        parts.append(jax.jvp(of_places, at, ([tangents[i] for i in places],))[1])
    if not parts:
        return out, [jnp.zeros_like(leaf) for leaf in out]
    return out, [functools.reduce(jnp.add, leaves) for leaves in zip(*parts, strict=True)]


def _transpose(bars: Any, *operands: Any, rules: Rules, count: int) -> list[Any]:
    held = operands[:count]
    back = _apply.bind(
        *held, *(ad.instantiate_zeros(bar) for bar in bars), rules=rules.transposed(), count=count
    )
    return [None] * len(held) + list(back)


def _batch(operands: Any, dims: Any, *, rules: Rules, count: int) -> tuple[list[Any], list[int]]:
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if isinstance(d, int))
    moving = [
        jnp.moveaxis(x, d, 0) if isinstance(d, int) else jnp.broadcast_to(x, (size, *x.shape))
        for x, d in zip(operands[count:], dims[count:], strict=True)
    ]
    axes = [d if isinstance(d, int) else None for d in dims[:count]]
    out = _apply.bind(*operands[:count], *moving, rules=rules.batched(axes, size), count=count)
    return out, [0] * len(out)


_apply.def_impl(lambda *operands, **params: jax.jit(functools.partial(_run, **params))(*operands))
_apply.def_abstract_eval(_shapes)
ad.primitive_jvps[_apply] = _differentiate
ad.primitive_transposes[_apply] = _transpose
batching.primitive_batchers[_apply] = _batch
mlir.register_lowering(_apply, mlir.lower_fun(_run, multiple_results=True))
