"""A study's functions for many points side by side: one program for all points that differ in leaves.

Here is all that a sweep asks of `jax.jit`. Which points run together is `plan`'s business, when
they run `sweep`'s; the functions for one point are `one_lane`'s.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.result import Status
from jaxopt_study.study.checkpoint import Checkpoints
from jaxopt_study.study.one_lane import OneLane, stack_leaves
from jaxopt_study.study.program import dtype_of
from jaxopt_study.study.protocol import Outcome, Study, check_outcome, to_host

SECONDS_PER_CALL = 0.25
LARGEST_GROWTH = 16
LARGEST_CALL = 2**30  # n is an int32


class Stopped(Exception):
    """Raised between two calls when a sweep is interrupted."""


@dataclasses.dataclass
class Lanes:
    """The program of one group, traced; `compile` makes it ready, `run` runs points through it.

    Attributes:
      study: the study.
      config: of one point of the group.
      width: how many points one call holds; fewer are padded.
      compile_seconds: tracing, and compiling when that is done.
    """

    study: Study
    config: Any
    width: int
    compile_seconds: float
    lowered: Any
    blank: Any
    varying: list[bool]
    ends: Any = None
    first_call: int = 1
    program: Any = None

    def compile(self) -> "Lanes":
        """Compile the program, unless it is compiled."""
        if self.program is None and self.lowered is not None:
            began = time.perf_counter()
            with dtype_of(self.config):
                self.program = self.lowered.compile()
            self.lowered = None
            self.compile_seconds += time.perf_counter() - began
        return self

    def run(
        self, configs: Sequence[Any], stop: Callable[[], bool], saves: Checkpoints | None = None
    ) -> list[Outcome]:
        """Run points of the group to their ends.

        Args:
          configs: theirs.
          stop: asked between calls.
          saves: where checkpoints are, to begin from and to write; None for none.

        Returns:
          Their outcomes, numpy arrays.

        Raises:
          Stopped: `stop` said so; a checkpoint has been written.
        """
        chunks = [configs[at : at + self.width] for at in range(0, len(configs), self.width)]
        began = time.perf_counter()
        saves = None if self.on_host else saves
        with dtype_of(self.config):
            ended, carry = ([], None) if saves is None else self._load(saves, len(chunks))

        def save(carry: Any, always: bool) -> None:
            if saves is not None and (always or saves.is_due()):
                saves.save(self._state(ended, carry, len(chunks)), time.perf_counter() - began)

        for chunk in chunks[len(ended) :]:
            if stop():
                save(carry, always=bool(ended) or carry is not None)
                raise Stopped
            ended.append(self._run_together(chunk, carry, stop, save))
            carry = None
        pairs = zip(chunks, ended, strict=True)
        return [lane for chunk, end in pairs for lane in self._split(end, len(chunk))]

    @property
    def on_host(self) -> bool:
        """Whether points are run by a function that is not jitted, in one call each."""
        return getattr(self.study.run, "on_host", False)

    def extra_columns(self) -> dict[str, list[Any]]:
        """What a record has of the points of the last `run` besides their outcomes."""
        return {}

    def _run_together(
        self, configs: Sequence[Any], carry: Any, stop: Callable[[], bool], save: Callable[[Any, bool], None]
    ) -> Outcome:
        if self.on_host:
            return self._run_on_host(configs[0])
        with dtype_of(self.config):
            return to_host(self._advance(self.leaves(configs), carry, stop, save))

    def leaves(self, configs: Sequence[Any]) -> list[Any]:
        """What the program takes of the points of one call, filled up with the last of them."""
        padded = [*configs, *[configs[-1]] * (self.width - len(configs))]
        pairs = zip(stack_leaves(padded), self.varying, strict=True)
        return [leaf if varies and self.width > 1 else leaf[0] for leaf, varies in pairs]

    def _split(self, outcome: Outcome, count: int) -> list[Outcome]:
        return [outcome] if self.width == 1 else split_outcome(outcome, count)

    def _advance(
        self, leaves: list[Any], carry: Any, stop: Callable[[], bool], save: Callable[[Any, bool], None]
    ) -> Outcome:
        fresh, n = carry is None, self.first_call
        carry = self.blank if fresh else carry
        while True:
            began = time.perf_counter()
            carry, outcome = jax.block_until_ready(self.program(leaves, carry, np.bool_(fresh), np.int32(n)))
            took = time.perf_counter() - began
            if self.study.run is not None or not np.any(np.asarray(outcome.status) == Status.RUNNING):
                return outcome
            stopped = stop()
            save(carry, stopped)
            if stopped:
                raise Stopped
            growth = min(SECONDS_PER_CALL / max(took, 1e-9), LARGEST_GROWTH)
            fresh, n = False, min(max(int(n * growth), 1), LARGEST_CALL)
            self.first_call = n  # of the next points, which are much the same

    def _state(self, ended: Sequence[Outcome], carry: Any, chunks: int) -> dict[str, Any]:
        """What a checkpoint of some points holds, of the same shapes however far they are."""
        outcomes = jax.tree.map(lambda leaf: np.zeros((chunks, *leaf.shape), leaf.dtype), self.ends)
        for at, outcome in enumerate(ended):
            jax.tree.map(lambda all_, one, at=at: all_.__setitem__(at, one), outcomes, outcome)
        far = np.array([len(ended), carry is not None], np.int32)
        return {"far": far, "carry": self.blank if carry is None else carry, "ended": outcomes}

    def _load(self, saves: Checkpoints, chunks: int) -> tuple[list[Outcome], Any]:
        """The outcomes that are known, and the carry of the chunk that was running or None."""
        saved = saves.load(self._state([], None, chunks))
        if saved is None:
            return [], None
        count, is_running = map(int, saved.carry["far"])
        stacked = to_host(saved.carry["ended"])
        ended = [jax.tree.map(lambda leaf, at=at: leaf[at], stacked) for at in range(count)]
        return ended, saved.carry["carry"] if is_running else None

    def _run_on_host(self, config: Any) -> Outcome:
        assert self.study.run is not None
        with dtype_of(config):
            outcome = self.study.run(config, jax.random.key(config.seed))
            check_outcome(self.study, outcome)
            return to_host(outcome)


def split_outcome(outcome: Outcome, count: int) -> list[Outcome]:
    """The first outcomes of a stack of them."""
    return [jax.tree.map(lambda array, lane=lane: array[lane], outcome) for lane in range(count)]


def trace_lanes(
    study: Study, configs: Sequence[Any], width: int | None, at_once: int = 1, many: int | None = None
) -> Lanes:
    """Trace a study's functions for a group of Configs that differ in leaves alone.

    A leaf that is the same in all Configs is the same in all that the program is run with.

    Args:
      study: the study.
      configs: of every point of the group.
      width: how many side by side; None to choose, see `lane_cost`.
      at_once: how many calls will be made at the same time, each of which needs its share.
      many: how many Configs will come at a time, that are not known yet and may differ in all leaves.

    Returns:
      The `Lanes`, traced and not compiled.

    Raises:
      StudyInputError: from the study itself, about its input.
      TypeError: the study's outcome is not an `Outcome` of the right shapes.
    """
    began = time.perf_counter()
    if getattr(study.run, "on_host", False):
        return Lanes(study, configs[0], 1, 0.0, None, None, [])
    with dtype_of(configs[0]):
        one = OneLane(study, configs[0])
        leaves = stack_leaves(configs)
        # By their bits: NaN is equal to itself, and -0.0 is not 0.0.
        varying = [leaf.tobytes() != leaf[:1].tobytes() * len(leaf) for leaf in leaves]
        if many is not None:
            varying = [True] * len(leaves)
        blank, points = one.carry, many or len(configs)
        if width is None:
            width = even_width(one.width() if points > 1 else 1, points, at_once)
        width = min(width, points)
        if width > 1:
            blank = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape), leaf.dtype), blank)
        shapes = [
            jax.ShapeDtypeStruct((width,) if varies and width > 1 else (), leaf.dtype)
            for leaf, varies in zip(leaves, varying, strict=True)
        ]
        program = _program(one, width, varying)
        flag, count = jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32)
        lowered = jax.jit(program).lower(shapes, blank, flag, count)
        carry, (_, ends) = jax.tree.map(_blank, blank), lowered.out_info
    return Lanes(study, configs[0], width, time.perf_counter() - began, lowered, carry, varying, ends)


def even_width(width: int, points: int, at_once: int) -> int:
    """The width that fills every call as evenly as can be, and gives every worker something.

    >>> even_width(128, 400, 2), even_width(1024, 30, 2), even_width(16, 3, 1)
    (100, 15, 3)
    """
    calls = -(-points // min(width, points))
    if width > 1 and points > 1:
        calls = -(-calls // at_once) * at_once
    return -(-points // min(calls, points))


def _program(one: OneLane, width: int, varying: Sequence[bool]) -> Callable[..., Any]:
    """One call: begin where the carry is blank, take at most `n` steps, see where all stand."""
    axes = [0 if varies else None for varies in varying]
    begin, go, see = one.begin, one.go, one.see
    if width > 1:
        begin = jax.vmap(begin, in_axes=(axes,), axis_size=width)
        go = jax.vmap(go, in_axes=(axes, 0, None), axis_size=width)
        see = jax.vmap(see, in_axes=(axes, 0), axis_size=width)

    def advance_points(leaves: list[Any], carry: Any, fresh: Any, n: Any) -> tuple[Any, Any]:
        carry = jax.lax.cond(fresh, lambda: begin(leaves), lambda: carry)
        carry = go(leaves, carry, n)
        return carry, see(leaves, carry)

    return advance_points


def _blank(leaf: Any) -> Any:
    """Zeros of a shape and dtype, random keys too."""
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
        return np.zeros(leaf.shape, leaf.dtype)
    kinds = []

    def look(keys: Any) -> Any:
        kinds.append(jax.random.key_impl(keys))
        return jax.random.key_data(keys)

    data = jax.eval_shape(look, leaf)
    return jax.random.wrap_key_data(jnp.zeros(data.shape, data.dtype), impl=kinds[0])
