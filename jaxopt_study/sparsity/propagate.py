"""Carry index sets through a program: which inputs does every element of its outputs depend on?

The program is the *linear* one of a derivative (`detect` makes it), so that its own rules, whatever
functions with custom derivatives say, are in it already. Values that depend on constants alone are known, and
are computed where they say what goes where: places of a gather, predicates, matrices with zeros. What
is not understood depends on everything that goes into it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxopt_study.sparsity import index_sets, move
from jaxopt_study.sparsity.index_sets import IndexSets

UNROLLED = 3_000  # equations: loops no longer than that are followed step by step
ROUNDS = 8  # of a loop that is not, until what its carry depends on is taken for everything it may


class Known:
    """A value that no traced input has a part in, computed when somebody asks."""

    def __init__(self, compute: Callable[[], Any]):
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None

    def __call__(self) -> Any:
        """The value."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value


class Traced(NamedTuple):
    """What is known of a variable: its sets (None: depends on no input), its value (None: not known)."""

    sets: IndexSets | None = None
    value: Known | None = None


Rule = Callable[[Any, list[Traced]], list[IndexSets | None]]


def propagate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Traced]) -> list[Traced]:
    """What the outputs of a jaxpr depend on, given what its inputs do.

    Args:
      jaxpr: a `jax.extend.core.Jaxpr`.
      consts: the values of its constants, or `Traced`.
      inputs: one `Traced` for each of its inputs.

    Returns:
      One `Traced` for each output.
    """
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


def _step(equation: Any, inputs: list[Traced]) -> list[Traced]:
    name = equation.primitive.name
    if all(item.value is not None for item in inputs) and not equation.effects:
        return _known_outputs(equation, inputs)
    if name in _WHOLE:
        return _WHOLE[name](equation, inputs)
    if all(item.sets is None for item in inputs):
        return [Traced()] * len(equation.outvars)
    rule = _RULES.get(name, _everything)
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
    return [Traced(None, Known(lambda i=i: whole()[i])) for i in range(len(equation.outvars))]


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


def _size(atom: Any) -> int:
    return int(np.prod(_shape(atom), dtype=int))


def _value(item: Traced) -> np.ndarray | None:
    return None if item.value is None else np.asarray(item.value())


# Primitives, by what they do to elements


def _everything(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    parts = [item.sets for item in inputs if item.sets is not None]
    columns = np.unique(np.concatenate([part.columns() for part in parts]))
    return [index_sets.shared(_size(out), columns, parts[0].inputs) for out in equation.outvars]


def _elementwise(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    return [index_sets.union(_stretched(equation, equation.invars, inputs))]


def _stretched(equation: Any, atoms: Sequence[Any], inputs: Sequence[Traced]) -> list[IndexSets | None]:
    """The sets of arrays in the shape of the result: a scalar, or an axis of length 1, stands for all along it."""
    shape = _shape(equation.outvars[0])
    return [
        item.sets
        if item.sets is None or _shape(atom) == shape
        else item.sets.take(np.broadcast_to(move.numbered(_shape(atom)), shape))
        for atom, item in zip(atoms, inputs, strict=True)
    ]


def _multiply(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    (product,) = _elementwise(equation, inputs)
    for item in inputs:
        factor = _value(item)
        if factor is not None and product is not None and not np.all(factor):
            zero = np.broadcast_to(factor == 0, _shape(equation.outvars[0])).ravel()
            product = product.take(np.where(zero, move.NOWHERE, np.arange(product.elements)))
    return [product]


def _select(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    size = _size(equation.outvars[0])
    which, cases = _value(inputs[0]), _stretched(equation, equation.invars[1:], inputs[1:])
    if which is None:
        return [index_sets.union(cases)]
    which = np.broadcast_to(which, _shape(equation.outvars[0])).ravel().astype(int)
    chosen = [
        case.take(np.where(which == number, np.arange(size), move.NOWHERE))
        for number, case in enumerate(cases)
        if case is not None
    ]
    return [index_sets.union(chosen)]


def _same_elements(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    return [item.sets for item in inputs[: len(equation.outvars)]]


def _moved(
    where: Callable[[np.ndarray, dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    sets = inputs[0].sets
    if sets is None:
        return [None]
    return [sets.take(where(move.numbered(_shape(equation.invars[0])), equation.params))]


def _join(
    how: Callable[[list[np.ndarray], dict[str, Any]], np.ndarray], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    parts, numbers, first = [], [], 0
    inputs_number = next(item.sets.inputs for item in inputs if item.sets is not None)
    for atom, item in zip(equation.invars, inputs, strict=True):
        parts.append(item.sets if item.sets is not None else index_sets.empty(_size(atom), inputs_number))
        numbers.append(move.numbered(_shape(atom)) + first)
        first += _size(atom)
    return [index_sets.concatenate(parts).take(how(numbers, equation.params))]


def _split(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets = inputs[0].sets
    ends = np.cumsum(equation.params["sizes"])[:-1]
    pieces = np.split(move.numbered(_shape(equation.invars[0])), ends, axis=equation.params["axis"])
    return [None if sets is None else sets.take(piece) for piece in pieces]


def _unstack(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets = inputs[0].sets
    number = np.moveaxis(move.numbered(_shape(equation.invars[0])), equation.params["axis"], 0)
    return [None if sets is None else sets.take(piece) for piece in number]


def _pad(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    operand, padding = inputs[0].sets, inputs[1].sets
    index = move.pad(move.numbered(_shape(equation.invars[0])), equation.params["padding_config"])
    moved = None if operand is None else operand.take(index)
    rest = None if padding is None else padding.take(np.where(index < 0, 0, move.NOWHERE))
    return [index_sets.union([moved, rest])]


def _reduce(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    shape, axes = _shape(equation.invars[0]), equation.params["axes"]
    sets = index_sets.union([item.sets for item in inputs if item.sets is not None])
    return [None if sets is None else _over(sets, shape, axes)] * len(equation.outvars)


def _over(sets: IndexSets, shape: Sequence[SupportsIndex], axes: Sequence[SupportsIndex]) -> IndexSets:
    """The union over some axes."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    groups = np.broadcast_to(move.numbered(kept), shape)
    return sets.group(groups, int(np.prod(kept, dtype=int)))


def _smeared(sets: IndexSets, shape: Sequence[SupportsIndex], axes: Sequence[SupportsIndex]) -> IndexSets:
    """The union over some axes, for every element along them."""
    kept = [1 if axis in axes else length for axis, length in enumerate(shape)]
    return _over(sets, shape, axes).take(np.broadcast_to(move.numbered(kept), shape))


def _cumulate(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape, axis = inputs[0].sets, _shape(equation.invars[0]), equation.params["axis"]
    if sets is None or not shape[axis]:
        return [sets]
    if sets.count * shape[axis] / 2 > index_sets.MOST:
        return [_smeared(sets, shape, [axis])]
    first, last = np.tril_indices(shape[axis])[::-1]
    first, last = (last, first) if equation.params["reverse"] else (first, last)
    number = move.numbered(shape)
    pairs = sets.take(np.take(number, first, axis=axis))
    return [pairs.group(np.take(number, last, axis=axis), sets.elements)]


def _gather(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape, places = inputs[0].sets, _shape(equation.invars[0]), _value(inputs[1])
    if sets is None:
        return [None]
    params = equation.params
    if places is None:  # anywhere along the axes that are looked up, and aligned along the others
        moving = [
            a for a in params["dimension_numbers"].start_index_map if params["slice_sizes"][a] < shape[a]
        ]
        sets = _smeared(sets, shape, moving)
        places = np.zeros(_shape(equation.invars[1]), np.int32)
    return [sets.take(move.by_primitive(equation.primitive, move.numbered(shape), [places], params))]


def _zero_if_unknown(atoms: Sequence[Any], starts: Sequence[Any]) -> list[Any]:
    return [
        np.zeros((), atom.aval.dtype) if start is None else start
        for atom, start in zip(atoms, starts, strict=True)
    ]


def _dynamic_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    sets, shape = inputs[0].sets, _shape(equation.invars[0])
    if sets is None:
        return [None]
    starts = [_value(item) for item in inputs[1:]]
    sizes = equation.params["slice_sizes"]
    unknown = [axis for axis, start in enumerate(starts) if start is None and sizes[axis] < shape[axis]]
    places = _zero_if_unknown(equation.invars[1:], starts)
    sets = _smeared(sets, shape, unknown) if unknown else sets
    return [sets.take(move.by_primitive(equation.primitive, move.numbered(shape), places, equation.params))]


def _placed(
    operand: IndexSets | None,
    updates: IndexSets | None,
    targets: np.ndarray,
    shape: Sequence[SupportsIndex],
    anywhere: Sequence[SupportsIndex],
) -> list[IndexSets | None]:
    """Updates go to targets, or to any place along some axes; what was there may remain."""
    if updates is None:
        return [operand]
    contributed = updates.group(targets, int(np.prod(shape, dtype=int)))
    return [index_sets.union([operand, _smeared(contributed, shape, anywhere) if anywhere else contributed])]


def _scatter(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    shape, updates = _shape(equation.invars[0]), _shape(equation.invars[2])
    places, anywhere = _value(inputs[1]), []
    if places is None:
        places = np.zeros(_shape(equation.invars[1]), np.int32)
        anywhere = list(equation.params["dimension_numbers"].scatter_dims_to_operand_dims)
    targets = move.scatter_targets(shape, places, updates, equation.params)
    return _placed(inputs[0].sets, inputs[2].sets, targets, shape, anywhere)


def _dynamic_update_slice(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    shape, update = _shape(equation.invars[0]), _shape(equation.invars[1])
    starts = [_value(item) for item in inputs[2:]]
    anywhere = [a for a, start in enumerate(starts) if start is None and update[a] < shape[a]]
    known = _zero_if_unknown(equation.invars[2:], starts)
    targets = move.dynamic_update_targets(shape, known, update)
    operand = inputs[0].sets
    if operand is not None and not anywhere:  # what was there is gone
        kept = np.arange(operand.elements)
        kept[targets.ravel()] = move.NOWHERE
        operand = operand.take(kept)
    return _placed(operand, inputs[1].sets, targets, shape, anywhere)


def _dot(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    contracted, batch = equation.params["dimension_numbers"]
    return [
        index_sets.union(
            [
                _dot_with(equation, inputs[side].sets, inputs[1 - side], side, contracted, batch)
                for side in (0, 1)
            ]
        )
    ]


def _dot_with(
    equation: Any, sets: IndexSets | None, other: Traced, side: int, contracted: Any, batch: Any
) -> IndexSets | None:
    """What the product depends on through one of its factors, with axes ordered batch, free, contracted."""
    if sets is None:
        return None

    def ordered(which: int) -> tuple[list[int], tuple[int, int, int]]:
        shape = _shape(equation.invars[which])
        free = [a for a in range(len(shape)) if a not in contracted[which] and a not in batch[which]]
        groups = (list(batch[which]), free, list(contracted[which]))
        sizes = [int(np.prod([shape[a] for a in axes], dtype=int)) for axes in groups]
        return sum(groups, []), (sizes[0], sizes[1], sizes[2])

    order, (batches, free, length) = ordered(side)
    other_order, (_, other_free, _) = ordered(1 - side)
    mine = np.transpose(move.numbered(_shape(equation.invars[side])), order).reshape(batches, free, length)
    matrix = _value(other)
    places = move.numbered((batches, free, other_free) if side == 0 else (batches, other_free, free))
    if side == 1:
        places = places.swapaxes(1, 2)
    elements = places.size
    if matrix is not None:
        matrix = np.transpose(matrix, other_order).reshape(batches, other_free, length)
        at, column, along = np.nonzero(matrix)
        if (
            len(at) < matrix.size
            and len(at) * free * max(sets.count // max(sets.elements, 1), 1) <= index_sets.MOST
        ):
            pairs = sets.take(mine[at, :, along])
            return pairs.group(places[at, :, column], elements)
    summed = sets.take(mine).group(np.repeat(np.arange(batches * free), length), batches * free)
    source = np.empty(elements, int)
    source[places.ravel()] = np.repeat(np.arange(batches * free), other_free)
    return summed.take(source)


def _window(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """Sums and choices over windows; the second input of a choice says which, and is not followed."""
    sets, params = inputs[0].sets, equation.params
    if sets is None or any(item.sets is not None for item in inputs[1:]):
        return _everything(equation, inputs)
    seen = move.taps(
        move.numbered(_shape(equation.invars[0])),
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params.get("base_dilation") or [1] * len(_shape(equation.invars[0])),
        params.get("window_dilation") or [1] * len(_shape(equation.invars[0])),
    )
    size = _size(equation.outvars[0])
    return [sets.take(seen).group(np.tile(np.arange(size), len(seen)), size)]


def _unwindow(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    """The transpose of a choice over windows: every element of a window may have been the one."""
    sets, params = inputs[0].sets, equation.params
    if sets is None or inputs[1].sets is not None:
        return _everything(equation, inputs)
    shape = _shape(equation.invars[1])
    window, strides, ones = params["window_dimensions"], params["window_strides"], [1] * len(shape)
    seen = move.taps(move.numbered(shape), window, strides, params["padding"], ones, ones)
    return [sets.take(np.tile(np.arange(sets.elements), len(seen))).group(seen, _size(equation.outvars[0]))]


def _convolve(equation: Any, inputs: list[Traced]) -> list[IndexSets | None]:
    params = equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        return _everything(equation, inputs)
    kernel = np.transpose(move.numbered(_shape(equation.invars[1])), numbers.rhs_spec)  # out, in, *space
    out = np.transpose(move.numbered(_shape(equation.outvars[0])), numbers.out_spec)  # batch, out, *space
    parts = []
    if (sets := inputs[0].sets) is not None:
        images = np.transpose(move.numbered(_shape(equation.invars[0])), numbers.lhs_spec)
        seen = move.taps(
            images,
            (1, 1, *kernel.shape[2:]),
            (1, 1, *params["window_strides"]),
            ((0, 0), (0, 0), *params["padding"]),
            (1, 1, *params["lhs_dilation"]),
            (1, 1, *params["rhs_dilation"]),
        )  # taps, batch, in, *space
        by_group = seen.reshape(*seen.shape[:2], groups, -1, *seen.shape[3:])
        number = move.numbered((seen.shape[1], groups, *seen.shape[3:]))  # one set for all outputs of a group
        target = np.broadcast_to(number[None, :, :, None], by_group.shape)
        summed = sets.take(by_group).group(target, number.size)
        source = np.empty(out.size, int)
        source[out] = np.repeat(number, out.shape[1] // groups, axis=1)
        parts.append(summed.take(source))
    if (sets := inputs[1].sets) is not None:
        summed = _over(sets.take(kernel), kernel.shape, range(1, kernel.ndim))
        source = np.empty(out.size, int)
        source[out] = np.broadcast_to(np.arange(len(kernel)).reshape(1, -1, *[1] * (out.ndim - 2)), out.shape)
        parts.append(summed.take(source))
    return [index_sets.union(parts)]


def _last_axes(
    number: Callable[[dict[str, Any]], int], equation: Any, inputs: list[Traced]
) -> list[IndexSets | None]:
    """Everything within the last axes, and nothing beyond: a batch of small problems."""
    core_axes = number(equation.params)
    out = []
    for outvar in equation.outvars:
        lead = _shape(outvar)[: len(_shape(outvar)) - core_axes]
        parts = []
        for atom, item in zip(equation.invars, inputs, strict=True):
            if item.sets is None:
                continue
            if _shape(atom)[: len(_shape(atom)) - core_axes] != lead:
                return _everything(equation, inputs)
            shape = _shape(atom)
            parts.append(_over(item.sets, shape, range(len(lead), len(shape))))
        repeat = _size(outvar) // max(int(np.prod(lead, dtype=int)), 1)
        both = index_sets.union(parts)
        out.append(None if both is None else both.take(np.repeat(np.arange(both.elements), repeat)))
    return out


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
        return [Traced(sets) for sets in _everything(equation, inputs)]
    return propagate(programs.solve.jaxpr, programs.solve.consts, [*consts, *sides])


def _cond(equation: Any, inputs: list[Traced]) -> list[Traced]:
    which, branches = _value(inputs[0]), equation.params["branches"]
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
    sizes: Sequence[SupportsIndex],
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

    sizes = [_size(out) for out in equation.outvars]
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
    sizes = [_size(out) for out in equation.outvars[: len(carry)]]

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
        none = index_sets.empty(_size(out) // length, some.inputs)
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

_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        # Linear ones come first; the others only where a value, not a derivative, is followed.
        ["add", "add_any", "sub", "neg", "div", "convert_element_type", "real", "imag", "complex", "conj", "reduce_precision", "copy", "copy_p", "max", "min", "pow", "integer_pow", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2", "sqrt", "rsqrt", "cbrt", "square", "abs", "logistic", "erf", "erfc", "erf_inv", "lgamma", "digamma", "rem", "nextafter", "clamp"],
        _elementwise,
    ),
    "mul": _multiply,
    "select_n": _select,
    **dict.fromkeys(
        ["reshape", "squeeze", "expand_dims", "device_put", "sharding_constraint", "optimization_barrier", "pvary"],
        _same_elements,
    ),
    "broadcast_in_dim": partial(_moved, move.broadcast),
    "slice": partial(_moved, move.cut),
    "transpose": partial(_moved, lambda index, params: np.transpose(index, params["permutation"])),
    "rev": partial(_moved, lambda index, params: np.flip(index, params["dimensions"])),
    "tile": partial(_moved, lambda index, params: np.tile(index, params["reps"])),
    "concatenate": partial(_join, lambda arrays, params: np.concatenate(arrays, params["dimension"])),
    "stack": partial(_join, lambda arrays, params: np.stack(arrays, params["axis"])),
    "split": _split,
    "unstack": _unstack,
    "pad": _pad,
    **dict.fromkeys(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"], _reduce),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _cumulate),
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    **dict.fromkeys(["scatter", "scatter-add", "scatter-sub", "scatter-mul"], _scatter),
    "dynamic_update_slice": _dynamic_update_slice,
    "dot_general": _dot,
    "reduce_window_sum": _window,
    "select_and_gather_add": _window,
    "select_and_scatter_add": _unwindow,
    "conv_general_dilated": _convolve,
    "triangular_solve": partial(_last_axes, lambda params: 2),
    "cholesky": partial(_last_axes, lambda params: 2),
    "fft": partial(_last_axes, lambda params: len(params["fft_lengths"])),
}
