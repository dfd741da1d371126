"""A program for many lanes, the batch of `vmap`: side by side, or on a CPU one after the other.

Side by side is `vmap`: every operation is one of all lanes, a loop runs until its slowest lane ends, and of a
branch both sides are computed. An iteration of Levenberg and Marquardt is loops and branches inside of a
loop: a fit of nine parameters to 250 points then takes 6 to 50 times as long as alone. On a CPU, what side by
side gains are vectors where the arrays of one lane are short, and products of matrices where lanes share one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from jaxopt_study.programs import made_of

# Both found by timing 10 to 10,000 lanes of minimizers and of roots, of 1 to 100 numbers, on two cores.
LONG = 1024  # elements: an operation on so many takes longer than to call it
HANDED = 40  # of `cost`: what it takes to give a lane one of its arguments, or to put away one of its results

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
        run = jax.vmap(run, in_axes=tuple(0 if is_mapped else None for is_mapped in mapped), axis_size=size)
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
        def lane(_: None, of_lane: list[Any]) -> tuple[None, list[Any]]:
            left = iter(of_lane)
            values = [next(left) if is_mapped else x for x, is_mapped in zip(args, level.mapped, strict=True)]
            return None, run(*values)

        of_lanes = [x for x, is_mapped in zip(args, level.mapped, strict=True) if is_mapped]
        return jax.lax.scan(lane, None, of_lanes, length=level.size)[1]

    return loop


def are_better_alone(program: Jaxpr, cost: float, is_one_function: bool) -> bool:
    """Whether lanes are quicker one after the other, on a CPU.

    So they are where an iteration has loops or branches inside, which side by side all lanes wait for. What
    it computes has to be worth it: more than a lane takes to be handed in and out or, where it is not one
    function of machine code, operations that take longer than to call them.

    (A loop without any, as of Adam, is one where nobody waits for long, and lanes that share a matrix have
    one product of matrices in the place of many with vectors: one by one took up to 2.8 times as long.)

    Args:
      program: of one lane.
      cost: of one iteration of it.
      is_one_function: whether it is going to be one function of machine code.

    >>> def halve_all(x):
    ...     halve = lambda x: jax.lax.while_loop(lambda x: x.max() > 1.0, lambda x: x / 2, x)
    ...     return jax.lax.while_loop(lambda x: x.sum() > 9.0, lambda x: halve(x) / 2, x)
    >>> programs = [jax.make_jaxpr(halve_all)(jax.numpy.ones(n)).jaxpr for n in (1, 999)]
    >>> [are_better_alone(program, 3.0 * n, True) for program, n in zip(programs, (1, 999))]
    [False, True]
    """
    if not any(map(_has_loops_inside, program.eqns)):
        return False
    if is_one_function:
        return cost >= HANDED * (len(program.invars) + len(program.outvars))
    return made_of(program).widest >= LONG


def _has_loops_inside(eqn: JaxprEqn) -> bool:
    """Whether this is, or calls, a loop that has loops of unknown length or branches inside."""
    inside = [inner for part in jaxprs_in_params(eqn.params) for inner in part.eqns]
    if eqn.primitive.name == "while":
        return any(map(_waits, inside))
    return any(map(_has_loops_inside, inside))


def _waits(eqn: JaxprEqn) -> bool:
    inside = [inner for part in jaxprs_in_params(eqn.params) for inner in part.eqns]
    return eqn.primitive.name in ("while", "cond") or any(map(_waits, inside))
