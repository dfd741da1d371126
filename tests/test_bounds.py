"""Boxes: how bounds are written down, and what is on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.bounds import Box, as_box, check_bounds, held, project, sides

PARAMS = {"rate": np.array(0.5), "shape": np.array([1.0, 2.0])}


def test_no_bounds_are_none():
    assert check_bounds(None, PARAMS) is None


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (0.0, 3.0),
        ({"rate": 0.0, "shape": 0.0}, jnp.inf),
        ({"rate": 0.0, "shape": [0.0, 1.0]}, {"rate": 1, "shape": np.array([1.0, np.inf])}),
        (None, {"rate": 1.0, "shape": 2.0}),
    ],
)
def test_numbers_prefixes_and_trees_become_trees_like_params(lower, upper):
    if isinstance(lower, dict) and isinstance(lower["shape"], list):
        lower = lower | {"shape": jnp.array(lower["shape"])}
    for side in check_bounds((lower, upper), PARAMS):
        assert jax.tree.map(jnp.shape, side) == jax.tree.map(jnp.shape, PARAMS)
        assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(side))


@pytest.mark.parametrize(
    ("bounds", "error", "words"),
    [
        (1.0, TypeError, r"bounds: expected a pair \(lower, upper\), got float"),
        ((0.0, 1.0, 2.0), TypeError, "expected a pair"),
        (({"rate": 0.0}, 1.0), ValueError, "the lower bounds do not fit params"),
        ((0.0, {"rate": 1.0, "shape": jnp.ones(3)}), ValueError, "the upper bounds do not fit params"),
        (({"rate": 0.9, "shape": 0.0}, {"rate": 0.1, "shape": 9.0}), ValueError, r"bounds\['rate'\]"),
        ((jnp.nan, 5.0), ValueError, "above the upper one, or not a number"),
        ((0.0, {"rate": 1.0, "shape": 1.5}), ValueError, r"params\['shape'\]: starts outside its bounds"),
    ],
)
def test_bad_bounds_are_named(bounds, error, words):
    with pytest.raises(error, match=words):
        check_bounds(bounds, PARAMS)


def test_traced_bounds_are_not_checked():
    low, _ = jax.jit(lambda low: check_bounds((low, 9.0), PARAMS))(5.0)
    assert low["rate"] == 5.0


def test_a_step_to_a_bound_that_rounding_left_beside_it_ends_on_it():
    rng = np.random.default_rng(0)
    theta, bound = rng.normal(size=2000) * 10.0 ** rng.integers(-8, 8, 2000), rng.normal(size=2000)
    lower, upper = np.minimum(theta, bound), np.maximum(theta, bound)
    landed = project(Box(jnp.asarray(lower), jnp.asarray(upper)), jnp.asarray(theta) + (bound - theta))
    missed = np.asarray(landed) != bound
    # Where a tiny bound is reached from afar, what is lost is more than the slack; it is never outside.
    assert np.all((landed >= lower) & (landed <= upper))
    assert np.all(np.abs(theta[missed]) > 2 * np.abs(bound[missed]))


def test_infinite_bounds_change_nothing():
    theta = jnp.array([-1e300, 0.0, 1e300])
    box = Box(jnp.full(3, -jnp.inf), jnp.full(3, jnp.inf))
    np.testing.assert_array_equal(project(box, theta), theta)
    assert not held(box, theta, jnp.array([1.0, 0.0, -1.0])).any()


def test_held_and_sides():
    bounds = check_bounds(
        (jnp.array([0.0, 0.0, 1.0, -1.0]), jnp.array([1.0, 1.0, 1.0, 1.0])), jnp.array([0.0, 1.0, 1.0, 0.0])
    )
    theta = jnp.array([0.0, 1.0, 1.0, 0.0])
    box = as_box(bounds, theta)
    np.testing.assert_array_equal(
        held(box, theta, jnp.array([1.0, 1.0, 5.0, 5.0])), [True, False, True, False]
    )
    np.testing.assert_array_equal(sides(bounds, theta), [-1, 1, -1, 0])


def test_a_list_bounds_one_array_and_none_bounds_no_leaf():
    lower, upper = check_bounds(([0.0, -1.0], None), jnp.ones(2))
    np.testing.assert_array_equal(lower, [0, -1])
    np.testing.assert_array_equal(upper, [np.inf, np.inf])
    params = {"a": jnp.array(1.0), "b": jnp.ones(2)}
    lower, upper = check_bounds(({"a": None, "b": 0.0}, {"a": 2.0, "b": None}), params)
    assert (lower["a"], upper["a"]) == (-np.inf, 2)
    np.testing.assert_array_equal(lower["b"], [0, 0])
    np.testing.assert_array_equal(upper["b"], [np.inf, np.inf])
