"""What a solve is compiled for, and the numbers that it is called with."""

import dataclasses
from typing import Any, NamedTuple

from jax import Array

from jaxopt_study.ode.methods import Method, method_of
from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.ode.tableau import VectorField

SLOTS = 256
FEW_BYTES = 2**21  # for which every state is kept, unless memory is to be saved
MOST_BYTES = 2**28  # of the states that are kept, unless fewer than √max_steps would be


class Numbers(NamedTuple):
    """Numbers of a solve, traced: tolerances, first step (None: chosen), constant step (None: not)."""

    tolerances: Tolerances
    first_step: Any
    step: Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a solve is compiled for.

    Attributes:
      field: of vectors.
      solver: of diffrax.
      max_steps: tries at most.
      slots: states kept for the way back, a power of two.
      dense: whether every state is kept.
      wide: whether all rows are kept of a step: the stages are then not computed again.
    """

    field: VectorField
    solver: Any
    max_steps: int
    slots: int
    dense: bool
    wide: bool = False

    @property
    def method(self) -> Method:
        """How a step is made."""
        return method_of(self.solver)

    @property
    def keeps_all(self) -> bool:
        """Whether there is a slot for every step."""
        return self.slots >= self.max_steps

    @property
    def segment(self) -> int:
        """Steps between two kept states at most, and some to spare."""
        return _power_of_two(-(-self.max_steps // self.slots)) + 8

    def adapts(self, numbers: Numbers) -> bool:
        """Whether steps are controlled."""
        return self.method.tableau.error_weights is not None and numbers.step is None


def plan_for(field: VectorField, y0: Array, solver: Any, max_steps: int, dense: bool, save: bool) -> Plan:
    """A plan that keeps as much as is little memory; with `save` as little as one more pass needs."""
    bytes_of_state = y0.size * y0.dtype.itemsize
    # A state and its slope are kept.
    slots = _slots_for(max_steps, 2 * bytes_of_state, save)
    rows = method_of(solver).tableau.rows
    wide = slots >= max_steps and rows * slots * bytes_of_state <= FEW_BYTES
    return Plan(field, solver, max_steps, slots, dense, wide)


def _slots_for(max_steps: int, row_bytes: int, save: bool) -> int:
    """How many states are kept: all where that is little, else so many that one more pass suffices."""
    everything = _power_of_two(max(2, max_steps))
    if not save and everything * row_bytes <= FEW_BYTES:
        return everything
    enough = _power_of_two(max(2, int(max_steps**0.5)))
    affordable = _power_of_two(max(2, MOST_BYTES // max(1, row_bytes))) // 2
    return min(everything, max(enough, min(SLOTS, affordable)))


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
