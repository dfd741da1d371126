"""What varies along the line, and of which results the series is asked for, without computing anything.

Forwards: a loop must carry the series of whatever varies after any number of turns. Backwards: what only
decides a comparison or an index needs no series.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# Their derivative is zero wherever they have one.
FLAT = frozenset({"ceil", "floor", "round", "sign", "stop_gradient"})

# Primitives that do no more than call a function, and the parameter that holds it.
CALLS = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "composite": "jaxpr",
    "core_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}


def can_vary(variable: Any) -> bool:
    """Whether it is of a kind that has derivatives: real or complex floats."""
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact))


def called(eqn: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    """The function of a primitive in `CALLS`, and its constants."""
    inner = eqn.params[CALLS[eqn.primitive.name]]
    return (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())


def varying_outputs(jaxpr: Jaxpr, varying: Sequence[bool]) -> list[bool]:
    """Which results may vary if these arguments do: never too few.

    >>> import jax
    >>> closed = jax.make_jaxpr(lambda x, y: (x * y, jnp.floor(x), x > 0, y + 1))(1.0, 2.0)
    >>> varying_outputs(closed.jaxpr, [True, False])
    [True, False, False, False]
    """
    varies = {var for var, moves in zip(jaxpr.invars, varying, strict=True) if moves}

    def moves(atom: Any) -> bool:
        return not isinstance(atom, Literal) and atom in varies

    for eqn in jaxpr.eqns:
        outputs = _eqn_outputs(eqn, [moves(atom) for atom in eqn.invars])
        varies.update(var for var, moves in zip(eqn.outvars, outputs, strict=True) if moves)
    return [moves(atom) for atom in jaxpr.outvars]


def _eqn_outputs(eqn: JaxprEqn, varying: list[bool]) -> list[bool]:
    if not any(varying) or eqn.primitive.name in FLAT:
        return [False] * len(eqn.outvars)
    match eqn.primitive.name:
        case name if name in CALLS:
            return varying_outputs(called(eqn)[0], varying)
        case "cond":
            branches = [varying_outputs(branch.jaxpr, varying[1:]) for branch in eqn.params["branches"]]
            return [any(of_branches) for of_branches in zip(*branches, strict=True)]
        case "while":
            first = eqn.params["cond_nconsts"]
            skip = first + eqn.params["body_nconsts"]
            return varying_carry(eqn.params["body_jaxpr"].jaxpr, varying[first:skip], varying[skip:], [])[0]
        case "scan":
            consts, carry = eqn.params["num_consts"], eqn.params["num_consts"] + eqn.params["num_carry"]
            body = eqn.params["jaxpr"].jaxpr
            of_carry, of_stack = varying_carry(body, varying[:consts], varying[consts:carry], varying[carry:])
            return [*of_carry, *of_stack]
    return [can_vary(var) for var in eqn.outvars]


def varying_carry(
    body: Jaxpr, consts: Sequence[bool], carry: Sequence[bool], xs: Sequence[bool]
) -> tuple[list[bool], list[bool]]:
    """What of a loop's carry, and of what it stacks up, may vary after any number of turns."""
    carry = list(carry)
    while True:
        outputs = varying_outputs(body, [*consts, *carry, *xs])
        after = [old or new for old, new in zip(carry, outputs, strict=False)]
        if after == carry:
            return carry, outputs[len(carry) :]
        carry = after


def wanted_equations(jaxpr: Jaxpr) -> list[tuple[bool, bool]]:
    """For every equation, whether its results are needed at all, and whether their series are."""
    live = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    series = set(live)
    marks = []
    for eqn in reversed(jaxpr.eqns):
        is_live = bool(eqn.effects) or any(var in live for var in eqn.outvars)
        is_wanted = any(var in series and can_vary(var) for var in eqn.outvars)
        with_series = is_wanted and eqn.primitive.name not in FLAT
        marks.append((is_live, with_series))
        inputs = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
        if is_live:
            live.update(inputs)
        if with_series:
            series.update(inputs)
    return marks[::-1]
