"""Covariances of the errors in a batch: of every fit or of all, the single fit's answers."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.fit.batch_curve import prepare_batch

FITS = 6
T = np.linspace(0.0, 4.0, 12)
draw = np.random.default_rng(5)
COVARIANCE = 0.05**2 * np.exp(-np.abs(T[:, None] - T[None, :]) / 0.7)
OWN = COVARIANCE * draw.uniform(0.5, 2.0, (FITS, 1, 1))
NOISE = draw.normal(size=(FITS, T.size)) @ np.linalg.cholesky(COVARIANCE).T
Y = 3.0 * np.exp(-draw.uniform(0.5, 1.5, (FITS, 1)) * T) + NOISE
MISSING = np.array(Y)
MISSING[2, 3:6] = np.nan
MISSING[4] = np.nan
START = {"a": 2.0, "k": 1.0}


def decay(p, t):
    return p["a"] * jnp.exp(-p["k"] * t)


def fit_one(y, sigma):
    lm = jos.levenberg_marquardt()  # whose damping is that of a lane
    return jos.curve_fit(decay, T, y, START, sigma=sigma, absolute_sigma=True, optimizer=lm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("y", "sigma"),
    [(Y, COVARIANCE), (MISSING, COVARIANCE), (MISSING, OWN)],
    ids=["in common", "in common, points missing", "of every fit, points missing"],
)
def test_a_covariance_gives_what_it_gives_the_single_fit(y, sigma):
    many = jos.curve_fit_batch(decay, T, y, START, params_axes=None, sigma=sigma, absolute_sigma=True)
    for k in (0, 2, 5):
        one = fit_one(y[k], sigma if sigma.ndim == 2 else sigma[k])
        assert int(many.num_steps[k]) == int(one.num_steps)
        assert int(many.num_points[k]) == int(one.num_points)
        np.testing.assert_allclose(many.covariance[k], one.covariance, rtol=1e-6)
        np.testing.assert_allclose(many.residuals[k], one.residuals, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(many.params["k"][k], one.params["k"], rtol=1e-8)
    assert many.curve.sigma.shape == sigma.shape  # one in common is held once
    if y is MISSING:
        assert int(many.num_points[4]) == int(many.rank[4]) == 0


@pytest.mark.slow
def test_generalized_least_squares_of_a_line_is_the_closed_form():
    def line(p, x):
        return p["a"] + p["b"] * x

    many = jos.curve_fit_batch(
        line, T, Y, {"a": 0.0, "b": 0.0}, params_axes=None, sigma=OWN, absolute_sigma=True
    )
    design = np.stack([np.ones_like(T), T], axis=1)
    for k in range(FITS):
        weight = np.linalg.inv(OWN[k])
        known = np.linalg.inv(design.T @ weight @ design)
        np.testing.assert_allclose(many.covariance[k], known, rtol=1e-6)
        wanted = known @ design.T @ weight @ Y[k]
        np.testing.assert_allclose([many.params["a"][k], many.params["b"][k]], wanted, rtol=1e-7)


def test_a_covariance_in_common_is_factored_once_unless_a_fit_lacks_points_of_its_own():
    prepare = functools.partial(prepare_batch, decay, T, params=START, params_axes=None, sigma=COVARIANCE)
    nothing = np.where(np.arange(FITS)[:, None] == 1, np.nan, Y)
    assert prepare(Y).args[2].lower.shape == prepare(nothing).args[2].lower.shape == (12, 12)
    assert prepare(MISSING).args[2].lower.shape == (FITS, 12, 12)


def test_as_many_fits_as_points_need_the_covariance_in_common_to_be_marked():
    square = np.resize(Y, (12, 12))
    prepare = functools.partial(prepare_batch, decay, T, square, START, params_axes=None)
    with pytest.raises(ValueError, match=r"write sigma\[None\] for one that all fits have in common"):
        prepare(sigma=COVARIANCE)
    for deviations in (np.full((12, 12), 0.1), draw.uniform(0.1, 0.2, (12, 12))):
        np.testing.assert_allclose(prepare(sigma=deviations).args[2], 1 / deviations)


@pytest.mark.slow
def test_a_covariance_that_is_marked_as_in_common_is_that_of_every_fit():
    square, marked = np.resize(Y, (12, 12)), {"sigma": COVARIANCE[None], "absolute_sigma": True}
    many = jos.curve_fit_batch(decay, T, square, START, params_axes=None, **marked)
    one = fit_one(square[7], COVARIANCE)
    np.testing.assert_allclose(many.stderr["k"][7], one.stderr["k"], rtol=1e-6)


def spoiled(change, fit=3):
    sigma = np.array(OWN)
    sigma[fit] = change(sigma[fit])
    return sigma


@pytest.mark.parametrize(
    ("sigma", "says"),
    [
        (spoiled(lambda c: c + np.triu(c, 1)), "covariance of fit 3 is not symmetric"),
        (spoiled(lambda c: -c), "covariance of fit 3 is not positive definite"),
        (spoiled(lambda c: np.full_like(c, np.nan)), "covariance of fit 3 is not symmetric"),
        (-COVARIANCE, "the covariance is not positive definite"),
        (OWN[:4], r"or covariances of shape \(6, 12, 12\)"),
    ],
)
def test_what_is_no_covariance_is_named_with_its_fit(sigma, says):
    with pytest.raises(ValueError, match=says):
        prepare_batch(decay, T, Y, START, params_axes=None, sigma=sigma)


def test_a_point_that_is_missing_may_have_any_covariance():
    sigma = spoiled(lambda c: np.where(np.isnan(MISSING[2])[:, None], np.nan, c), fit=2)
    lower = prepare_batch(decay, T, MISSING, START, params_axes=None, sigma=sigma).args[2].lower
    assert np.all(np.isfinite(lower))
    with pytest.raises(ValueError, match="pointwise: a covariance"):
        prepare_batch(decay, T, Y, START, params_axes=None, sigma=OWN, pointwise=True)
