"""Bounds of a batch: the same for all fits, or each fit its own.

A bound with one axis more than the parameter that it belongs to has one entry a fit. That is never
ambiguous, because a bound of one fit has at most the axes of its parameter.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.bounds import Bounds, Box, as_box, check_bounds
from jaxopt_study.types import PyTree


def check_batch_bounds(
    bounds: Any, params: PyTree, has_axis: PyTree, fits: int
) -> tuple[Bounds | None, bool]:
    """Bounds in the form of one fit's parameters, or of all fits' if a single one of them is a fit's own.

    Args:
      bounds: as `check_bounds` takes them, leaves with a leading axis of fits or without.
      params: where to start; every start has to be within its bounds.
      has_axis: a pytree of bools like `params`: whether a leaf has a leading axis of fits.
      fits: how many.

    Returns:
      `(lower, upper)`, or None, and whether all their leaves have a leading axis of fits; else none has.

    Raises:
      TypeError, ValueError: as `check_bounds`.
    """
    if bounds is None:
        return None, False
    one = jax.tree.map(lambda has, leaf: np.ndim(leaf) - has, has_axis, params)
    if isinstance(bounds, tuple | list) and any(_has_more_axes(side, one) for side in bounds):

        def spread(has: bool, leaf: Array) -> Array:
            return leaf if has else jnp.broadcast_to(leaf, (fits, *jnp.shape(leaf)))

        return check_bounds(bounds, jax.tree.map(spread, has_axis, params)), True

    def extreme(pick: Any) -> PyTree:
        def leaf(has: bool, value: Array) -> Any:
            if not has:
                return value
            return value[0] if isinstance(value, jax.core.Tracer) else pick(np.asarray(value), axis=0)

        return jax.tree.map(leaf, has_axis, params)

    check_bounds(bounds, extreme(np.min))
    return check_bounds(bounds, extreme(np.max)), False


def as_boxes(bounds: Bounds | None, own: bool, one: PyTree) -> Box | None:
    """Checked bounds as vectors; if every fit has its own, with a leading axis. `one` is like one fit's."""
    return jax.vmap(lambda bounds: as_box(bounds, one))(bounds) if own else as_box(bounds, one)


def _has_more_axes(bound: Any, one: PyTree) -> bool:
    """Whether a bound has more axes than the parameter it is for; `one` is how many those have."""
    if isinstance(bound, list | tuple) and jax.tree_util.all_leaves([one]):
        bound = np.asarray(bound)  # as `check_bounds` reads it

    def more(bound: Any, below: PyTree) -> bool:
        return any(np.ndim(bound) > axes for axes in jax.tree.leaves(below))

    try:
        return any(jax.tree.leaves(jax.tree.map(more, bound, one, is_leaf=lambda node: node is None)))
    except (ValueError, TypeError):
        return False  # it does not fit, which `check_bounds` says
