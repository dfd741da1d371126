"""The published derivative, the difference's error, and a small measurement of what towers cost."""

import numpy as np
import pytest

from jaxopt_study import study

SMALL = {"measured": (2, 4), "points": 10, "budget": 60.0}


@pytest.fixture(scope="module")
def outcome(load, run):
    loaded, configs = load("tanh_derivatives", **SMALL)
    return run(loaded, configs["tanh"])


@pytest.mark.slow
def test_the_derivative_at_1_is_the_published_one_and_the_difference_has_six_digits(outcome):
    assert outcome.value == outcome.values["derivative"] == pytest.approx(0.39322386648296376, rel=1e-15)
    assert f"{outcome.values['difference']:.6f}" == "0.393223"


@pytest.mark.slow
def test_the_rows_are_those_of_tanh_of_half_the_argument(outcome):
    assert outcome.values["difference_from_tanh"] < 1e-12
    y = outcome.traces["y"]
    tanh = np.tanh(y / 2)
    closed = [tanh, (1 - tanh**2) / 2, -tanh * (1 - tanh**2) / 2, (1 - tanh**2) * (3 * tanh**2 - 1) / 4]
    for k, row in enumerate(closed):
        np.testing.assert_allclose(outcome.traces[f"derivative_{k}"], row, atol=1e-13)
    assert {f"derivative_{k}" for k in range(7)} < set(outcome.traces)
    assert (y[0], y[-1]) == (-7, 7)


def test_every_way_is_measured_at_every_order_within_the_budget(outcome, load, recorded):
    loaded, configs = load("tanh_derivatives", **SMALL)
    for way in ("grad", "jvp", "taylor"):
        assert (outcome.values[f"{way}_compile"] > 0).all()
        assert (outcome.values[f"{way}_run"] > 0).all()
    said = loaded.summary({"tanh": recorded(configs["tanh"], outcome)})
    ratio = outcome.values["grad_compile"][1] / outcome.values["taylor_compile"][1]
    assert said["tanh: compile time of order 4, nested grad over Taylor mode"] == ratio


def test_the_three_ways_that_are_measured_are_the_same_derivatives(load):
    loaded, _ = load("tanh_derivatives")
    names, y = loaded.run.__globals__, np.linspace(-2, 2, 5)
    rows = [names[way](4)(y) for way in ("nested_grad", "nested_jvp", "taylor_mode")]
    np.testing.assert_allclose(rows[1:], [rows[0]] * 2, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_a_way_beyond_the_budget_is_not_taken_further(load, run):
    loaded, configs = load("tanh_derivatives", measured=(1, 2), points=10, budget=0.0)
    values = run(loaded, configs["tanh"]).values
    assert np.isfinite(values["taylor_compile"]).tolist() == [True, False]


def test_orders_that_do_not_rise_are_refused(load, run):
    loaded, configs = load("tanh_derivatives", measured=(3, 2))
    with pytest.raises(
        study.StudyInputError, match=r"config\.measured: expected rising orders, got \(3, 2\)"
    ):
        run(loaded, configs["tanh"])
