"""The linearization of residuals against dense NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.linearize import linearize


def of_matrix(matrix, theta, target, largest=None, **options):
    """Linearize `A θ - b`, all in the dtype of the matrix."""
    dtype = matrix.dtype
    matrix, theta, target = jnp.asarray(matrix), jnp.asarray(theta, dtype), jnp.asarray(target, dtype)
    largest = jnp.zeros(matrix.shape[1], dtype) if largest is None else jnp.asarray(largest, dtype)
    objective = jos.LeastSquares(lambda p, a, b: a @ p - b)
    return jax.jit(lambda p, args, norms: linearize(objective, p, args, norms, **options))(
        theta, (matrix, target), largest
    )


def problem(dtype="float64"):
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(9, 4)) * [1.0, 1e3, 1e-3, 7.0]).astype(dtype)
    return matrix, rng.normal(size=4), rng.normal(size=9)


def test_value_residual_and_gradient_equal_numpy():
    matrix, theta, target = problem()
    here = of_matrix(matrix, theta, target)
    residual = matrix @ theta - target
    norms = np.linalg.norm(matrix, axis=0)
    np.testing.assert_allclose(here.value, 0.5 * residual @ residual, rtol=1e-14)
    np.testing.assert_allclose(here.residual, residual, rtol=1e-12)
    np.testing.assert_allclose(here.scale, norms, rtol=1e-14)
    np.testing.assert_allclose(here.gradient, matrix.T @ residual / norms, rtol=1e-12)
    np.testing.assert_allclose(here.grad_norm, np.linalg.norm(matrix.T @ residual), rtol=1e-12)
    np.testing.assert_allclose(here.scaled_jacobian_t.T, matrix / norms, rtol=1e-13)
    np.testing.assert_allclose(here.gram, (matrix / norms).T @ (matrix / norms), rtol=1e-12, atol=1e-14)


def test_gradient_test_is_the_largest_cosine():
    matrix, theta, target = problem()
    residual = matrix @ theta - target
    cosines = matrix.T @ residual / np.linalg.norm(matrix, axis=0) / np.linalg.norm(residual)
    expected = np.abs(cosines).max()
    assert 0.1 < expected < 1
    np.testing.assert_allclose(of_matrix(matrix, theta, target).gradient_test, expected, rtol=1e-12)


def test_gradient_test_does_not_change_with_units():
    matrix, theta, target = problem()
    plain = of_matrix(matrix, theta, target).gradient_test
    units = np.array([1e-6, 1e4, 3.0, 1e9])
    other = of_matrix(1e7 * matrix * units, theta / units, 1e7 * target).gradient_test
    np.testing.assert_allclose(other, plain, rtol=1e-12)


def test_gradient_test_uses_the_norms_now_not_the_largest_seen():
    matrix, theta, target = problem()
    plain = of_matrix(matrix, theta, target).gradient_test
    seen = of_matrix(matrix, theta, target, largest=1e6 * np.linalg.norm(matrix, axis=0))
    np.testing.assert_allclose(seen.gradient_test, plain, rtol=1e-12)


def test_scale_is_the_largest_norm_seen():
    matrix, theta, target = problem()
    norms = np.linalg.norm(matrix, axis=0)
    seen = norms * [2.0, 0.5, 1.0, 3.0]
    here = of_matrix(matrix, theta, target, largest=seen)
    np.testing.assert_allclose(here.scale, np.maximum(norms, seen), rtol=1e-14)
    np.testing.assert_allclose(here.scaled_jacobian_t.T, matrix / np.maximum(norms, seen), rtol=1e-13)


def test_a_column_that_was_always_zero_has_scale_one():
    matrix, theta, target = problem()
    matrix[:, 1] = 0
    here = of_matrix(matrix, theta, target)
    assert here.scale[1] == 1
    assert here.gradient[1] == 0
    np.testing.assert_array_equal(here.gram[1], np.zeros(4))


def test_a_perfect_fit_has_no_gradient():
    matrix, _, _ = problem()
    here = of_matrix(matrix, np.zeros(4), np.zeros(9))
    assert here.gradient_test == 0
    assert here.value == 0


def test_without_gram_the_rest_is_the_same():
    matrix, theta, target = problem()
    with_gram, without = of_matrix(matrix, theta, target), of_matrix(matrix, theta, target, gram=False)
    assert without.gram is None
    np.testing.assert_allclose(without.scale, with_gram.scale, rtol=1e-15)
    np.testing.assert_allclose(without.gradient, with_gram.gradient, rtol=1e-14)
    np.testing.assert_allclose(without.gradient_test, with_gram.gradient_test, rtol=1e-14)


@pytest.mark.parametrize("gram", [True, False])
def test_float32_columns_of_extreme_units_neither_overflow_nor_vanish(gram):
    matrix, theta, target = problem("float32")
    units = np.array([1e30, 1e-30, 1.0, 1e20])
    theta = theta / units
    huge = (matrix.astype("float64") * units).astype("float32")
    here = of_matrix(huge, theta, target, gram=gram)
    exact = matrix.astype("float64")
    norms = np.linalg.norm(exact, axis=0)
    residual = exact @ (theta * units) - target
    np.testing.assert_allclose(here.scale.astype("float64") / units, norms, rtol=1e-5)
    np.testing.assert_allclose(here.scaled_jacobian_t.T, exact / norms, rtol=1e-5)
    np.testing.assert_allclose(here.gradient, (exact / norms).T @ residual, rtol=1e-3, atol=1e-4)
    cosine = np.abs((exact / norms).T @ residual).max() / np.linalg.norm(residual)
    np.testing.assert_allclose(here.gradient_test, cosine, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e25, 1e-25])
def test_grad_norm_of_float32_columns_of_extreme_units_is_right(unit):
    """BUG if it fails: its square overflows, and a gradient that is not finite ends the iteration."""
    matrix = np.array([[3.0, 0.0], [0.0, 4.0]]) * unit
    here = of_matrix(matrix.astype("float32"), np.zeros(2), -np.ones(2))
    np.testing.assert_allclose(here.grad_norm.astype("float64"), 5 * unit, rtol=1e-5)


def test_what_is_not_finite_stays_visible():
    matrix, theta, target = problem()
    matrix[0, 0] = np.nan
    assert np.isnan(of_matrix(matrix, theta, target).gradient[0])
