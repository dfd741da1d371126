"""Ranks, degrees of freedom and derivatives of covariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.fit import uncertainty

X = np.linspace(0.1, 2.0, 10)
Y = 3.0 * X + 0.1 * np.cos(7 * np.arange(10.0)) + 1.0


def surplus(params, x):
    """Only a × b is known, and c; d does nothing."""
    return params["a"] * params["b"] * x + params["c"] + 0.0 * params["d"]


@pytest.mark.slow
def test_parameters_that_are_not_determined_have_infinite_errors():
    start = {"a": 1.0, "b": 2.0, "c": 0.0, "d": 1.0}
    fit = jos.curve_fit(surplus, X, Y, start)
    full = jos.curve_fit(lambda p, x: p["ab"] * x + p["c"], X, Y, {"ab": 2.0, "c": 0.0})
    assert (int(fit.rank), bool(fit.rank_deficient), int(fit.dof)) == (2, True, 8)
    assert [float(fit.stderr[name]) for name in "abd"] == [np.inf] * 3
    np.testing.assert_allclose(fit.stderr["c"], full.stderr["c"], rtol=1e-8)
    assert fit.covariance[0, 1] == -np.inf
    np.testing.assert_allclose(fit.covariance[3, 3], np.inf)
    assert fit.covariance[0, 3] == 0
    low, high = fit.confidence_interval()
    assert (low["a"], high["a"]) == (-np.inf, np.inf)
    # What is determined is predicted as well as by the model without the surplus.
    for ours, theirs in zip(fit.predict(X, 0.95), full.predict(X, 0.95), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


@pytest.mark.slow
def test_profiles_of_parameters_that_are_not_determined_are_open():
    start = {"a": 1.0, "b": 2.0, "c": 0.0, "d": 1.0}
    fit = jos.curve_fit(surplus, X, Y, start)
    full = jos.curve_fit(lambda p, x: p["ab"] * x + p["c"], X, Y, {"ab": 2.0, "c": 0.0})
    low, high = fit.profile()
    assert (high["d"], low["d"]) == (np.inf, -np.inf)
    whole_low, whole_high = full.profile()
    np.testing.assert_allclose([low["c"], high["c"]], [whole_low["c"], whole_high["c"]], rtol=1e-5)


def test_a_prediction_that_is_not_determined_has_an_infinite_band():
    fit = jos.curve_fit(lambda p, x: p["a"] * x[0] + p["b"] * x[1], np.stack([X, X]), Y, {"a": 1.0, "b": 1.0})
    _, low, high = fit.predict(np.array([[1.0, 1.0], [1.0, 0.0]]), 0.95)
    assert np.isfinite([low[0], high[0]]).all()
    assert (low[1], high[1]) == (-np.inf, np.inf)


def test_more_parameters_than_points():
    fit = jos.curve_fit(
        lambda p, x: p["w"] @ jnp.stack([x**k for k in range(4)]), X[:3], Y[:3], {"w": jnp.zeros(4)}
    )
    assert (int(fit.rank), int(fit.dof), bool(fit.rank_deficient)) == (3, 0, True)
    assert np.isnan(fit.stderr["w"]).all()
    assert np.isnan(fit.reduced_chi2)


@pytest.mark.slow
def test_no_degrees_of_freedom_is_nan_unless_sigma_is_known(line):
    model, x, y = line
    start = {"a": 0.0, "b": 0.0}
    unknown = jos.curve_fit(model, x[:2], y[:2], start)
    assert int(unknown.dof) == 0
    assert np.isnan([unknown.stderr["a"], *jax.tree.leaves(unknown.confidence_interval())]).all()
    assert np.isnan(jax.tree.leaves(unknown.profile())).all()
    known = jos.curve_fit(model, x[:2], y[:2], start, sigma=0.1, absolute_sigma=True)
    np.testing.assert_allclose(known.stderr["b"], 0.1 * np.sqrt(2), rtol=1e-9)
    low, high = known.confidence_interval(0.95)
    np.testing.assert_allclose(high["b"] - low["b"], 2 * 1.959963984540054 * 0.1 * np.sqrt(2), rtol=1e-9)


@pytest.mark.slow
def test_an_exact_fit_has_no_errors(line):
    model, x, _ = line
    fit = jos.curve_fit(model, x, 0.0 * x, {"a": 0.0, "b": 0.0})
    assert [float(leaf) for leaf in jax.tree.leaves((fit.stderr, fit.profile()))] == [0.0] * 6


@pytest.mark.slow
def test_errors_do_not_depend_on_units():
    def model(params, x):
        return params["a"] * jnp.exp(-params["k"] * x)

    def rescaled(params, x):
        return 1e9 * params["a"] * jnp.exp(-1e-9 * params["k"] * x)

    y = 2.0 * np.exp(-0.7 * X) + 0.01 * np.cos(7 * np.arange(10.0))
    one = jos.curve_fit(model, X, y, {"a": 1.0, "k": 1.0})
    other = jos.curve_fit(rescaled, X, y, {"a": 1e-9, "k": 1e9})
    assert not other.rank_deficient
    for name, unit in (("a", 1e9), ("k", 1e-9)):
        np.testing.assert_allclose(other.stderr[name] * unit, one.stderr[name], rtol=1e-6)


@pytest.mark.slow
def test_a_model_that_is_not_finite_has_no_covariance():
    fit = jos.curve_fit(lambda p, x: p["a"] * jnp.log(x - 1.0), X, Y, {"a": 1.0})
    assert fit.status == jos.Status.NON_FINITE_START
    assert np.isnan(fit.stderr["a"])
    assert np.isnan(fit.covariance).all()


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_the_inverse_has_the_derivative_of_the_plain_formula(order):
    """Also where singular values are equal, as for orthogonal columns, and the SVD's own is NaN."""
    jacobian = jnp.concatenate([jnp.eye(3), jnp.eye(3), jnp.ones((1, 3))])
    change = jnp.asarray(np.random.default_rng(0).standard_normal(jacobian.shape))

    def ours(s):
        rows = (jacobian + s * change).T
        return uncertainty.information(rows, jnp.zeros(3, bool)).inverse

    def plain(s):
        rows = jacobian + s * change
        return jnp.linalg.inv(rows.T @ rows)

    for _ in range(order):
        ours, plain = jax.jacfwd(ours), jax.jacfwd(plain)
    np.testing.assert_allclose(jax.jit(ours)(0.0), jax.jit(plain)(0.0), rtol=1e-9, atol=1e-12)
    ours, plain = (jax.jit(jax.jacrev(fn))(0.1) for fn in (ours, plain))
    np.testing.assert_allclose(ours, plain, rtol=1e-7, atol=1e-10)


def test_held_parameters_leave_the_others_as_if_they_were_constants():
    draw = np.random.default_rng(0)
    jacobian_t = jnp.asarray(draw.standard_normal((4, 9)))
    held = jnp.array([False, True, False, False])
    found = uncertainty.information(jacobian_t, held)
    rest = np.asarray(jacobian_t)[[0, 2, 3]]
    expected = np.linalg.inv(rest @ rest.T)
    np.testing.assert_allclose(np.asarray(found.inverse)[np.ix_([0, 2, 3], [0, 2, 3])], expected, rtol=1e-10)
    assert not np.asarray(found.inverse)[1].any()
    assert not np.asarray(found.undetermined)[1].any()
    assert int(found.rank) == 3


def test_squares_that_lost_digits_or_terms_are_not_good_enough():
    free = jnp.zeros(2, bool)
    for size, expected in [(1.0, True), (1e-10, True), (1e-19, False), (1e-21, False)]:
        gram = jnp.diag(jnp.asarray([1.0, size], jnp.float32) ** 2)
        assert bool(uncertainty.information_of_gram(gram, free)[1]) is expected
