"""Profile-likelihood intervals against a slow solution of the same equations, and where they are open."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxopt_study as jos

from .conftest import decay, enzyme


def slow_end(value, theta, index, t, sign):
    """Where the profiled cost has risen by t² s² / 2, by SciPy's bracketing and MINPACK."""
    best = scipy.optimize.least_squares(value, theta, xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac")
    dof = best.fun.size - theta.size
    s = np.sqrt(2 * best.cost / dof)
    error = s * np.sqrt(np.linalg.inv(best.jac.T @ best.jac)[index, index])

    def excess(v):
        others = scipy.optimize.least_squares(
            lambda z: value(np.insert(z, index, v)),
            np.delete(best.x, index),
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
            x_scale="jac",
        )
        return 2 * (others.cost - best.cost) / s**2 - t**2

    far = best.x[index] + sign * 3 * t * error
    return scipy.optimize.brentq(excess, best.x[index], far, xtol=1e-12 * abs(far), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["enzyme", "decay"])
def test_the_ends_solve_the_equations(model, puromycin):
    if model == "enzyme":
        x, y = puromycin
        function, start = enzyme, {"k": 0.1, "vmax": 200.0}
        value = lambda p: p[1] * x / (p[0] + x) - y  # noqa: E731
    else:
        x = np.linspace(0.0, 3.0, 14)
        y = 5 * np.exp(-0.9 * x) + 1 + 0.3 * np.cos(9 * np.arange(14.0))
        function, start = decay, {"a": 4.0, "c": 0.8, "k": 1.0}
        value = lambda p: p[0] * np.exp(-p[2] * x) + p[1] - y  # noqa: E731
    fit = jos.curve_fit(function, x, y, start)
    low, high = fit.profile(0.95)
    t = scipy.stats.t.ppf(0.975, int(fit.dof))
    theta = np.array(list(start.values()))
    for index, name in enumerate(start):
        np.testing.assert_allclose(low[name], slow_end(value, theta, index, t, -1.0), rtol=1e-5)
        np.testing.assert_allclose(high[name], slow_end(value, theta, index, t, 1.0), rtol=1e-5)


@pytest.mark.slow
def test_puromycin_is_what_r_says(puromycin):
    """`confint(nls(rate ~ Vm * conc / (K + conc)))` of R interpolates to five digits."""
    x, y = puromycin
    low, high = jos.curve_fit(enzyme, x, y, {"k": 0.1, "vmax": 200.0}).profile(0.95)
    np.testing.assert_allclose([low["vmax"], high["vmax"]], [197.30213, 229.29006], rtol=1e-5)
    np.testing.assert_allclose([low["k"], high["k"]], [0.046925, 0.086160], rtol=2e-4)


@pytest.mark.slow
def test_of_a_linear_model_they_are_the_plain_intervals(line):
    model, x, y = line
    fit = jos.curve_fit(model, x, y, {"a": 0.0, "b": 0.0})
    for level in (0.5, 0.95, 0.999):
        for ours, plain in zip(fit.profile(level), fit.confidence_interval(level), strict=True):
            np.testing.assert_allclose([ours["a"], ours["b"]], [plain["a"], plain["b"]], rtol=1e-6)


def test_a_single_parameter_and_known_errors():
    x, y = np.arange(1.0, 6.0), np.array([1.1, 1.9, 3.2, 3.9, 5.1])
    fit = jos.curve_fit(lambda p, x: p * x, x, y, jnp.array(0.5), sigma=0.1, absolute_sigma=True)
    low, high = fit.profile(0.95)
    half = 1.959963984540054 * 0.1 / np.sqrt(x @ x)
    np.testing.assert_allclose([fit.params - low, high - fit.params], half, rtol=1e-6)


@pytest.mark.slow
def test_an_open_end_is_infinite():
    """A rate that may be as large as you like: the curve is at its plateau from the first point on."""
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    y = np.array([1.8, 2.1, 2.0, 2.05, 1.95])
    fit = jos.curve_fit(lambda p, x: p["a"] * (1 - jnp.exp(-p["k"] * x)), x, y, {"a": 2.0, "k": 1.5})
    low, high = fit.profile(0.95)
    assert high["k"] == np.inf
    assert 0 < low["k"] < fit.params["k"]
    assert np.isfinite([low["a"], high["a"]]).all()


def test_an_end_beyond_where_the_model_is_finite_is_nan():
    """√(a - 1) has no value below a = 1, and the cost there has not risen far enough."""
    x = np.arange(1.0, 7.0)
    y = 0.05 * x + np.array([0.3, -0.3, 0.4, -0.4, 0.3, -0.3])
    fit = jos.curve_fit(lambda p, x: jnp.sqrt(p["a"] - 1.0) * x, x, y, {"a": 1.5})
    low, high = fit.profile(0.95)
    assert np.isnan(low["a"])
    assert high["a"] > fit.params["a"]
