"""Carry index sets through a program: which inputs does every element of its outputs depend on?

The program is the *linear* one of a derivative (`detect` makes it), so that its own rules, whatever
functions with custom derivatives say, are in it already. Values that depend on constants alone are known, and
are computed where they say what goes where: places of a gather, predicates, matrices with zeros. What
is not understood depends on everything that goes into it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.primitives import RULES
from jaxopt_study.sparsity.traced import Known, Traced, size_of, value_of
from jaxopt_study.sparsity.unions import everything

UNROLLED = 3_000  # equations: loops no longer than that are followed step by step
ROUNDS = 8  # of a loop that is not, until what its carry depends on is taken for everything it may


def propagate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Traced]) -> list[Traced]:
    """What the outputs of a jaxpr depend on, given what its inputs do.

    Args:
      jaxpr: a `jax.extend.core.Jaxpr`.
      consts: the values of its constants, or `Traced`.
      inputs: one `Traced` for each of its inputs.

    Returns:
      One `Traced` for each output.
    """
    if any(_is_mutable(atom) for equation in jaxpr.eqns for atom in (*equation.invars, *equation.outvars)):
        # What is written into a mutable array comes back under no name of its own.
        return _everything(jaxpr, [*inputs, *map(_constant, consts)])
    known: dict[Any, Traced] = dict(zip(jaxpr.invars, inputs, strict=True))
    known.update(zip(jaxpr.constvars, map(_constant, consts), strict=True))

    def read(atom: Any) -> Traced:
        return _constant(atom.val) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        outputs = _step(equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> Traced:
    if isinstance(value, Traced):
        return value
    return Traced(None, Known(lambda: value)) if move.is_concrete(value) else Traced()


def _is_mutable(atom: Any) -> bool:
    """Whether it is a mutable array (`jax.new_ref`), or a part of one."""
    return hasattr(atom.aval, "inner_aval")


def _everything(jaxpr: Any, inputs: Sequence[Traced]) -> list[Traced]:
    """Every output of a program depends on all that goes in."""
    parts = [item.sets for item in inputs if item.sets is not None]
    if not parts:
        return [Traced()] * len(jaxpr.outvars)
    columns = np.unique(np.concatenate([part.columns() for part in parts]))
    return [
        Traced(
            index_sets.shared(size_of(out), columns, parts[0].inputs)
            if jnp.issubdtype(out.aval.dtype, jnp.inexact)
            else None
        )
        for out in jaxpr.outvars
    ]


def _step(equation: Any, inputs: list[Traced]) -> list[Traced]:
    name = equation.primitive.name
    if all(item.value is not None for item in inputs) and not equation.effects:
        return _known_outputs(equation, inputs)
    if name in _WHOLE:
        return _WHOLE[name](equation, inputs)
    if all(item.sets is None for item in inputs):
        return [Traced()] * len(equation.outvars)
    rule = RULES.get(name, everything)
    return [
        Traced(sets if jnp.issubdtype(out.aval.dtype, jnp.inexact) else None)
        for out, sets in zip(equation.outvars, rule(equation, inputs), strict=True)
    ]


def _known_outputs(equation: Any, inputs: list[Traced]) -> list[Traced]:
    def compute() -> list[Any]:
        params = equation.primitive.get_bind_params(equation.params)
        functions, params = params if isinstance(params, tuple) else ((), params)  # as it was before jax 0.10
        values = [item.value() for item in inputs if item.value is not None]
        out = equation.primitive.bind(*functions, *values, **params)
        return list(out) if equation.primitive.multiple_results else [out]

    whole = Known(compute)

    def one(index: int) -> Any:
        return whole()[index]

    return [Traced(None, Known(partial(one, i))) for i in range(len(equation.outvars))]


# Primitives that hold programs


def _call(equation: Any, inputs: list[Traced]) -> list[Traced]:
    program = next(
        equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params
    )
    if isinstance(program, core.ClosedJaxpr):
        return propagate(program.jaxpr, program.consts, inputs)
    return propagate(program, (), inputs)


def _linear_solve(equation: Any, inputs: list[Traced]) -> list[Traced]:
    """The program that solves; its matrix, in the linear program of a derivative, depends on nothing."""
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    consts, sides = inputs[first : first + lengths.solve], inputs[sum(lengths) :]
    if any(item.sets is not None for item in inputs[: sum(lengths)]):
        return [Traced(sets) for sets in everything(equation, inputs)]
    return propagate(programs.solve.jaxpr, programs.solve.consts, [*consts, *sides])


def _cond(equation: Any, inputs: list[Traced]) -> list[Traced]:
    which, branches = value_of(inputs[0]), equation.params["branches"]
    if which is not None:
        branches = [branches[int(np.clip(which, 0, len(branches) - 1))]]
    outs = [propagate(branch.jaxpr, branch.consts, inputs[1:]) for branch in branches]
    if len(outs) == 1:
        return outs[0]
    return [Traced(index_sets.union([item.sets for item in items])) for items in zip(*outs, strict=True)]


def _loop(
    body: Callable[[list[IndexSets | None]], list[IndexSets | None]],
    carry: list[IndexSets | None],
    others: Sequence[Traced],
    sizes: Sequence[Any],
) -> list[IndexSets | None]:
    """What a carry depends on after any number of steps: the least sets that another step does not change."""
    for _ in range(ROUNDS):
        after = [index_sets.union(pair) for pair in zip(carry, body(carry), strict=True)]
        same = all((a.count if a else 0) == (b.count if b else 0) for a, b in zip(after, carry, strict=True))
        carry = after
        if same:
            return carry
    parts = [sets for sets in (*carry, *(item.sets for item in others)) if sets is not None]
    columns = np.unique(np.concatenate([part.columns() for part in parts]))
    # What is never reached by a derivative stays so: as many rounds as there are carries find out.
    for _ in carry:
        carry = [
            None if sets is None else index_sets.shared(size, columns, sets.inputs)
            for sets, size in zip(carry, sizes, strict=True)
        ]
        carry = [index_sets.union(pair) for pair in zip(carry, body(carry), strict=True)]
    return [
        None if sets is None else index_sets.shared(size, columns, sets.inputs)
        for sets, size in zip(carry, sizes, strict=True)
    ]


def _while(equation: Any, inputs: list[Traced]) -> list[Traced]:
    params = equation.params
    first = params["cond_nconsts"]
    consts, carry = inputs[first : first + params["body_nconsts"]], inputs[first + params["body_nconsts"] :]
    program = params["body_jaxpr"]

    def body(sets: list[IndexSets | None]) -> list[IndexSets | None]:
        outs = propagate(program.jaxpr, program.consts, [*consts, *(Traced(one) for one in sets)])
        return [item.sets for item in outs]

    sizes = [size_of(out) for out in equation.outvars]
    return [Traced(sets) for sets in _loop(body, [item.sets for item in carry], consts, sizes)]


def _scan(equation: Any, inputs: list[Traced]) -> list[Traced]:
    params = equation.params
    program, length = params["jaxpr"], params["length"]
    consts = inputs[: params["num_consts"]]
    carry = inputs[params["num_consts"] : params["num_consts"] + params["num_carry"]]
    xs = inputs[params["num_consts"] + params["num_carry"] :]
    if length * len(program.jaxpr.eqns) <= UNROLLED:
        return _scan_step_by_step(equation, consts, carry, xs)
    # All steps at once: the body mapped over the steps, its carry the same in each.
    axes = [None] * len(consts) + [0] * (len(carry) + len(xs))
    avals = [var.aval for var in program.jaxpr.invars]
    arguments = [
        jax.ShapeDtypeStruct(aval.shape if axis is None else (length, *aval.shape), aval.dtype)
        for aval, axis in zip(avals, axes, strict=True)
    ]
    mapped = jax.make_jaxpr(jax.vmap(core.jaxpr_as_fun(program), axes))(*arguments)
    sizes = [size_of(out) for out in equation.outvars[: len(carry)]]

    def steps(sets: list[IndexSets | None]) -> list[Traced]:
        each = [
            Traced(None if one is None else one.take(np.tile(np.arange(one.elements), length)))
            for one in sets
        ]
        return propagate(mapped.jaxpr, mapped.consts, [*consts, *each, *xs])

    def body(sets: list[IndexSets | None]) -> list[IndexSets | None]:
        outs = [item.sets for item in steps(sets)[: len(carry)]]
        return [
            None if one is None else one.group(np.tile(np.arange(size), length), size)
            for one, size in zip(outs, sizes, strict=True)
        ]

    after = _loop(body, [item.sets for item in carry], [*consts, *xs], sizes)
    return [*(Traced(sets) for sets in after), *(Traced(item.sets) for item in steps(after)[len(carry) :])]


def _scan_step_by_step(
    equation: Any, consts: list[Traced], carry: list[Traced], xs: list[Traced]
) -> list[Traced]:
    program, length = equation.params["jaxpr"], equation.params["length"]
    order = range(length)[::-1] if equation.params["reverse"] else range(length)
    outs: dict[int, list[Traced]] = {}
    for step in order:
        at = [_row(item, step, length) for item in xs]
        after = propagate(program.jaxpr, program.consts, [*consts, *carry, *at])
        carry, outs[step] = after[: len(carry)], after[len(carry) :]
    stacked = []
    for number, out in enumerate(equation.outvars[len(carry) :]):
        rows = [outs[step][number].sets for step in range(length)]
        some = next((sets for sets in rows if sets is not None), None)
        if some is None:
            stacked.append(Traced())
            continue
        none = index_sets.empty(size_of(out) // length, some.inputs)
        stacked.append(Traced(index_sets.concatenate([none if sets is None else sets for sets in rows])))
    return [*carry, *stacked]


def _row(item: Traced, step: int, length: int) -> Traced:
    value = item.value
    known = None if value is None else Known(lambda: np.asarray(value())[step])
    if item.sets is None:
        return Traced(None, known)
    size = item.sets.elements // length
    return Traced(item.sets.take(np.arange(step * size, (step + 1) * size)), known)


_WHOLE: dict[str, Callable[[Any, list[Traced]], list[Traced]]] = {
    **dict.fromkeys(
        ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call"), _call
    ),
    **dict.fromkeys(("custom_vjp_call", "custom_vjp_call_jaxpr"), _call),
    "custom_linear_solve": _linear_solve,
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
