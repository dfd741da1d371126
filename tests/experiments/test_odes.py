"""The studies of ODEs against closed forms and the figures that they are known by."""

import numpy as np
import pytest


@pytest.mark.slow
def test_the_sine_is_the_sine_and_its_derivatives_are_those_on_paper(load, run):
    loaded, configs = load("sine_ode")
    outcome = run(loaded, configs["tsit5"])
    np.testing.assert_allclose(outcome.values["sine"], 0.479425538604203, rtol=1e-11)
    np.testing.assert_allclose(outcome.values["cosine"], 0.877582561890373, rtol=1e-11)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(
            outcome.values[f"slope_{mode}"], outcome.values["slope_on_paper"], rtol=1e-9
        )


@pytest.mark.slow
def test_a_linear_flow_is_learned_down_to_the_noise_by_every_way(load, run):
    loaded, configs = load("linear_flow")
    ends = {}
    for label, config in configs.items():
        outcome = run(loaded, config)
        losses = outcome.traces["loss"]
        assert 0.7 < losses[0] < 1.4
        assert outcome.value < 0.007
        ends[label] = outcome.values["W"]
    assert np.abs(ends["gauss_newton"] - np.log(2) * np.eye(2)).max() < 0.05
    np.testing.assert_allclose(ends["continuous_adjoint"], ends["gauss_newton"], atol=1e-5)
    np.testing.assert_allclose(ends["discrete_adjoint"], ends["gauss_newton"], atol=1e-5)
    steps = run(loaded, configs["gauss_newton"]).num_steps
    assert steps <= 8


@pytest.mark.slow
def test_levenberg_marquardt_gets_below_two_thousand_steps_of_rmsprop(load, run):
    loaded, configs = load("spiral")
    slow = run(loaded, configs["rmsprop"])
    fast = run(loaded, configs["levenberg_marquardt"])
    assert slow.value < 0.02 * slow.traces["loss"][0]
    assert fast.value < slow.value
