"""Numbers that a program says in the place of arguments: a loop carries what it is given from step to step.

A rate of learning, or a tolerance, that stands in the program around is a constant for XLA, until it is an
argument of a function that is kept. So it is put into the function before that is lowered.
"""

import functools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters import mlir

TYPES = ("f32", "f64", "i32", "i64")


def once_a_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """A memo of a function of a program and of something hashable, which lasts as long as the program.

    Equal calls inside of one program are so given the same program, which JAX lowers once. What is returned
    must not hold the program that it was made of: who keeps programs keeps the arrays that they close over.
    """
    known: weakref.WeakKeyDictionary[ClosedJaxpr, dict[Any, Any]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def call(program: ClosedJaxpr, key: Any) -> Any:
        of_program = known.setdefault(program, {})
        if key not in of_program:
            of_program[key] = function(program, key)
        return of_program[key]

    return call


def number_of(value: Any) -> bytes | None:
    """The bytes of a number that is a constant of the program that is being lowered; None if it is not one.

    Args:
      value: in MLIR.
    """
    maker = getattr(value.owner, "operation", None)
    if maker is None or maker.name != "stablehlo.constant":
        return None
    kind = mlir.ir.RankedTensorType(value.type)
    if kind.shape or str(kind.element_type) not in TYPES:
        return None
    return np.array(mlir.ir.DenseElementsAttr(maker.attributes["value"])).tobytes()


@once_a_program
def inserted(program: ClosedJaxpr, numbers: tuple[bytes | None, ...]) -> ClosedJaxpr:
    """A program with numbers in the place of some of its arguments, which are then none.

    Args:
      program: of as many arguments as there are numbers.
      numbers: their bytes; None where an argument stays one.

    >>> import jax
    >>> program = jax.make_jaxpr(lambda x, y: x * y)(1.0, 2.0)
    >>> print(inserted(program, (None, np.float32(3.0).tobytes())).jaxpr)
    { lambda ; a:f32[]. let b:f32[] = mul a 3.0:f32[] in (b,) }
    """
    inside = program.jaxpr
    known = {
        variable: Literal(np.frombuffer(number, variable.aval.dtype)[0], variable.aval)
        for variable, number in zip(inside.invars, numbers, strict=True)
        if number is not None
    }

    def insert(variables: Iterable[Any]) -> list[Any]:
        return [v if isinstance(v, Literal) else known.get(v, v) for v in variables]

    inside = inside.replace(
        invars=[v for v in inside.invars if v not in known],
        outvars=insert(inside.outvars),
        eqns=[eqn.replace(invars=insert(eqn.invars)) for eqn in inside.eqns],
        debug_info=inside.debug_info.with_unknown_names(),
    )
    return ClosedJaxpr(inside, program.consts)
