"""A batch of curves says of every one of them what the single fit says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

FITS = 10
T = np.linspace(0.0, 4.0, 15)
draw = np.random.default_rng(3)
RATES = draw.uniform(0.5, 1.5, FITS)
Y = 3.0 * np.exp(-RATES[:, None] * T) + 0.5 + 0.05 * draw.normal(size=(FITS, T.size))
Y[2, 3:6] = np.nan
Y[4] = np.nan
Y[6] = 0.5  # a is zero there, and the rate is not determined
START = {"a": 2.0, "k": 1.0, "c": 0.0}
SIGMA = 0.05 * (1 + draw.uniform(size=Y.shape))
GOOD = [0, 1, 2, 3, 5, 7, 8, 9]


def decay(p, t):
    return p["a"] * jnp.exp(-p["k"] * t) + p["c"]


@pytest.fixture(scope="module")
def fits():
    with jax.enable_x64(True):
        many = jos.curve_fit_batch(decay, T, Y, START, params_axes=None, sigma=SIGMA)
        lm = jos.levenberg_marquardt()  # whose damping is that of a lane
        each = {k: jos.curve_fit(decay, T, Y[k], START, sigma=SIGMA[k], optimizer=lm) for k in [*GOOD, 6]}
    return many, each


@pytest.mark.slow
def test_parameters_and_errors_are_those_of_the_single_fit_missing_points_too(fits):
    many, each = fits
    for k in GOOD:
        one = many[k]
        assert int(one.num_points) == (12 if k == 2 else 15)
        for name in ("dof", "num_points", "rank", "num_steps"):
            assert int(getattr(one, name)) == int(getattr(each[k], name))
        np.testing.assert_allclose(one.covariance, each[k].covariance, rtol=1e-6)
        np.testing.assert_allclose(one.cost, each[k].cost, rtol=1e-9)
        np.testing.assert_allclose(one.residuals, each[k].residuals, rtol=1e-5, atol=1e-7)
        for name in START:
            np.testing.assert_allclose(one.params[name], each[k].params[name], rtol=1e-7)
            np.testing.assert_allclose(one.stderr[name], each[k].stderr[name], rtol=1e-6)


@pytest.mark.slow
def test_a_fit_of_nothing_says_so_and_leaves_the_others_alone(fits):
    many, _ = fits
    assert int(many.num_points[4]) == int(many.rank[4]) == 0
    assert bool(many.rank_deficient[4])
    assert int(many.status[4]) == jos.Status.RANK_DEFICIENT
    assert bool(jnp.all(many.converged == (jnp.arange(FITS) != 4)))
    assert not np.any(np.isfinite(many.covariance[4]).diagonal())
    assert np.all(np.isfinite(np.asarray(many.covariance)[GOOD]))


@pytest.mark.slow
def test_what_the_data_do_not_determine_goes_through_the_svd_as_in_the_single_fit(fits):
    many, each = fits
    np.testing.assert_array_equal(many.rank[6], each[6].rank)
    for name in START:
        np.testing.assert_array_equal(np.isfinite(many.stderr[name][6]), np.isfinite(each[6].stderr[name]))


def test_one_of_a_batch_answers_like_a_single_fit_and_the_batch_for_all(fits):
    many, each = fits
    lower, upper = many.confidence_interval(0.9)
    one_lower, one_upper = each[3].confidence_interval(0.9)
    np.testing.assert_allclose([lower["k"][3], upper["k"][3]], [one_lower["k"], one_upper["k"]], rtol=1e-6)
    np.testing.assert_allclose(many.predict(T[:3])[3], each[3].predict(T[:3]), rtol=1e-7)
    np.testing.assert_allclose(many[3].predict(T[:3], 0.9)[1], each[3].predict(T[:3], 0.9)[1], rtol=1e-6)
    np.testing.assert_allclose(many.r_squared[3], each[3].r_squared, rtol=1e-7)
    assert "stderr" in str(many[3])
    assert str(many).startswith("10 fits (10,)")
    assert str(many[2:5]).startswith("3 fits")
    assert many.curve.x.shape == T.shape  # x is held once, not once a fit


@pytest.mark.slow
def test_x_of_every_fit_its_own_and_weights_instead_of_sigma():
    x = T + np.arange(3)[:, None] * 0.1
    y = 3.0 * np.exp(-x) + 0.01 * draw.normal(size=x.shape)
    weights = np.ones_like(y)
    weights[1, 4] = 0.0
    y[1, 4] = 100.0
    line = {name: jnp.full(3, value) for name, value in START.items()}
    many = jos.curve_fit_batch(decay, x, y, line, x_axes=0, weights=weights)
    one = jos.curve_fit(decay, x[1], y[1], START, weights=weights[1])
    assert int(many.num_points[1]) == int(one.num_points) == 14
    np.testing.assert_allclose(many.params["k"][1], one.params["k"], rtol=1e-7)
    np.testing.assert_allclose(many.stderr["k"][1], one.stderr["k"], rtol=1e-6)


@pytest.mark.slow
def test_derivatives_of_errors_are_those_of_the_single_fit_and_nan_where_the_svd_was_needed():
    y = jnp.asarray(Y[[0, 6]])
    begin = {name: jnp.asarray(value) for name, value in START.items()}
    # The second starts where it ends, at an amplitude of zero, and its rate is not determined.
    begins = {"a": jnp.array([2.0, 0.0]), "k": jnp.ones(2), "c": jnp.array([0.0, 0.5])}

    def errors(y):
        fits = jos.curve_fit_batch(decay, T, y, begins, max_steps=100)
        return jnp.sum(fits.stderr["c"]) + jnp.sum(fits.params["c"])

    def of_one(y):
        fit = jos.curve_fit(decay, T, y, begin)
        return fit.stderr["c"] + fit.params["c"]

    slope = jax.grad(errors)(y)
    np.testing.assert_allclose(slope[0], jax.grad(of_one)(y[0]), rtol=1e-5)
    assert np.all(np.isnan(slope[1]))


@pytest.mark.slow
def test_where_y_is_missing_x_may_be_too_and_derivatives_are_those_of_the_single_fit():
    x, y = np.array(T), jnp.asarray(Y[:2]).at[:, 4].set(jnp.nan)
    x[4] = np.nan

    def rate(y, x_axes):
        xs = x if x_axes is None else np.stack([x, x])
        return jnp.sum(jos.curve_fit_batch(decay, xs, y, START, params_axes=None, x_axes=x_axes).params["k"])

    slope = jax.grad(lambda y: jos.curve_fit(decay, x, y, START).params["k"])(y[0])
    assert np.all(np.isfinite(slope))
    for x_axes in (None, 0):
        np.testing.assert_allclose(jax.grad(rate)(y, x_axes)[0], slope, rtol=1e-5, atol=1e-12)


@pytest.mark.slow
def test_whole_numbers_are_starts_as_in_the_single_fit():
    fits = jos.curve_fit_batch(decay, T, Y[:2], {"a": 2, "k": 1, "c": 0}, params_axes=None)
    assert np.all(fits.converged)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": Y[0]}, r"y: expected shape \(fits"),
        ({"y": Y.astype(complex)}, "y: expected real numbers"),
        ({"sigma": -1.0}, "sigma: expected positive"),
        ({"sigma": np.eye(15)[None, :3]}, "sigma: expected standard deviations"),
        ({"sigma": 1.0, "weights": 1.0}, "give one of them"),
        ({"x_axes": 1}, "x_axes: expected 0 or None"),
        ({"x": T[:3]}, "model_fn: returns shape"),
        ({"params_axes": 0}, "scalar has no leading axis"),
    ],
)
def test_bad_input_is_named(change, says):
    given = {"x": T, "y": Y, "params_axes": None} | change
    with pytest.raises((ValueError, TypeError), match=says):
        jos.curve_fit_batch(decay, given.pop("x"), given.pop("y"), START, **given)
