"""`LeastSquares`: ½ Σ r², over residuals of any structure."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos


def residual_fn(params, x):
    return {"line": params["a"] * x, "rest": (params["b"] - 1.0, jnp.full((2, 2), params["b"]))}


def test_value_is_half_the_sum_of_squares_of_all_leaves():
    value = jos.LeastSquares(residual_fn)({"a": jnp.array(2.0), "b": jnp.array(3.0)}, jnp.array([1.0, 2.0]))
    assert value == 0.5 * (2**2 + 4**2 + 2**2 + 4 * 3**2)


def test_residual_is_one_vector_in_the_order_of_the_leaves():
    params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
    residual = jos.LeastSquares(residual_fn).residual(params, jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(residual, [2, 4, 2, 3, 3, 3, 3])


def test_pointwise_is_static_and_a_plain_function_is_no_array():
    objective = jos.LeastSquares(residual_fn, pointwise=True)
    leaves, structure = jax.tree.flatten(objective)
    assert leaves == [residual_fn, 1.0]  # the loss's scale
    assert jax.tree.unflatten(structure, leaves) == objective
    assert structure != jax.tree.structure(jos.LeastSquares(residual_fn, pointwise=False))


def test_gradient_is_the_transposed_jacobian_times_the_residual():
    matrix, target = np.arange(12.0).reshape(4, 3) ** 1.5, np.array([1.0, -2.0, 3.0, 0.5])
    theta = np.array([0.3, -0.2, 0.1])
    gradient = jax.grad(jos.LeastSquares(lambda p, a, b: a @ p - b))(jnp.asarray(theta), matrix, target)
    np.testing.assert_allclose(gradient, matrix.T @ (matrix @ theta - target), rtol=1e-13)
