"""Several loops over the cores of a CPU, where XLA would leave them idle.

The kernels of one loop are small: XLA divides them over the cores all the same, and is little faster for it
(on two cores 34 ms for 10,000 fits, with one core's work at 31 ms). Programs that different threads dispatch
run side by side, and two loops over half the fits each take 19 ms. So a batch that is not part of a larger
program is cut into as many parts as there are cores.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import PyTree

# Of fits in a part. In the last rounds of a part its slots are empty, and one fit that does not end makes
# them many: with 200 steps that is 5 % of the time of so many fits of 225 points.
FEWEST = 8192


class Part(NamedTuple):
    """Some of the fits of a batch, one after the other.

    Attributes:
      first: the number of the first of them.
      fits: how many.
    """

    first: Any
    fits: int


def choose_parts(inputs: PyTree, fits: int) -> list[Part]:
    """The parts of a batch that is on a CPU and not traced; the whole of it otherwise.

    All have the same length, so that one program serves them; the last may begin within the one before.
    """
    leaves = jax.tree.leaves(inputs)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    devices = {
        device for leaf in leaves if isinstance(leaf, Array) and not traced for device in leaf.devices()
    }
    if len(devices) != 1 or next(iter(devices)).platform != "cpu":
        return [Part(0, fits)]
    parts = max(min(cores(), fits // FEWEST), 1)
    length = -(-fits // parts)
    return [Part(min(k * length, fits - length), length) for k in range(parts)]


def cores() -> int:
    """How many this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def side_by_side(program: Any, inputs: tuple, parts: list[Part]) -> Any:
    """The results of all parts, as those of one batch; each part is dispatched by a thread of its own.

    Args:
      program: compiled, because the contexts of the caller (x64, devices) do not hold in other threads; a
        function of `(*inputs, first)`, whose results have a leading axis of the part's fits.
      inputs: pytrees of arrays, all that the batch is given.
      parts: from `choose_parts`.
    """
    x64 = bool(jax.config.read("jax_enable_x64"))

    def run(part: Part) -> Any:
        with jax.enable_x64(x64):
            return program(*inputs, np.int32(part.first))

    with ThreadPoolExecutor(len(parts)) as pool:
        results = list(pool.map(run, parts))
    again = sum(part.fits for part in parts) - (parts[-1].first + parts[-1].fits)
    return _joined(again, results)


@functools.partial(jax.jit, static_argnums=0)
def _joined(again: int, results: list[Any]) -> Any:
    """One after the other; of the last its first `again` fits are in the one before too."""

    def join(*leaves: Array) -> Array:
        return jnp.concatenate([*leaves[:-1], leaves[-1][again:]])

    return jax.tree.map(join, *results)
