"""Rules of windows that slide: pooling and its transpose, convolutions."""

from typing import Any

import numpy as np

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced, shape_of, size_of
from jaxopt_study.sparsity.unions import everything, over


def window(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
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


def unwindow(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The transpose of a choice over windows: every element of a window may have been the one."""
    sets, params = inputs[0].sets, equation.params
    if sets is None or inputs[1].sets is not None:
        return everything(equation, inputs)
    shape = shape_of(equation.invars[1])
    window, strides, ones = params["window_dimensions"], params["window_strides"], [1] * len(shape)
    seen = move.taps(move.numbered(shape), window, strides, params["padding"], ones, ones)
    return [sets.take(np.tile(np.arange(sets.elements), len(seen))).group(seen, size_of(equation.outvars[0]))]


def convolve(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Every tap of the kernel, over all channels of the group."""
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
        summed = over(sets.take(kernel), kernel.shape, range(1, kernel.ndim))
        source = np.empty(out.size, int)
        source[out] = np.broadcast_to(np.arange(len(kernel)).reshape(1, -1, *[1] * (out.ndim - 2)), out.shape)
        parts.append(summed.take(source))
    return [index_sets.union(parts)]
