"""A program for many lanes, the batch of `vmap`: side by side, or on a CPU one after the other.

Side by side is `vmap`: every operation is one of all lanes, a loop runs until its slowest lane ends, and of a
branch both sides are computed. For that a fit of nine parameters to 250 points takes 50 times as long as
alone, since in every lane and at every trial it also does what is for singular systems only. On a CPU there
is no more to gain than vectors of lanes where the arrays of one are too short to be vectors themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params

from jaxopt_study.programs import made_of

LONG = 1024  # elements of an array: an operation on them takes longer than to call it
HANDED = 12  # of cost: to take an argument from those of all lanes, or to put a result there

Run = Callable[..., list[Any]]


class Level(NamedTuple):
    """One `vmap`.

    Attributes:
      size: how many lanes.
      mapped: of which arguments each lane has its own, along their leading axis.
    """

    size: int
    mapped: tuple[bool, ...]


Levels = tuple[Level, ...]  # outermost first, as the axes are


def of_arguments(levels: Levels, kept: Sequence[bool]) -> Levels:
    """The same lanes of a program that has only some of the arguments."""
    return tuple(
        Level(size, tuple(is_mapped for is_mapped, keep in zip(mapped, kept, strict=True) if keep))
        for size, mapped in levels
    )


def side_by_side(run: Run, levels: Levels) -> Run:
    """The function of one lane, of all lanes at once.

    >>> double = side_by_side(lambda x, y: [x * y], (Level(2, (True, False)),))
    >>> double(jax.numpy.arange(2.0), 2.0)
    [Array([0., 2.], dtype=float32)]
    """
    for size, mapped in reversed(levels):
        run = jax.vmap(run, in_axes=tuple(0 if own else None for own in mapped), axis_size=size)
    return run


def one_by_one(run: Run, levels: Levels) -> Run:
    """The function of one lane, of one lane after the other.

    >>> double = one_by_one(lambda x, y: [x * y], (Level(2, (True, False)),))
    >>> double(jax.numpy.arange(2.0), 2.0)
    [Array([0., 2.], dtype=float32)]
    """
    for level in reversed(levels):
        run = _in_a_loop(run, level)
    return run


def _in_a_loop(run: Run, level: Level) -> Run:
    def loop(*args: Any) -> list[Any]:
        def lane(_: None, own: list[Any]) -> tuple[None, list[Any]]:
            left = iter(own)
            values = [next(left) if is_mapped else x for x, is_mapped in zip(args, level.mapped, strict=True)]
            return None, run(*values)

        own = [x for x, is_mapped in zip(args, level.mapped, strict=True) if is_mapped]
        return jax.lax.scan(lane, None, own, length=level.size)[1]

    return loop


def is_better_alone(program: Jaxpr, cost: float, most: float) -> bool:
    """Whether lanes are quicker one after the other, on a CPU.

    So they are where each has loops that end when it is through, and arrays that are long enough to be
    vectors themselves or, in one function of machine code, more to compute than to be handed.

    Args:
      program: of one lane.
      cost: of one iteration of it.
      most: what it may be for one function.

    >>> count = lambda x: jax.lax.while_loop(lambda x: x.sum() < 9.0, lambda x: x + 1.0, x)
    >>> programs = [jax.make_jaxpr(count)(jax.numpy.ones(n)).jaxpr for n in (1, 99)]
    >>> [is_better_alone(program, cost=2.0 * n, most=1e5) for program, n in zip(programs, (1, 99))]
    [False, True]
    """
    handed = len(program.invars) + len(program.outvars)
    worth = cost >= HANDED * handed if cost <= most else made_of(program).widest >= LONG
    return worth and _ends_when_through(program)


def _ends_when_through(program: Jaxpr) -> bool:
    return any(
        eqn.primitive.name == "while" or any(map(_ends_when_through, jaxprs_in_params(eqn.params)))
        for eqn in program.eqns
    )
