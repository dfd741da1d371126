"""The roots by minimizing the square, the maps, and the fractal, against loops in plain Python."""

import numpy as np
import pytest

from jaxopt_study.result import Status

ROOTS = 3 - 5**0.5, 3 + 5**0.5


@pytest.mark.slow
@pytest.mark.parametrize("label", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "newton"])
def test_every_method_finds_both_roots_to_four_decimals(label, load, run, recorded):
    loaded, configs = load("quadratic_roots")
    outcome = run(loaded, configs[label])
    assert (outcome.status == Status.TARGET_REACHED).all()
    assert list(np.round(outcome.values["root"], 4)) == [0.7639, 5.2361]
    np.testing.assert_allclose(outcome.values["root"], ROOTS, atol=5e-6)
    said = loaded.summary({label: recorded(configs[label], outcome)})
    assert list(said.values()) == [0.7639, 5.2361]


def descend(x, rate, momentum, max_steps):
    """Gradient descent by hand: how many steps, and the end."""
    trace = 0.0
    for step in range(max_steps + 1):
        f = x * x - 6 * x + 4
        if f * f <= 1e-10:
            return step, x
        trace = 2 * f * (2 * x - 6) + momentum * trace
        x -= rate * trace
        if not abs(x) < 1e50:
            break
    return np.nan, x


@pytest.mark.parametrize("label", ["sgd", "momentum"])
def test_the_maps_are_those_of_a_loop_in_python(label, load, run):
    loaded, configs = load("quadratic_roots_map", size=8, max_steps=300, learning_rates=(1e-4, 1e-2))
    config = configs[label]
    outcome = run(loaded, config)
    momentum = 0.9 if label == "momentum" else 0.0
    starts, rates = loaded.plot.__globals__["axes_of"](config)
    expected = [[descend(x, rate, momentum, 300) for x in starts] for rate in rates]
    steps = np.array(expected)[:, :, 0]
    assert np.isfinite(steps).any()
    np.testing.assert_array_equal(outcome.traces["steps"], steps)
    sides = np.where(np.isnan(steps), 0, np.where(np.array(expected)[:, :, 1] < 3, -1, 1))
    np.testing.assert_array_equal(outcome.traces["root"], sides)
    np.testing.assert_array_equal(outcome.status == Status.TARGET_REACHED, np.isfinite(steps).all(axis=1))


def test_the_summary_of_the_maps_answers_from_the_maps(load, run, recorded):
    loaded, configs = load("quadratic_roots_map", size=8, max_steps=200)
    config = configs["newton"]
    outcome = run(loaded, config)
    said = loaded.summary({"newton": recorded(config, outcome)})
    assert said["newton_arrives_percent"] == 100 * np.mean(outcome.traces["root"] != 0)
    assert said["newton_arrives_percent"] == 100
    span = loaded.plot.__globals__["span"]
    rates = np.arange(1.0, 8.0)
    assert span(rates, np.array([1, 1, 0, 1, 1, 1, 0], bool)) == "4.0e+00 to 6.0e+00"
    assert span(rates, np.zeros(7, bool)) == "none"


def test_the_fractal_is_that_of_complex_arithmetic(load, run):
    loaded, configs = load("newton_fractal", size=12)
    outcome = run(loaded, configs["plain_newton"])
    along = np.linspace(-1.5, 1.5, 12)
    z = along[None, :] + 1j * along[:, None]
    for _ in range(60):
        z = z - (z**3 - 1) / (3 * z**2)
    roots = np.exp(2j * np.pi * np.arange(3) / 3)
    np.testing.assert_array_equal(outcome.traces["root"], np.argmin(np.abs(z[:, :, None] - roots), axis=-1))


@pytest.mark.slow
def test_in_a_trust_region_every_point_reaches_a_root(load, run):
    loaded, configs = load("newton_fractal", size=15)  # the middle is 0, where the derivative is zero
    outcome = run(loaded, configs["trust_region"])
    assert (outcome.traces["root"] >= 0).all()
    assert (outcome.status == Status.STEP_CONVERGED).all()
