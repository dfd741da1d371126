"""What is fitted is traced once a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.traced_once import traced_once

T = np.linspace(0.0, 2.0, 9)
Y = 2.0 * np.exp(-0.7 * T)
START = np.ones(2)


def _decay(p, t):
    return p[0] * jnp.exp(-p[1] * t)


def _residual(p, y):
    return _decay(p, T) - y


def _valley(p, a):
    return jnp.sum((p - a[:2]) ** 2) + jnp.sum(p**4)


SOLVERS = {
    "least_squares": (_residual, lambda fn, y: jos.least_squares(fn, START, (y,)).params),
    "its derivative": (
        _residual,
        lambda fn, y: jax.jacfwd(lambda y: jos.least_squares(fn, START, (y,)).params)(y),
    ),
    "newton": (_valley, lambda fn, y: jos.minimize(fn, START, jos.newton(), (y,)).params),
    "adam": (_valley, lambda fn, y: jos.minimize(fn, START, jos.adam(0.1), (y,), max_steps=9).params),
    "find_root": (lambda p, y: p**3 - y[:2] - 1, lambda fn, y: jos.find_root(fn, START, (y,)).params),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_once_in_a_program(name, count_traces):
    fn, solve = SOLVERS[name]
    seen = count_traces(fn)
    found = jax.jit(lambda y: solve(seen.fn, y))(Y)
    assert seen.count == 1
    np.testing.assert_allclose(found, solve(fn, Y), rtol=1e-6)


def test_a_model_and_its_check(count_traces):
    seen = count_traces(_decay)
    jax.jit(lambda y: jos.curve_fit(seen.fn, T, y, START).stderr)(Y)
    assert seen.count == 3  # for its check, for the fit, for the errors


def test_in_parts(count_traces):
    seen = count_traces(_residual)
    optimizer = jos.levenberg_marquardt()
    carry = jos.start(jos.LeastSquares(seen.fn), START, optimizer, (Y,))
    for _ in range(3):
        carry = jos.advance(carry, 2)
    whole = jos.minimize(jos.LeastSquares(_residual), START, optimizer, (Y,), max_steps=6)
    np.testing.assert_allclose(jos.finish(carry).params, whole.params, rtol=1e-12)
    traced = seen.count
    jos.advance(carry, 2)
    assert seen.count == traced


def test_arrays_of_a_callable_pytree_are_differentiated():
    def along(shift):
        residual = jax.tree_util.Partial(lambda shift, p, y: _decay(p, T) - y - shift, shift)
        return jos.least_squares(residual, START, (Y,)).params[0]

    step = 1e-4
    slope = (along(step) - along(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(along))(0.0), slope, rtol=1e-6)


def test_other_arguments_are_traced_anew(count_traces):
    seen = count_traces(lambda x: 2 * x)
    double = traced_once(seen.fn)
    out = jax.jit(lambda x: (double(x), double(x[0]), double(x), jax.vmap(double)(x)))(jnp.arange(3.0))
    assert seen.count == 2
    np.testing.assert_array_equal(out[3], [0.0, 2.0, 4.0])
