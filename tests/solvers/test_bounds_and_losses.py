"""Bounded and robust fits against `scipy.optimize.least_squares`, and under `jit` and `vmap`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares as scipy_least_squares

import jaxopt_study as jos
from jaxopt_study import Status

T = np.linspace(0.0, 4.0, 25)
LOSSES = ["linear", "huber", "soft_l1", "cauchy", "arctan"]


def decay(p, t, y):
    return p[0] * jnp.exp(-p[1] * t) + p[2] - y


def wave(p, t, y):
    return p[0] * jnp.sin(p[1] * t + p[2]) - y


def rational(p, t, y):
    return (p[0] + p[1] * t) / (1 + p[2] ** 2 * t) - y


MODELS = {
    "decay": (decay, [3.0, 0.5, 0.2]),
    "wave": (wave, [2.0, 1.3, 0.4]),
    "rational": (rational, [1.0, 2.0, 0.7]),
}


def data(model, truth, seed):
    rng = np.random.default_rng(seed)
    y = np.asarray(model(jnp.asarray(truth), T, 0.0)) + 0.05 * rng.normal(size=T.size)
    y[rng.integers(0, T.size, 3)] += rng.choice([-2.0, 2.0], 3)
    return y, np.asarray(truth) * (1 + 0.1 * rng.uniform(-1, 1, 3))


def box(truth, kind):
    truth = np.asarray(truth)
    if kind == "free":
        return np.full(3, -np.inf), np.full(3, np.inf)
    if kind == "slack":
        return truth - 1.5, truth + 1.5
    return truth * [0.5, 0.5, -9], truth * [0.97, 1.02, 9]  # tight on two sides of two


def scipys(model, y, start, lower, upper, loss, scale):
    fun = jax.jit(lambda p: model(p, T, y))
    jac = jax.jit(jax.jacfwd(fun))
    return scipy_least_squares(
        lambda p: np.asarray(fun(p)), start, jac=lambda p: np.asarray(jac(p)), bounds=(lower, upper),
        loss=loss, f_scale=scale, xtol=1e-15, ftol=1e-15, gtol=1e-12, max_nfev=500,
    )  # fmt: skip


# The objective is one object, so that each loss compiles once for all the problems.
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        pytest.param(name, loss, marks=() if name == "decay" or loss == "huber" else pytest.mark.slow)
        for name in MODELS
        for loss in LOSSES
    ],
)
def test_costs_are_scipys_or_lower(name, loss):
    model, truth = MODELS[name]
    solve = functools.partial(jos.least_squares, model, loss=loss, loss_scale=0.2)
    for seed, kind in enumerate(["free", "slack", "tight"]):
        y, start = data(model, truth, seed)
        lower, upper = box(truth, kind)
        start = np.clip(start, lower + 1e-3, upper - 1e-3)
        theirs = scipys(model, y, start, lower, upper, loss, 0.2)
        ours = solve(jnp.asarray(start), (jnp.asarray(T), jnp.asarray(y)), bounds=(lower, upper))
        assert ours.converged, (kind, ours.message)
        assert ours.value <= theirs.cost * (1 + 1e-8), kind
        assert np.all((lower <= ours.params) & (ours.params <= upper))
        on = np.asarray(ours.active)
        np.testing.assert_array_equal(on == -1, np.asarray(ours.params) == lower)
        np.testing.assert_array_equal(on == 1, np.asarray(ours.params) == upper)


OPTIMIZERS = {
    "lm": jos.levenberg_marquardt(),
    "lm_qr": jos.levenberg_marquardt(solver="qr"),
    "lm_dual": jos.levenberg_marquardt(solver="dual"),
    "lm_cg": jos.levenberg_marquardt(solver="cg"),
    "lm_geodesic": jos.levenberg_marquardt(geodesic=True),
    "dogleg": jos.dogleg(),
    "newton": jos.newton(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_method_ends_at_the_same_bounded_robust_minimum(name):
    y, start = data(decay, MODELS["decay"][1], 0)
    lower, upper = box(MODELS["decay"][1], "tight")
    start = np.clip(start, lower + 1e-3, upper - 1e-3)
    theirs = scipys(decay, y, start, lower, upper, "soft_l1", 0.2)
    result = jos.least_squares(
        decay,
        jnp.asarray(start),
        (jnp.asarray(T), jnp.asarray(y)),
        optimizer=OPTIMIZERS[name],
        bounds=(lower, upper),
        loss="soft_l1",
        loss_scale=0.2,
    )
    assert result.converged
    np.testing.assert_allclose(result.value, theirs.cost, rtol=1e-8)


@pytest.mark.parametrize("make", [lambda: jos.sgd(0.02), lambda: jos.adam(0.05)], ids=["sgd", "adam"])
def test_first_order_methods_are_projected(make):
    result = jos.minimize(
        lambda p: jnp.sum((p - jnp.array([2.0, -3.0, 0.5])) ** 2),
        jnp.zeros(3),
        make(),
        bounds=(-1.0, 1.0),
        max_steps=2000,
    )
    np.testing.assert_allclose(result.params, [1.0, -1.0, 0.5], atol=1e-6)
    np.testing.assert_array_equal(result.active, [1, -1, 0])
    assert result.grad_norm < 1e-5  # the projected one


def test_equal_bounds_fix_a_parameter_to_the_last_bit():
    y, start = data(decay, MODELS["decay"][1], 1)
    fixed = 0.1 + 0.2
    lower, upper = jnp.array([-jnp.inf, fixed, -jnp.inf]), jnp.array([jnp.inf, fixed, jnp.inf])
    start = jnp.asarray(start).at[1].set(fixed)
    result = jos.least_squares(decay, start, (T, y), bounds=(lower, upper))
    assert result.params[1] == fixed
    # What remains is linear.
    columns = np.stack([np.exp(-fixed * T), np.ones_like(T)], 1)
    np.testing.assert_allclose(
        result.params[jnp.array([0, 2])], np.linalg.lstsq(columns, y, rcond=None)[0], rtol=1e-8
    )


def test_bounds_and_scales_recompile_nothing(count_traces):
    y, start = data(decay, MODELS["decay"][1], 2)
    counted = count_traces(decay)
    solve = functools.partial(jos.least_squares, counted.fn, jnp.asarray(start), (T, y), loss="cauchy")
    solve(bounds=(-5.0, 5.0), loss_scale=0.1)
    first = counted.count
    solve(bounds=(-6.0, 6.0), loss_scale=0.2)
    solve(bounds=(-np.inf, np.inf), loss_scale=0.3)
    assert counted.count == first


def test_numbers_of_other_types_recompile_nothing(count_traces):
    y, start = data(decay, MODELS["decay"][1], 2)
    counted = count_traces(decay)
    solve = functools.partial(jos.least_squares, counted.fn, jnp.asarray(start), (T, y), loss="cauchy")
    solve(loss_scale=0.1, optimizer=jos.levenberg_marquardt(max_trials=30))
    first = counted.count
    solve(loss_scale=1, optimizer=jos.levenberg_marquardt(max_trials=np.int64(20)))
    solve(loss_scale=np.float64(0.2), optimizer=jos.levenberg_marquardt(np.float32(1.0)))
    assert counted.count == first


@pytest.mark.slow
def test_vmap_over_data_bounds_and_scales_equals_a_loop():
    truth = MODELS["decay"][1]
    ys = jnp.stack([jnp.asarray(data(decay, truth, seed)[0]) for seed in range(4)])
    highs, scales = jnp.array([2.5, 2.9, 3.1, 9.0]), jnp.array([0.1, 0.2, 0.3, 0.4])
    start = jnp.array([2.0, 0.6, 0.0])

    def fit(y, high, scale):
        return jos.least_squares(
            decay, start, (jnp.asarray(T), y), bounds=(-high, high), loss="huber", loss_scale=scale
        )

    together = jax.jit(jax.vmap(fit))(ys, highs, scales)
    assert together.converged.all()
    for i in range(4):
        alone = fit(ys[i], highs[i], scales[i])
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-6)
        np.testing.assert_array_equal(together.active[i], alone.active)


@pytest.mark.slow
def test_tukey_from_where_nothing_counts_is_not_called_converged():
    result = jos.least_squares(lambda p: p + 100.0, jnp.ones(2), loss="tukey")
    assert result.status == Status.RANK_DEFICIENT


def test_tukey_ignores_outliers():
    rng = np.random.default_rng(0)
    y = 2.0 * T + 1.0 + 0.01 * rng.normal(size=T.size)
    clean = np.polyfit(np.delete(T, [3, 17]), np.delete(y, [3, 17]), 1)
    y[[3, 17]] += 50.0
    result = jos.least_squares(
        lambda p, t, y: p[0] * t + p[1] - y, jnp.array([1.9, 1.1]), (T, y), loss="tukey", loss_scale=1.0
    )
    assert result.converged
    np.testing.assert_allclose(result.params, clean, atol=1e-3)


def test_masked_sees_the_bounds_of_the_trained_leaves():
    params = {"a": jnp.array(1.0), "k": jnp.array(0.5)}
    optimizer = jos.masked(jos.levenberg_marquardt(), {"a": True, "k": False})
    result = jos.least_squares(
        lambda p, t: p["a"] * jnp.exp(-p["k"] * t) - 3 * jnp.exp(-0.5 * t), params, (T,), optimizer=optimizer,
        bounds=({"a": 0.0, "k": 0.0}, {"a": 2.0, "k": 9.0}),
    )  # fmt: skip
    assert result.params["a"] == 2.0
    assert result.params["k"] == 0.5
    assert result.converged


def test_two_losses_contradict_each_other():
    robust = jos.LeastSquares(lambda p: p, loss="huber")
    with pytest.raises(ValueError, match="loss: is 'cauchy' here, but 'huber' in the LeastSquares"):
        jos.least_squares(robust, jnp.ones(2), loss="cauchy")
