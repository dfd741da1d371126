"""Deviance residuals, against SciPy's likelihood and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import poisson

from jaxopt_study.deviance import poisson_deviance_residual

COUNTS = np.array([0.0, 1.0, 3.0, 10.0, 500.0])
MEANS = np.array([0.2, 1.0, 3.0001, 7.0, 510.0])


def test_half_its_square_is_the_likelihood_ratio_to_a_model_that_meets_every_count():
    mu, y = MEANS[:, None], COUNTS[None, :]
    residual = poisson_deviance_residual(jnp.asarray(mu), jnp.asarray(y))
    expected = poisson.logpmf(y, y) - poisson.logpmf(y, mu)
    np.testing.assert_allclose(0.5 * residual**2, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(np.sign(residual), np.sign(mu - y))


def test_where_data_and_model_agree_it_is_zero_and_its_slope_that_of_fisher():
    y = jnp.array([1.0, 10.0, 500.0])
    residual, slope = jax.jvp(lambda mu: poisson_deviance_residual(mu, y), (y,), (jnp.ones(3),))
    np.testing.assert_array_equal(residual, 0.0)
    np.testing.assert_allclose(slope, 1 / np.sqrt(y), rtol=1e-14)


def test_its_slope_is_a_finite_difference_everywhere_and_there_is_no_seam():
    y = jnp.asarray(COUNTS)
    for mu in (0.3, 2.97, 3.0, 10.4999, 10.5001, 600.0):
        step = 1e-6 * mu

        def at(m):
            return poisson_deviance_residual(jnp.full(5, m), y)

        _, slope = jax.jvp(lambda m: poisson_deviance_residual(m, y), (jnp.full(5, mu),), (jnp.ones(5),))
        np.testing.assert_allclose(slope, (at(mu + step) - at(mu - step)) / (2 * step), rtol=1e-6)


def test_in_float32_it_keeps_its_digits_near_agreement():
    y = np.array([10.0, 100.0, 500.0])
    mu = y * 1.001
    exact = poisson_deviance_residual(jnp.asarray(mu), jnp.asarray(y))
    single = poisson_deviance_residual(jnp.asarray(mu, jnp.float32), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(single, exact, rtol=1e-3)


def test_means_that_cannot_be_are_nan():
    assert np.all(np.isnan(poisson_deviance_residual(jnp.array([-1.0, 0.0]), jnp.array([0.0, 2.0]))))
