"""Conjugate gradients and the quasi-Newton matrix against dense numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.quasi_newton import append, curves_up, inverse, no_pairs, one_pair
from jaxopt_study.truncated_cg import legs, truncated_cg

RNG = np.random.default_rng(5)
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
GRADIENT = RNG.normal(size=6)


@functools.partial(jax.jit, static_argnames=("memory", "follow_negative"))
def solve(hessian, gradient, radius, tolerance, metric, memory=4, follow_negative=True):
    return truncated_cg(
        lambda v: hessian @ v,
        gradient,
        radius,
        tolerance,
        precondition=lambda r: metric @ r,
        memory=memory,
        max_products=50,
        follow_negative=follow_negative,
    )


def path_for(curvatures, radius=1e6, tolerance=1e-10, metric=None, **options):
    hessian = TURN @ np.diag(curvatures) @ TURN.T
    metric = np.eye(6) if metric is None else metric
    arrays = map(jnp.asarray, (hessian, GRADIENT, float(radius), float(tolerance), metric))
    return hessian, solve(*arrays, **options)


def bends(hessian, path):
    first, step = path.fraction * path.first, path.step
    return [first @ hessian @ first, first @ hessian @ step, step @ hessian @ step]


def test_without_a_border_it_solves_the_system_in_as_many_products_as_variables():
    hessian, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    np.testing.assert_allclose(path.step, -np.linalg.solve(hessian, GRADIENT), rtol=1e-8)
    np.testing.assert_allclose(path.bends, bends(hessian, path), rtol=1e-9)
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
    np.testing.assert_allclose(path.bends, bends(hessian, path), rtol=1e-9)
    points = (path.fraction * path.first, path.step)
    first, last = (GRADIENT @ s + 0.5 * s @ hessian @ s for s in map(np.asarray, points))
    assert last < first < 0


def test_negative_curvature_that_is_not_followed_leaves_the_iterate_before_it():
    curvatures = [-1.0, 2.0, 3.0, 5.0, 8.0, 13.0]
    hessian, followed = path_for(curvatures, radius=1e6)
    _, path = path_for(curvatures, radius=1e6, follow_negative=False)
    assert path.negative
    assert path.products == followed.products
    assert 0 < np.linalg.norm(path.step) < 100
    step = np.asarray(path.step)
    assert GRADIENT @ step + 0.5 * step @ hessian @ step < 0


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_the_last_directions_are_returned_as_pairs_of_product_one(memory):
    hessian, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], memory=memory)
    steps, changes = np.asarray(path.pairs.steps), np.asarray(path.pairs.changes)
    assert path.pairs.count == memory
    np.testing.assert_allclose(changes, steps @ hessian, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(steps @ hessian @ steps.T, np.eye(memory), atol=1e-6)


def test_the_border_ends_it_and_a_gradient_of_zero_costs_nothing():
    _, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], radius=1e-3)
    np.testing.assert_allclose(np.linalg.norm(path.step), 1e-3, rtol=1e-12)
    nothing = solve(jnp.eye(6), jnp.zeros(6), 1.0, 1e-3, jnp.eye(6))
    assert nothing.products == 0
    np.testing.assert_array_equal(nothing.step, 0.0)


@pytest.mark.parametrize("radius", [1e-4, 0.05, 0.3, 1.0, 1e5])
def test_a_shortened_path_is_on_it_at_the_radius_with_what_the_model_says_there(radius):
    hessian, path = path_for([1.0, 2.0, 3.0, 5.0, 8.0, 13.0], radius=1.5)
    step, length, predicted = legs(path, jnp.asarray(GRADIENT)).shortened(jnp.asarray(radius))
    step = np.asarray(step)
    np.testing.assert_allclose(np.linalg.norm(step), min(radius, np.linalg.norm(path.step)), rtol=1e-9)
    np.testing.assert_allclose(length, np.linalg.norm(step), rtol=1e-12)
    np.testing.assert_allclose(predicted, -GRADIENT @ step - 0.5 * step @ hessian @ step, rtol=1e-9)
    corner = np.asarray(path.fraction * path.first)
    on_first = np.linalg.matrix_rank(np.stack([corner, step]), tol=1e-9) == 1
    on_second = np.linalg.matrix_rank(np.stack([path.step - corner, step - corner]), tol=1e-9) == 1
    assert on_first or on_second


def dense_bfgs(pairs, scale):
    """The textbook's recursion for the inverse."""
    matrix = scale * np.eye(pairs[0][0].size)
    for s, y in pairs:
        left = np.eye(s.size) - np.outer(s, y) / (s @ y)
        matrix = left @ matrix @ left.T + np.outer(s, s) / (s @ y)
    return matrix


@pytest.mark.slow
@pytest.mark.parametrize("given", [1, 3, 5])
def test_the_compact_matrix_is_that_of_the_recursion_with_the_oldest_forgotten(given):
    hessian = TURN @ np.diag([1.0, 2.0, 3.0, 5.0, 8.0, 13.0]) @ TURN.T
    steps = np.random.default_rng(1).normal(size=(given, 6))
    pairs = no_pairs(4, 6, jnp.float64)
    for step in steps:
        change = hessian @ step
        pairs = append(pairs, one_pair(*map(jnp.asarray, (step, change, step @ change, True))))
    kept = [(step, hessian @ step) for step in steps[-4:]]
    assert pairs.count == len(kept)
    last_step, last_change = kept[-1]
    expected = dense_bfgs(kept, last_step @ last_change / (last_change @ last_change))
    matrix = jax.vmap(inverse(pairs), out_axes=1)(jnp.eye(6))
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)


def test_without_pairs_the_matrix_is_the_identity_and_rows_that_do_not_count_are_left_out():
    empty = no_pairs(4, 6, jnp.float64)
    np.testing.assert_array_equal(inverse(empty)(jnp.asarray(GRADIENT)), GRADIENT)
    lost = one_pair(jnp.full(6, jnp.nan), jnp.ones(6), jnp.array(jnp.nan), jnp.array(False))
    np.testing.assert_array_equal(inverse(append(empty, lost))(jnp.asarray(GRADIENT)), GRADIENT)
    assert not curves_up(jnp.array(2.0), jnp.array(2.0), jnp.array(-2.0))
    assert not curves_up(jnp.array(0.0), jnp.array(0.0), jnp.array(0.0))
