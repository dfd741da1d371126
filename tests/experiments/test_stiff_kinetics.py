"""Robertson's rates are recovered from data over seven decades of time."""

import jax
import numpy as np
import pytest

from jaxopt_study.result import is_converged


@pytest.mark.slow
def test_rates_a_decade_off_are_recovered_within_their_errors(load, run):
    loaded, configs = load("stiff_kinetics")
    config = configs["stiff_kinetics"]
    assert config.last_time / config.first_time > 0.99e7
    with jax.numpy_rank_promotion("allow"):  # diffrax's own loop adds (3,) to (16, 3)
        outcome = run(loaded, config)
    assert is_converged(outcome.status)
    for name, rate in zip(("k1", "k2", "k3"), config.rates, strict=True):
        error = outcome.values[f"{name}_relative_error"]
        assert error < 0.03
        assert abs(np.log(outcome.values[name] / rate)) < 3 * error
        assert outcome.values[f"{name}_lower"] < rate < outcome.values[f"{name}_upper"]
    np.testing.assert_allclose(outcome.values["noise"], config.noise, rtol=0.25)
