"""Observed time series in one form: padded to a common length, NaN where nothing was observed.

Shapes alone decide what a leading axis is; every check is made here, before anything is traced.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.fit.check_input import check_y, is_concrete
from jaxopt_study.pytree import check_real
from jaxopt_study.types import PyTree


class Series(NamedTuple):
    """What was observed, and where solutions begin.

    Attributes:
      ts: shape `(times,)`, or `(series, times)`.
      ys: shape `(times, ...)`, or `(series, times, ...)`.
      y0: initial states, as given; those of a list stacked.
      number: of series, None for one without an axis of its own.
      shared: whether several series have one initial state in common.
    """

    ts: Array
    ys: Array
    y0: PyTree
    number: int | None
    shared: bool


def gather(ts: Any, ys: Any, y0: PyTree, params: PyTree, look: Callable[[PyTree], PyTree]) -> Series:
    """Bring times, observations and initial states into one form.

    Args:
      ts, ys, y0: see `fit_ode`.
      params: for the dtype of whole numbers.
      look: what is seen of a state, as a pytree of arrays; called on shapes.

    Raises:
      TypeError, ValueError: if they do not fit together.
    """
    if isinstance(ts, list | tuple) and any(np.ndim(one) for one in ts):
        ts, ys = _pad(list(ts), ys)
    if isinstance(y0, list):
        y0 = _stack(y0)
    if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(y0)):
        y0 = check_real("y0", jax.tree.map(_number, y0))
    ts = _times(ts, jnp.result_type(*jax.tree.leaves((params, y0))))
    leaves, count, shared = _match(ts, ys, y0, look)
    rows = ts.shape[-1:] if count is None else (count, ts.shape[-1])
    if len(leaves) == 1 and jax.tree_util.all_leaves([look(y0 if shared or count is None else _first(y0))]):
        array = leaves[0]
    else:
        array = jnp.concatenate([leaf.reshape(*rows, -1) for leaf in leaves], axis=-1)
    array = check_y(array, params)
    if count is not None and ts.ndim == 1:
        ts = jnp.broadcast_to(ts, rows)
    return Series(_fill_times(ts, array), array, y0, count, shared)


def like_series(name: str, given: Any, ts: Any) -> Any:
    """sigma or weights; a list of one array for each series becomes one array, 1 where there is nothing."""
    several = isinstance(ts, list | tuple) and any(np.ndim(one) for one in ts)
    if not (several and isinstance(given, list | tuple)):
        return given
    if len(given) != len(ts):
        raise ValueError(f"{name}: {len(given)} series, where ts has {len(ts)}")
    rows = [np.shape(one)[0] for one in ts]
    parts = [np.broadcast_to(one, (n, *np.shape(one)[1:])) for one, n in zip(given, rows, strict=True)]
    return jnp.stack([_lengthen(jnp.asarray(part), max(rows), 1.0) for part in parts])


def _pad(ts: list, ys: Any) -> tuple[Any, Any]:
    if not isinstance(ys, list | tuple) or len(ys) != len(ts):
        got = f"{len(ys)} series" if isinstance(ys, list | tuple) else f"a {type(ys).__name__}"
        raise ValueError(f"ys: expected a list of {len(ts)} series, one for each of ts; got {got}")
    rows = [np.shape(one)[0] if np.ndim(one) == 1 else -1 for one in ts]
    if min(rows) < 1:
        raise ValueError(f"ts: expected a list of one-dimensional arrays, got shapes {[*map(np.shape, ts)]}")
    for place, (one, n) in enumerate(zip(ys, rows, strict=True)):
        bad = [np.shape(leaf) for leaf in jax.tree.leaves(one) if np.shape(leaf)[:1] != (n,)]
        if bad:
            raise ValueError(f"ys[{place}]: shape {bad[0]} where ts[{place}] has {n} times")
    longest = max(rows)
    times = [_lengthen(jnp.asarray(one), longest, None) for one in ts]
    values = [jax.tree.map(lambda leaf: _lengthen(_floats(leaf), longest, jnp.nan), one) for one in ys]
    return jnp.stack(times), _stack(values)


def _lengthen(array: Array, longest: int, fill: float | None) -> Array:
    """More rows: of `fill`, or of the last one."""
    missing = longest - array.shape[0]
    row = array[-1:] if fill is None else jnp.full_like(array[:1], fill)
    return jnp.concatenate([array, jnp.repeat(row, missing, axis=0)]) if missing else array


def _stack(items: list) -> PyTree:
    try:
        return jax.tree.map(lambda *leaves: jnp.stack([_floats(leaf) for leaf in leaves]), *items)
    except (TypeError, ValueError) as error:
        forms = [jax.tree.map(np.shape, item) for item in items]
        raise ValueError(f"series: expected the same form for each, got {forms}") from error


def _floats(leaf: Any) -> Array:
    array = jnp.asarray(leaf)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))


def _times(ts: Any, dtype: Any) -> Array:
    try:
        given = jnp.asarray(ts)
    except (TypeError, ValueError) as error:
        raise TypeError(f"ts: expected times, got {type(ts).__name__}") from error
    if not (jnp.issubdtype(given.dtype, jnp.floating) or jnp.issubdtype(given.dtype, jnp.integer)):
        raise TypeError(f"ts: expected real numbers, got dtype {given.dtype}")
    if given.ndim not in (1, 2) or not given.size:
        raise ValueError(f"ts: expected shape (times,) or (series, times), got {given.shape}")
    return given.astype(dtype)


def _number(leaf: Any) -> Any:
    is_number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
    return jnp.asarray(leaf, float) if is_number else leaf


def _first(y0: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], leaf.dtype), y0)


def _match(
    ts: Array, ys: Any, y0: PyTree, look: Callable[[PyTree], PyTree]
) -> tuple[list[Any], int | None, bool]:
    """The leaves of ys in the order of what is seen, how many series there are, and whether y0 is common."""
    n = ts.shape[-1]
    leading = {np.shape(leaf)[0] for leaf in jax.tree.leaves(ys) if np.ndim(leaf) >= 2}
    counts: list[int | None] = [None, *sorted(leading)] if ts.ndim == 1 else [ts.shape[0]]
    wanted = []
    for count, shared in itertools.product(counts, (False, True)):
        seen = None
        if count is None or shared:
            seen = look(y0)
        elif all(np.shape(leaf)[:1] == (count,) for leaf in jax.tree.leaves(y0)):
            seen = look(_first(y0))
        if seen is None or (count is None and shared):
            continue
        rows = (n,) if count is None else (count, n)
        leaves = _leaves(ys, seen, rows)
        if leaves is not None:
            return leaves, count, shared
        wanted.append(jax.tree.map(lambda leaf, rows=rows: (*rows, *leaf.shape), seen))
    got = jax.tree.map(np.shape, ys)
    if not wanted:
        raise ValueError(
            f"y0: expected the state of one series, or a leading axis of {counts}, got {_shapes(y0)}"
        )
    expected = " or ".join(dict.fromkeys(map(str, wanted)))
    raise ValueError(f"ys: expected {expected}, after ts {ts.shape} and what is observed, got {got}")


def _shapes(tree: PyTree) -> Any:
    return jax.tree.map(np.shape, tree)


def _leaves(ys: Any, seen: PyTree, rows: tuple[int, ...]) -> list[Any] | None:
    """The leaves of ys, in the shapes `(*rows, *seen)`, NaN for None; None if they do not fit."""
    found = []

    def fit(shape: Any, leaf: Any) -> None:
        wanted = (*rows, *shape.shape)
        if leaf is not None and np.shape(leaf) != wanted:
            raise ValueError
        found.append(jnp.full(wanted, jnp.nan, shape.dtype) if leaf is None else leaf)

    try:
        jax.tree.map(fit, seen, ys)
    except (ValueError, TypeError):
        return None
    return [leaf if len(found) == 1 else _floats(leaf) for leaf in found]


def _fill_times(ts: Array, ys: Array) -> Array:
    """ts with finite numbers where all of a time is missing: that of the first time of its series.

    Raises:
      ValueError: if a time is not finite where something was observed.
    """
    missing = jnp.all(jnp.isnan(ys), axis=tuple(range(ts.ndim, ys.ndim)))
    if is_concrete(ts, ys):
        bad = np.asarray(ts)[~np.asarray(missing) & ~np.isfinite(np.asarray(ts))]
        if bad.size:
            raise ValueError(f"ts: {bad[0]} is the time of something that was observed")
    known = jnp.isfinite(ts)
    first = jnp.min(jnp.where(known, ts, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(known, ts, first)
