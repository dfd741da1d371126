"""How an iteration ends: the table of every `Status`, and the `Result` that carries one.

This file says nothing about *when* to end; the tests are in `stopping`.
"""

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import Bool, Float


class Status(enum.IntEnum):
    """Every way in which an iteration can end.

    | name                 | converged | what it means                                                     |
    |----------------------|-----------|-------------------------------------------------------------------|
    | `RUNNING`            | no        | not ended: more steps may be taken                                |
    | `GRADIENT_CONVERGED` | yes       | the gradient test `gtol` holds at `params`                        |
    | `VALUE_CONVERGED`    | yes       | the last accepted step lowered the value by less than `ftol` asks |
    |                      |           | or promised to lower it by less than its rounding errors          |
    | `STEP_CONVERGED`     | yes       | the last accepted step was shorter than `xtol` asks               |
    | `TARGET_REACHED`     | yes       | the value is at or below `target`                                 |
    | `OUT_OF_STEPS`       | no        | `max_steps` were taken                                            |
    | `STALLED`            | no        | no trial step lowered the value, and no test of convergence holds |
    | `RANK_DEFICIENT`     | no        | stopped short while the curvature was singular: the parameters    |
    |                      |           | are not determined by the data, or not by this start              |
    | `NON_FINITE_START`   | no        | the value or gradient at the start is infinite or not a number    |
    | `NON_FINITE`         | no        | a step led to a value or gradient that is infinite or not a       |
    |                      |           | number; `params` is where it led                                  |
    | `NO_ROOT`            | no        | of `find_root`: there is no root here. ‖f‖ is at a minimum that   |
    |                      |           | is not zero, or f changes its sign by a jump or at a pole         |
    | `NOT_BRACKETED`      | no        | of `find_root`: f has the same sign at both ends of the bracket   |
    | `END_REACHED`        | yes       | of `solve_ode`: the last time was reached                         |
    | `EVENT`              | yes       | of `solve_ode`: the event came before the last time               |
    | `STEP_TOO_SMALL`     | no        | of `solve_ode`: the tolerance asks for steps that no longer move  |
    |                      |           | the time: the solution blows up or jumps, or the problem is stiff |
    """

    RUNNING = 0
    GRADIENT_CONVERGED = 1
    VALUE_CONVERGED = 2
    STEP_CONVERGED = 3
    TARGET_REACHED = 4
    OUT_OF_STEPS = 5
    STALLED = 6
    RANK_DEFICIENT = 7
    NON_FINITE_START = 8
    NON_FINITE = 9
    NO_ROOT = 10
    NOT_BRACKETED = 11
    END_REACHED = 12
    EVENT = 13
    STEP_TOO_SMALL = 14


MESSAGES = {
    Status.RUNNING: "still running: no test of convergence holds yet",
    Status.GRADIENT_CONVERGED: "converged: the gradient is zero to the tolerance gtol",
    Status.VALUE_CONVERGED: "converged: the value no longer falls by more than the tolerance ftol",
    Status.STEP_CONVERGED: "converged: the step is shorter than the tolerance xtol",
    Status.TARGET_REACHED: "converged: the value reached the target",
    Status.OUT_OF_STEPS: "not converged: max_steps were taken",
    Status.STALLED: "not converged: no trial step lowered the value",
    Status.RANK_DEFICIENT: "not converged: stopped short at rank-deficient curvature",
    Status.NON_FINITE_START: "failed: the value or its gradient at the start is not finite",
    Status.NON_FINITE: "failed: a step led to a value or a gradient that is not finite",
    Status.NO_ROOT: "no root: the residual has a minimum here that is not zero, or jumps across it",
    Status.NOT_BRACKETED: "failed: the function has the same sign at both ends of the bracket",
    Status.END_REACHED: "solved: the last time was reached",
    Status.EVENT: "solved: the event came before the last time",
    Status.STEP_TOO_SMALL: "failed: the steps became too short to move the time",
}


def is_converged(status: Any) -> Bool[Array, "..."]:
    """Whether a status, or each of an array of them, is one of convergence.

    >>> bool(is_converged(Status.TARGET_REACHED)), bool(is_converged(Status.STALLED))
    (True, False)
    """
    status = jnp.asarray(status)
    of_iterations = (status >= Status.GRADIENT_CONVERGED) & (status <= Status.TARGET_REACHED)
    return of_iterations | (status == Status.END_REACHED) | (status == Status.EVENT)


class Trace(NamedTuple):
    """What was seen at every step; entry 0 is the start, entries after the last step are NaN.

    Attributes:
      value: the objective's value, shape `(max_steps + 1,)`.
      observed: what the function given as `trace` returned for the parameters of that
        step, each leaf with a leading axis of `max_steps + 1`; None for `trace=True`.
    """

    value: Float[Array, " steps"]
    observed: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Result:
    """The end of an iteration: a pytree of arrays, batched by `vmap` like any other.

    Attributes:
      params: the parameters at the end, a pytree like the one given.
      value: the objective at `params`, scalar.
      grad_norm: Euclidean norm of the objective's gradient at `params`, scalar; without the elements
        that lead out of bounds; NaN from `finish`
        of a run that has not ended, for methods that learn it with the next step.
      status: a `Status`, as an int32 scalar.
      num_steps: steps taken (for methods that can refuse a step: steps accepted), int32.
      num_evals: evaluations of the objective or its residual, at trial points too, int32.
        An evaluation with its derivatives counts once; those that a line search of optax makes by
        itself are not seen.
      opt_state: the optimizer's state at the end.
      trace: a `Trace`, or None if none was asked for.
      active: a pytree like `params`, int8: -1 where a parameter is on its lower bound, 1 on its upper
        one, 0 between; None without bounds.
    """

    params: Any
    value: Any
    grad_norm: Any
    status: Any
    num_steps: Any
    num_evals: Any
    opt_state: Any
    trace: Any = None
    active: Any = None

    @property
    def converged(self) -> Bool[Array, "..."]:
        """Whether a test of convergence holds or the target was reached, bool array."""
        return is_converged(self.status)

    @property
    def message(self) -> Any:
        """The status in words: a string, or an array of them for a batch; not inside a trace."""
        return describe(self.status)


def describe(status: Any) -> Any:
    """The status in words: a string for a scalar, an array of strings for an array.

    Raises:
      TypeError: inside a trace, where no status is known yet.

    >>> describe(Status.OUT_OF_STEPS)
    'not converged: max_steps were taken'
    """
    if isinstance(status, jax.core.Tracer):
        raise TypeError("message: words are for outside of a trace; inside jit and vmap there is `status`")
    codes = np.asarray(status)
    if codes.ndim == 0:
        return MESSAGES[Status(int(codes))]
    words = [MESSAGES[Status(int(code))] for code in codes.ravel()]
    return np.array(words, dtype=object).reshape(codes.shape)
