"""Quantiles of t and F against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxopt_study.fit.quantile import f_quantile, t_quantile

LEVELS = np.array([0.01, 0.1, 0.5, 0.6827, 0.9, 0.95, 0.99, 0.999, 0.9999])


@pytest.mark.parametrize("dof", [1, 2, 3, 7, 10, 30, 100, 1000, 1999, 2001, 1e4, 1e6, 1e9, np.inf])
def test_t_is_scipys(dof):
    expected = scipy.stats.t.ppf(0.5 + 0.5 * LEVELS, dof)
    np.testing.assert_allclose(t_quantile(LEVELS, dof), expected, rtol=1e-10)


@pytest.mark.parametrize("numerator", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("denominator", [1, 2, 7, 30, 300, 2000])
def test_f_is_scipys(numerator, denominator):
    expected = scipy.stats.f.ppf(LEVELS, numerator, denominator)
    np.testing.assert_allclose(f_quantile(LEVELS, numerator, denominator), expected, rtol=1e-10)


def test_without_degrees_of_freedom_it_is_nan():
    assert np.all(np.isnan(t_quantile(0.95, np.array([0.0, -2.0]))))


def test_it_maps_and_compiles(precision):
    dof = jnp.arange(1.0, 40.0)
    assert dof.dtype == precision
    got = jax.jit(jax.vmap(t_quantile, (None, 0)))(0.95, dof)
    rtol = 1e-10 if precision == "float64" else 1e-4
    np.testing.assert_allclose(got, scipy.stats.t.ppf(0.975, np.arange(1, 40)), rtol=rtol)
