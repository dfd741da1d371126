"""Factorizations written as loops against LAPACK's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.one_kernel import factorizations

SHAPES = [(5, 3), (3, 5), (4, 4), (1, 1), (6, 1), (38, 5)]


def _matrix(kind: str, shape: tuple[int, int]) -> np.ndarray:
    matrix = np.random.default_rng(0).normal(size=shape)
    if kind == "zero column":
        matrix[:, 0] = 0
    if kind == "equal columns":
        matrix[:, -1] = matrix[:, 0]
    return {"tiny": 1e-180 * matrix, "huge": 1e180 * matrix, "unit": np.eye(*shape)}.get(kind, matrix)


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["any", "zero column", "tiny", "huge", "equal columns", "unit"])
def test_q_is_orthogonal_and_qr_is_the_matrix_with_lapacks_signs(kind, shape, full):
    matrix = _matrix(kind, shape)
    q, r = factorizations.qr(jnp.asarray(matrix), full_matrices=full)
    expected_q, expected_r = np.linalg.qr(matrix, mode="complete" if full else "reduced")
    size = np.abs(matrix).max() or 1.0
    assert q.shape == expected_q.shape
    np.testing.assert_allclose(q.T @ q, np.eye(q.shape[1]), atol=1e-14)
    np.testing.assert_allclose((q @ r) / size, matrix / size, atol=3e-15 * max(shape))
    if kind not in ("equal columns", "zero column"):
        np.testing.assert_allclose(r / size, expected_r / size, atol=1e-14 * max(shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["any", "zero column", "tiny", "huge", "unit"])
def test_lu_exchanges_the_rows_that_lapack_does(kind, shape):
    matrix = jnp.asarray(_matrix(kind, shape))
    found = factorizations.lu(matrix)
    factors, pivots, permutation = jax.lax.linalg.lu(matrix)
    size = jnp.max(jnp.abs(matrix))
    np.testing.assert_allclose(found[0] / size, factors / size, atol=1e-14)
    np.testing.assert_array_equal(found[1], pivots)
    np.testing.assert_array_equal(found[2], permutation)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_cholesky_is_lapacks_and_reads_the_lower_triangle_alone(size):
    half = np.random.default_rng(1).normal(size=(size, size))
    matrix = half @ half.T + 0.1 * np.eye(size)
    lower = jnp.asarray(np.tril(matrix) + np.triu(np.full((size, size), np.nan), 1))
    np.testing.assert_allclose(
        factorizations.cholesky(lower), np.linalg.cholesky(matrix), rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("matrix", [[[-1.0]], [[1.0, 2.0], [2.0, 1.0]], [[jnp.nan, 0.0], [0.0, 1.0]]])
def test_a_factor_that_does_not_exist_is_nan(matrix):
    assert np.isnan(np.diag(factorizations.cholesky(jnp.asarray(matrix)))[-1])


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit_diagonal", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (7, 3)])
def test_a_triangle_is_solved_as_in_lapack(shape, lower, unit_diagonal):
    matrix, target = np.random.default_rng(2).normal(size=(2, max(shape), max(shape)))
    matrix, target = jnp.asarray(matrix + 3 * np.eye(max(shape)))[: shape[0], : shape[0]], jnp.asarray(target)
    target = target[: shape[0], : shape[1]]
    expected = jax.lax.linalg.triangular_solve(
        matrix, target, left_side=True, lower=lower, unit_diagonal=unit_diagonal
    )
    found = factorizations.triangular_solve(matrix, target, lower=lower, unit_diagonal=unit_diagonal)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
