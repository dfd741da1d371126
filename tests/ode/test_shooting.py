"""Multiple shooting finds what single shooting does not, and cuts series without loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.ode.shooting import cut


@pytest.mark.parametrize(("n", "segments"), [(5, 2), (10, 3), (7, 6), (2, 1)])
def test_every_time_is_in_one_segment_and_every_segment_ends_where_the_next_begins(n, segments):
    made = cut(n, segments)
    assert made.within.shape[0] == segments
    np.testing.assert_array_equal(made.within[made.segment, made.place], np.arange(n))
    np.testing.assert_array_equal(made.within[:, 0], made.nodes[:-1])
    np.testing.assert_array_equal(made.within[:, -1], made.nodes[1:])


def pendulum(t, y, params):
    return jnp.stack([y[1], -(params["w"] ** 2) * jnp.sin(y[0])])


@pytest.mark.slow
def test_a_pendulum_that_swings_often_is_found_from_far_off():
    ts = jnp.linspace(0.0, 20.0, 81)
    clean = jos.solve_ode(pendulum, jnp.array([1.0, 0.0]), ts, {"w": 2.0}).ys
    ys = clean + 0.02 * np.random.default_rng(0).standard_normal(clean.shape)
    start = {"w": 3.0}
    single = jos.fit_ode(pendulum, ts, ys, start, jnp.array([0.8, 0.0]), fit_y0=True)
    assert abs(single.params.params["w"] - 2.0) > 0.1
    multiple = jos.fit_ode(pendulum, ts, ys, start, jnp.array([0.8, 0.0]), fit_y0=True, segments=10)
    assert multiple.converged
    error, size = multiple.params.params["w"] - 2.0, multiple.stderr.params["w"]
    assert abs(error) < 4 * size
    assert size < 1e-3
    near = jos.fit_ode(pendulum, ts, ys, {"w": 2.0}, jnp.array([1.0, 0.0]), fit_y0=True)
    for one, other in zip(jax.tree.leaves(multiple.params), jax.tree.leaves(near.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def lorenz(t, y, params):
    return jnp.stack(
        [
            params["sigma"] * (y[1] - y[0]),
            y[0] * (params["rho"] - y[2]) - y[1],
            y[0] * y[1] - params["beta"] * y[2],
        ]
    )


@pytest.mark.slow
def test_the_lorenz_system_is_recovered_where_single_shooting_fails():
    truth = {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3}
    ts = jnp.linspace(0.0, 10.0, 201)
    clean = jos.solve_ode(
        lorenz, jnp.array([-8.0, 7.0, 27.0]), ts, truth, rtol=1e-11, atol=1e-11, max_steps=100_000
    ).ys
    ys = clean + 0.5 * np.random.default_rng(0).standard_normal(clean.shape)
    start = {"sigma": 4.0, "rho": 15.0, "beta": 6.0}
    single = jos.fit_ode(lorenz, ts, ys, start, ys[0], fit_y0=True)
    assert abs(single.params.params["beta"] - truth["beta"]) > 0.5
    fit = jos.fit_ode(lorenz, ts, ys, start, ys[0], fit_y0=True, segments=20)
    assert fit.converged
    for name, value in truth.items():
        assert abs(fit.params.params[name] - value) < 4 * fit.stderr.params[name]
        assert fit.stderr.params[name] < 0.01 * value
    np.testing.assert_allclose(jnp.sqrt(fit.dispersion), 0.5, rtol=0.1)  # nothing but the noise is left
