"""A program in a form that XLA can make one function of: no calls of libraries, and what it will cost.

A program is a jaxpr. Products of matrices and factorizations become loops; loops, branches and calls stay,
rewritten inside; all other primitives stay as they are if XLA writes them as plain loops itself.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.interpreters import partial_eval

from jaxopt_study.one_kernel import factorizations, powers

# fmt: off
# Primitives, by their names, that take a handful of instructions an element. Not "rev": XLA takes what is
# reversed for the same elements, and writes it once more for every use: x = x + x[::-1], 20 times, a million.
CHEAP = frozenset({
    "abs", "add", "add_any", "and", "argmax", "argmin", "broadcast_in_dim", "ceil", "clamp", "concatenate",
    "convert_element_type", "copy", "copy_p", "div", "dynamic_slice", "dynamic_update_slice", "eq", "floor",
    "gather", "ge", "gt", "integer_pow", "iota", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg",
    "not", "or", "pad", "platform_index", "reduce_and", "reduce_max", "reduce_min", "reduce_or",
    "reduce_precision", "reduce_prod", "reduce_sum", "rem", "reshape", "round", "rsqrt", "select_n",
    "sign", "slice", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient", "sub", "transpose",
    "unstack", "xor",
})
# And those that take so many more, which XLA computes several at once only in a kernel of their own.
DEAR = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "erf", "erf_inv",
    "erfc", "exp", "exp2", "expm1", "log", "log1p", "logistic", "pow", "sin", "sinh", "tan", "tanh",
})
# fmt: on
DEARER = 8
LARGEST_ARRAY = 8192  # elements; larger ones XLA may divide over the cores, and a function is one core's
LARGEST_SUM = 2048  # terms; for more than 4096 XLA calls a library, which it cannot do inside of a function
DTYPES = frozenset(map(np.dtype, ("float32", "float64", "int32", "int64", "bool")))
# Where a primitive keeps the program that it calls, once.
CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "one_kernel": "program",
}


def cost(jaxpr: Jaxpr) -> float:
    """How many numbers one iteration computes, those of dear functions counted eightfold; ∞ if it cannot be.

    >>> cost(jax.make_jaxpr(lambda x: jnp.exp(x) + 1.0)(jnp.ones(3)).jaxpr)
    27.0
    >>> cost(jax.make_jaxpr(jnp.sort)(jnp.ones(3)).jaxpr)
    inf
    """
    if jaxpr.effects or not all(_is_small(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars)):
        return math.inf
    return sum(map(cost_of_one, jaxpr.eqns), start=0.0)


def cost_of_one(eqn: JaxprEqn) -> float:
    """`cost` of one operation."""
    name, params = eqn.primitive.name, eqn.params
    into: list[Any] = [v.aval for v in eqn.invars]
    out: list[Any] = [v.aval for v in eqn.outvars]
    if not all(map(_is_small, (*into, *out))):
        return math.inf
    if params.get("lanes"):  # a `vmap` inside of what is fitted, which `rewritten` does not know
        return math.inf
    if name in CALLS:
        return cost(inside(params[CALLS[name]]))
    if name == "while":
        if params["cond_jaxpr"].out_avals[0].shape:  # of `vmap`: each of them ends on its own
            return math.inf
        return cost(params["cond_jaxpr"].jaxpr) + cost(params["body_jaxpr"].jaxpr)
    if name == "scan":
        return cost(params["jaxpr"].jaxpr)
    if name == "cond":
        return sum(cost(branch.jaxpr) for branch in params["branches"])
    if name in FACTORIZATIONS:
        # A pass over the largest matrix for every column.
        largest = max(aval.size for aval in (into[0], *out))
        return _of_sum(largest) * into[0].shape[-1] if into[0].ndim == 2 else math.inf
    if name == "dot_general":
        (contracted, _), (batched, _) = params["dimension_numbers"]
        left = into[0]
        terms = out[0].size * math.prod(left.shape[axis] for axis in contracted)
        alone = left.ndim == 2 and len(contracted) == 1 and not batched  # row after row of the left
        rows = max(left.shape[1 - contracted[0]], 1) if alone else 1
        return terms if _of_sum(terms / rows) < math.inf else math.inf
    if name.startswith("reduce_") or name in ("argmax", "argmin"):
        return _of_sum(into[0].size)
    size = sum(aval.size for aval in out)
    if name in DEAR:
        return DEARER * size
    return size if name in CHEAP else math.inf


def _is_small(aval: Any) -> bool:
    if getattr(aval, "dtype", None) not in DTYPES:
        return False
    # `jax.export` has shapes that are symbols. What is empty XLA takes for a constant, and stops the process
    # at an argument that the function does not use.
    return all(isinstance(length, int) for length in aval.shape) and 0 < aval.size <= LARGEST_ARRAY


def _of_sum(terms: float) -> float:
    return terms if terms <= LARGEST_SUM else math.inf


Params = dict[str, Any]
Rewritten = dict[Any, ClosedJaxpr]  # by the operation; for one program, traced in one context


def rewritten(
    program: ClosedJaxpr, known: Sequence[Literal | None] = (), rules: Rewritten | None = None
) -> ClosedJaxpr:
    """A program that has a finite `cost`, with each primitive replaced where there is a rule for it.

    What it calls is written out. No operation is traced again but those that are replaced.

    Args:
      program: stays as it is.
      known: a number for each argument, which is then none, or None; all of these by default.
      rules: what was made for operations of the program around.

    >>> program = rewritten(jax.make_jaxpr(lambda a: a @ a)(jnp.eye(2)))
    >>> [eqn.primitive.name for eqn in program.eqns]
    ['transpose', 'broadcast_in_dim', 'broadcast_in_dim', 'mul', 'reduce_sum']
    """
    jaxpr, writer = program.jaxpr, _Writer({} if rules is None else rules)
    args = [
        v if number is None else number for v, number in zip(jaxpr.invars, known or jaxpr.invars, strict=True)
    ]
    out = writer.write(program, args)
    inside = jaxpr.replace(
        constvars=[*writer.consts],
        invars=[v for v in args if not isinstance(v, Literal)],
        outvars=out,
        eqns=writer.eqns,
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return ClosedJaxpr(inside, [*writer.consts.values()])


class _Writer:
    """Operations written so far, and the arrays that they are written with."""

    def __init__(self, rules: Rewritten) -> None:
        self.eqns: list[JaxprEqn] = []
        self.consts: dict[Any, Any] = {}
        self.rules = rules

    def write(self, program: ClosedJaxpr | Jaxpr, args: Sequence[Any]) -> list[Any]:
        """All operations of a program, its variables being others; what it returns."""
        jaxpr = inside(program)
        known: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
        for variable, value in zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True):
            known[variable] = Var(variable.aval)
            self.consts[known[variable]] = value

        def read(atoms: Sequence[Any]) -> list[Any]:
            return [atom if isinstance(atom, Literal) else known[atom] for atom in atoms]

        used = {id(v) for atoms in (jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)) for v in atoms}
        for eqn in jaxpr.eqns:
            wanted = tuple(id(v) in used for v in eqn.outvars)
            known.update(zip(eqn.outvars, self._one(eqn, read(eqn.invars), wanted), strict=True))
        return read(jaxpr.outvars)

    def _one(self, eqn: JaxprEqn, args: list[Any], wanted: tuple[bool, ...]) -> Sequence[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS:
            rate = args[0].val if args and isinstance(args[0], Literal) else None
            if isinstance(rate, np.floating) and rate > 0 and powers.is_decaying_power(params):
                count = _shape(args[1].aval)
                if jnp.issubdtype(count.dtype, jnp.integer):
                    power = lambda count: powers.as_exponential(rate, count)  # noqa: E731
                    return self.write(jax.make_jaxpr(power)(count), args[1:])
            return self.write(params[CALLS[name]], args)
        if name in RULES:
            found = iter(self.write(self._of_rule(name, params, args, wanted), args))
            return [next(found) if is_wanted else None for is_wanted in wanted]
        if name in LOOPS:
            params, args = LOOPS[name](params, args, self.rules)
        out = [Var(v.aval) for v in eqn.outvars]
        self.eqns.append(eqn.replace(invars=args, outvars=out, params=params))
        return out

    def _of_rule(self, name: str, params: Params, args: list[Any], wanted: tuple[bool, ...]) -> ClosedJaxpr:
        """What stands in the place of an operation: of its results those that are wanted."""
        key = (name, tuple(v.aval for v in args), wanted, *sorted(params.items(), key=lambda item: item[0]))
        if key not in self.rules:
            made = jax.make_jaxpr(lambda *values: RULES[name](values, params))(
                *(_shape(v.aval) for v in args)
            )
            jaxpr, _ = partial_eval.dce_jaxpr(made.jaxpr, wanted, instantiate=True)
            self.rules[key] = ClosedJaxpr(jaxpr, made.consts)
        return self.rules[key]


def _shape(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def inside(jaxpr: ClosedJaxpr | Jaxpr) -> Jaxpr:
    """The program itself, without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _numbers(args: Sequence[Any]) -> list[Literal | None]:
    return [arg if isinstance(arg, Literal) else None for arg in args]


def _others(args: Sequence[Any]) -> list[Any]:
    return [arg for arg in args if not isinstance(arg, Literal)]


def _while(params: Params, args: list[Any], rules: Rewritten) -> tuple[Params, list[Any]]:
    # Of what stays the same the numbers are put into the loop: it would carry them.
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_cond, of_body, start = args[:first], args[first:second], args[second:]
    carried = [None] * len(start)
    changed = {
        "cond_jaxpr": rewritten(params["cond_jaxpr"], [*_numbers(of_cond), *carried], rules),
        "body_jaxpr": rewritten(params["body_jaxpr"], [*_numbers(of_body), *carried], rules),
        "cond_nconsts": len(_others(of_cond)),
        "body_nconsts": len(_others(of_body)),
    }
    return params | changed, [*_others(of_cond), *_others(of_body), *start]


def _cond(params: Params, args: list[Any], rules: Rewritten) -> tuple[Params, list[Any]]:
    return params | {"branches": tuple(rewritten(branch, (), rules) for branch in params["branches"])}, args


def _scan(params: Params, args: list[Any], rules: Rewritten) -> tuple[Params, list[Any]]:
    same, rest = args[: params["num_consts"]], args[params["num_consts"] :]
    others, numbers = _others(same), _numbers(same)
    changed = {
        "jaxpr": rewritten(params["jaxpr"], [*numbers, *[None] * len(rest)], rules),
        "num_consts": len(others),
        "unroll": 1,
    }
    return params | changed, [*others, *rest]


def _dot_general(values: Sequence[Any], params: Params) -> Sequence[Any]:
    contracted, batched = params["dimension_numbers"]
    left, right = (
        jnp.moveaxis(x, (*b, *c), (*range(len(b)), *range(x.ndim - len(c), x.ndim)))
        for x, c, b in zip(values, contracted, batched, strict=True)
    )
    together, summed = len(batched[0]), len(contracted[0])
    at, free = left.ndim - summed, right.ndim - together - summed
    right = jnp.expand_dims(right, tuple(range(together, at)))
    dtype = jnp.dtype(params["preferred_element_type"] or jnp.result_type(left, right))
    left, right = left.astype(dtype), right.astype(dtype)

    def product(left: Array, right: Array) -> Array:
        spread = jnp.expand_dims(left, tuple(range(left.ndim - summed, left.ndim - summed + free)))
        axes = tuple(range(spread.ndim - summed, spread.ndim))
        if dtype == jnp.bool_:
            return jnp.any(spread & right, axes)
        return jnp.sum(spread * right, axes, dtype=dtype)

    if right.size * math.prod(left.shape[together:at]) <= LARGEST_SUM:
        return [product(left, right)]
    return [jax.lax.map(lambda row: product(row, right[0]), left)]  # of two matrices, as `cost` allows


def _cholesky(values: Sequence[Any], params: Params) -> Sequence[Any]:
    del params  # the lower triangle is what counts
    return [factorizations.cholesky(values[0])]


def _triangular_solve(values: Sequence[Any], params: Params) -> Sequence[Any]:
    matrix, target = values
    left, lower = params["left_side"], params["lower"]
    if params["transpose_a"] is left:  # x A = b is Aᵀ xᵀ = bᵀ
        matrix, lower = matrix.T, not lower
    solved = factorizations.triangular_solve(
        matrix, target if left else target.T, lower=lower, unit_diagonal=params["unit_diagonal"]
    )
    return [solved if left else solved.T]


def _qr(values: Sequence[Any], params: Params) -> Sequence[Any]:
    return factorizations.qr(values[0], full_matrices=params["full_matrices"])


def _lu(values: Sequence[Any], params: Params) -> Sequence[Array]:
    del params
    return factorizations.lu(values[0])


Rules = dict[str, Callable[[Sequence[Any], Params], Sequence[Any]]]
FACTORIZATIONS: Rules = {"cholesky": _cholesky, "triangular_solve": _triangular_solve, "qr": _qr, "lu": _lu}
RULES: Rules = {"dot_general": _dot_general, **FACTORIZATIONS}
LOOPS: dict[str, Callable[[Params, list[Any], Rewritten], tuple[Params, list[Any]]]] = {
    "while": _while,
    "cond": _cond,
    "scan": _scan,
}
