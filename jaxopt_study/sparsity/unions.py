"""Rules that unite: sums over axes, products of matrices, and what depends on everything that goes in."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced, shape_of, size_of, value_of


def everything(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Every output depends on all that goes in: what holds for any primitive."""
    parts = [item.sets for item in inputs if item.sets is not None]
    columns = np.unique(np.concatenate([part.columns() for part in parts]))
    return [index_sets.shared(size_of(out), columns, parts[0].inputs) for out in equation.outvars]


def over(sets: IndexSets, shape: Sequence[Any], axes: Sequence[Any]) -> IndexSets:
    """The union over some axes."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    groups = np.broadcast_to(move.numbered(kept), shape)
    return sets.group(groups, int(np.prod(kept, dtype=int)))


def smeared(sets: IndexSets, shape: Sequence[Any], axes: Sequence[Any]) -> IndexSets:
    """The union over some axes, for every element along them."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    return over(sets, shape, axes).take(np.broadcast_to(move.numbered(kept), shape))


def reduce(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The union over the axes that are summed, or searched for the largest."""
    shape, axes = shape_of(equation.invars[0]), equation.params["axes"]
    sets = index_sets.union([item.sets for item in inputs if item.sets is not None])
    return [None if sets is None else over(sets, shape, axes)] * len(equation.outvars)


def cumulate(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Each element depends on what comes before it along the axis; on all of it, where those are too many."""
    sets, shape, axis = inputs[0].sets, shape_of(equation.invars[0]), equation.params["axis"]
    if sets is None or not shape[axis]:
        return [sets]
    if sets.count * shape[axis] / 2 > index_sets.MOST:
        return [smeared(sets, shape, [axis])]
    first, last = np.tril_indices(shape[axis])[::-1]
    first, last = (last, first) if equation.params["reverse"] else (first, last)
    number = move.numbered(shape)
    pairs = sets.take(np.take(number, first, axis=axis))
    return [pairs.group(np.take(number, last, axis=axis), sets.elements)]


def dot(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """A product of matrices: zeros of a factor that is known let nothing through."""
    contracted, batch = equation.params["dimension_numbers"]
    return [
        index_sets.union(
            [
                _dot_with(equation, inputs[side].sets, inputs[1 - side], side, contracted, batch)
                for side in (0, 1)
            ]
        )
    ]


def _dot_with(
    equation: Any, sets: IndexSets | None, other: Traced, side: int, contracted: Any, batch: Any
) -> IndexSets | None:
    """What the product depends on through one of its factors, with axes ordered batch, free, contracted."""
    if sets is None:
        return None

    def ordered(which: int) -> tuple[list[int], tuple[int, int, int]]:
        shape = shape_of(equation.invars[which])
        free = [a for a in range(len(shape)) if a not in contracted[which] and a not in batch[which]]
        groups = (list(batch[which]), free, list(contracted[which]))
        sizes = [int(np.prod([shape[a] for a in axes], dtype=int)) for axes in groups]
        return [*groups[0], *groups[1], *groups[2]], (sizes[0], sizes[1], sizes[2])

    order, (batches, free, length) = ordered(side)
    other_order, (_, other_free, _) = ordered(1 - side)
    mine = np.transpose(move.numbered(shape_of(equation.invars[side])), order).reshape(batches, free, length)
    matrix = value_of(other)
    places = move.numbered((batches, free, other_free) if side == 0 else (batches, other_free, free))
    if side == 1:
        places = places.swapaxes(1, 2)
    elements = places.size
    if matrix is not None:
        matrix = np.transpose(matrix, other_order).reshape(batches, other_free, length)
        at, column, along = np.nonzero(matrix)
        if (
            len(at) < matrix.size
            and len(at) * free * max(sets.count // max(sets.elements, 1), 1) <= index_sets.MOST
        ):
            pairs = sets.take(mine[at, :, along])
            return pairs.group(places[at, :, column], elements)
    summed = sets.take(mine).group(np.repeat(np.arange(batches * free), length), batches * free)
    source = np.empty(elements, int)
    source[places.ravel()] = np.repeat(np.arange(batches * free), other_free)
    return summed.take(source)


def last_axes(
    number: Callable[[dict[str, Any]], int], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    """Everything within the last axes, and nothing beyond: a batch of small problems."""
    core_axes = number(equation.params)
    out = []
    for outvar in equation.outvars:
        lead = shape_of(outvar)[: len(shape_of(outvar)) - core_axes]
        parts = []
        for atom, item in zip(equation.invars, inputs, strict=True):
            if item.sets is None:
                continue
            if shape_of(atom)[: len(shape_of(atom)) - core_axes] != lead:
                return everything(equation, inputs)
            shape = shape_of(atom)
            parts.append(over(item.sets, shape, range(len(lead), len(shape))))
        repeat = size_of(outvar) // max(int(np.prod(lead, dtype=int)), 1)
        both = index_sets.union(parts)
        out.append(None if both is None else both.take(np.repeat(np.arange(both.elements), repeat)))
    return out
