"""Loops and branches that carry series, and the solution of linear systems that vary.

Every rule takes the `Expansion` that is going on, the order, the equation and its operands, and gives the
results. What is computed inside a loop or branch stays there: each has an `Expansion` of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import JaxprEqn

from jaxopt_study.series.dependence import varying_carry, varying_outputs
from jaxopt_study.series.fallback import bind
from jaxopt_study.series.series import Series, coefficients, primal


def is_varying(values: Sequence[Any]) -> list[bool]:
    """Which of them are series."""
    return [isinstance(value, Series) for value in values]


def pack(values: Sequence[Any], varying: Sequence[bool], order: int) -> tuple[Array, ...]:
    """Arrays to carry: the coefficients of what varies, the values of the rest."""
    return tuple(
        coefficients(value, order) if varies else jnp.asarray(primal(value))
        for value, varies in zip(values, varying, strict=True)
    )


def cond(expansion: Any, order: int, eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """Every branch gives the series of whatever varies in any of them."""
    index, *operands = values
    branches = eqn.params["branches"]
    each = [varying_outputs(branch.jaxpr, is_varying(operands)) for branch in branches]
    varying = [any(of_branches) for of_branches in zip(*each, strict=True)]

    def take(branch: Any) -> Callable[[], tuple[Array, ...]]:
        def taken() -> tuple[Array, ...]:
            results = expansion.inside().evaluate(branch.jaxpr, branch.consts, operands, order)
            return pack(results, varying, order)

        return taken

    results = lax.switch(primal(index), [take(branch) for branch in branches])
    return expansion.unpack(results, varying)


def while_loop(expansion: Any, order: int, eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The values at t = 0 decide how often it turns."""
    first = eqn.params["cond_nconsts"]
    second = first + eqn.params["body_nconsts"]
    cond_consts, body_consts, start = values[:first], values[first:second], values[second:]
    test, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    varying, _ = varying_carry(body.jaxpr, is_varying(body_consts), is_varying(start), [])

    def go_on(carry: tuple[Array, ...]) -> Array:
        at = [array[0] if varies else array for array, varies in zip(carry, varying, strict=True)]
        operands = [*map(primal, cond_consts), *at]
        return expansion.inside().evaluate(test.jaxpr, test.consts, operands, 0)[0]

    def turn(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        inner = expansion.inside()
        operands = [*body_consts, *inner.unpack(carry, varying)]
        return pack(inner.evaluate(body.jaxpr, body.consts, operands, order), varying, order)

    return expansion.unpack(lax.while_loop(go_on, turn, pack(start, varying, order)), varying)


def scan(expansion: Any, order: int, eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The coefficients of what it walks along, and of what it stacks up, come second."""
    params, body = eqn.params, eqn.params["jaxpr"]
    first = params["num_consts"]
    second = first + params["num_carry"]
    consts, start, xs = values[:first], values[first:second], values[second:]
    varying, stacks = varying_carry(body.jaxpr, is_varying(consts), is_varying(start), is_varying(xs))
    walks = is_varying(xs)

    def turn(carry: tuple[Array, ...], row: tuple[Array, ...]) -> tuple[Any, Any]:
        inner = expansion.inside()
        operands = [*consts, *inner.unpack(carry, varying), *inner.unpack(row, walks)]
        results = inner.evaluate(body.jaxpr, body.consts, operands, order)
        split = len(varying)
        return pack(results[:split], varying, order), pack(results[split:], stacks, order)

    rows = tuple(jnp.moveaxis(x.coefficients, 0, 1) if isinstance(x, Series) else x for x in xs)
    carry, ys = lax.scan(
        turn,
        pack(start, varying, order),
        rows,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    ys = tuple(jnp.moveaxis(y, 1, 0) if varies else y for y, varies in zip(ys, stacks, strict=True))
    return [*expansion.unpack(carry, varying), *expansion.unpack(ys, stacks)]


def linear_solve(expansion: Any, order: int, eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """A x = b: A₀ x_k = b_k − [A (x₀ + x₁ t + … + x_{k−1} tᵏ⁻¹)]_k, one coefficient after the other."""
    matvec, lengths = eqn.params["jaxprs"].matvec, eqn.params["const_lengths"]
    number = sum(lengths)
    consts, rhs = values[:number], [coefficients(b, order) for b in values[number:]]
    of_matvec = consts[: lengths.matvec]

    def solve(b: Sequence[Any]) -> list[Any]:
        return bind(eqn, [*map(primal, consts), *b])

    def add_coefficient(k: Any, xs: tuple[Array, ...]) -> tuple[Array, ...]:
        inner = expansion.inside()
        operands = [*of_matvec, *inner.unpack(xs, [True] * len(xs))]
        products = inner.evaluate(matvec.jaxpr, matvec.consts, operands, order)
        rest = [b[k] - coefficients(product, order)[k] for b, product in zip(rhs, products, strict=True)]
        return tuple(x.at[k].set(x_k) for x, x_k in zip(xs, solve(rest), strict=True))

    x0 = solve([b[0] for b in rhs])
    start = tuple(jnp.zeros_like(b).at[0].set(x) for b, x in zip(rhs, x0, strict=True))
    return expansion.unpack(lax.fori_loop(1, order + 1, add_coefficient, start), [True] * len(start))


RULES: dict[str, Callable[..., list[Any]]] = {
    "cond": cond,
    "custom_linear_solve": linear_solve,
    "scan": scan,
    "while": while_loop,
}
