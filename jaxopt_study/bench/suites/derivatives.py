"""Derivatives: sparse Jacobians by colors against dense ones, and towers against nested differentiation.

The sparse function is pentadiagonal: element i uses elements i-2 to i+2. At the size where a dense Jacobian
still fits, both are computed and compared, entry by entry; at ten times that size the error is that of a
product with a vector. Planning (the pattern, then the colors) happens once for each shape, in the first call.
The tower is f, f', ... of tanh, against the exact polynomials in tanh; how its time grows up to order 20, and
what compiling it takes, are cases of their own.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.bench.timer import Long, in_a_row, one_call

SIZE, LARGE = 10_000, 100_000
ORDERS = (2, 4, 6, 8)
HIGH = (5, 10, 20)
SPARSE = 100  # Jacobians a call
POINTS = 1000


def pentadiagonal(x: jax.Array) -> jax.Array:
    """A function whose Jacobian has five bands, one of them constant."""
    p = jnp.pad(x, 2)
    return p[:-4] + jnp.sin(p[1:-3]) * x + x**3 - jnp.exp(-p[3:-1]) + p[4:] ** 2


def energy(x: jax.Array) -> jax.Array:
    """A scalar whose Hessian has nine bands."""
    return jnp.sum(pentadiagonal(x) ** 2)


def _dense_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    x = jnp.asarray(np.random.default_rng(0).normal(size=SIZE))
    sparse, dense = jos.jacobian(pentadiagonal, mode="sparse"), jax.jit(jax.jacfwd(pentadiagonal))
    first, _ = one_call(lambda: sparse(x))
    full = np.asarray(dense(x))

    def error(matrix: Any) -> float:
        rows, columns = np.asarray(matrix.indices).T
        data = np.asarray(matrix.data)
        # What lies outside of the pattern has to be zero: together they have all of the sum.
        missed = abs(np.abs(full).sum() - np.abs(full[rows, columns]).sum())
        return float(np.abs(full[rows, columns] - data).max() + missed / np.abs(full).sum())

    contestants = {
        OURS: Contestant(
            functools.partial(in_a_row, SPARSE, lambda: sparse(x)),
            error,
            f'mode="sparse", 5 forward passes; {SPARSE} in a row',
            units=SPARSE,
            first_seconds=first,
        ),
        "dense": Contestant(lambda: dense(x), lambda _: 0.0, "jax.jacfwd, jitted; the reference"),
    }
    return Case("Jacobian", contestants, most_error=1e-12, rounds=3, blas=False)


def _large_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    x, vector = (jnp.asarray(np.random.default_rng(seed).normal(size=LARGE)) for seed in (0, 1))
    jacobian, hessian = jos.jacobian(pentadiagonal, mode="sparse"), jos.hessian(energy, mode="sparse")
    value = jax.jit(pentadiagonal)
    along = jax.jvp(pentadiagonal, (x,), (vector,))[1]
    bent = jax.jvp(jax.grad(energy), (x,), (vector,))[1]

    def error(product: Array, matrix: Any) -> float:
        return float(jnp.abs(matrix @ vector - product).max() / jnp.abs(product).max())

    contestants = {
        OURS: Contestant(lambda: jacobian(x), functools.partial(error, along), "5 forward passes"),
        f"{OURS}, Hessian": Contestant(lambda: hessian(x), functools.partial(error, bent), "9 products"),
        "the function alone": Contestant(lambda: value(x), lambda _: 0.0, "jitted"),
    }
    return Case("call", contestants, most_error=1e-12)


def _tower_of_tanh(order: int, x: np.ndarray) -> np.ndarray:
    """Exactly: the n-th derivative is P(tanh x), with P of the next P'(t) (1 - t²)."""
    t, polynomial, rows = np.tanh(x), np.polynomial.Polynomial([0.0, 1.0]), []
    for _ in range(order + 1):
        rows.append(polynomial(t))
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([1.0, 0.0, -1.0])
    return np.stack(rows)


class _Enough(Exception):
    """Compiling has taken as long as anybody wants to know."""


def _never() -> bool:
    return False


def _nested(
    differentiate: Callable[[Any], Any], order: int, enough: Callable[[], bool] = _never
) -> Callable[[Array], Array]:
    """f, f', ... by differentiating the derivative again and again; asked after each derivative in each."""

    def asked(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def value(x: Array) -> Array:
            found = fn(x)
            if enough():
                raise _Enough
            return found

        return value

    def tower(x: Array) -> Array:
        rows, fn = [], jnp.tanh
        for _ in range(order + 1):
            rows.append(jax.vmap(fn)(x))
            fn = differentiate(asked(fn))
        return jnp.stack(rows)

    return tower


def _towers(
    order: int, enough: Callable[[], bool] = _never
) -> dict[str, tuple[Callable[[Array], Array], str]]:
    return {
        OURS: (jos.derivatives(jnp.tanh, order), "Taylor mode"),
        "nested jvp": (_nested(jax.jacfwd, order, enough), "jax.jacfwd, nested"),
        "nested grad": (_nested(jax.grad, order, enough), "jax.grad, nested"),
    }


def _tower_error(order: int, x: Array, rows: Any) -> float:
    """Of every order relative to the largest value in it."""
    exact = _tower_of_tanh(order, np.asarray(x))
    return float((np.abs(np.asarray(rows) - exact) / np.abs(exact).max(axis=1, keepdims=True)).max())


def _tower_case(order: int, wanted: Callable[[str], bool]) -> Case:
    del wanted
    x = jnp.linspace(-3.0, 3.0, POINTS)
    error = functools.partial(_tower_error, order, x)
    contestants = {}
    for name, (tower, words) in _towers(order).items():
        jitted = jax.jit(tower)
        contestants[name] = Contestant(
            functools.partial(jitted, x), error, words, program=functools.partial(_compile, tower, x)
        )
    return Case(f"tower at {POINTS} points", contestants, most_error=1e-9, size=order)


def _growth_case(wanted: Callable[[str], bool]) -> Case:
    """One tower at several orders, each in one program."""
    del wanted
    x = jnp.linspace(-3.0, 3.0, POINTS)
    contestants = {}
    for order in HIGH:
        tower = jax.jit(jos.derivatives(jnp.tanh, order))
        contestants[_of_order(order)] = Contestant(
            functools.partial(tower, x), functools.partial(_tower_error, order, x), f"order {order}"
        )
    return Case(f"tower at {POINTS} points", contestants, most_error=1e-8, blas=False)


def _of_order(order: int) -> str:
    return OURS if order == HIGH[0] else f"{OURS}, order {order}"


def _compile(tower: Callable[[Array], Array], x: Array) -> Any:
    return jax.jit(tower).lower(x).compile()


def _compile_case(order: int, wanted: Callable[[str], bool]) -> Case:
    del wanted
    x = jnp.linspace(-3.0, 3.0, POINTS)

    def error(compiled: Any) -> float:
        return 0.0 if compiled is None else _tower_error(order, x, compiled(x))

    def work(name: str, enough: Callable[[], bool]) -> Any:
        tower, _ = _towers(order, enough)[name]  # made anew, so that nothing of it is known
        try:
            traced = jax.jit(tower).trace(x)
        except _Enough:
            return None
        return None if enough() else traced.lower().compile()

    contestants = {
        name: Contestant(Long(functools.partial(work, name)), error, f"{words}; traced and compiled")
        for name, (_, words) in _towers(order).items()
        if name != "nested jvp"  # which takes longer still
    }
    return Case("compilation", contestants, most_error=1e-9, rounds=1, cold=True)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned("sparse Jacobian, n = 10^4", _dense_case, claim={"dense": 100.0}),
        Planned("sparse Jacobian, n = 10^5", _large_case),
        *(Planned(f"tanh, order {order}", functools.partial(_tower_case, order)) for order in ORDERS),
        Planned(
            f"tanh, orders {', '.join(map(str, HIGH))}",
            _growth_case,
            at_most={_of_order(order): (order / HIGH[0]) ** 2 for order in HIGH[1:]},  # quadratic
        ),
        Planned(
            "compiling tanh, order 10", functools.partial(_compile_case, 10), claim={"nested grad": 20.0}
        ),
    )
