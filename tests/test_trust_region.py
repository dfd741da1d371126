"""The step of the exact trust region against optimality conditions, checked with dense numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.trust_region import spectral_step

solve = jax.jit(spectral_step)


def check(curvature, slope, radius, rtol=1e-7):
    """Moré and Sorensen's theorem: (H + λI) d = -g, λ ≥ 0, λ (Δ - ‖d‖) = 0, H + λI not indefinite."""
    step = solve(jnp.asarray(curvature), jnp.asarray(slope), jnp.asarray(radius))
    p, shift = np.asarray(step.along), float(step.multiplier)
    size = np.linalg.norm(p)
    scale = np.linalg.norm(slope) + np.abs(curvature).max() * radius
    assert shift >= 0
    assert np.min(curvature) + shift >= -1e-12 * scale / radius
    np.testing.assert_allclose((curvature + shift) * p, -np.asarray(slope), atol=rtol * scale)
    assert size <= radius * (1 + rtol)
    if shift > 1e-12 * scale / radius:
        np.testing.assert_allclose(size, radius, rtol=rtol)
    model = slope @ p + 0.5 * p @ (curvature * p)
    np.testing.assert_allclose(step.predicted, -model, rtol=1e-6, atol=1e-12 * scale * radius)
    return p, model


@pytest.mark.parametrize("kind", ["definite", "indefinite", "negative", "singular"])
@pytest.mark.parametrize("radius", [1e-6, 1e-2, 1.0, 1e3])
def test_the_step_meets_the_conditions_that_make_it_the_lowest(kind, radius):
    rng = np.random.default_rng(3)
    for _ in range(20):
        w = np.sort(10 ** rng.uniform(-3, 3, 6))
        if kind == "indefinite":
            w = np.sort(w * np.array([-1, 1, -1, 1, 1, 1]))
        elif kind == "negative":
            w = np.sort(-w)
        elif kind == "singular":
            w = np.concatenate([[0.0], w[1:]])
        check(w, rng.normal(size=6), radius)


def test_no_point_of_the_ball_is_lower():
    rng = np.random.default_rng(0)
    w, s = np.array([-2.0, 0.5, 3.0]), np.array([0.3, -1.0, 2.0])
    _, least = check(w, s, 1.5)
    points = rng.normal(size=(20_000, 3))
    points *= 1.5 * rng.uniform(size=(20_000, 1)) ** (1 / 3) / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.min(points @ s + 0.5 * np.sum(points**2 * w, axis=1)) >= least - 1e-12


@pytest.mark.parametrize("first", [0.0, 1e-300, 1e-20, -1e-12])
def test_the_hard_case_and_its_neighborhood_end_on_the_border(first):
    p, _ = check(np.array([-1.0, 2.0, 3.0]), np.array([first, 1.0, -1.0]), 2.0, rtol=1e-6)
    np.testing.assert_allclose(np.abs(p), [np.sqrt(4 - 1 / 9 - 1 / 16), 1 / 3, 1 / 4], rtol=1e-6)


def test_a_gradient_of_zero_goes_down_the_lowest_eigenvector_and_nowhere_in_a_bowl():
    saddle = solve(jnp.array([-1.0, 2.0]), jnp.zeros(2), jnp.array(0.5))
    np.testing.assert_allclose(np.abs(saddle.along), [0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(saddle.predicted, 0.125)
    np.testing.assert_array_equal(solve(jnp.array([1.0, 2.0]), jnp.zeros(2), jnp.array(0.5)).along, 0.0)
    np.testing.assert_array_equal(solve(jnp.zeros(2), jnp.zeros(2), jnp.array(0.5)).along, 0.0)
    np.testing.assert_array_equal(
        np.sign(spectral_step(jnp.array([-1.0, 2.0]), jnp.zeros(2), jnp.array(0.5), -1.0).along[0]), -1.0
    )


@pytest.mark.slow
def test_it_works_in_single_precision_and_for_a_thousand_at_once():
    rng = np.random.default_rng(1)
    w = np.sort(rng.normal(size=(1000, 4)), axis=1).astype(np.float32)
    s = rng.normal(size=(1000, 4)).astype(np.float32)
    many = jax.jit(jax.vmap(spectral_step, (0, 0, None)))(w, s, jnp.float32(0.7))
    assert many.along.dtype == np.float32
    sizes = np.linalg.norm(many.along, axis=1)
    assert np.all(sizes <= 0.7 * (1 + 1e-3))
    on_border = np.asarray(many.multiplier) > 1e-3
    np.testing.assert_allclose(sizes[on_border], 0.7, rtol=2e-3)
    alone = spectral_step(jnp.asarray(w[7]), jnp.asarray(s[7]), jnp.float32(0.7))
    np.testing.assert_allclose(many.along[7], alone.along, rtol=1e-4, atol=1e-6)
