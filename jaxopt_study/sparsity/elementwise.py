"""Rules of what works element by element: a factor of zero, or a case not chosen, lets nothing through."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced, shape_of, size_of, value_of


def elementwise(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """What the element depends on in every input."""
    return [index_sets.union(_stretched(equation, equation.invars, inputs))]


def _stretched(equation: Any, atoms: Sequence[Any], inputs: Sequence[Traced]) -> list[IndexSets | None]:
    """The sets in the shape of the result: a scalar, or an axis of length 1, stands for all along it."""
    shape = shape_of(equation.outvars[0])
    return [
        item.sets
        if item.sets is None or shape_of(atom) == shape
        else item.sets.take(np.broadcast_to(move.numbered(shape_of(atom)), shape))
        for atom, item in zip(atoms, inputs, strict=True)
    ]


def multiply(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """As `elementwise`, but nothing where a factor is known to be zero."""
    (product,) = elementwise(equation, inputs)
    for item in inputs:
        factor = value_of(item)
        if factor is not None and product is not None and not np.all(factor):
            zero = np.broadcast_to(factor == 0, shape_of(equation.outvars[0])).ravel()
            product = product.take(np.where(zero, move.NOWHERE, np.arange(product.elements)))
    return [product]


def select(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The case that is chosen; all of them, where the choice is not known."""
    size = size_of(equation.outvars[0])
    which, cases = value_of(inputs[0]), _stretched(equation, equation.invars[1:], inputs[1:])
    if which is None:
        return [index_sets.union(cases)]
    which = np.broadcast_to(which, shape_of(equation.outvars[0])).ravel().astype(int)
    chosen = [
        case.take(np.where(which == number, np.arange(size), move.NOWHERE))
        for number, case in enumerate(cases)
        if case is not None
    ]
    return [index_sets.union(chosen)]


def same_elements(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The elements are those of the input, in their order."""
    return [item.sets for item in inputs[: len(equation.outvars)]]
