"""Systems of few unknowns, solved directly, against 60 digits."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxopt_study.direct_solve import HANDFUL, cholesky_solve, gram_schmidt_solve

solve = jax.jit(gram_schmidt_solve)


def exact(matrix, target):
    """The solution of least squares, the squares of QR's diagonal, and `xᵀ(AᵀA)⁻¹x`."""
    with mpmath.workdps(60):
        a, b = mpmath.matrix(matrix.tolist()), mpmath.matrix(target.tolist())
        gram = a.T * a
        x = mpmath.lu_solve(gram, a.T * b)
        shortening = (x.T * mpmath.lu_solve(gram, x))[0]
        factor = mpmath.cholesky(gram)
        squares = [float(factor[i, i] ** 2) for i in range(gram.rows)]
        return np.array(x.tolist(), float)[:, 0], np.array(squares), float(shortening)


def system(condition, rows, columns, seed):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(rows, columns)))
    v, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
    matrix = u * np.logspace(0, -np.log10(condition), columns) @ v.T
    return matrix / np.linalg.norm(matrix, axis=0), rng


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (20, 5), (200, 5), (60, HANDFUL)])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e8])
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
def test_gram_and_schmidt_solve_as_accurately_as_householder(rows, columns, condition, noise):
    for seed in range(3):
        matrix, rng = system(condition, rows, columns, seed)
        target = matrix @ rng.normal(size=columns) + noise * rng.normal(size=rows)
        expected, squares, shortening = exact(matrix, target)
        found = solve(matrix, target)
        by_lapack = np.linalg.lstsq(matrix, target, rcond=None)[0]
        size = np.linalg.norm(expected)
        allowed = 20 * np.linalg.norm(by_lapack - expected) + 1e-15 * condition * size
        assert np.linalg.norm(found[0] - expected) <= allowed
        np.testing.assert_allclose(found[1], squares, rtol=1e-13 * condition)
        np.testing.assert_allclose(found[2], shortening, rtol=1e-13 * condition)


def parallel_pairs(apart, columns, seed):
    """Columns in pairs that are `apart`, in which products of inverses grow twice."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(20, columns)))
    first, second = q[:, 0], q @ rng.normal(size=columns)
    pairs = [first, first + apart * q[:, 1], second, second + apart * q[:, 3]]
    matrix = np.stack([*pairs, *q.T[4:]], axis=1)
    matrix /= np.linalg.norm(matrix, axis=0)
    return np.vstack([matrix, 1e-16 * np.eye(columns)]), np.append(rng.normal(size=20), np.zeros(columns))


@pytest.mark.parametrize("columns", [4, 8])
@pytest.mark.parametrize("apart", [1e-4, 1e-7, 1e-8])
def test_what_is_fitted_is_right_where_columns_are_nearly_parallel_in_pairs(apart, columns):
    for seed in range(4):
        matrix, target = parallel_pairs(apart, columns, seed)
        expected, *_ = exact(matrix, target)
        q, r = np.linalg.qr(matrix)
        of_householder, ours = (
            np.linalg.norm(matrix @ (x - expected))
            for x in (np.linalg.solve(r, q.T @ target), solve(matrix, target)[0])
        )
        assert ours <= 10 * of_householder + 1e-15 / apart


def test_systems_of_float32_whose_squares_it_cannot_hold():
    matrix, rng = system(1e2, 12, 4, 0)
    target = rng.normal(size=12)
    expected, _, shortening = exact(matrix, target)
    for size in (1e-25, 1e25):
        x, *_ = solve(matrix.astype("float32"), (size * target).astype("float32"))
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(x, float) / size, expected, rtol=1e-3)
    _, _, found = solve(matrix.astype("float32"), (1e-15 * target).astype("float32"))
    np.testing.assert_allclose(float(found) / 1e-30, shortening, rtol=1e-2)


def test_normal_equations_would_not_do():
    """What the tolerances above are worth."""
    matrix, rng = system(1e8, 20, 5, 0)
    target = matrix @ rng.normal(size=5)
    expected, *_ = exact(matrix, target)
    by_gram, *_ = cholesky_solve(jnp.asarray(matrix.T @ matrix), jnp.asarray(matrix.T @ target))
    by_schmidt, *_ = gram_schmidt_solve(jnp.asarray(matrix), jnp.asarray(target))
    error, small = (np.linalg.norm(x - expected) / np.linalg.norm(expected) for x in (by_gram, by_schmidt))
    assert not error < 1e-4
    assert small < 1e-6


def test_a_zero_column_is_no_number_and_touches_no_other_system_of_the_batch():
    matrix, rng = system(1e1, 6, 3, 0)
    without = matrix.copy()
    without[:, 2] = 0.0
    matrices = jnp.stack([jnp.asarray(matrix), jnp.asarray(without)])
    target = jnp.asarray(rng.normal(size=6))
    one, other = jax.vmap(gram_schmidt_solve, in_axes=(0, None))(matrices, target)[0]
    assert not np.all(np.isfinite(other))
    np.testing.assert_allclose(one, np.linalg.lstsq(matrix, np.asarray(target), rcond=None)[0], rtol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 8, 9, 20])  # up to 8 number by number
def test_positive_definite_systems_are_solved_and_measured(size):
    half = np.random.default_rng(size).normal(size=(2 * size, size))
    target = half.T @ np.ones(2 * size)
    solution, pivots, shortening = cholesky_solve(jnp.asarray(half.T @ half), jnp.asarray(target))
    expected, squares, expected_shortening = exact(half, np.ones(2 * size))
    np.testing.assert_allclose(solution, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(pivots, squares, rtol=1e-10)
    np.testing.assert_allclose(shortening, expected_shortening, rtol=1e-9)


def test_what_is_not_positive_definite_has_no_solution():
    assert not np.all(np.isfinite(cholesky_solve(jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.ones(2))[0]))
