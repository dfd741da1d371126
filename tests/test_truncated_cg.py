"""Conjugate gradients and the quasi-Newton matrix against dense numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.quasi_newton import Pairs, append, curves_up, inverse, no_pairs
from jaxopt_study.truncated_cg import shortened, truncated_cg

RNG = np.random.default_rng(5)
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
GRADIENT = RNG.normal(size=6)


@jax.jit
def solve(hessian, gradient, radius, tolerance, metric):
    return truncated_cg(
        lambda v: hessian @ v,
        gradient,
        radius,
        tolerance,
        precondition=lambda r: metric @ r,
        memory=4,
        max_products=50,
    )


def path_for(curvatures, radius=1e6, tolerance=1e-10, metric=None):
    hessian = TURN @ np.diag(curvatures) @ TURN.T
    metric = np.eye(6) if metric is None else metric
    arrays = map(jnp.asarray, (hessian, GRADIENT, float(radius), float(tolerance), metric))
    return hessian, solve(*arrays)


def test_without_a_border_it_solves_the_system_in_as_many_products_as_variables():
    hessian, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    np.testing.assert_allclose(path.step, -np.linalg.solve(hessian, GRADIENT), rtol=1e-8)
    np.testing.assert_allclose(path.product, hessian @ path.step, rtol=1e-9)
    assert path.products <= 7
    assert not path.negative


def test_with_the_inverse_as_metric_it_takes_one_product():
    curvatures = np.array([1e-3, 2.0, 3.0, 5.0, 8.0, 1e4])
    hessian, path = path_for(curvatures, tolerance=1e-6, metric=TURN @ np.diag(1 / curvatures) @ TURN.T)
    assert path.products == 1
    np.testing.assert_allclose(path.step, -np.linalg.solve(hessian, GRADIENT), rtol=1e-6)


def test_negative_curvature_is_followed_to_the_border_and_lowers_the_model():
    hessian, path = path_for([-1.0, 2.0, 3.0, 5.0, 8.0, 13.0], radius=300.0)
    assert path.negative
    np.testing.assert_allclose(np.linalg.norm(path.step), 300.0, rtol=1e-12)
    for step, product in ((path.first, path.first_product), (path.step, path.product)):
        np.testing.assert_allclose(product, hessian @ step, rtol=1e-9, atol=1e-12)
    first, last = (GRADIENT @ s + 0.5 * s @ hessian @ s for s in map(np.asarray, (path.first, path.step)))
    assert last < first < 0


def test_the_border_ends_it_and_a_gradient_of_zero_costs_nothing():
    _, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], radius=1e-3)
    np.testing.assert_allclose(np.linalg.norm(path.step), 1e-3, rtol=1e-12)
    nothing = solve(jnp.eye(6), jnp.zeros(6), 1.0, 1e-3, jnp.eye(6))
    assert nothing.products == 0
    np.testing.assert_array_equal(nothing.step, 0.0)


@pytest.mark.parametrize("radius", [1e-4, 0.05, 0.3, 1.0, 1e5])
def test_a_shortened_path_is_on_it_at_the_radius_with_its_product(radius):
    hessian, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], radius=1.5)
    step, product = shortened(path, jnp.asarray(radius))
    whole = np.linalg.norm(path.step)
    np.testing.assert_allclose(np.linalg.norm(step), min(radius, whole), rtol=1e-9)
    np.testing.assert_allclose(product, hessian @ np.asarray(step), rtol=1e-8, atol=1e-12)


def dense_bfgs(pairs, scale):
    """The textbook's recursion for the inverse."""
    matrix = scale * np.eye(pairs[0][0].size)
    for s, y in pairs:
        left = np.eye(s.size) - np.outer(s, y) / (s @ y)
        matrix = left @ matrix @ left.T + np.outer(s, s) / (s @ y)
    return matrix


@pytest.mark.parametrize("given", [1, 3, 5])
def test_the_compact_matrix_is_that_of_the_recursion_with_the_oldest_forgotten(given):
    hessian = TURN @ np.diag([1.0, 2.0, 3.0, 5.0, 8.0, 13.0]) @ TURN.T
    steps = np.random.default_rng(1).normal(size=(given, 6))
    pairs = no_pairs(4, 6, jnp.float64)
    for step in steps:
        new = Pairs(jnp.asarray(step)[None], jnp.asarray(hessian @ step)[None], jnp.array(1))
        pairs = append(pairs, new)
    kept = [(step, hessian @ step) for step in steps[-4:]]
    assert pairs.count == len(kept)
    last_step, last_change = kept[-1]
    expected = dense_bfgs(kept, last_step @ last_change / (last_change @ last_change))
    matrix = jax.vmap(inverse(pairs), out_axes=1)(jnp.eye(6))
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)


def test_without_pairs_the_matrix_is_the_identity_and_rows_that_do_not_count_are_left_out():
    empty = no_pairs(4, 6, jnp.float64)
    np.testing.assert_array_equal(inverse(empty)(jnp.asarray(GRADIENT)), GRADIENT)
    nothing = append(empty, Pairs(jnp.full((4, 6), jnp.nan), jnp.ones((4, 6)), jnp.array(0)))
    np.testing.assert_array_equal(inverse(nothing)(jnp.asarray(GRADIENT)), GRADIENT)
    assert not curves_up(jnp.ones(2), -jnp.ones(2), jnp.array(-2.0))
    assert not curves_up(jnp.zeros(2), jnp.zeros(2), jnp.array(0.0))
