"""Derivatives of estimates and of their errors with respect to the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

from .conftest import decay

X = np.linspace(0.0, 3.0, 14)
Y = 5 * np.exp(-0.9 * X) + 1 + 0.3 * np.cos(9 * np.arange(14.0))
SIGMA = np.linspace(0.2, 0.4, 14)
START = {"a": jnp.array(4.0), "c": jnp.array(0.8), "k": jnp.array(0.8)}


def outcome(x, y, sigma):
    # Differences of fits show how far each is from its minimum: with the default tolerances 1e-9.
    fit = jos.curve_fit(decay, x, y, START, sigma=sigma, ftol=0.0, xtol=1e-15, gtol=1e-13)
    return fit.params["k"], fit.stderr["k"], fit.predict(jnp.array([1.5]), 0.9)[2][0]


@pytest.mark.slow
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_they_are_finite_differences(argument):
    data = [X, Y, SIGMA]
    exact = jax.jacrev(outcome, argnums=argument)(*map(jnp.asarray, data))
    run = jax.jit(outcome)
    for index in (0, 6, 13):
        ends = []
        for sign in (-1.0, 1.0):
            moved = [one.copy() for one in data]
            moved[argument][index] += sign * 1e-4
            ends.append(np.array(run(*moved)))
        slope = (ends[1] - ends[0]) / 2e-4
        np.testing.assert_allclose([one[index] for one in exact], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_forward_and_reverse_are_the_same():
    forward = jax.jacfwd(outcome, argnums=1)(X, jnp.asarray(Y), SIGMA)
    reverse = jax.jacrev(outcome, argnums=1)(X, jnp.asarray(Y), SIGMA)
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("errors", ["none", "sigma", "covariance", "weights"])
def test_missing_points_have_derivatives_of_zero_and_spoil_no_other(errors):
    gone = np.array([2, 9])
    keep = np.setdiff1d(np.arange(14), gone)
    holes = Y.copy()
    holes[gone] = np.nan
    options, fewer = {}, {}
    if errors in ("sigma", "weights"):
        options[errors], fewer[errors] = SIGMA, SIGMA[keep]
    elif errors == "covariance":
        matrix = 0.1 * 0.5 ** np.abs(np.subtract.outer(np.arange(14), np.arange(14)))
        options["sigma"], fewer["sigma"] = matrix, matrix[np.ix_(keep, keep)]

    def rate(x, y, options):
        fit = jos.curve_fit(decay, x, y, START, **options)
        return fit.params["k"] + fit.stderr["k"]

    ours = jax.grad(rate, argnums=(0, 1))(jnp.asarray(X), jnp.asarray(holes), options)
    theirs = jax.grad(rate, argnums=(0, 1))(jnp.asarray(X[keep]), jnp.asarray(Y[keep]), fewer)
    for whole, less in zip(ours, theirs, strict=True):
        assert not np.any(whole[gone])
        np.testing.assert_allclose(whole[keep], less, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_batch_has_the_derivatives_of_its_fits():
    y = jnp.stack([Y, Y + 0.1 * jnp.sin(X)])
    grad = jax.grad(lambda y: jos.curve_fit(decay, X, y, START).params["k"])
    batch = jax.vmap(grad)(y)
    for row, one in zip(y, batch, strict=True):
        np.testing.assert_allclose(one, grad(row), rtol=1e-6, atol=1e-9)
