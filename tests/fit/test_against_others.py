"""Estimates, standard errors and statistics against SciPy, lmfit and the published ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxopt_study as jos
from jaxopt_study.models import michaelis_menten
from jaxopt_study.pytree import ravel

TIGHT = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}


@functools.cache
def compiled(model, names):
    """The model and its Jacobian as functions of x and a vector, compiled once a model."""

    def value(theta, x):
        return model(dict(zip(names, theta, strict=True)), x)

    return jax.jit(value), jax.jit(jax.jacfwd(value))


def scipy_fit(model, start, x, y, **options):
    """Estimates and covariance by MINPACK, with an exact Jacobian and tolerances of 1e-14."""
    value, jacobian = compiled(model, tuple(start))
    return scipy.optimize.curve_fit(
        lambda x, *theta: np.asarray(value(np.array(theta), x)),
        x,
        y,
        np.array(list(start.values())),
        jac=lambda x, *theta: np.asarray(jacobian(np.array(theta), x)),
        maxfev=10_000,
        **TIGHT,
        **options,
    )


def assert_same(fit, expected, covariance):
    theta, _ = ravel(fit.params)
    error = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(theta, expected, atol=1e-6 * error.min(), rtol=1e-8)
    np.testing.assert_allclose(ravel(fit.stderr)[0], error, rtol=1e-6)
    relative = (np.asarray(fit.covariance) - covariance) / np.outer(error, error)
    assert np.max(np.abs(relative)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("errors", ["none", "sigma", "covariance"])
def test_estimates_and_covariance_are_scipys(case, errors):
    model, start, x, y, scale = case
    draw = np.random.default_rng(1)
    sigma = None
    if errors == "sigma":
        sigma = scale * draw.uniform(0.5, 2.0, x.size)
    elif errors == "covariance":
        apart = np.abs(np.subtract.outer(np.arange(x.size), np.arange(x.size)))
        sigma = scale**2 * 0.6**apart
    for absolute in (False, True):
        fit = jos.curve_fit(model, x, y, start, sigma=sigma, absolute_sigma=absolute)
        assert fit.converged
        # Without a sigma, SciPy's absolute_sigma takes the errors to be 1.
        assert_same(fit, *scipy_fit(model, start, x, y, sigma=sigma, absolute_sigma=absolute))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_estimates_errors_and_statistics_are_lmfits(case, weighted):
    import lmfit  # it takes a second

    model, start, x, y, scale = case
    sigma = scale * np.random.default_rng(1).uniform(0.5, 2.0, x.size) if weighted else None
    value, jacobian = compiled(model, tuple(start))
    root = 1.0 if sigma is None else 1.0 / sigma

    def residual(params):
        return root * (np.asarray(value(np.array([one.value for one in params.values()]), x)) - y)

    def derivative(params):
        return np.broadcast_to(root, x.shape)[:, None] * np.asarray(
            jacobian(np.array([one.value for one in params.values()]), x)
        )

    params = lmfit.create_params(**{name: float(one) for name, one in start.items()})
    out = lmfit.minimize(residual, params, Dfun=derivative, **TIGHT)
    fit = jos.curve_fit(model, x, y, start, sigma=sigma)
    expected = np.array([out.params[name].value for name in start])
    assert_same(fit, expected, out.covar)
    for name, ours, digits in (
        ("chisqr", fit.chi2, 1e-8),
        ("redchi", fit.reduced_chi2, 1e-8),
        ("aic", fit.aic, 1e-7),
        ("bic", fit.bic, 1e-7),
    ):
        np.testing.assert_allclose(ours, getattr(out, name), rtol=digits, err_msg=name)
    rest = np.asarray(value(expected, x)) - y
    np.testing.assert_allclose(fit.r_squared, 1 - rest @ rest / np.sum((y - y.mean()) ** 2), rtol=1e-8)
    assert (int(fit.num_points), int(fit.dof)) == (out.ndata, out.nfree)
    first, second = list(start)[:2]
    np.testing.assert_allclose(fit.correlation[0, 1], out.params[first].correl[second], rtol=1e-6)
    np.testing.assert_allclose(fit.residuals, out.residual, rtol=1e-5, atol=1e-6)


def test_puromycin_is_the_published_fit(puromycin):
    """Bates and Watts 1988, section 2.2: 212.7 ± 6.947 and 0.0641 ± 0.008281, s = 10.93 with 10 degrees."""
    x, y = puromycin
    fit = jos.curve_fit(michaelis_menten.apply, x, y, {"vmax": 200.0, "k": 0.1})
    assert f"{fit.params['vmax']:.1f} {fit.params['k']:.4f}" == "212.7 0.0641"
    assert f"{fit.stderr['vmax']:.3f} {fit.stderr['k']:.3e}" == "6.947 8.281e-03"
    assert f"{jnp.sqrt(fit.reduced_chi2):.2f} {fit.dof}" == "10.93 10"
    assert f"{fit.correlation[0, 1]:.2f}" == "0.77"


@pytest.mark.slow
def test_a_band_of_a_straight_line_is_the_textbooks(line):
    """`t s √(1/n + (x - mean)²/Sxx)`, and 1 more under the root for a new observation."""
    model, x, y = line
    fit = jos.curve_fit(model, x, y, {"a": 0.0, "b": 0.0})
    at = np.array([-1.0, 2.5, 9.0])
    slope, offset = np.polyfit(x, y, 1)
    s = np.sqrt(np.sum((y - offset - slope * x) ** 2) / 4)
    leverage = 1 / 6 + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)
    t = scipy.stats.t.ppf(0.95, 4)
    for kind, more in (("confidence", 0.0), ("prediction", 1.0)):
        middle, low, high = fit.predict(at, 0.9, kind=kind)
        np.testing.assert_allclose(middle, offset + slope * at, rtol=1e-10)
        np.testing.assert_allclose(high - middle, t * s * np.sqrt(leverage + more), rtol=1e-9)
        np.testing.assert_allclose(middle - low, high - middle, rtol=1e-9)
