"""Successive halving: all points of a group for some steps, the best of them for more, in one program.

Jamieson and Talwalkar (2016). Points are compared by their value (of several lanes, the median);
what is not finite loses. Nothing leaves the device before the last point has ended.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.study.checkpoint import Checkpoints
from jaxopt_study.study.lanes import LARGEST_CALL, Stopped, split_outcome
from jaxopt_study.study.one_lane import OneLane, stack_leaves
from jaxopt_study.study.program import dtype_of
from jaxopt_study.study.protocol import Outcome, Study, StudyInputError, to_host


@dataclasses.dataclass
class Halving:
    """The program of one group; the same to a sweep as `Lanes`.

    Attributes:
      config: of one point of the group.
      width: how many points one call holds: all.
      compile_seconds: tracing, and compiling when that is done.
      rungs: how many points begin each rung.
    """

    config: Any
    width: int
    compile_seconds: float
    lowered: Any
    rungs: list[int]
    program: Any = None
    survived: Any = None

    def compile(self) -> "Halving":
        """Compile the program, unless it is compiled."""
        if self.program is None:
            began = time.perf_counter()
            with dtype_of(self.config):
                self.program = self.lowered.compile()
            self.compile_seconds += time.perf_counter() - began
        return self

    def run(
        self, configs: Sequence[Any], stop: Callable[[], bool], saves: Checkpoints | None = None
    ) -> list[Outcome]:
        """Run all points of the group, each as far as it gets; in one call, which has no checkpoints."""
        del saves
        if stop():
            raise Stopped
        with dtype_of(self.config):
            outcome, survived = jax.block_until_ready(self.program(stack_leaves(configs)))
        self.survived = np.asarray(survived)
        return split_outcome(to_host(outcome), len(configs))

    def extra_columns(self) -> dict[str, list[Any]]:
        """`rung`: how many cuts a point survived."""
        return {"rung": self.survived.tolist()}


def rungs_of(points: int, eta: int) -> list[int]:
    """How many points begin each rung, until one is left.

    >>> rungs_of(20, 3)
    [20, 7, 3, 1]
    """
    sizes = [points]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // eta))
    return sizes


def trace_halving(study: Study, configs: Sequence[Any], eta: int, first: int | None) -> Halving:
    """Trace the program that halves a group.

    Args:
      study: the study; it has `advance`, and a static `max_steps` if `first` is None.
      configs: of every point of the group.
      eta: one in `eta` points goes on, until `eta` times as many steps are taken.
      first: steps before the first cut.

    Raises:
      StudyInputError: the study cannot be stopped midway, or does not say how far it goes.
    """
    if study.run is not None:
        raise StudyInputError(
            f"{study.path}: search.method: halving needs init, advance and outcome, not run"
        )
    sizes = rungs_of(len(configs), eta)
    if first is None:
        last = getattr(configs[0], "max_steps", None)
        if not isinstance(last, int):
            raise StudyInputError(f"{study.path}: search.first: has to be given, Config has no max_steps")
        first = max(last // eta ** (len(sizes) - 1), 1)
    began = time.perf_counter()
    with dtype_of(configs[0]):
        one = OneLane(study, configs[0])
        width = one.width()
        shapes = [jax.ShapeDtypeStruct((len(configs),), leaf.dtype) for leaf in one.leaves]
        lowered = jax.jit(_program(one, sizes, eta, first, width)).lower(shapes)
    return Halving(configs[0], len(configs), time.perf_counter() - began, lowered, sizes)


def _program(
    one: OneLane, sizes: Sequence[int], eta: int, first: int, width: int
) -> Callable[[list[Any]], tuple[Any, Any]]:
    def each(function: Callable[..., Any], trees: Any) -> Any:
        batch = width if width > 1 else None
        return jax.lax.map(lambda tree: function(*tree), trees, batch_size=batch)

    def halve_points(leaves: list[Any]) -> tuple[Any, Any]:
        index = jnp.arange(sizes[0])
        carry = each(one.begin, (leaves,))
        reached: Any = None
        survived = jnp.zeros(sizes[0], jnp.int32)
        target = taken = 0
        for rung, _ in enumerate(sizes):
            target = first * eta**rung if rung < len(sizes) - 1 else LARGEST_CALL
            n = jnp.int32(min(target, LARGEST_CALL) - taken)
            taken = target
            carry = each(lambda leaves, carry, n=n: one.go(leaves, carry, n), (leaves, carry))
            outcome = each(one.see, (leaves, carry))
            reached = (
                outcome
                if reached is None
                else jax.tree.map(lambda whole, part, at=index: whole.at[at].set(part), reached, outcome)
            )
            survived = survived.at[index].set(rung)
            if rung < len(sizes) - 1:
                best = jnp.argsort(_score(outcome.value))[: sizes[rung + 1]]  # stable: ties go to the first
                best = jnp.sort(best)
                index, leaves, carry = jax.tree.map(lambda array, at=best: array[at], (index, leaves, carry))
        return reached, survived

    return halve_points


def _score(value: Any) -> Any:
    """What is compared: the median over lanes; not finite is worse than any."""
    flat = value.reshape(value.shape[0], -1)
    flat = jnp.where(jnp.isfinite(flat), flat, jnp.inf)
    return flat[:, 0] if flat.shape[1] == 1 else jnp.median(flat, axis=1)
