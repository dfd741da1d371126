"""Three ways to the same gradients step by step, and two to the exact answer."""

import functools

import numpy as np
import pytest

X = np.linspace(-np.pi, np.pi, 2000)
FEATURES = np.stack([X**k for k in range(4)], axis=1)
EXACT, (EXACT_LOSS,), *_ = np.linalg.lstsq(FEATURES, np.sin(X), rcond=None)


@pytest.fixture(scope="module")
def outcome_of(load, run):
    """The outcome of a variant, which is compiled and run when a test first asks for it."""
    loaded, configs = load("sine_polynomial")
    return functools.cache(lambda label: run(loaded, configs[label]))


@pytest.mark.slow
def test_three_ways_of_differentiating_agree_at_every_step(outcome_of):
    by_hand = outcome_of("by_hand").traces
    assert by_hand["loss"].shape == (2001,)
    for label in ("grad", "linear_model"):
        for name, column in outcome_of(label).traces.items():
            np.testing.assert_allclose(column, by_hand[name], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_the_losses_are_those_of_the_coefficients(outcome_of):
    for label in ("by_hand", "rmsprop", "gauss_newton"):
        traces = outcome_of(label).traces
        path = np.stack([traces[name] for name in "abcd"])
        for step in (0, path.shape[1] // 2, -1):
            loss = np.sum((FEATURES @ path[:, step] - np.sin(X)) ** 2)
            np.testing.assert_allclose(traces["loss"][step], loss, rtol=1e-12)


def test_one_gauss_newton_step_is_the_exact_answer(outcome_of):
    outcome = outcome_of("gauss_newton")
    assert outcome.num_steps == 1
    assert (f"{outcome.values['b']:.4f}", f"{outcome.values['d']:.4f}") == ("0.8567", "-0.0933")
    np.testing.assert_allclose([outcome.values[name] for name in "abcd"], EXACT, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(outcome.value, EXACT_LOSS, rtol=1e-13)


@pytest.mark.slow
def test_rmsprop_reaches_the_exact_loss_once_its_rate_falls(outcome_of):
    losses = outcome_of("rmsprop").traces["loss"]
    np.testing.assert_allclose(losses[-1], EXACT_LOSS, rtol=1e-9)
    assert losses[3600] > EXACT_LOSS + 0.05  # to and fro while the rate is constant


@pytest.mark.slow
def test_legendres_polynomial_descends_the_same_by_either_rule_written_by_hand(outcome_of):
    backward, tangent = outcome_of("legendre_vjp"), outcome_of("legendre_jvp")
    for name, column in backward.traces.items():
        np.testing.assert_allclose(column, tangent.traces[name], rtol=1e-12, atol=1e-14)
    a, b, c, d = (float(backward.values[name]) for name in "abcd")
    np.testing.assert_allclose([b, d], [-2.2085, 0.2555], atol=5e-5)
    np.testing.assert_allclose([a, c], 0, atol=1e-12)
    u = c + d * X
    loss = np.sum((a + b * (5 * u**3 - 3 * u) / 2 - np.sin(X)) ** 2)
    np.testing.assert_allclose(backward.value, loss, rtol=1e-12)
    assert EXACT_LOSS < loss < 1.02 * EXACT_LOSS


@pytest.mark.slow
def test_the_summary_says_how_far_apart_the_three_are(outcome_of, load, recorded):
    loaded, configs = load("sine_polynomial")
    said = loaded.summary({label: recorded(configs[label], outcome_of(label)) for label in configs})
    assert said["largest relative difference of the three ways at any step"] < 1e-12
    assert said["exact loss"] == pytest.approx(EXACT_LOSS, rel=1e-13)
    assert said["rmsprop: loss over the exact one, minus 1"] < 1e-9
