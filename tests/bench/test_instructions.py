"""Programs that are called the same are the same."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.bench.instructions import instructions


def of(fn, *args, **options):
    return instructions(jax.jit(fn, **options).lower(*args).compile())


X = jnp.ones(100)


def test_names_do_not_count():
    def sums(first, second):
        return jax.lax.fori_loop(0, 3, lambda i, s: s + first * second, first)

    def others(one, two):
        return jax.lax.fori_loop(0, 3, lambda k, whole: whole + one * two, one)

    assert of(sums, X, X) == of(others, X, X)


def test_operations_constants_arguments_and_branches_do():
    base = of(lambda a, b: 2.0 * a - b, X, X)
    for other in (lambda a, b: 2.0 * a + b, lambda a, b: 3.0 * a - b, lambda a, b: 2.0 * b - a):
        assert of(other, X, X) != base

    def branch(up, down):
        return of(lambda a: jax.lax.cond(a[0] > 0, up, down, a), X)

    assert branch(jnp.sin, jnp.cos) != branch(jnp.cos, jnp.sin)


def test_what_is_done_in_place_does():
    step = lambda a, b: (a + 1, b * 2)  # noqa: E731
    assert of(step, X, X) != of(step, X, X, donate_argnums=0)


def test_nothing_is_said_of_a_program_whose_constants_are_not_shown():
    order = np.random.default_rng(0).permutation(1000)
    assert of(lambda a: a[jnp.asarray(order)], jnp.ones(1000)) is None
