"""Damped and undamped linear systems against `numpy.linalg`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.direct_solve import FEW_ROWS
from jaxopt_study.linear_solve import check_solver, damped_solver, undamped
from jaxopt_study.linearize import linearize

SOLVERS = ["auto", "cholesky", "qr"]


def linearized(matrix, target, gram=True):
    dtype = matrix.dtype
    objective = jos.LeastSquares(lambda p, a, b: a @ p - b)
    size = matrix.shape[1]
    args = (jnp.asarray(matrix), jnp.asarray(target, dtype))
    return linearize(objective, jnp.zeros(size, dtype), args, jnp.zeros(size, dtype), gram=gram)


def damped(matrix, target, damping, solver):
    def solve(matrix, target):
        return damped_solver(linearized(matrix, target), solver)(jnp.asarray(damping, matrix.dtype))

    return jax.jit(solve)(jnp.asarray(matrix), jnp.asarray(target))


def gauss_newton(matrix, target, solver):
    return jax.jit(lambda a, b: undamped(linearized(a, b), solver))(jnp.asarray(matrix), jnp.asarray(target))


def scaled(matrix):
    norms = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(norms > 0, norms, 1)


def stacked_lstsq(matrix, target, damping):
    """The oracle: minimize ‖Âe - b‖² + λ‖e‖² in the scaled columns Â, by LAPACK's SVD."""
    size = matrix.shape[1]
    whole = np.vstack([scaled(matrix), np.sqrt(damping) * np.eye(size)])
    return np.linalg.lstsq(whole, np.concatenate([target, np.zeros(size)]), rcond=None)[0]


def random_problem(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-4, 5, columns), rng.normal(size=rows)


def ill_conditioned(condition, rows=30, columns=8, seed=0):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(rows, columns)))
    v, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
    return u * np.logspace(0, -np.log10(condition), columns) @ v.T, rng.normal(size=rows)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("rows", "columns"), [(12, 5), (5, 5), (3, 5), (1, 4), (6, 1)])
def test_damped_systems_equal_the_normal_equations(rows, columns, solver):
    matrix, target = random_problem(rows, columns)
    for damping in (1e3, 1.0, 1e-4):
        direction = damped(matrix, target, damping, solver)
        a = scaled(matrix)
        expected = np.linalg.solve(a.T @ a + damping * np.eye(columns), a.T @ target)
        np.testing.assert_allclose(direction.step, expected, rtol=1e-9, atol=1e-11)
        assert bool(direction.orthogonal) == (solver == "qr")


@pytest.mark.parametrize("solver", SOLVERS)
def test_undamped_full_rank_systems_equal_lstsq(solver):
    matrix, target = random_problem(12, 5)
    direction = gauss_newton(matrix, target, solver)
    np.testing.assert_allclose(direction.step, np.linalg.lstsq(scaled(matrix), target)[0], rtol=1e-10)
    assert not direction.rank_deficient
    assert bool(direction.orthogonal) == (solver == "qr")


@pytest.mark.parametrize("solver", ["auto", "qr"])
@pytest.mark.parametrize("defect", ["wide", "zero column", "duplicate", "combination", "all zero"])
def test_undamped_rank_deficient_systems_get_the_minimum_norm_step(defect, solver):
    matrix, target = random_problem(3 if defect == "wide" else 9, 5, seed=4)
    if defect == "zero column":
        matrix[:, 2] = 0
    if defect == "duplicate":
        matrix[:, 3] = 17 * matrix[:, 0]
    if defect == "combination":
        matrix[:, 4] = matrix[:, 0] / np.linalg.norm(matrix[:, 0]) - matrix[:, 1] / np.linalg.norm(
            matrix[:, 1]
        )
    if defect == "all zero":
        matrix[:] = 0
    direction = gauss_newton(matrix, target, solver)
    expected = np.linalg.lstsq(scaled(matrix), target, rcond=1e-12)[0]
    np.testing.assert_allclose(direction.step, expected, rtol=1e-9, atol=1e-11)
    assert direction.rank_deficient
    assert direction.orthogonal


@pytest.mark.parametrize("rows", [FEW_ROWS // 8, FEW_ROWS // 4])  # by Gram and Schmidt, and by LAPACK
def test_long_systems_have_the_same_answer(rows):
    matrix, target = np.random.default_rng(0).normal(size=(rows, 4)), np.linspace(-1.0, 1.0, rows)
    found = damped(matrix, target, 1e-3, "qr")
    np.testing.assert_allclose(found.step, stacked_lstsq(matrix, target, 1e-3), rtol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_damping_does_not_hide_a_zero_column(damping, solver):
    matrix, target = random_problem(9, 5, seed=4)
    matrix[:, 2] = 0
    direction = damped(matrix, target, damping, solver)
    assert direction.rank_deficient
    assert direction.step[2] == 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_full_rank_is_not_called_deficient(damping, solver):
    assert not damped(*random_problem(12, 5), damping, solver).rank_deficient


def test_auto_falls_back_to_qr_where_cholesky_fails_and_says_so():
    size = 12  # Hilbert's matrix: condition 1e16, so that its Gram matrix has no Cholesky factor
    matrix = 1 / (np.arange(size)[:, None] + np.arange(size)[None, :] + 1)
    target = matrix @ np.ones(size)
    failed = damped(matrix, target, 1e-25, "cholesky")
    assert not np.all(np.isfinite(failed.step))
    saved = damped(matrix, target, 1e-25, "auto")
    assert saved.orthogonal
    fit = scaled(matrix) @ saved.step - target
    assert np.linalg.norm(fit) < 1e-13 * np.linalg.norm(target)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_ill_conditioned_damped_systems_keep_the_accuracy_of_the_problem(seed, solver):
    """What counts is how much of the model's possible decrease the step gives."""
    matrix, target = ill_conditioned(1e7, seed=seed)
    damping = 1e-16
    a = scaled(matrix)

    def model(e):
        return np.sum((a @ e - target) ** 2) + damping * np.sum(e**2)

    best, none = model(stacked_lstsq(matrix, target, damping)), model(np.zeros(a.shape[1]))
    assert model(np.asarray(damped(matrix, target, damping, solver).step)) <= best + 1e-3 * (none - best)


@pytest.mark.parametrize("columns", [8, 16, 17])  # by Gram and Schmidt, and by LAPACK
@pytest.mark.parametrize("seed", range(4))
def test_qr_is_accurate_where_the_gram_matrix_has_lost_half_the_digits(seed, columns):
    matrix, target = ill_conditioned(1e7, columns=columns, seed=seed)
    expected = stacked_lstsq(matrix, target, 1e-20)
    step = damped(matrix, target, 1e-20, "qr").step
    np.testing.assert_allclose(step, expected, rtol=1e-6, atol=1e-6 * np.linalg.norm(expected))


def test_undamped_auto_leaves_cholesky_before_its_digits_are_lost():
    matrix, target = ill_conditioned(1e9)
    direction = gauss_newton(matrix, target, "auto")
    expected = np.linalg.lstsq(scaled(matrix), target)[0]
    assert direction.orthogonal
    np.testing.assert_allclose(direction.step, expected, rtol=1e-5, atol=1e-5 * np.linalg.norm(expected))


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_systems_stay_float32_and_are_solved_to_its_precision(solver):
    matrix, target = random_problem(12, 5)
    for direction in (
        damped(matrix.astype("float32"), target.astype("float32"), 1e-2, solver),
        gauss_newton(matrix.astype("float32"), target.astype("float32"), solver),
    ):
        assert direction.step.dtype == jnp.float32
        assert np.all(np.isfinite(direction.step))
    expected = stacked_lstsq(matrix, target, 1e-2)
    step = damped(matrix.astype("float32"), target.astype("float32"), 1e-2, solver).step
    np.testing.assert_allclose(step, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_jacobian_that_is_not_finite_gives_a_step_that_is_not_finite(solver):
    matrix, target = random_problem(12, 5)
    matrix[3, 2] = np.nan
    assert not np.all(np.isfinite(damped(matrix, target, 1.0, solver).step))


def test_batched_systems_equal_single_ones():
    problems = [random_problem(6, 3, seed=s) for s in range(4)]
    problems[1][0][:, 2] = problems[1][0][:, 0]
    matrices, targets = (np.stack(part) for part in zip(*problems, strict=True))
    batch = jax.jit(jax.vmap(lambda a, b: undamped(linearized(a, b), "auto")))(matrices, targets)
    np.testing.assert_array_equal(batch.rank_deficient, [False, True, False, False])
    for step, (matrix, target) in zip(batch.step, problems, strict=True):
        np.testing.assert_allclose(step, np.linalg.lstsq(scaled(matrix), target, rcond=1e-12)[0], rtol=1e-9)


def test_unknown_solvers_are_named():
    with pytest.raises(ValueError, match=r"solver.*'lu'"):
        check_solver("lu")


def test_normal_equations_without_a_gram_matrix_are_refused():
    here = linearized(*random_problem(4, 2), gram=False)
    with pytest.raises(ValueError, match="gram=False"):
        undamped(here, "cholesky")
