"""The damping by the length of the step: the secular equation, the radius, and starts that are far off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos
from jaxopt_study.linear_solve import damped_solver
from jaxopt_study.linearize import linearize
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.step_length import TOLERANCE, fit_length, follow_length
from jaxopt_study.optimizers.trial import Trial
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, start

RNG = np.random.default_rng(3)
MATRIX = RNG.normal(size=(20, 6)) @ np.diag(10.0 ** np.arange(0, -6, -1)) @ RNG.normal(size=(6, 6))
TARGET = RNG.normal(size=20)


def _linear():
    objective = LeastSquares(lambda x: jnp.asarray(MATRIX) @ x - TARGET)
    return linearize(objective, jnp.zeros(6), (), jnp.zeros(6))


def _by_eigenvalues(radius):
    """λ and ‖e‖ of the trust region's step, from eigenvalues and a root finder."""
    scaled = MATRIX / np.linalg.norm(MATRIX, axis=0)
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    slope = vectors.T @ (scaled.T @ -TARGET)

    def length(damping):
        return np.linalg.norm(slope / (values + damping))

    if length(0.0) <= radius:
        return 0.0, length(0.0)
    root = scipy.optimize.brentq(lambda t: np.log(length(np.exp(t)) / radius), -40.0, 40.0, xtol=1e-12)
    return np.exp(root), radius


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cholesky", "qr", "dual"])
def test_the_step_is_as_long_as_the_radius_to_a_tenth(solver):
    here = _linear()
    solve = damped_solver(here, solver)

    @jax.jit
    def fit(radius, guess):
        return fit_length(lambda damping: (solve(damping), None), here.gradient, radius, guess)

    for radius in (1e-3, 0.1, 1.0, 10.0):
        damping, length = _by_eigenvalues(radius)
        for guess in (0.0, 1e-12, damping, 1e3 * damping):
            fitted = fit(radius, guess)
            np.testing.assert_allclose(jnp.linalg.norm(fitted.direction.step), length, rtol=TOLERANCE)
            # ‖e‖ falls as λ⁻¹ at the most, and as a small power where few directions are left to shorten.
            assert abs(np.log(fitted.damping / damping)) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cholesky", "qr", "dual"])
def test_shortening_is_the_derivative_of_the_squared_length(solver):
    solve = damped_solver(_linear(), solver)

    def half_square(damping):
        return -0.5 * jnp.sum(solve(damping).step ** 2)

    for damping in map(jnp.asarray, (1e-3, 0.1, 10.0)):
        slope = (half_square(damping * 1.0001) - half_square(damping * 0.9999)) / (0.0002 * damping)
        np.testing.assert_allclose(solve(damping).shortening, slope, rtol=1e-5)


def test_without_a_radius_the_step_is_that_of_gauss_and_newton():
    here = _linear()
    solve = damped_solver(here, "qr")
    far, nothing = jnp.array(jnp.inf), jnp.array(0.0)
    fitted = fit_length(lambda damping: (solve(damping), None), here.gradient, far, nothing)
    expected = np.linalg.lstsq(MATRIX, TARGET, rcond=None)[0]
    np.testing.assert_allclose(fitted.direction.step / here.scale, expected, rtol=1e-6)


def _trial(gain, damping=0.5, length=2.0, predicted=3.0):
    number = jnp.asarray
    return Trial(
        step=jnp.zeros(1),
        value=number(0.0),
        actual=number(gain * predicted),
        predicted=number(predicted),
        step_norm=number(length),
        rank_deficient=number(False),
        orthogonal=number(False),
        damping=number(damping),
    )


@pytest.mark.parametrize(
    ("gain", "accepted", "radius"),
    [
        (0.9, True, 4.0),  # good: twice the step
        (0.5, True, 2.1),  # neither
        (0.1, True, 1.05),  # poor: half the radius, as it fell
        (-1.0, False, 2.1 * 0.5 * 4.0 / (4.0 + 3.0)),  # where the parabola has its minimum; -gᵀe = 2·3 - ½·4
        (-100.0, False, 0.21),  # a tenth at the least
    ],
)
def test_the_radius_follows_the_gain(gain, accepted, radius):
    control = follow_length(jnp.array([2.1, 0.5]), jnp.array(accepted), jnp.array(gain), _trial(gain))
    np.testing.assert_allclose(control[0], radius, rtol=1e-12)
    # λ to begin with goes the other way.
    assert (control[1] < 0.5) == (radius > 2.1)
    assert (control[1] > 0.5) == (radius < 2.1)


@pytest.mark.slow
def test_a_saturated_exponential_is_not_run_into():
    # BoxBOD of NIST, of Box, Hunter and Hunter 1978: a step that is too long makes exp(-k x) zero for good.
    x = jnp.array([1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
    y = jnp.array([109.0, 149.0, 149.0, 191.0, 213.0, 224.0])
    for begin in ([1.0, 1.0], [100.0, 0.75]):
        result = jos.least_squares(lambda p: p[0] * (1 - jnp.exp(-p[1] * x)) - y, jnp.array(begin))
        assert result.converged
        np.testing.assert_allclose(result.params, [213.80940889, 0.54723748542], rtol=1e-7)


@pytest.mark.parametrize("factor", [1.0, 10.0, 100.0])
def test_the_columns_of_meyers_problem_may_shrink_by_fifty_orders(factor):
    problem = NONLINEAR_LEAST_SQUARES["meyer"]()
    result = jos.least_squares(problem.objective, start(problem, factor), problem.data)
    assert result.converged
    # NIST's certified values of MGH10, for the same data.
    expected = [5.6096364710e-3, 6.1813463463e3, 3.4522363462e2]
    found = np.asarray(result.params)
    np.testing.assert_allclose(found / expected, 1.0, rtol=1e-7)


@pytest.mark.slow
def test_without_matrices_it_is_nielsens_rule():
    residual = lambda p: jnp.stack([p[0] - 1.0, 10 * (p[1] - p[0] ** 2)])  # noqa: E731
    found = [
        jos.least_squares(
            residual,
            jnp.array([-1.2, 1.0]),
            optimizer=jos.levenberg_marquardt(damping_rule=rule, solver="cg"),
        )
        for rule in ("radius", "nielsen")
    ]
    np.testing.assert_array_equal(found[0].params, found[1].params)
    assert found[0].num_evals == found[1].num_evals
