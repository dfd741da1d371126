"""Rules of what moves elements: to places that the program names, or that it looks up."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced, shape_of, size_of, value_of
from jaxopt_study.sparsity.unions import smeared


def moved(
    where: Callable[[np.ndarray, dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    """Elements go where the primitive takes their numbers."""
    sets = inputs[0].sets
    if sets is None:
        return [None]
    return [sets.take(where(move.numbered(shape_of(equation.invars[0])), equation.params))]


def join(
    how: Callable[[list[np.ndarray], dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    """Several arrays become one."""
    parts, numbers, first = [], [], 0
    inputs_number = next(item.sets.inputs for item in inputs if item.sets is not None)
    for atom, item in zip(equation.invars, inputs, strict=True):
        parts.append(item.sets if item.sets is not None else index_sets.empty(size_of(atom), inputs_number))
        numbers.append(move.numbered(shape_of(atom)) + first)
        first += size_of(atom)
    return [index_sets.concatenate(parts).take(how(numbers, equation.params))]


def split(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """One array becomes several, along an axis."""
    sets = inputs[0].sets
    ends = np.cumsum(equation.params["sizes"])[:-1]
    pieces = np.split(move.numbered(shape_of(equation.invars[0])), ends, axis=equation.params["axis"])
    return [None if sets is None else sets.take(piece) for piece in pieces]


def unstack(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """One array for each element along an axis."""
    sets = inputs[0].sets
    number = np.moveaxis(move.numbered(shape_of(equation.invars[0])), equation.params["axis"], 0)
    return [None if sets is None else sets.take(piece) for piece in number]


def pad(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The operand, with the padding value around and within it."""
    operand, padding = inputs[0].sets, inputs[1].sets
    index = move.pad(move.numbered(shape_of(equation.invars[0])), equation.params["padding_config"])
    moved = None if operand is None else operand.take(index)
    rest = None if padding is None else padding.take(np.where(index < 0, 0, move.NOWHERE))
    return [index_sets.union([moved, rest])]


def gather(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Slices from places that are looked up."""
    sets, shape, places = inputs[0].sets, shape_of(equation.invars[0]), value_of(inputs[1])
    if sets is None:
        return [None]
    params = equation.params
    if places is None:  # anywhere along the axes that are looked up, and aligned along the others
        moving = [
            a for a in params["dimension_numbers"].start_index_map if params["slice_sizes"][a] < shape[a]
        ]
        sets = smeared(sets, shape, moving)
        places = np.zeros(shape_of(equation.invars[1]), np.int32)
    return [sets.take(move.by_primitive(equation.primitive, move.numbered(shape), [places], params))]


def _zero_if_unknown(atoms: Sequence[Any], starts: Sequence[Any]) -> list[Any]:
    return [
        np.zeros((), atom.aval.dtype) if start is None else start
        for atom, start in zip(atoms, starts, strict=True)
    ]


def dynamic_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """A slice from a place that is looked up."""
    sets, shape = inputs[0].sets, shape_of(equation.invars[0])
    if sets is None:
        return [None]
    starts = [value_of(item) for item in inputs[1:]]
    sizes = equation.params["slice_sizes"]
    unknown = [axis for axis, start in enumerate(starts) if start is None and sizes[axis] < shape[axis]]
    places = _zero_if_unknown(equation.invars[1:], starts)
    sets = smeared(sets, shape, unknown) if unknown else sets
    return [sets.take(move.by_primitive(equation.primitive, move.numbered(shape), places, equation.params))]


def _placed(
    operand: IndexSets | None,
    updates: IndexSets | None,
    targets: np.ndarray,
    shape: Sequence[Any],
    anywhere: Sequence[Any],
) -> list[IndexSets | None]:
    """Updates go to targets, or to any place along some axes; what was there may remain."""
    if updates is None:
        return [operand]
    contributed = updates.group(targets, int(np.prod(shape, dtype=int)))
    return [index_sets.union([operand, smeared(contributed, shape, anywhere) if anywhere else contributed])]


def scatter(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Updates that are put, or added, where the indices say."""
    shape, updates = shape_of(equation.invars[0]), shape_of(equation.invars[2])
    places, anywhere = value_of(inputs[1]), []
    if places is None:
        places = np.zeros(shape_of(equation.invars[1]), np.int32)
        anywhere = list(equation.params["dimension_numbers"].scatter_dims_to_operand_dims)
    targets = move.scatter_targets(shape, places, updates, equation.params)
    return _placed(inputs[0].sets, inputs[2].sets, targets, shape, anywhere)


def dynamic_update_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """A block that replaces what was at a place that is looked up."""
    shape, update = shape_of(equation.invars[0]), shape_of(equation.invars[1])
    starts = [value_of(item) for item in inputs[2:]]
    anywhere = [a for a, start in enumerate(starts) if start is None and update[a] < shape[a]]
    known = _zero_if_unknown(equation.invars[2:], starts)
    targets = move.dynamic_update_targets(shape, known, update)
    operand = inputs[0].sets
    if operand is not None and not anywhere:  # what was there is gone
        kept = np.arange(operand.elements)
        kept[targets.ravel()] = move.NOWHERE
        operand = operand.take(kept)
    return _placed(operand, inputs[1].sets, targets, shape, anywhere)
