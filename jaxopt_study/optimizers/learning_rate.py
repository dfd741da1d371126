"""The last rule of every first-order optimizer: `updates ← -η(t) updates`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.optimizers.transform import elementwise, number, transformation
from jaxopt_study.pytree import traceable
from jaxopt_study.types import Int, PyTree

ScalarOrSchedule = ArrayLike | Callable[[Any], Any]


class ScheduleState(NamedTuple):
    """State of `scale_by_learning_rate` with a schedule: the number of updates made."""

    count: Int[Array, ""]  # type: ignore[assignment]  # hides tuple.count, as optax does


def scale_by_learning_rate(learning_rate: ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Multiply updates with `-learning_rate`, so that adding them descends.

    Args:
      learning_rate: a number (a leaf of the optimizer), or a schedule: a function from the number
        of updates made so far to a number. A schedule that is a pytree is traced; a plain
        function is static.

    Returns:
      An optax transformation.

    Example:
      >>> rule = scale_by_learning_rate(lambda count: 1.0 / (count + 1))
      >>> state = rule.init(jnp.zeros(2))
      >>> for _ in range(2):
      ...     updates, state = rule.update(jnp.ones(2), state)
      >>> print(updates)
      [-0.5 -0.5]
    """
    if callable(learning_rate):
        return transformation(_schedule_init, _schedule_update, traceable(learning_rate))
    return transformation(_constant_init, _constant_update, number("learning_rate", learning_rate))


def _constant_init(bound: Any, /, params: PyTree) -> optax.EmptyState:
    del bound, params
    return optax.EmptyState()


@elementwise
def _constant_update(
    bound: Any, /, updates: PyTree, state: optax.EmptyState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, optax.EmptyState]:
    del params, extra
    (learning_rate,) = bound
    return _descend(learning_rate, updates), state


def _schedule_init(bound: Any, /, params: PyTree) -> ScheduleState:
    del bound, params
    return ScheduleState(jnp.zeros((), jnp.int32))


@elementwise
def _schedule_update(
    bound: Any, /, updates: PyTree, state: ScheduleState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, ScheduleState]:
    del params, extra
    (schedule,) = bound
    return _descend(schedule(state.count), updates), ScheduleState(optax.safe_increment(state.count))


def _descend(learning_rate: Any, updates: PyTree) -> PyTree:
    return jax.tree.map(lambda u: jnp.asarray(-learning_rate, u.dtype) * u, updates)
