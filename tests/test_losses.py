"""Robust losses against SciPy's, and their derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize._lsq.least_squares import IMPLEMENTED_LOSSES

import jaxopt_study as jos
from jaxopt_study.losses import check_loss, rho, rho_with_derivatives

Z = np.array([0.0, 1e-12, 0.3, 0.999, 1.001, 4.0, 1e6])
SCIPYS = ["huber", "soft_l1", "cauchy", "arctan"]


@pytest.mark.parametrize("loss", SCIPYS)
def test_losses_equal_scipys(loss):
    expected = np.zeros((3, Z.size))
    IMPLEMENTED_LOSSES[loss](Z, expected, cost_only=False)
    got = rho_with_derivatives(loss, jnp.asarray(Z))
    np.testing.assert_allclose(got.value, expected[0], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(got.slope, expected[1], rtol=1e-12)
    np.testing.assert_allclose(got.curvature, expected[2], rtol=1e-12, atol=1e-15)


def test_tukey_is_the_biweight():
    inside = Z[Z <= 1]
    np.testing.assert_allclose(rho("tukey", jnp.asarray(inside)), (1 - (1 - inside) ** 3) / 3, atol=1e-15)
    np.testing.assert_allclose(rho("tukey", jnp.asarray(Z[Z > 1])), 1 / 3)
    # ψ(r) = r (1 - r²)², the textbook's influence function, is ρ'(r²) r.
    r = jnp.linspace(-2, 2, 41)
    influence = jnp.where(jnp.abs(r) <= 1, r * (1 - r**2) ** 2, 0.0)
    np.testing.assert_allclose(rho_with_derivatives("tukey", r**2).slope * r, influence, atol=1e-15)


@pytest.mark.parametrize("loss", [*SCIPYS, "tukey", "linear"])
def test_a_small_residual_counts_as_in_least_squares(loss):
    value, slope, _ = rho_with_derivatives(loss, jnp.zeros(()))
    assert value == 0
    assert slope == 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*SCIPYS, "tukey", lambda z: 2 * jnp.log1p(z / 2)])
def test_the_weighted_residuals_have_the_gradient_of_the_objective(loss):
    rng = np.random.default_rng(0)
    matrix, target = rng.normal(size=(30, 3)), 3 * rng.normal(size=30)
    objective = jos.LeastSquares(lambda p: matrix @ p - target, loss=loss, loss_scale=0.7)
    theta = jnp.array([0.2, -0.1, 0.4])
    weighted, factor = objective.weigh(objective.residual(theta))
    np.testing.assert_allclose(
        (factor[:, None] * matrix).T @ weighted, jax.grad(objective)(theta), rtol=1e-12
    )


def test_the_model_has_the_curvature_of_the_objective_where_it_is_positive():
    objective = jos.LeastSquares(lambda p: p, loss="cauchy", loss_scale=2.0)
    r = jnp.array([0.3, -0.5])  # far inside the scale: curvature ρ' + 2zρ'' well above the floor
    _, factor = objective.weigh(r)
    np.testing.assert_allclose(jnp.diag(factor**2), jax.hessian(objective)(r), rtol=1e-12)


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match=r"loss: expected one of .*'huber'.* got 'hubert'"):
        check_loss("hubert")
    with pytest.raises(ValueError, match="hubert"):
        jos.least_squares(lambda p: p, jnp.ones(2), loss="hubert")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.ones(2)])
def test_a_scale_that_is_not_positive_is_named(scale):
    with pytest.raises(ValueError, match="loss_scale: expected a number > 0"):
        jos.least_squares(lambda p: p, jnp.ones(2), loss="huber", loss_scale=scale)


def test_a_scale_of_words_is_named():
    with pytest.raises(TypeError, match="loss_scale: expected a number > 0, got 'x'"):
        check_loss("huber", "x")
