"""Bounds of a batch: in common or every fit's own, they hold as in the single fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.fit.axes import fill
from jaxopt_study.fit.batch_bounds import check_batch_bounds

FITS = 8
T = np.linspace(0.0, 4.0, 12)
draw = np.random.default_rng(11)
RATES = draw.uniform(0.5, 1.5, FITS)
Y = 3.0 * np.exp(-RATES[:, None] * T) + 0.05 * draw.normal(size=(FITS, T.size))
START = {"a": 2.0, "k": 0.3}
# Of every other fit the rate cannot be reached; one has its amplitude fixed.
MOST = RATES * np.where(np.arange(FITS) % 2, 0.8, 10.0)
LOWER, UPPER = np.full(FITS, -np.inf), np.full(FITS, np.inf)
LOWER[4] = UPPER[4] = 2.0


def decay(p, t):
    return p["a"] * jnp.exp(-p["k"] * t)


def own_bounds(most=MOST):
    return {"a": LOWER, "k": 0.1}, {"a": UPPER, "k": most}


@functools.cache
def fit_all():
    """One program for the whole file."""
    return jax.jit(
        lambda most, y: jos.curve_fit_batch(decay, T, y, START, params_axes=None, bounds=own_bounds(most))
    )


@pytest.mark.slow
def test_every_fit_keeps_its_own_bounds_as_the_single_fit_does():
    many = fit_all()(jnp.asarray(MOST), jnp.asarray(Y))
    np.testing.assert_array_equal(many.at_bound["k"], np.where(np.arange(FITS) % 2, 1, 0))
    assert np.argwhere(many.at_bound["a"]).ravel().tolist() == [4]
    for k in range(FITS):
        lower, upper = ({"a": a, "k": rate} for a, rate in ((LOWER[k], 0.1), (UPPER[k], MOST[k])))
        one = jos.curve_fit(decay, T, Y[k], START, bounds=(lower, upper), optimizer=jos.levenberg_marquardt())
        for name in START:
            assert int(many.at_bound[name][k]) == int(one.at_bound[name])
            np.testing.assert_allclose(many.params[name][k], one.params[name], rtol=1e-7)
            np.testing.assert_allclose(many.stderr[name][k], one.stderr[name], rtol=1e-6)
        assert int(many.num_steps[k]) == int(one.num_steps)
    np.testing.assert_array_equal(many.params["k"][1::2], MOST[1::2])  # on the bound, to the last bit
    assert int(many[4].at_bound["a"]) == -1
    assert "fixed" in str(many[4])
    assert "at upper bound" in str(many[1])


@pytest.mark.slow
def test_one_that_moves_its_bound_moves_no_other_and_a_bound_that_holds_is_followed():
    most = jnp.asarray(MOST)
    here = fit_all()(most, jnp.asarray(Y))
    moved = fit_all()(most.at[1].multiply(0.9), jnp.asarray(Y))
    others = np.arange(FITS) != 1
    np.testing.assert_array_equal(here.covariance[others], moved.covariance[others])
    np.testing.assert_array_equal(moved.params["k"][1], 0.9 * MOST[1])


@pytest.mark.slow
def test_derivatives_with_respect_to_bounds_are_one_where_they_hold_and_zero_elsewhere():
    def rates(most):
        def residual(p, y):
            return decay(p, T) - y

        bounds = own_bounds(most)
        options = {"params_axes": None, "bounds": bounds}
        start = jax.tree.map(jnp.asarray, START)
        return jos.least_squares_batch(residual, start, (jnp.asarray(Y),), **options).params["k"]

    slope = jax.jacfwd(rates)(jnp.asarray(MOST))
    np.testing.assert_allclose(slope, np.diag(np.arange(FITS) % 2), atol=1e-12)


def checked(bounds, params, axes=0, fits=4):
    params = jax.tree.map(jnp.asarray, params)
    return check_batch_bounds(bounds, params, fill("params", axes, params), fits)


@pytest.mark.parametrize(
    ("bounds", "own"),
    [
        ((0.0, None), False),
        (({"a": 0.0, "w": np.zeros(3)}, np.inf), False),
        (({"a": np.zeros(4), "w": np.zeros(3)}, np.inf), True),
        (({"a": None, "w": np.zeros((4, 3))}, None), True),
        (({"a": None, "w": np.zeros((4, 1))}, None), True),
    ],
)
def test_a_bound_with_one_axis_more_than_its_parameter_is_every_fits_own(bounds, own):
    for params, axes in [
        ({"a": np.ones(4), "w": np.ones((4, 3))}, 0),
        ({"a": 1.0, "w": np.ones(3)}, None),
        ({"a": 1.0, "w": np.ones((4, 3))}, {"a": None, "w": 0}),
    ]:
        (lower, upper), found = checked(bounds, params, axes)
        assert found is own
        lead = (4,) if own else ()
        assert {name: leaf.shape for name, leaf in lower.items()} == {"a": lead, "w": (*lead, 3)}
        assert jax.tree.map(jnp.shape, upper) == jax.tree.map(jnp.shape, lower)


def test_as_many_parameters_as_fits_leave_no_doubt():
    (lower, _), own = checked((np.arange(4.0) - 9, None), np.ones((4, 4)))
    assert not own
    np.testing.assert_array_equal(lower, np.arange(4.0) - 9)
    (lower, _), own = checked((np.arange(4.0)[:, None] - 9, None), np.ones((4, 4)))
    assert own
    np.testing.assert_array_equal(lower[2], np.full(4, -7.0))


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ((np.zeros(3), None), "lower bounds do not fit params"),
        ((None, np.zeros((4, 1, 1))), "upper bounds do not fit params"),
        ((np.array([0.0, 0.0, 2.0, 0.0]), None), "starts outside its bounds"),
        ((np.full(4, 2.0), np.ones(4)), "the lower bound is above the upper one"),
        ((np.full(4, np.nan), None), "or not a number"),
        (0.0, r"expected a pair \(lower, upper\)"),
    ],
)
def test_bounds_that_do_not_fit_are_named(bounds, says):
    with pytest.raises((ValueError, TypeError), match=says):
        checked(bounds, np.ones(4))
