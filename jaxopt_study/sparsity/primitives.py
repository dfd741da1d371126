"""What each primitive does to the sets of elements: which inputs does every element of its result depend on?

A rule takes the equation and what is known of its inputs, and returns the sets of its outputs, None for
what depends on nothing. Primitives that hold programs of their own (loops, calls) are in `propagate`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced, shape_of, size_of, value_of

Rule = Callable[[Any, list[Traced]], list[IndexSets | None]]


def everything(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Every output depends on all that goes in: what holds for any primitive."""
    parts = [item.sets for item in inputs if item.sets is not None]
    columns = np.unique(np.concatenate([part.columns() for part in parts]))
    return [index_sets.shared(size_of(out), columns, parts[0].inputs) for out in equation.outvars]


def _elementwise(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
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


def _multiply(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    (product,) = _elementwise(equation, inputs)
    for item in inputs:
        factor = value_of(item)
        if factor is not None and product is not None and not np.all(factor):
            zero = np.broadcast_to(factor == 0, shape_of(equation.outvars[0])).ravel()
            product = product.take(np.where(zero, move.NOWHERE, np.arange(product.elements)))
    return [product]


def _select(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
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


def _same_elements(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    return [item.sets for item in inputs[: len(equation.outvars)]]


def _moved(
    where: Callable[[np.ndarray, dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    sets = inputs[0].sets
    if sets is None:
        return [None]
    return [sets.take(where(move.numbered(shape_of(equation.invars[0])), equation.params))]


def _join(
    how: Callable[[list[np.ndarray], dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    parts, numbers, first = [], [], 0
    inputs_number = next(item.sets.inputs for item in inputs if item.sets is not None)
    for atom, item in zip(equation.invars, inputs, strict=True):
        parts.append(item.sets if item.sets is not None else index_sets.empty(size_of(atom), inputs_number))
        numbers.append(move.numbered(shape_of(atom)) + first)
        first += size_of(atom)
    return [index_sets.concatenate(parts).take(how(numbers, equation.params))]


def _split(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets = inputs[0].sets
    ends = np.cumsum(equation.params["sizes"])[:-1]
    pieces = np.split(move.numbered(shape_of(equation.invars[0])), ends, axis=equation.params["axis"])
    return [None if sets is None else sets.take(piece) for piece in pieces]


def _unstack(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets = inputs[0].sets
    number = np.moveaxis(move.numbered(shape_of(equation.invars[0])), equation.params["axis"], 0)
    return [None if sets is None else sets.take(piece) for piece in number]


def _pad(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    operand, padding = inputs[0].sets, inputs[1].sets
    index = move.pad(move.numbered(shape_of(equation.invars[0])), equation.params["padding_config"])
    moved = None if operand is None else operand.take(index)
    rest = None if padding is None else padding.take(np.where(index < 0, 0, move.NOWHERE))
    return [index_sets.union([moved, rest])]


def _reduce(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    shape, axes = shape_of(equation.invars[0]), equation.params["axes"]
    sets = index_sets.union([item.sets for item in inputs if item.sets is not None])
    return [None if sets is None else _over(sets, shape, axes)] * len(equation.outvars)


def _over(sets: IndexSets, shape: Sequence[Any], axes: Sequence[Any]) -> IndexSets:
    """The union over some axes."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    groups = np.broadcast_to(move.numbered(kept), shape)
    return sets.group(groups, int(np.prod(kept, dtype=int)))


def _smeared(sets: IndexSets, shape: Sequence[Any], axes: Sequence[Any]) -> IndexSets:
    """The union over some axes, for every element along them."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    return _over(sets, shape, axes).take(np.broadcast_to(move.numbered(kept), shape))


def _cumulate(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape, axis = inputs[0].sets, shape_of(equation.invars[0]), equation.params["axis"]
    if sets is None or not shape[axis]:
        return [sets]
    if sets.count * shape[axis] / 2 > index_sets.MOST:
        return [_smeared(sets, shape, [axis])]
    first, last = np.tril_indices(shape[axis])[::-1]
    first, last = (last, first) if equation.params["reverse"] else (first, last)
    number = move.numbered(shape)
    pairs = sets.take(np.take(number, first, axis=axis))
    return [pairs.group(np.take(number, last, axis=axis), sets.elements)]


def _gather(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape, places = inputs[0].sets, shape_of(equation.invars[0]), value_of(inputs[1])
    if sets is None:
        return [None]
    params = equation.params
    if places is None:  # anywhere along the axes that are looked up, and aligned along the others
        moving = [
            a for a in params["dimension_numbers"].start_index_map if params["slice_sizes"][a] < shape[a]
        ]
        sets = _smeared(sets, shape, moving)
        places = np.zeros(shape_of(equation.invars[1]), np.int32)
    return [sets.take(move.by_primitive(equation.primitive, move.numbered(shape), [places], params))]


def _zero_if_unknown(atoms: Sequence[Any], starts: Sequence[Any]) -> list[Any]:
    return [
        np.zeros((), atom.aval.dtype) if start is None else start
        for atom, start in zip(atoms, starts, strict=True)
    ]


def _dynamic_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape = inputs[0].sets, shape_of(equation.invars[0])
    if sets is None:
        return [None]
    starts = [value_of(item) for item in inputs[1:]]
    sizes = equation.params["slice_sizes"]
    unknown = [axis for axis, start in enumerate(starts) if start is None and sizes[axis] < shape[axis]]
    places = _zero_if_unknown(equation.invars[1:], starts)
    sets = _smeared(sets, shape, unknown) if unknown else sets
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
    return [index_sets.union([operand, _smeared(contributed, shape, anywhere) if anywhere else contributed])]


def _scatter(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    shape, updates = shape_of(equation.invars[0]), shape_of(equation.invars[2])
    places, anywhere = value_of(inputs[1]), []
    if places is None:
        places = np.zeros(shape_of(equation.invars[1]), np.int32)
        anywhere = list(equation.params["dimension_numbers"].scatter_dims_to_operand_dims)
    targets = move.scatter_targets(shape, places, updates, equation.params)
    return _placed(inputs[0].sets, inputs[2].sets, targets, shape, anywhere)


def _dynamic_update_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
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


def _dot(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
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


def _window(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Sums and choices over windows; the second input of a choice says which, and is not followed."""
    sets, params = inputs[0].sets, equation.params
    if sets is None or any(item.sets is not None for item in inputs[1:]):
        return everything(equation, inputs)
    seen = move.taps(
        move.numbered(shape_of(equation.invars[0])),
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params.get("base_dilation") or [1] * len(shape_of(equation.invars[0])),
        params.get("window_dilation") or [1] * len(shape_of(equation.invars[0])),
    )
    size = size_of(equation.outvars[0])
    return [sets.take(seen).group(np.tile(np.arange(size), len(seen)), size)]


def _unwindow(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The transpose of a choice over windows: every element of a window may have been the one."""
    sets, params = inputs[0].sets, equation.params
    if sets is None or inputs[1].sets is not None:
        return everything(equation, inputs)
    shape = shape_of(equation.invars[1])
    window, strides, ones = params["window_dimensions"], params["window_strides"], [1] * len(shape)
    seen = move.taps(move.numbered(shape), window, strides, params["padding"], ones, ones)
    return [sets.take(np.tile(np.arange(sets.elements), len(seen))).group(seen, size_of(equation.outvars[0]))]


def _convolve(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    params = equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        return everything(equation, inputs)
    kernel = np.transpose(move.numbered(shape_of(equation.invars[1])), numbers.rhs_spec)  # out, in, *space
    out = np.transpose(move.numbered(shape_of(equation.outvars[0])), numbers.out_spec)  # batch, out, *space
    parts = []
    if (sets := inputs[0].sets) is not None:
        images = np.transpose(move.numbered(shape_of(equation.invars[0])), numbers.lhs_spec)
        seen = move.taps(
            images,
            (1, 1, *kernel.shape[2:]),
            (1, 1, *params["window_strides"]),
            ((0, 0), (0, 0), *params["padding"]),
            (1, 1, *params["lhs_dilation"]),
            (1, 1, *params["rhs_dilation"]),
        )  # taps, batch, in, *space
        by_group = seen.reshape(*seen.shape[:2], groups, -1, *seen.shape[3:])
        number = move.numbered((seen.shape[1], groups, *seen.shape[3:]))  # one set for all outputs of a group
        target = np.broadcast_to(number[None, :, :, None], by_group.shape)
        summed = sets.take(by_group).group(target, number.size)
        source = np.empty(out.size, int)
        source[out] = np.repeat(number, out.shape[1] // groups, axis=1)
        parts.append(summed.take(source))
    if (sets := inputs[1].sets) is not None:
        summed = _over(sets.take(kernel), kernel.shape, range(1, kernel.ndim))
        source = np.empty(out.size, int)
        source[out] = np.broadcast_to(np.arange(len(kernel)).reshape(1, -1, *[1] * (out.ndim - 2)), out.shape)
        parts.append(summed.take(source))
    return [index_sets.union(parts)]


def _last_axes(
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
            parts.append(_over(item.sets, shape, range(len(lead), len(shape))))
        repeat = size_of(outvar) // max(int(np.prod(lead, dtype=int)), 1)
        both = index_sets.union(parts)
        out.append(None if both is None else both.take(np.repeat(np.arange(both.elements), repeat)))
    return out


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        # Linear ones come first; the others only where a value, not a derivative, is followed.
        [
            "add",
            "add_any",
            "sub",
            "neg",
            "div",
            "convert_element_type",
            "real",
            "imag",
            "complex",
            "conj",
            "reduce_precision",
            "copy",
            "copy_p",
            "max",
            "min",
            "pow",
            "integer_pow",
            "exp",
            "exp2",
            "log",
            "log1p",
            "expm1",
            "sin",
            "cos",
            "tan",
            "tanh",
            "sinh",
            "cosh",
            "asin",
            "acos",
            "atan",
            "asinh",
            "acosh",
            "atanh",
            "atan2",
            "sqrt",
            "rsqrt",
            "cbrt",
            "square",
            "abs",
            "logistic",
            "erf",
            "erfc",
            "erf_inv",
            "lgamma",
            "digamma",
            "rem",
            "nextafter",
            "clamp",
        ],
        _elementwise,
    ),
    "mul": _multiply,
    "select_n": _select,
    **dict.fromkeys(
        [
            "squeeze",
            "expand_dims",
            "device_put",
            "sharding_constraint",
            "optimization_barrier",
            "pvary",
        ],
        _same_elements,
    ),
    "broadcast_in_dim": partial(_moved, move.broadcast),
    "reshape": partial(_moved, move.reshape),
    "slice": partial(_moved, move.cut),
    "transpose": partial(_moved, lambda index, params: np.transpose(index, params["permutation"])),
    "rev": partial(_moved, lambda index, params: np.flip(index, params["dimensions"])),
    "tile": partial(_moved, lambda index, params: np.tile(index, params["reps"])),
    "concatenate": partial(_join, lambda arrays, params: np.concatenate(arrays, params["dimension"])),
    "stack": partial(_join, lambda arrays, params: np.stack(arrays, params["axis"])),
    "split": _split,
    "unstack": _unstack,
    "pad": _pad,
    **dict.fromkeys(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"], _reduce),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _cumulate),
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    **dict.fromkeys(["scatter", "scatter-add", "scatter-sub", "scatter-mul"], _scatter),
    "dynamic_update_slice": _dynamic_update_slice,
    "dot_general": _dot,
    "reduce_window_sum": _window,
    "select_and_gather_add": _window,
    "select_and_scatter_add": _unwindow,
    "conv_general_dilated": _convolve,
    "triangular_solve": partial(_last_axes, lambda params: 2),
    "cholesky": partial(_last_axes, lambda params: 2),
    "fft": partial(_last_axes, lambda params: len(params["fft_lengths"])),
}
