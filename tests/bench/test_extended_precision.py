"""Functions in 50 digits are the functions, and their Jacobians are the Jacobians."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxopt_study.bench.extended_precision import extended, fifty_digits, jacobian
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS

MAKE = {**NONLINEAR_LEAST_SQUARES, **OTHERS}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_every_problem_of_the_collection_is_made_of_known_operations(name):
    problem = MAKE[name]()
    x = np.asarray(problem.init) * 0.9 + 0.05
    exact = extended(problem.objective.residual, problem.init, *problem.data)(x, *problem.data)
    with jax.disable_jit():
        rounded = problem.objective.residual(jnp.asarray(x), *problem.data)
    np.testing.assert_allclose(exact.astype(float), rounded, rtol=1e-12, atol=1e-12 * np.abs(rounded).max())


def test_digits_beyond_float64_are_right():
    fn = lambda x: jnp.stack([jnp.sin(x[0]) * jnp.exp(x[1]), jnp.where(x[0] > x[1], x[0] / x[1], 0.0)])  # noqa: E731
    x = [1.0, 3.0]
    with fifty_digits():
        value, slopes = extended(fn, jnp.zeros(2))(x), jacobian(extended(fn, jnp.zeros(2)), x)
        wave = mpmath.sin(1) * mpmath.exp(3)
        assert abs(value[0] - wave) < mpmath.mpf(10) ** -45
        assert value[1] == 0
        assert abs(slopes[0, 1] - wave) < mpmath.mpf(10) ** -28
        third = extended(lambda x: x / 3.0, 1.0)(1.0)[()]
        assert abs(3 * third - 1) < mpmath.mpf(10) ** -49


def test_terms_that_cancel_in_float64_do_not_here():
    assert float(extended(lambda x: (1.0 + x) - 1.0, 1.0)(1e-30)[()]) == pytest.approx(1e-30, rel=1e-15)


def test_an_operation_that_is_not_known_is_named():
    with pytest.raises(NotImplementedError, match="erf"):
        extended(jax.scipy.special.erf, 1.0)(1.0)
