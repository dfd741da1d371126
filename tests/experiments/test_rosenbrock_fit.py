"""The five methods take the published number of steps to the published values."""

import numpy as np
import pytest

from jaxopt_study.result import Status

CHUNKS = {"1": [1] * 583, "7": [7] * 84, "1000": [1000]}


@pytest.fixture(scope="module")
def outcomes(load, run):
    loaded, configs = load("rosenbrock_fit")
    return {label: run(loaded, config) for label, config in configs.items()}


@pytest.mark.slow
def test_every_method_reaches_the_solution_from_the_published_first_loss(outcomes):
    for outcome in outcomes.values():
        assert outcome.status == Status.TARGET_REACHED
        assert outcome.traces["loss"][0] == pytest.approx(3868.2291666666665, rel=1e-15)
        assert outcome.traces["loss"][outcome.num_steps] == outcome.value <= 1e-10
        np.testing.assert_allclose([outcome.values["a"], outcome.values["b"]], 2.5, atol=5e-6, rtol=0)


@pytest.mark.slow
def test_gradient_descent_takes_582_steps_to_nine_digits_of_the_published_value(outcomes):
    outcome = outcomes["gradient_descent"]
    assert outcome.num_steps == 582
    assert f"{outcome.value:.8e}" == "9.69853101e-11"


@pytest.mark.slow
def test_adam_takes_317_steps(outcomes):
    assert outcomes["adam"].num_steps == 317
    assert outcomes["adam"].value == pytest.approx(2.4e-12, rel=0.02)


def test_newton_takes_6_steps_and_gauss_newton_4(outcomes):
    assert outcomes["newton"].num_steps == 6
    assert outcomes["newton"].value < 1e-19
    assert outcomes["gauss_newton"].num_steps == 4
    assert outcomes["gauss_newton"].value < 1e-16


def test_levenberg_marquardt_is_near_gauss_newton(outcomes):
    assert outcomes["levenberg_marquardt"].num_steps <= 6


def test_the_loss_of_the_picture_is_the_loss_that_is_minimized(outcomes, load):
    loaded, _ = load("rosenbrock_fit")
    traces = outcomes["adam"].traces
    of_picture = loaded.plot.__globals__["loss"]
    taken = slice(0, 318)
    np.testing.assert_allclose(
        of_picture(traces["a"][taken], traces["b"][taken], (2.5, 2.5)), traces["loss"][taken], rtol=1e-6
    )


@pytest.mark.parametrize("label", ["gradient_descent", "levenberg_marquardt"])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks_change_no_bit(label, chunks, load, run, outcomes):
    loaded, configs = load("rosenbrock_fit")
    again = run(loaded, configs[label], chunks)
    for name, array in outcomes[label].traces.items():
        np.testing.assert_array_equal(again.traces[name], array)
    assert (again.status, again.num_steps) == (outcomes[label].status, outcomes[label].num_steps)


def test_a_start_that_is_not_finite_ends_so_and_can_be_drawn(load, run, recorded):
    loaded, configs = load("rosenbrock_fit", start=(np.nan, 5.0), max_steps=10)
    config = configs["gradient_descent"]
    outcome = run(loaded, config)
    assert (outcome.status, outcome.num_steps) == (Status.NON_FINITE_START, 0)
    assert set(loaded.plot({"gradient_descent": recorded(config, outcome)})) == {"paths", "loss"}
