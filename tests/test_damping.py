"""The damping rules against their closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study import damping


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_nielsen_accepts_by_the_cubic_of_the_gain_ratio(ratio):
    after = damping.accept(damping.Damping(jnp.array(6.0), jnp.array(32.0)), jnp.array(ratio))
    np.testing.assert_allclose(after.value, 6 * max(1 / 10, 1 - (2 * ratio - 1) ** 3), rtol=1e-15)
    assert after.growth == 2


@pytest.mark.parametrize(("ratio", "factor"), [(17.0, 1 / 10), (-1.0, 2.0), (np.inf, 1 / 10)])
def test_gain_ratios_outside_the_unit_interval_count_as_its_ends(ratio, factor):
    after = damping.accept(damping.start(jnp.array(1.0)), jnp.array(ratio))
    np.testing.assert_allclose(after.value, factor, rtol=1e-15)


def test_nielsen_rejects_ever_more_strongly():
    now, values = damping.start(jnp.array(1.0)), []
    for _ in range(5):
        now = damping.reject(now)
        values.append(float(now.value))
    np.testing.assert_array_equal(values, [2, 8, 64, 1024, 32768])  # 2, then 4, 8, 16, 32 times as large


def test_delayed_gratification_has_two_constant_factors():
    now = damping.start(jnp.array(1.0))
    for _ in range(3):
        now = damping.reject(now, "delayed")
    np.testing.assert_allclose(now.value, 1.5**3, rtol=1e-15)
    np.testing.assert_allclose(damping.accept(now, jnp.array(0.1), "delayed").value, 1.5**3 / 5, rtol=1e-15)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match=r"damping_rule.*'marquardt'"):
        damping.check_rule("marquardt")


def test_a_rejection_raises_a_damping_of_zero_to_the_least():
    assert damping.reject(damping.start(jnp.zeros(())), at_least=0.25).value == 0.25
    assert damping.reject(damping.start(jnp.ones(())), at_least=0.25).value == 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_damping_never_becomes_zero_by_acceptance(dtype):
    now = damping.start(jnp.asarray(1e-6, dtype))
    for _ in range(200):
        now = damping.accept(now, jnp.asarray(1.0, dtype))
    assert now.value.dtype == dtype
    assert 0 < now.value <= np.finfo(dtype).eps


@pytest.mark.parametrize(
    ("actual", "predicted", "ratio"),
    [
        (1.0, 2.0, 0.5),
        (-3.0, 1.0, -3.0),
        (np.nan, 1.0, -1.0),
        (-np.inf, 1.0, -1.0),
        (1.0, 0.0, -1.0),
        (1.0, np.nan, -1.0),
    ],
)
def test_gain_ratio_is_minus_one_where_it_is_not_a_number(actual, predicted, ratio):
    assert damping.gain_ratio(jnp.array(actual), jnp.array(predicted)) == ratio


@pytest.mark.parametrize(
    ("actual", "at_rounding", "taken"),
    [
        (1e-9, False, True),  # any decrease that can be seen
        (1e-9, True, True),
        (0.0, False, False),
        (-1e-9, False, False),
        (0.0, True, True),  # lost in the rounding of the value: the sign means nothing
        (-1e-16, True, True),
        (-1e-12, True, False),
        (np.nan, False, False),
        (np.nan, True, False),
        (-np.inf, False, False),
        (np.inf, False, False),  # down to minus infinity
    ],
)
def test_is_decrease_takes_what_falls_or_is_lost_in_rounding(actual, at_rounding, taken):
    assert damping.is_decrease(jnp.array(actual), jnp.array(at_rounding), jnp.array(1e-15)) == taken
