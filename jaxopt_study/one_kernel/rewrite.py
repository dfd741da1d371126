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
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

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
DTYPES = ("float32", "float64", "int32", "int64", "bool")
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
    if str(getattr(aval, "dtype", None)) not in DTYPES:
        return False
    # `jax.export` has shapes that are symbols. What is empty XLA takes for a constant, and stops the process
    # at an argument that the function does not use.
    return all(isinstance(length, int) for length in aval.shape) and 0 < aval.size <= LARGEST_ARRAY


def _of_sum(terms: float) -> float:
    return terms if terms <= LARGEST_SUM else math.inf


def run_rewritten(jaxpr: Jaxpr, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Evaluate a program that has a finite `cost`, each primitive replaced where there is a rule for it.

    >>> program = jax.make_jaxpr(lambda a: a @ a)(jnp.eye(2))
    >>> rewritten = jax.make_jaxpr(lambda a: run_rewritten(program.jaxpr, program.consts, a))(jnp.eye(2))
    >>> [eqn.primitive.name for eqn in rewritten.eqns]
    ['transpose', 'broadcast_in_dim', 'broadcast_in_dim', 'mul', 'reduce_sum']
    """
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        values = [v.val if isinstance(v, Literal) else known[v] for v in eqn.invars]
        known.update(zip(eqn.outvars, _run_one(eqn, values), strict=True))
    return [v.val if isinstance(v, Literal) else known[v] for v in jaxpr.outvars]


def _run_one(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        called = params[CALLS[name]]
        if powers.is_decaying_power(params) and isinstance(values[0], np.floating) and float(values[0]) > 0:
            return [powers.as_exponential(values[0], values[1])]
        return run_rewritten(inside(called), getattr(called, "consts", ()), *values)
    rule = RULES.get(name)
    if rule is not None:
        return rule(values, params)
    out = eqn.primitive.bind(*values, **params)
    return out if eqn.primitive.multiple_results else [out]


def inside(jaxpr: ClosedJaxpr | Jaxpr) -> Jaxpr:
    """The program itself, without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _closed(jaxpr: ClosedJaxpr, consts: Sequence[Any] = ()) -> Callable[..., list[Any]]:
    return lambda *args: run_rewritten(jaxpr.jaxpr, jaxpr.consts, *consts, *args)


def _while(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    of_cond, of_body = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    going = _closed(params["cond_jaxpr"], values[:of_cond])
    body = _closed(params["body_jaxpr"], values[of_cond:of_body])
    return jax.lax.while_loop(lambda carry: going(*carry)[0], lambda carry: body(*carry), values[of_body:])


def _cond(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    return jax.lax.switch(values[0], [_closed(branch) for branch in params["branches"]], *values[1:])


def _scan(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    consts, carried = params["num_consts"], params["num_carry"]
    body = _closed(params["jaxpr"], values[:consts])

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = body(*carry, *x)
        return out[:carried], out[carried:]

    start, rows = values[consts : consts + carried], values[consts + carried :]
    end, stacked = jax.lax.scan(step, start, rows, length=params["length"], reverse=params["reverse"])
    return [*end, *stacked]


def _dot_general(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    contracted, batched = params["dimension_numbers"]
    left, right = (
        jnp.moveaxis(x, (*b, *c), (*range(len(b)), *range(x.ndim - len(c), x.ndim)))
        for x, c, b in zip(map(jnp.asarray, values), contracted, batched, strict=True)  # numbers may be bare
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


def _cholesky(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    del params  # the lower triangle is what counts
    return [factorizations.cholesky(values[0])]


def _triangular_solve(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    matrix, target = values
    left, lower = params["left_side"], params["lower"]
    if params["transpose_a"] is left:  # x A = b is Aᵀ xᵀ = bᵀ
        matrix, lower = matrix.T, not lower
    solved = factorizations.triangular_solve(
        matrix, target if left else target.T, lower=lower, unit_diagonal=params["unit_diagonal"]
    )
    return [solved if left else solved.T]


def _qr(values: list[Any], params: dict[str, Any]) -> Sequence[Any]:
    return factorizations.qr(values[0], full_matrices=params["full_matrices"])


def _lu(values: list[Any], params: dict[str, Any]) -> Sequence[Array]:
    del params
    return factorizations.lu(values[0])


Rules = dict[str, Callable[[list[Any], dict[str, Any]], Sequence[Any]]]
FACTORIZATIONS: Rules = {"cholesky": _cholesky, "triangular_solve": _triangular_solve, "qr": _qr, "lu": _lu}
RULES: Rules = {
    "while": _while,
    "cond": _cond,
    "scan": _scan,
    "dot_general": _dot_general,
    **FACTORIZATIONS,
}
