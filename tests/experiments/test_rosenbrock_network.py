"""The race of Levenberg-Marquardt and Adam: a small one in detail, the whole one marked slow."""

import jax
import numpy as np
import pytest

from jaxopt_study.result import Status

SMALL = {"starts": 2, "max_steps": 20, "validate_every": 6, "points": 60}
CHUNKS = {"1": [1] * 20, "7": [7] * 3, "1000": [1000]}


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, tuple(one), tuple(other))


@pytest.fixture(scope="module")
def small(load, run):
    loaded, configs = load("rosenbrock_network", **SMALL)
    return {label: run(loaded, config) for label, config in configs.items()}


@pytest.mark.slow
def test_both_methods_begin_at_the_same_losses_and_end_by_steps_alone(small):
    adam, lm = small["adam"], small["levenberg_marquardt"]
    for name in ("training", "validation"):
        np.testing.assert_allclose(adam.traces[name][:, 0], lm.traces[name][:, 0], rtol=1e-13)
    for outcome in (adam, lm):
        assert outcome.status.tolist() == [Status.OUT_OF_STEPS] * 2
        assert outcome.num_steps.tolist() == [20] * 2
        assert (outcome.value < outcome.traces["training"][:, 0]).all()
    assert (lm.value < 0.5 * adam.value).all()


@pytest.mark.slow
def test_validation_is_measured_every_so_many_steps_and_at_the_end(small):
    for outcome in small.values():
        measured = np.isfinite(outcome.traces["validation"])
        assert np.flatnonzero(measured[0]).tolist() == [0, 6, 12, 18, 20]
        assert (measured[0] == measured[1]).all()
        np.testing.assert_allclose(
            outcome.traces["validation"][:, -1], outcome.values["validation"], rtol=1e-13
        )
        assert np.isfinite(outcome.traces["training"]).all()


def test_the_losses_are_those_of_the_same_network_in_numpy(load):
    loaded, configs = load("rosenbrock_network", **SMALL)
    config = configs["levenberg_marquardt"]
    with jax.enable_x64(True):
        carry = jax.jit(loaded.init)(config, jax.random.key(0))
        outcome = loaded.outcome(config, carry)
    hidden, output = jax.tree.map(np.asarray, carry.fit.state.params)
    for (xy, z), values in (
        (carry.fit.setup.args, outcome.value),
        (carry.held_out, outcome.values["validation"]),
    ):
        xy, z = np.asarray(xy), np.asarray(z)
        x, y = xy.T
        assert xy.shape == (60, 2)
        assert np.abs(xy).max() <= 2
        np.testing.assert_allclose(z, (2.5 - x) ** 2 + 2.5 * (y - x**2) ** 2, rtol=1e-13)
        h = np.tanh(xy @ hidden["w"] + hidden["b"][:, None])
        predicted = (h @ output["w"] + output["b"][:, None])[..., 0]
        np.testing.assert_allclose(values, np.mean((predicted - z) ** 2, axis=1), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["adam", "levenberg_marquardt"])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks_change_no_bit(label, chunks, small, load, run):
    loaded, configs = load("rosenbrock_network", **SMALL)
    assert_same(run(loaded, configs[label], chunks), small[label])


@pytest.mark.slow
def test_a_lane_does_not_depend_on_how_many_there_are(small, load, run):
    loaded, configs = load("rosenbrock_network", **{**SMALL, "starts": 3})
    three = run(loaded, configs["levenberg_marquardt"])
    two = small["levenberg_marquardt"]
    np.testing.assert_allclose(three.traces["training"][:2], two.traces["training"], rtol=1e-6)


@pytest.mark.slow
def test_the_summary_compares_start_by_start(small, load, recorded):
    loaded, configs = load("rosenbrock_network", **SMALL)
    seconds = {"adam": 30.0, "levenberg_marquardt": 0.5}
    records = {label: recorded(configs[label], small[label], seconds[label]) for label in small}
    said = loaded.summary(records)
    ratio = small["adam"].value / small["levenberg_marquardt"].value
    assert said["time_ratio"] == 60
    assert said["loss_ratio_median"] == np.median(ratio)
    assert (said["loss_ratio_min"], said["loss_ratio_max"]) == (ratio.min(), ratio.max())
    assert loaded.summary({"adam": records["adam"]}) == {}
    assert set(loaded.plot(records)) == {"loss"}


@pytest.mark.slow
def test_undamped_gauss_newton_says_that_the_curvature_is_singular(load, run):
    loaded, configs = load("rosenbrock_network_gauss_newton")
    outcome = run(loaded, configs["gauss_newton"])
    assert np.all(outcome.status == Status.RANK_DEFICIENT)
    assert np.isfinite(outcome.value).all()
    assert np.isfinite(outcome.values["validation"]).all()


@pytest.mark.slow
def test_levenberg_marquardt_ends_at_an_eighth_of_adams_loss_or_less_in_the_median(load, run, recorded):
    loaded, configs = load("rosenbrock_network")
    records = {label: recorded(config, run(loaded, config)) for label, config in configs.items()}
    for record in records.values():
        assert record.outcome.status.tolist() == [Status.OUT_OF_STEPS] * 20
    assert loaded.summary(records)["loss_ratio_median"] >= 8
