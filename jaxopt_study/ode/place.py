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
      numbers: time, where the step that is tried next ends, and what the step control remembers,
        `Next.memory`.
      states: the state, and its slope.
    """

    numbers: Float[Array, " 3"]
    states: Float[Array, "2 n"]

    @property
    def t(self) -> Float[Array, ""]:
        """The time."""
        return self.numbers[0]

    @property
    def t_new(self) -> Float[Array, ""]:
        """Where the step to try ends."""
        return self.numbers[1]

    @property
    def h(self) -> Float[Array, ""]:
        """Its length as it is in floating point, so that times can be kept in place of lengths."""
        return self.t_new - self.t

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


def place_at(t: Array, h: Array, memory: Array, states: Array, end: Array) -> Place:
    """The place from which a step of length h is tried, or to the end if that is as near."""
    t_new = jnp.where(t + h * (1 + 1e-3) >= end, end, t + h)
    return Place(jnp.stack([t, t_new, memory]), states)


def moved(now: Place, stepped: Stepped, following: Next, end: Array) -> Place:
    """The place after a try."""
    t = jnp.where(following.accept, now.t_new, now.t)
    states = jnp.where(following.accept, jnp.stack([stepped.y, stepped.slope]), now.states)
    return place_at(t, following.h, following.memory, states, end)
