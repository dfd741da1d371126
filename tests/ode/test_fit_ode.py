"""`fit_ode` against closed forms, which `curve_fit` fits, and against SciPy's solver and least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import jaxopt_study as jos

N = 12
TS = np.linspace(0.0, 4.0, N)
NOISE = np.random.default_rng(3).standard_normal((2, N)) * 0.03
YS = 3.0 * np.exp(-0.7 * TS) + 1.0 + NOISE[0]


def decay(t, y, params):
    return params["k"] * (params["c"] - y)


def closed_decay(params, ts):
    return params["c"] + (params["a"] - params["c"]) * jnp.exp(-params["k"] * ts)


START = {"k": 1.0, "c": 0.5}
CLOSED_START = {**START, "a": 3.0}


def fit_decay(ts=TS, ys=YS, **options):
    return jos.fit_ode(decay, ts, ys, START, 3.0, fit_y0=True, **options)


def as_closed(tree):
    return {**tree.params, "a": tree.y0}


@pytest.fixture(scope="module")
def decays():
    with jax.enable_x64(True):
        return fit_decay(), jos.curve_fit(closed_decay, TS, YS, CLOSED_START)


def close(left, right, rtol):
    """Of two pytrees of numbers, relative to each of them."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol)


@pytest.mark.slow
def test_exponential_decay_is_fitted_as_its_closed_form(decays):
    fit, closed = decays
    assert fit.converged
    close(as_closed(fit.params), closed.params, 1e-6)
    close(as_closed(fit.stderr), closed.stderr, 1e-5)
    np.testing.assert_allclose(fit.residuals, closed.residuals, atol=1e-7)
    assert (fit.dof, fit.num_points) == (closed.dof, closed.num_points)
    np.testing.assert_allclose(fit.cost, closed.cost, rtol=1e-7)


@pytest.mark.slow
def test_bands_at_times_between_and_after_are_those_of_the_closed_form(decays):
    fit, closed = decays
    ts = jnp.array([0.1, 6.0, 3.3])  # in no order
    for one, other in zip(fit.predict(ts, 0.9), closed.predict(ts, 0.9), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert np.isnan(fit.predict(jnp.array([-1.0]))[0])  # before the beginning


@pytest.mark.slow
def test_a_fit_is_printed_with_the_names_of_params_and_y0(decays):
    assert all(word in str(decays[0]) for word in ("params.c", "params.k", "y0", "12 points"))


@pytest.mark.slow
def test_order_and_missing_values_of_times_do_not_matter(decays):
    shuffled = np.random.default_rng(0).permutation(N)
    fit = fit_decay(TS[shuffled], YS[shuffled])
    close(fit.params, decays[0].params, 1e-9)
    ts, ys = TS.copy(), YS.copy()
    ts[4], ys[4], ys[7] = np.nan, np.nan, np.nan
    fit = fit_decay(ts, ys)
    keep = ~np.isnan(ys)
    closed = jos.curve_fit(closed_decay, TS[keep], YS[keep], CLOSED_START)
    close(as_closed(fit.params), closed.params, 1e-6)
    close(as_closed(fit.stderr), closed.stderr, 1e-5)
    assert np.isnan(fit.residuals[4])
    assert fit.num_points == N - 2


@pytest.mark.slow
def test_a_time_may_come_more_than_once():
    ts, ys = np.concatenate([TS, TS]), np.concatenate([YS, YS + 0.02])
    fit, closed = fit_decay(ts, ys), jos.curve_fit(closed_decay, ts, ys, CLOSED_START)
    close(as_closed(fit.params), closed.params, 1e-6)
    close(as_closed(fit.stderr), closed.stderr, 1e-5)


@pytest.mark.slow
def test_sigma_bounds_losses_and_weights_mean_what_they_mean_to_curve_fit():
    spoiled = YS.copy()
    spoiled[5] += 2.0
    sigma = np.linspace(0.02, 0.05, N)
    for options in (
        {"sigma": sigma, "absolute_sigma": True},
        {"sigma": sigma, "loss": "cauchy", "loss_scale": 1.5},
        {"weights": 1 / sigma**2, "bounds": ({"k": 0.0, "c": 0.0}, {"k": 0.3, "c": 5.0})},
    ):
        changed = dict(options)
        start = dict(START, k=0.25)
        fit = jos.fit_ode(decay, TS, spoiled, start, 3.0, fit_y0=True, **options)
        if "bounds" in changed:
            changed["bounds"] = ({"k": 0.0, "c": 0.0, "a": -np.inf}, {"k": 0.3, "c": 5.0, "a": np.inf})
            assert fit.at_bound.params["k"] == 1
        closed = jos.curve_fit(closed_decay, TS, spoiled, {**start, "a": 3.0}, **changed)
        close(as_closed(fit.params), closed.params, 1e-5)
        close(as_closed(fit.stderr), closed.stderr, 1e-4)


@pytest.mark.slow
def test_an_initial_state_may_be_fixed_bounded_a_function_or_before_the_data():
    fixed = jos.fit_ode(decay, TS, YS, START, 4.0)
    closed = jos.curve_fit(lambda p, t: closed_decay({**p, "a": 4.0}, t), TS, YS, START)
    close(fixed.params, closed.params, 1e-6)
    close(fixed.stderr, closed.stderr, 1e-5)
    tied = jos.fit_ode(decay, TS, YS, START, lambda p: 4.0 * p["c"])
    closed = jos.curve_fit(lambda p, t: closed_decay({**p, "a": 4.0 * p["c"]}, t), TS, YS, START)
    close(tied.params, closed.params, 1e-6)
    early = jos.fit_ode(decay, TS, YS, START, 4.0, t0=-0.5)
    closed = jos.curve_fit(lambda p, t: closed_decay({**p, "a": 4.0}, t + 0.5), TS, YS, START)
    close(early.params, closed.params, 1e-6)
    held = fit_decay(y0_bounds=(0.0, 3.5))
    assert held.at_bound.y0 == 1
    np.testing.assert_allclose(held.params.y0, 3.5)


@pytest.mark.slow
def test_series_of_different_lengths_share_the_parameters():
    short = 7
    ys = [YS, 1.0 + 2.0 * np.exp(-0.7 * TS[:short]) + NOISE[1, :short]]
    fit = jos.fit_ode(decay, [TS, TS[:short]], ys, START, [3.0, 2.0], fit_y0=True)

    def both(params, ts):
        return jnp.concatenate([closed_decay({**params, "a": params["a"][i]}, t) for i, t in enumerate(ts)])

    ts = (jnp.asarray(TS), jnp.asarray(TS[:short]))
    closed = jos.curve_fit(both, ts, np.concatenate(ys), {**START, "a": jnp.array([3.0, 2.0])})
    close(as_closed(fit.params), closed.params, 1e-6)
    close(as_closed(fit.stderr), closed.stderr, 1e-5)
    assert fit.num_points == N + short
    assert fit.residuals.shape == (2, N)
    assert np.isnan(fit.residuals[1, short:]).all()
    assert fit.predict(jnp.array([0.5, 1.5, 2.5])).shape == (2, 3)
    figure = fit.plot(xlabel="t")
    assert len(figure.axes) == 2


def lotka_volterra(t, y, params):
    prey, predator = y["prey"], y["predator"]
    a, b, c, d = params
    return {"prey": (a - b * predator) * prey, "predator": (d * prey - c) * predator}


@pytest.mark.slow
def test_partial_observations_of_a_pytree_agree_with_scipy():
    truth, y0 = np.array([1.0, 0.1, 1.5, 0.075]), np.array([10.0, 5.0])
    rng = np.random.default_rng(1)
    ts = np.sort(rng.uniform(0.0, 9.0, 25))
    ts[0] = 0.0

    def solve(theta):
        def field(t, y):
            return [(theta[0] - theta[1] * y[1]) * y[0], (theta[3] * y[0] - theta[2]) * y[1]]

        return scipy.integrate.solve_ivp(
            field, (0.0, 9.0), theta[4:], t_eval=ts, rtol=1e-10, atol=1e-10, method="DOP853"
        ).y.T

    seen = solve(np.concatenate([truth, y0]))
    seen = seen + rng.standard_normal(seen.shape) * [1.0, 0.3]
    seen[rng.uniform(size=seen.shape) < 0.2] = np.nan
    known = ~np.isnan(seen)
    sigma = np.array([1.0, 0.3])

    def residuals(theta):
        return ((solve(theta) - seen) / sigma)[known]

    start = np.array([0.8, 0.08, 1.3, 0.08, 8.0, 4.0])
    oracle = scipy.optimize.least_squares(residuals, start, x_scale=start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    jacobian = np.stack(
        [
            (residuals(oracle.x + e) - residuals(oracle.x - e)) / (2 * e.max())
            for e in np.eye(6) * 1e-5 * np.abs(oracle.x)
        ],
        axis=1,
    )
    covariance = np.linalg.inv(jacobian.T @ jacobian) * 2 * oracle.cost / (known.sum() - 6)

    fit = jos.fit_ode(
        lotka_volterra,
        ts,
        {"prey": seen[:, 0], "predator": seen[:, 1]},
        tuple(start[:4]),
        {"prey": 8.0, "predator": 4.0},
        fit_y0=True,
        sigma=sigma[::-1],  # columns are in the order of leaves: predator, prey
    )
    assert fit.converged
    order = [0, 1, 2, 3, 5, 4]
    flat = np.array(jax.tree.leaves(fit.params))
    np.testing.assert_allclose(flat, oracle.x[order], rtol=1e-6)
    np.testing.assert_allclose(
        np.array(jax.tree.leaves(fit.stderr)), np.sqrt(np.diagonal(covariance))[order], rtol=1e-4
    )
    only = jos.fit_ode(
        lotka_volterra,
        ts,
        {"prey": seen[:, 0], "predator": None},
        tuple(start[:4]),
        {"prey": 10.0, "predator": 5.0},
    )
    again = jos.fit_ode(
        lotka_volterra,
        ts,
        seen[:, 0],
        tuple(start[:4]),
        {"prey": 10.0, "predator": 5.0},
        observe=lambda y, p: y["prey"],
    )
    close(only.params, again.params, 1e-6)
    assert only.num_points == known[:, 0].sum()
    assert len(fit.plot(ylabel=["predator", "prey"]).axes) == 4


def explosion(t, y, params):
    return params * y**2


@pytest.mark.slow
def test_a_trial_that_blows_up_is_refused_and_a_start_that_does_is_named():
    ts = np.linspace(0.0, 2.0, 9)
    ys = 1.0 / (1.0 - 0.45 * ts)  # infinite at t = 2.2; from k = 0.5 on before the last time
    fit = jos.fit_ode(explosion, ts, ys, 0.1, 1.0)
    assert fit.converged
    np.testing.assert_allclose(fit.params, 0.45, rtol=1e-6)
    assert fit.num_evals > 2 * fit.num_steps  # some trials were refused
    fit = jos.fit_ode(explosion, ts, ys, 1.0, 1.0)
    assert fit.status == jos.Status.NON_FINITE_START


@pytest.mark.slow
def test_parts_of_y0_that_are_not_asked_for_stay():
    def field(t, y, params):
        return jnp.stack([y[1], -params * y[0]])

    ts = np.linspace(0.0, 3.0, 10)
    ys = np.stack([1.5 * np.cos(2.0 * ts), -3.0 * np.sin(2.0 * ts)], axis=1)
    fit = jos.fit_ode(field, ts, ys, 3.5, np.array([1.0, 0.0]), fit_y0=np.array([True, False]))
    np.testing.assert_allclose(fit.params.params, 4.0, rtol=1e-6)
    np.testing.assert_allclose(fit.params.y0, [1.5, 0.0], rtol=1e-6)
    assert "fixed" in str(fit)
    assert list(fit.at_bound.y0) == [0, -1]


@pytest.mark.slow
def test_fits_map_compile_and_carry_derivatives(decays):
    noisy = jnp.asarray(YS)[None] + 0.01 * jnp.asarray(NOISE)
    batch = jax.vmap(lambda ys: fit_decay(ys=ys))(noisy)
    for k in range(2):
        close(batch[k].params, fit_decay(ys=noisy[k]).params, 1e-6)
    slope = jax.jit(jax.grad(lambda ys: fit_decay(ys=ys).params.params["k"]))(jnp.asarray(YS))
    oracle = jax.grad(lambda ys: jos.curve_fit(closed_decay, TS, ys, CLOSED_START).params["k"])(
        jnp.asarray(YS)
    )
    np.testing.assert_allclose(slope, oracle, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_profiles_are_those_of_the_closed_form(decays):
    fit, closed = decays
    for one, other in zip(fit.profile(), closed.profile(), strict=True):
        close(as_closed(one), other, 1e-5)


@pytest.mark.slow
def test_float32_is_fitted_in_float32():
    with jax.enable_x64(False):
        fit = fit_decay(TS.astype("float32"), YS.astype("float32"))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(fit.params)} == {"float32"}
        closed = jos.curve_fit(closed_decay, TS, YS.astype("float32"), CLOSED_START)
        assert fit.converged
        close(as_closed(fit.params), closed.params, 5e-3)
