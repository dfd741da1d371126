"""Sums over very many residuals of few parameters, against NumPy on the whole Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study import tall
from jaxopt_study.linearize import linearize
from jaxopt_study.tall import is_tall, tall_products

ROWS = 2_345  # no multiple of a block


def waves(p, t, y):
    return p["a"] * jnp.exp(-p["k"] * t) * jnp.cos(p["w"] * t) - y


def heavy(p, t, y):
    """Has more than a hundred numbers a row on the way."""
    return jnp.sin(p["k"] * t[:, None] * jnp.arange(1.0, 131.0)[None, :]).mean(axis=1) * p["a"] + p["w"] - y


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 3.0, rows)
    y = 2.0 * np.exp(-0.5 * t) * np.cos(3.0 * t) + 0.1 * rng.normal(size=rows)
    y[::100] += 5.0
    return jnp.asarray(t), jnp.asarray(y)


@pytest.fixture(autouse=True)
def call_few_rows_tall(monkeypatch):
    monkeypatch.setattr(tall, "LONG", 3 * 2_000)


PARAMS = {"a": np.array(1.7), "k": np.array(0.6), "w": np.array(2.9)}  # of 64 bits whenever this is read


def by_numpy(function, objective, args):
    def vector(theta):
        return function(dict(zip("akw", theta, strict=True)), *args)

    theta = jnp.stack(list(PARAMS.values()))
    residual, factor = objective.weigh(vector(theta))
    jacobian = np.asarray(jax.jacfwd(vector)(theta))
    return np.asarray(residual), jacobian if factor is None else np.asarray(factor)[:, None] * jacobian


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["linear", "huber"])
@pytest.mark.parametrize("function", [waves, heavy])
def test_sums_are_those_of_the_whole_jacobian(function, loss):
    args = data()
    objective = jos.LeastSquares(function, loss=loss, loss_scale=0.3)
    residual, jacobian = by_numpy(function, objective, args)
    plain, weighted, gram, slope, _ = jax.jit(lambda p: tall_products(objective, p, args))(PARAMS)
    np.testing.assert_allclose(plain, objective.residual(PARAMS, *args), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weighted, residual, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gram, jacobian.T @ jacobian, rtol=1e-11)
    np.testing.assert_allclose(slope, jacobian.T @ residual, rtol=1e-9)


@pytest.mark.slow
def test_the_jacobian_is_made_again_where_it_is_needed():
    args = data()
    objective = jos.LeastSquares(waves, loss="huber", loss_scale=0.3)
    here = jax.jit(lambda p: linearize(objective, p, args, jnp.zeros(3)))(PARAMS)
    assert here.jacobian_t is None
    _, jacobian = by_numpy(waves, objective, args)
    np.testing.assert_allclose(
        here.scaled_jacobian_t.T * here.scale[None, :], jacobian, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(here.pull(here.residual), here.gradient, rtol=1e-9)
    step = jnp.arange(1.0, 4.0)
    moved = jacobian @ np.asarray(step / here.scale)
    np.testing.assert_allclose(here.push(step), moved, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", [jos.dogleg, jos.gauss_newton], ids=["dogleg", "gauss_newton"])
def test_other_methods_on_tall_fits(method):
    args = data()
    end = jos.least_squares(waves, PARAMS, args, optimizer=method())
    reference = jos.least_squares(waves, PARAMS, args, optimizer=jos.levenberg_marquardt(solver="qr"))
    for name in PARAMS:
        np.testing.assert_allclose(end.params[name], reference.params[name], rtol=1e-7)


@pytest.mark.slow
def test_a_tall_fit_has_implicit_derivatives():
    t, y = data(2_500)  # a whole number of blocks
    total = lambda scale: sum(jos.least_squares(waves, PARAMS, (t, scale * y)).params.values())  # noqa: E731
    slope = jax.grad(total)(1.0)
    np.testing.assert_allclose(slope, (total(1 + 1e-5) - total(1 - 1e-5)) / 2e-5, rtol=1e-6)


def test_what_it_is_not_for():
    args = data()
    assert not is_tall(jos.LeastSquares(heavy), PARAMS, args, "auto")
    objective = jos.LeastSquares(waves, pointwise=True)
    assert is_tall(objective, PARAMS, args, "auto")
    assert not is_tall(objective, PARAMS, args, "pointwise")
    assert not is_tall(objective, PARAMS, data(1000), "auto")
    small = jax.tree.map(jnp.float32, PARAMS)
    assert not is_tall(objective, small, args, "auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "most"),
    [({}, np.inf), ({"geodesic": True}, np.inf), ({"damping_rule": "radius"}, 1.8)],
    ids=str,
)
def test_a_tall_fit_ends_where_qr_of_the_whole_jacobian_does(options, most):
    args = data()
    bounds = (0.0, {"a": most, "k": np.inf, "w": np.inf})
    ends = [
        jos.least_squares(
            waves,
            PARAMS,
            args,
            optimizer=jos.levenberg_marquardt(solver=solver, **options),
            bounds=bounds,
            loss="soft_l1",
            loss_scale=0.3,
        )
        for solver in ("auto", "qr")
    ]
    assert all(bool(end.converged) for end in ends)
    for name in PARAMS:
        np.testing.assert_allclose(ends[0].params[name], ends[1].params[name], rtol=1e-7)


@pytest.mark.slow
def test_duplicate_parameters_of_a_tall_fit_are_rank_deficient_not_nan():
    t, y = data()
    twice = lambda p, t, y: (p["a"] + p["k"]) * jnp.exp(-t) + p["w"] - y  # noqa: E731
    end = jos.least_squares(twice, PARAMS, (t, y))
    assert np.isfinite(end.value)
    line, *_ = np.linalg.lstsq(np.stack([np.exp(-t), np.ones_like(t)], axis=1), np.asarray(y), rcond=None)
    np.testing.assert_allclose(end.params["a"] + end.params["k"], line[0], rtol=1e-8)
    np.testing.assert_allclose(end.params["w"], line[1], rtol=1e-7)


@pytest.mark.slow
def test_tall_fits_under_vmap():
    t, y = data()
    ends = jax.vmap(lambda shift: jos.least_squares(waves, PARAMS, (t, y + shift)).value)(
        jnp.array([0.0, 0.1])
    )
    apart = [jos.least_squares(waves, PARAMS, (t, y + shift)).value for shift in (0.0, 0.1)]
    np.testing.assert_allclose(ends, apart, rtol=1e-10)
