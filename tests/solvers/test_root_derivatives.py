"""Derivatives of roots against closed forms, and differences of SciPy's and mpmath's roots."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos


def coupled(p, a, xp=jnp):
    return xp.stack([p[0] ** 3 + a[0] * p[1] - 2, xp.exp(a[1] * p[0]) + p[1] - a[2]])


A = np.array([0.7, 0.3, 1.9])


def root(a):
    return jos.find_root(coupled, jnp.ones(2), (a,)).params


def by_scipy(a):
    return scipy.optimize.root(lambda p: coupled(p, a, np), np.ones(2), tol=1e-14).x


def differences(fn, x, h=1e-3):
    """Central differences, extrapolated twice: the error is of order h⁶."""

    def central(h):
        return np.stack([(fn(x + h * e) - fn(x - h * e)) / (2 * h) for e in np.eye(x.size)], -1)

    first, second, third = central(h), central(2 * h), central(4 * h)
    return (64 * first - 20 * second + third) / 45


@pytest.mark.slow
def test_jacobians_in_both_modes_are_those_of_another_solver():
    np.testing.assert_allclose(root(A), by_scipy(A), rtol=1e-12)
    expected = differences(by_scipy, A)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(root))(A), expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacrev(root))(A), expected, rtol=1e-9)


@pytest.mark.slow
def test_hessians_are_differences_of_jacobians_and_symmetric():
    hessian = jax.jit(jax.hessian(lambda a: root(a)[0]))(A)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    expected = differences(lambda a: differences(lambda b: by_scipy(b)[0], a, 2e-2), A, 2e-2)
    np.testing.assert_allclose(hessian, expected, atol=2e-5 * np.abs(hessian).max())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"bracket": (0.1, 3.0)}, {"method": "broyden"}, {"bounds": (0.0, 9.0)}])
def test_every_method_gives_the_same_derivatives(options):
    def cosine(a):  # cos x = a x
        start = None if "bracket" in options else jnp.asarray(1.0)
        return jos.find_root(lambda x, a: jnp.cos(x) - a * x, start, (a,), **options).params

    with mpmath.workdps(40):

        def exact(a):
            return mpmath.findroot(lambda x: mpmath.cos(x) - a * x, 0.7)

        first, second = (float(mpmath.diff(exact, mpmath.mpf("1.3"), n)) for n in (1, 2))
    assert float(jax.grad(cosine)(1.3)) == pytest.approx(first, rel=1e-12)
    assert float(jax.jacfwd(cosine)(1.3)) == pytest.approx(first, rel=1e-12)
    assert float(jax.grad(jax.grad(cosine))(1.3)) == pytest.approx(second, rel=1e-11)


@pytest.mark.slow
def test_what_the_function_closes_over_is_differentiated_too():
    def square_root(a):
        return jos.find_root(lambda x: x**2 - a, jnp.asarray(1.0)).params

    for derivative in (jax.grad(square_root), jax.jacfwd(square_root), jax.jit(jax.grad(square_root))):
        assert float(derivative(9.0)) == pytest.approx(1 / 6, rel=1e-14)
    assert float(jax.grad(jax.grad(square_root))(9.0)) == pytest.approx(-1 / 108, rel=1e-14)


@pytest.mark.slow
def test_the_derivative_does_not_depend_on_the_start_or_the_bracket():
    def square_root(start):
        return jos.find_root(lambda x: x**2 - 4, start).params

    assert jax.grad(square_root)(3.0) == 0
    assert jax.grad(lambda b: jos.find_root(lambda x: x**2 - 4, bracket=(0.0, b)).params)(3.0) == 0


@pytest.mark.slow
def test_where_there_is_no_root_or_no_regular_jacobian_derivatives_are_nan():
    def root_of(a, fn):
        return jos.find_root(fn, jnp.asarray(3.0), (a,)).params

    assert np.isnan(jax.grad(lambda a: root_of(a, lambda x, a: x**2 + a))(1.0))
    assert np.isnan(jax.jacfwd(lambda a: root_of(a, lambda x, a: x**2 + a))(1.0))

    def touching(a):  # a double root at (0, a) in its first equation, exactly
        fn = lambda p, a: jnp.stack([p[0] ** 2, p[1] - a])  # noqa: E731
        return jos.find_root(fn, jnp.array([0.0, 3.0]), (a,)).params

    assert np.isnan(jax.jacrev(touching)(1.0)).any()


@pytest.mark.slow
def test_derivatives_under_vmap_are_those_of_each_and_a_failure_stays_alone():
    def square_root(a):
        return jos.find_root(lambda x, a: x**2 - a, jnp.asarray(2.0), (a,)).params

    slopes = jax.vmap(jax.grad(square_root))(jnp.array([4.0, -1.0, 9.0]))
    np.testing.assert_allclose(slopes[jnp.array([0, 2])], [1 / 4, 1 / 6], rtol=1e-13)
    assert np.isnan(slopes[1])


@pytest.mark.slow
def test_other_fields_carry_no_derivatives():
    def end(a):
        return jos.find_root(lambda x, a: x**2 - a, jnp.asarray(2.0), (a,))

    assert jax.grad(lambda a: end(a).value)(5.0) == 0
    assert jax.grad(lambda a: end(a).opt_state.residual)(5.0) == 0


@pytest.mark.slow
def test_derivatives_of_many_unknowns_need_no_matrix():
    def total(a):
        fn = lambda x, a: x + 0.1 * jnp.sin(jnp.roll(x, 1)) - a * jnp.arange(300.0) / 300  # noqa: E731
        return jos.find_root(fn, jnp.zeros(300), (a,)).params.sum()

    h = 1e-4
    expected = (total(1.0 + h) - total(1.0 - h)) / (2 * h)
    assert float(jax.grad(total)(1.0)) == pytest.approx(float(expected), rel=1e-7)
    assert float(jax.jacfwd(total)(1.0)) == pytest.approx(float(expected), rel=1e-7)
