"""Where a march is between two steps."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.step_control import Next
from jaxopt_study.ode.tableau import Stepped
from jaxopt_study.types import Float


class Place(NamedTuple):
    """Where the loop is.

    In two arrays, because every array that a loop carries costs several kernels a turn.

    Attributes:
      numbers: time, length to try, and what the step control remembers, `Next.memory`.
      states: the state, and its slope.
    """

    numbers: Float[Array, " 3"]
    states: Float[Array, "2 n"]

    @property
    def t(self) -> Float[Array, ""]:
        """The time."""
        return self.numbers[0]

    @property
    def h(self) -> Float[Array, ""]:
        """The length to try."""
        return self.numbers[1]

    @property
    def memory(self) -> Float[Array, ""]:
        """What the step control remembers."""
        return self.numbers[2]

    @property
    def y(self) -> Float[Array, " n"]:
        """The state."""
        return self.states[0]

    @property
    def slope(self) -> Float[Array, " n"]:
        """The field there."""
        return self.states[1]


def moved(now: Place, t_new: Array, stepped: Stepped, following: Next) -> Place:
    """The place after a try."""
    t = jnp.where(following.accept, t_new, now.t)
    states = jnp.where(following.accept, jnp.stack([stepped.y, stepped.slope]), now.states)
    return Place(jnp.stack([t, following.h, following.memory]), states)
