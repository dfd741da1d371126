"""What a primitive does to elements, found by letting it move their numbers about.

A primitive that only moves elements (a slice, a transpose, a gather at known places) tells where each
element of its result comes from when it is applied to an array of element numbers instead. Negative
numbers stand for elements that come from nowhere, such as padding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Index = np.ndarray
NOWHERE = -1


def numbered(shape: Sequence[Any]) -> Index:
    """The number of every element of an array of this shape."""
    return np.arange(np.prod(shape, dtype=int)).reshape(shape)


def broadcast(index: Index, params: dict[str, Any]) -> Index:
    """`lax.broadcast_in_dim`."""
    shape = [1] * len(params["shape"])
    for axis, into in enumerate(params["broadcast_dimensions"]):
        shape[into] = index.shape[axis]
    return np.broadcast_to(index.reshape(shape), params["shape"])


def reshape(index: Index, params: dict[str, Any]) -> Index:
    """`lax.reshape`, which may take the axes in another order."""
    order = params.get("dimensions")
    return index if order is None else np.transpose(index, order)


def cut(index: Index, params: dict[str, Any]) -> Index:
    """`lax.slice`."""
    strides = params["strides"] or [1] * index.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return index[tuple(slice(*bound) for bound in bounds)]


def pad(index: Index, config: Sequence[Any], padding: int = NOWHERE) -> Index:
    """`lax.pad`, with its negative and inner padding."""
    for axis, (low, high, inner) in enumerate(config):
        index = np.moveaxis(index, axis, 0)
        if inner and len(index):
            spread = np.full((len(index) + (len(index) - 1) * inner, *index.shape[1:]), padding)
            spread[:: inner + 1] = index
            index = spread
        width = [(max(low, 0), max(high, 0))] + [(0, 0)] * (index.ndim - 1)
        index = np.pad(index, width, constant_values=padding)
        index = index[max(-low, 0) : len(index) - max(-high, 0)]
        index = np.moveaxis(index, 0, axis)
    return index


def taps(
    index: Index,
    window: Sequence[Any],
    strides: Sequence[Any],
    padding: Sequence[Any],
    base_dilation: Sequence[Any],
    window_dilation: Sequence[Any],
) -> Index:
    """What a window over all axes sees: shape `(places in the window, *shape of the result)`."""
    config = [(low, high, inner - 1) for (low, high), inner in zip(padding, base_dilation, strict=True)]
    padded = pad(index, config)
    reach = [(size - 1) * step + 1 for size, step in zip(window, window_dilation, strict=True)]
    counts = [
        max((length - far) // stride + 1, 0)
        for length, far, stride in zip(padded.shape, reach, strides, strict=True)
    ]
    seen = []
    for place in np.ndindex(*window):
        first = [p * step for p, step in zip(place, window_dilation, strict=True)]
        cuts = zip(first, counts, strides, strict=True)
        seen.append(
            padded[tuple(slice(at, at + (n - 1) * stride + 1 if n else at, stride) for at, n, stride in cuts)]
        )
    return np.stack(seen)


def by_primitive(primitive: Any, index: Index, others: Sequence[Any], params: dict[str, Any]) -> Index:
    """What the primitive itself makes of the numbers, with its other arguments (places) known."""
    if "fill_value" in params:
        params = {**params, "fill_value": NOWHERE}
    return np.asarray(primitive.bind(jnp.asarray(index), *map(jnp.asarray, others), **params))


def scatter_targets(
    shape: Sequence[Any], places: Any, updates: Sequence[Any], params: dict[str, Any]
) -> Index:
    """Where every element of the updates goes: the gather that undoes the scatter (as its transpose does)."""
    numbers = params["dimension_numbers"]
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    windows = iter(numbers.update_window_dims)
    sizes = tuple(1 if axis in dropped else updates[next(windows)] for axis in range(len(shape)))
    undo = lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    mode = params["mode"]
    mode = lax.GatherScatterMode.CLIP if mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS else mode
    gather: Callable[..., Any] = lax.gather
    return np.asarray(
        gather(jnp.asarray(numbered(shape)), jnp.asarray(places), undo, sizes, mode=mode, fill_value=NOWHERE)
    )


def dynamic_update_targets(shape: Sequence[Any], starts: Sequence[Any], update: Sequence[Any]) -> Index:
    """Where every element of the update of `lax.dynamic_update_slice` goes."""
    return np.asarray(
        lax.dynamic_slice(jnp.asarray(numbered(shape)), [jnp.asarray(s) for s in starts], update)
    )


def is_concrete(value: Any) -> bool:
    """Whether there are numbers, rather than something traced."""
    return not isinstance(value, jax.core.Tracer)
