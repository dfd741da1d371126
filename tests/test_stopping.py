"""The tests that end an iteration, on numbers around their edges."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study import stopping


@pytest.mark.parametrize(
    ("actual", "predicted", "ends"),
    [(0.9e-3, 0.9e-3, True), (1.1e-3, 0.9e-3, False), (0.9e-3, 1.1e-3, False), (-0.9e-3, 0.0, True)],
)
def test_value_test_wants_both_reductions_small_beside_the_value(actual, predicted, ends):
    for unit in (1.0, 1e-30, 1e20, -1.0):
        assert (
            stopping.value_test(
                jnp.array(actual * abs(unit)), jnp.array(predicted * abs(unit)), jnp.array(unit), 1e-3
            )
            == ends
        )


@pytest.mark.parametrize(("length", "ends"), [(0.9e-3, True), (1.1e-3, False)])
def test_step_test_is_relative_to_the_parameters(length, ends):
    for unit in (1.0, 1e-30, 1e20):
        assert stopping.step_test(jnp.array(length * unit), jnp.array(unit), 1e-3) == ends


@pytest.mark.parametrize(("measure", "ends"), [(1e-3, True), (1.1e-3, False), (np.nan, False)])
def test_gradient_test_compares_with_gtol(measure, ends):
    assert stopping.gradient_test(jnp.array(measure), 1e-3) == ends


def test_a_tolerance_of_zero_disables_its_test_even_where_the_measure_is_zero():
    zero = jnp.zeros(())
    assert not stopping.value_test(zero, zero, zero, 0.0)
    assert not stopping.step_test(zero, zero, 0.0)
    assert not stopping.gradient_test(zero, 0.0)


def test_numbers_that_are_not_numbers_end_nothing():
    nan, one = jnp.array(jnp.nan), jnp.ones(())
    assert not stopping.value_test(nan, one, one, 1.0)
    assert not stopping.value_test(one, nan, one, 1.0)
    assert not stopping.step_test(nan, one, 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_default_tolerances_follow_the_dtype(dtype):
    eps = float(np.finfo(dtype).eps)
    defaults = stopping.default_tolerances(dtype)
    np.testing.assert_allclose(defaults.ftol, eps**0.9, rtol=1e-6)
    np.testing.assert_allclose([defaults.xtol, defaults.gtol], eps**0.625, rtol=1e-6)
    assert defaults.target is None
