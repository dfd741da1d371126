"""The multilayer perceptron against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.models import mlp

IN_NUMPY = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "sin": np.sin,
}


def random_params(widths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"w": jnp.asarray(rng.normal(size=(i, o))), "b": jnp.asarray(rng.normal(size=o))}
        for i, o in itertools.pairwise(widths)
    ]


def in_numpy(params, x, names):
    x = np.asarray(x)
    for layer, name in zip(params, names, strict=True):
        x = IN_NUMPY[name](x @ np.asarray(layer["w"]) + np.asarray(layer["b"]))
    return x


def test_a_4_5_7_7_4_sigmoid_network_equals_numpy():
    params = mlp.init(jax.random.key(0), (4, 5, 7, 7, 4))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 155
    x = np.random.default_rng(1).normal(size=(200, 4))
    names = ["sigmoid"] * 4
    y = mlp.apply(params, jnp.asarray(x), names)
    assert y.shape == (200, 4)
    np.testing.assert_allclose(y, in_numpy(params, x, names), rtol=1e-14)


@pytest.mark.parametrize("name", mlp.ACTIVATIONS)
def test_every_activation_equals_numpy(name):
    params = random_params((3, 4, 2))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)))
    np.testing.assert_allclose(
        mlp.apply(params, x, [name, name]), in_numpy(params, x, [name, name]), rtol=1e-12, atol=1e-14
    )


def test_one_activation_leaves_the_output_linear():
    params = random_params((3, 4, 2))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 3)))
    expected = in_numpy(params, x, ["tanh", "identity"])
    np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-13)
    np.testing.assert_allclose(mlp.apply(params, x, jnp.tanh), expected, rtol=1e-13)


def test_the_start_is_glorots():
    params = mlp.init(jax.random.key(3), (300, 200, 100), scale=2.0)
    for layer, (i, o) in zip(params, ((300, 200), (200, 100)), strict=True):
        w = np.asarray(layer["w"])
        limit = 2 * np.sqrt(6 / (i + o))
        assert w.shape == (i, o)
        assert 0.999 * limit < np.abs(w).max() <= limit
        np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.02)
        assert not layer["b"].any()
    overlap = np.corrcoef(params[0]["w"].ravel()[:20_000], params[1]["w"].ravel())[0, 1]
    assert abs(overlap) < 0.03


def test_parameters_have_the_default_dtype():
    assert mlp.init(jax.random.key(0), (1, 1))[0]["w"].dtype == jnp.float64
    with jax.enable_x64(False):
        params = mlp.init(jax.random.key(0), (2, 3, 1))
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
        assert dtypes == {mlp.apply(params, jnp.ones(2)).dtype} == {jnp.dtype("float32")}


def test_wrong_widths_and_activations_are_named():
    with pytest.raises(ValueError, match=r"widths: .* got \(3,\)"):
        mlp.init(jax.random.key(0), (3,))
    with pytest.raises(ValueError, match="widths"):
        mlp.init(jax.random.key(0), (3, 0, 1))
    params = random_params((2, 2, 1))
    with pytest.raises(ValueError, match="2 layers, got 1"):
        mlp.apply(params, jnp.ones(2), ["tanh"])
    with pytest.raises(ValueError, match=r"activation: expected one of identity, tanh, .*'tahn'"):
        mlp.apply(params, jnp.ones(2), "tahn")
