"""Fits with bounds and robust losses: estimates, what is held, and errors that simulation confirms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos

from .conftest import decay

X = np.linspace(0.0, 3.0, 14)
Y = 5 * np.exp(-0.9 * X) + 1 + 0.3 * np.cos(9 * np.arange(14.0))
START = {"a": 4.0, "c": 0.8, "k": 0.8}
FREE = -np.inf, np.inf


def numpy_decay(x, a, c, k):
    return a * np.exp(-k * x) + c


def without_k(params, x):
    return decay({**params, "k": 0.85}, x)


@pytest.mark.slow
@pytest.mark.parametrize(("limits", "side"), [((0.0, 0.85), 1), ((0.85, 0.85), -1)])
def test_a_parameter_at_a_bound_is_a_constant_to_all_others(limits, side):
    start = {**START, "k": limits[1]}
    bounds = {"a": FREE, "c": FREE, "k": limits}
    lower, upper = ({name: pair[i] for name, pair in bounds.items()} for i in (0, 1))
    fit = jos.curve_fit(decay, X, Y, start, bounds=(lower, upper))
    less = jos.curve_fit(without_k, X, Y, {"a": 4.0, "c": 0.8})
    assert fit.converged
    assert [int(fit.at_bound[name]) for name in "ack"] == [0, 0, side]
    assert fit.params["k"] == 0.85
    assert fit.stderr["k"] == 0.0
    assert (int(fit.rank), int(fit.dof), bool(fit.rank_deficient)) == (2, 12, False)
    for name in "ac":
        np.testing.assert_allclose(fit.params[name], less.params[name], rtol=1e-7)
        np.testing.assert_allclose(fit.stderr[name], less.stderr[name], rtol=1e-7)
    assert not np.asarray(fit.covariance)[2].any()
    for ours, theirs in zip(fit.predict(X, 0.95), less.predict(X, 0.95), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    text = str(fit)
    assert ("fixed" if limits[0] == limits[1] else "at upper bound") in text
    assert "held" in text
    if limits[0] == limits[1]:
        np.testing.assert_allclose([fit.aic, fit.bic], [less.aic, less.bic], rtol=1e-9)
        ends, expected = fit.profile(), less.profile()
        for end, other in zip(ends, expected, strict=True):
            np.testing.assert_allclose([end["a"], end["c"]], [other["a"], other["c"]], rtol=1e-5)
            assert end["k"] == 0.85


@pytest.mark.slow
def test_bounds_that_do_not_matter_change_nothing_and_cut_a_profile():
    free = jos.curve_fit(decay, X, Y, START)
    low, high = free.profile()
    limit = 0.5 * (float(free.params["k"]) + float(high["k"]))
    bounds = ({"a": 0.0, "c": -10.0, "k": 0.0}, {"a": 100.0, "c": 10.0, "k": limit})
    fit = jos.curve_fit(decay, X, Y, START, bounds=bounds)
    assert not np.any(jax.tree.leaves(fit.at_bound))
    for name in "ack":
        np.testing.assert_allclose(fit.params[name], free.params[name], rtol=1e-6)
        np.testing.assert_allclose(fit.stderr[name], free.stderr[name], rtol=1e-5)
    cut_low, cut_high = fit.profile()
    np.testing.assert_allclose(cut_high["k"], limit, rtol=1e-12)
    np.testing.assert_allclose(cut_low["k"], low["k"], rtol=1e-5)


def test_estimates_within_bounds_are_scipys():
    lower, upper = [0.0, 1.2, 0.0], [4.5, 3.0, 5.0]
    expected, _ = scipy.optimize.curve_fit(
        numpy_decay, X, Y, [4.0, 1.5, 0.8], bounds=(lower, upper), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    bounds = tuple(dict(zip("ack", side, strict=True)) for side in (lower, upper))
    fit = jos.curve_fit(decay, X, Y, {**START, "c": 1.5}, bounds=bounds)
    np.testing.assert_allclose([fit.params[name] for name in "ack"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    ["huber", "tukey", *(pytest.param(l, marks=pytest.mark.slow) for l in ("soft_l1", "cauchy", "arctan"))],
)
def test_estimates_with_outliers_are_scipys(loss):
    y = Y.copy()
    y[[3, 9]] += 4.0
    fit = jos.curve_fit(decay, X, y, START, loss=loss, loss_scale=0.5)
    assert fit.converged
    np.testing.assert_allclose([fit.params[name] for name in "ak"], [5.0, 0.9], atol=0.7)
    if loss == "tukey":  # not one of SciPy's
        return
    expected = scipy.optimize.least_squares(
        lambda p: numpy_decay(X, *p) - y,
        [float(fit.params[name]) for name in "ack"],
        loss=loss,
        f_scale=0.5,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    np.testing.assert_allclose([fit.params[name] for name in "ack"], expected.x, rtol=1e-5)
    np.testing.assert_allclose(fit.cost, expected.cost, rtol=1e-9)


@pytest.mark.slow
def test_a_robust_loss_without_outliers_has_the_errors_of_the_linear_one():
    plain = jos.curve_fit(decay, X, Y, START)
    robust = jos.curve_fit(decay, X, Y, START, loss="huber", loss_scale=100.0)
    np.testing.assert_allclose(robust.covariance, plain.covariance, rtol=1e-6)
    for ours, theirs in zip(robust.profile(), plain.profile(), strict=True):
        for name in "ack":
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
    with pytest.raises(ValueError, match="a robust loss assumes none"):
        robust.predict(X, 0.95, kind="prediction")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "tukey"])
@pytest.mark.parametrize("errors", ["normal", "contaminated", "student"])
def test_robust_standard_errors_are_those_of_a_simulation(loss, errors, key):
    """The spread of 1,000 estimates, of a model with 60 points; Huber's formula is asymptotic."""
    x = jnp.linspace(0.0, 3.0, 60)
    shape = (1000, 60)
    one, two = jax.random.split(key)
    noise = 0.2 * jax.random.normal(one, shape)
    if errors == "contaminated":
        noise = jnp.where(jax.random.uniform(two, shape) < 0.1, 10.0 * noise, noise)
    elif errors == "student":
        noise = 0.2 * jax.random.t(one, 3.0, shape)
    y = decay({"a": 5.0, "c": 1.0, "k": 0.9}, x)[None, :] + noise
    scale = 1.0 if loss == "tukey" else 0.3
    start = {"a": jnp.array(5.0), "c": jnp.array(1.0), "k": jnp.array(0.9)}

    @jax.jit
    def many(y):
        def fit(y):
            fit = jos.curve_fit(
                decay,
                x,
                y,
                start,
                loss=loss,
                loss_scale=scale,
                optimizer=jos.levenberg_marquardt(solver="cholesky"),
            )
            return fit.params, fit.stderr, fit.confidence_interval()

        return jax.lax.map(fit, y, batch_size=50)

    params, stderr, (low, high) = many(y)
    for name, truth in (("a", 5.0), ("c", 1.0), ("k", 0.9)):
        np.testing.assert_allclose(np.median(stderr[name]), np.std(params[name]), rtol=0.1)
        coverage = np.mean((low[name] <= truth) & (truth <= high[name]))
        assert 0.92 <= coverage <= 0.98
