"""What a solve returns: a pytree of arrays, and dense output where it was asked for."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxopt_study.result import Status, describe, is_converged
from jaxopt_study.types import Bool, PyTree


class Stats(NamedTuple):
    """What a solve cost.

    Attributes:
      num_steps: steps tried, int32.
      num_accepted: steps whose error was small enough, int32.
      num_rejected: steps tried again with a shorter length, int32.
    """

    num_steps: Any
    num_accepted: Any
    num_rejected: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solution:
    """The solution of an ODE at the times that were asked for: a pytree, batched by `vmap`.

    Attributes:
      ts: the times, shape `(times,)`.
      ys: the states there, a pytree like y0 whose leaves have a leading axis of `times`; NaN after the
        time at which the solve failed or an event ended it.
      status: a `Status`, as an int32 scalar: `END_REACHED`, `EVENT`, or how it failed.
      stats: a `Stats`.
      t_end: the last time reached: that of the event if there was one.
      y_end: the state there.
      dense: what `evaluate` needs, None without `dense=True`.
    """

    ts: Any
    ys: Any
    status: Any
    stats: Stats
    t_end: Any
    y_end: Any
    dense: Any = None

    @property
    def converged(self) -> Bool[Array, "..."]:
        """Whether the solve reached the last time or an event, bool array."""
        return is_converged(self.status)

    @property
    def message(self) -> Any:
        """The status in words: a string, or an array of them for a batch; not inside a trace."""
        return describe(self.status)

    def evaluate(self, t: Any) -> PyTree:
        """The state at any time between the first and the last: dense output.

        Args:
          t: a time, or an array of times.

        Returns:
          A pytree like y0, its leaves with the axes of t in front; NaN outside what was solved.

        Raises:
          ValueError: if the solve was not made with `dense=True`.
        """
        if self.dense is None:
            raise ValueError("evaluate: needs a solution made with solve_ode(..., dense=True)")
        return self.dense(t)


__all__ = ["Solution", "Stats", "Status"]
