"""`pytree`: one vector from many leaves, and the checks before tracing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxopt_study import pytree


class Pair(NamedTuple):
    left: object
    right: object


def nested():
    return {"a": jnp.arange(3.0), "b": Pair(jnp.array(5.0), [jnp.arange(6.0, 10.0).reshape(2, 2)])}


def test_ravel_puts_leaves_in_order_and_its_inverse_restores_the_tree():
    flat, unravel = pytree.ravel(nested())
    np.testing.assert_array_equal(flat, [0, 1, 2, 5, 6, 7, 8, 9])
    back = unravel(flat)
    assert jax.tree.structure(back) == jax.tree.structure(nested())
    jax.tree.map(np.testing.assert_array_equal, back, nested())


def test_ravel_leaves_equals_ravel():
    np.testing.assert_array_equal(pytree.ravel_leaves(nested()), pytree.ravel(nested())[0])


def test_size_counts_elements_of_all_leaves():
    assert pytree.size(nested()) == 8


def test_add_keeps_the_dtype_of_params():
    total = pytree.add(jnp.ones(2, jnp.float32), jnp.full(2, 0.5, jnp.float64))
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(total, [1.5, 1.5])


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1.0])
def test_norm_neither_overflows_nor_vanishes_in_float32(scale):
    tree = {"a": jnp.array([3 * scale], jnp.float32), "b": jnp.array(4 * scale, jnp.float32)}
    np.testing.assert_allclose(pytree.norm(tree), 5 * scale, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, pytree.SHORT + 1])
@pytest.mark.parametrize("scale", [1e200, 1e300, 1.0])
def test_norm_does_not_overflow_in_float64_whatever_the_length(size, scale):
    vector = scale * jnp.linspace(0.1, 1.0, size)
    expected = scale * np.linalg.norm(np.linspace(0.1, 1.0, size))
    np.testing.assert_allclose(pytree.norm(vector), expected, rtol=1e-14)
    batch = jax.vmap(pytree.norm)(jnp.stack([vector, vector / scale]))
    np.testing.assert_allclose(batch, [expected, expected / scale], rtol=1e-14)


def test_norm_of_zeros_is_zero():
    assert pytree.norm({"a": jnp.zeros(3), "b": jnp.zeros(())}) == 0


@pytest.mark.parametrize("hostile", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [2, pytree.SHORT + 1])
def test_norm_of_what_is_not_finite_is_not_finite(hostile, size):
    assert not np.isfinite(pytree.norm(jnp.ones(size).at[1].set(hostile)))


def test_traceable_makes_functions_static_and_leaves_callable_pytrees_traced():
    bound = Partial(jnp.power, 3.0)
    tree = pytree.traceable({"rate": 0.1, "plain": jnp.sin, "bound": bound})
    assert sorted(jax.tree.leaves(tree)) == [0.1, 3.0]
    assert tree["plain"](0.0) == 0.0


def test_check_real_returns_arrays():
    checked = pytree.check_real("params", {"a": 1.0, "b": np.ones(2)})
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(checked))


@pytest.mark.parametrize(
    ("leaf", "said"),
    [(jnp.arange(3), "int"), (jnp.ones(2) * 1j, "complex"), ("text", "str"), (jnp.array(True), "bool")],
    ids=["int", "complex", "str", "bool"],
)
def test_check_real_names_the_leaf_that_is_not_real(leaf, said):
    with pytest.raises(TypeError, match=rf"params\['b'\]\['c'\].*{said}"):
        pytree.check_real("params", {"a": 1.0, "b": {"c": leaf}})


@pytest.mark.parametrize("empty", [{}, (), None, {"a": None}])
def test_check_real_refuses_a_tree_without_leaves(empty):
    with pytest.raises(ValueError, match="params"):
        pytree.check_real("params", empty)


def test_what_stays_with_numpy_is_a_copy():
    values = np.ones(3, jnp.zeros(()).dtype)
    kept = pytree.check_real("params", {"a": values, "b": jnp.ones(2)}, keep_numpy=True)["a"]
    for copy in (kept, pytree.as_array(values), pytree.owned(values)):
        assert isinstance(copy, np.ndarray)
        assert not np.shares_memory(copy, values)


@pytest.mark.slow
def test_a_weak_number_becomes_strong_without_a_program(caplog):
    weak = {"a": jnp.asarray(1.5), "b": jnp.asarray(2.5)}
    assert weak["a"].weak_type
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        strong = pytree.check_real("params", weak, keep_numpy=True)
    assert not [record for record in caplog.records if "XLA compilation" in record.getMessage()]
    assert {name: (leaf.dtype, float(leaf)) for name, leaf in strong.items()} == {
        "a": (np.float64, 1.5),
        "b": (np.float64, 2.5),
    }
    assert isinstance(pytree.check_real("params", jnp.asarray(1.5)), jax.Array)
