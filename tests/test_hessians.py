"""Second derivatives against closed forms, dense ones, and the statistics of their estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos


def chain(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def chain_hessian(x):
    """By hand: Rosenbrock's chained function."""
    n = len(x)
    out = np.zeros((n, n))
    for i in range(n - 1):
        out[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        out[i + 1, i + 1] += 200
        out[i, i + 1] = out[i + 1, i] = -400 * x[i]
    return out


X = np.random.default_rng(0).normal(size=9)


def test_the_product_is_that_with_the_hessian_by_hand(precision):
    v = np.random.default_rng(1).normal(size=9)
    out = jos.hvp(chain, jnp.asarray(X, precision), jnp.asarray(v, precision))
    assert out.dtype == precision
    np.testing.assert_allclose(out, chain_hessian(X) @ v, rtol=1e-4 if precision == "float32" else 1e-12)


def test_the_product_goes_through_trees_and_args():
    def fn(params, scale):
        return scale * params["a"] ** 2 * jnp.sum(params["b"] ** 2)

    params = {"a": jnp.array(2.0), "b": jnp.array([1.0, 3.0])}
    out = jos.hvp(fn, params, {"a": 1.0, "b": jnp.array([0.0, 1.0])}, 0.5)
    np.testing.assert_allclose(out["a"], 0.5 * (2 * 10 + 4 * 2.0 * 3.0))
    np.testing.assert_allclose(out["b"], [0.5 * 4 * 2 * 1.0, 0.5 * (4 * 2 * 3.0 + 2 * 4)])


@pytest.mark.parametrize("vector", [jnp.ones(3), [jnp.ones(2)]])
def test_a_vector_unlike_the_parameters_is_named(vector):
    with pytest.raises(ValueError, match=r"vector.*expected"):
        jos.hvp(lambda x: jnp.sum(x**2), jnp.ones(2), vector)


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_the_hessian_is_the_one_by_hand(mode):
    matrix = jos.hessian(chain, mode)(jnp.asarray(X))
    dense = matrix if mode == "dense" else matrix.todense()
    np.testing.assert_allclose(dense, chain_hessian(X), rtol=1e-12, atol=1e-12)


def test_a_dense_hessian_of_a_tree_is_a_tree_of_trees():
    params = {"a": jnp.array(2.0), "b": jnp.array([1.0, 3.0])}
    out = jos.hessian(lambda p: p["a"] ** 2 * jnp.sum(p["b"]))(params)
    np.testing.assert_allclose(out["a"]["b"], [4.0, 4.0])
    assert out["b"]["b"].shape == (2, 2)


def test_an_arrow_takes_two_products_and_is_right():
    def arrow(x):
        return x[0] * jnp.sum(jnp.sin(x))

    x = jnp.asarray(np.random.default_rng(2).normal(size=60))
    assert jos.hessian_coloring(arrow, x).passes == 2
    np.testing.assert_allclose(
        jos.hessian(arrow, "sparse")(x).todense(), jax.hessian(arrow)(x), rtol=1e-12, atol=1e-13
    )


def test_an_upper_triangle_is_enough_of_a_pattern_and_less_is_refused():
    x = jnp.asarray(X)
    upper = np.triu(np.abs(np.subtract.outer(range(9), range(9))) <= 1)
    matrix = jos.hessian(chain, "sparse", sparsity=upper)(x)
    np.testing.assert_allclose(matrix.todense(), chain_hessian(X), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="pattern lacks"):
        jos.hessian(chain, "sparse", sparsity=np.eye(9))(x)


def test_the_diagonal_is_exact_under_jit_and_on_trees():
    np.testing.assert_allclose(
        jax.jit(lambda x: jos.hessian_diagonal(chain, x))(jnp.asarray(X)),
        np.diag(chain_hessian(X)),
        rtol=1e-12,
    )
    out = jos.hessian_diagonal(lambda p: p["a"] ** 3 * jnp.sum(p["b"] ** 2), {"a": 2.0, "b": jnp.ones(2)})
    np.testing.assert_allclose(out["a"], 6 * 2.0 * 2.0)
    np.testing.assert_allclose(out["b"], [16.0, 16.0])


def test_the_estimate_is_unbiased_and_its_error_is_the_spread_it_has(key):
    """2,000 estimates: their mean is the diagonal, their spread the standard error that each states."""
    estimates = jax.jit(
        jax.vmap(lambda k: jos.hessian_diagonal_estimate(chain, jnp.asarray(X), key=k, samples=16))
    )(jax.random.split(key, 2000))
    spread = np.std(estimates.value, axis=0)
    matrix = chain_hessian(X)
    true_spread = np.sqrt((np.sum(matrix**2, axis=1) - np.diag(matrix) ** 2) / 16)
    assert np.all(
        np.abs(np.mean(estimates.value, axis=0) - np.diag(matrix)) < 5 * true_spread / np.sqrt(2000)
    )
    np.testing.assert_allclose(spread, true_spread, rtol=0.1)
    np.testing.assert_allclose(np.sqrt(np.mean(estimates.stderr**2, axis=0)), true_spread, rtol=0.1)


def test_one_sample_has_no_error_and_is_refused(key):
    with pytest.raises(ValueError, match="samples: expected at least 2"):
        jos.hessian_diagonal_estimate(chain, jnp.ones(3), key=key, samples=1)


def test_gradients_by_example_are_those_one_by_one():
    def loss(params, x, y):
        return (jnp.tanh(x @ params["w"]) - y["target"]) ** 2

    draw = np.random.default_rng(0)
    params = {"w": jnp.asarray(draw.normal(size=3))}
    x, y = jnp.asarray(draw.normal(size=(5, 3))), {"target": jnp.asarray(draw.normal(size=5))}
    out = jos.per_example_grads(loss, params, x, y)["w"]
    t = np.tanh(np.asarray(x) @ np.asarray(params["w"]))
    expected = (2 * (t - np.asarray(y["target"])) * (1 - t**2))[:, None] * np.asarray(x)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"per_example_grads: args\[1\].*4 rows"):
        jos.per_example_grads(loss, params, x, jnp.ones(4))
