"""The loop on one vector: the same steps as leaf by leaf, and as many kernels for any number of leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos

STEPS = 25
OPTIMIZERS = {
    "sgd": (jos.sgd(0.05), optax.sgd(0.05)),
    "nesterov": (jos.sgd(0.02, 0.9, nesterov=True), optax.sgd(0.02, 0.9, nesterov=True)),
    "adagrad": (jos.adagrad(0.1), optax.adagrad(0.1)),
    "rmsprop": (
        jos.rmsprop(0.02, centered=True, momentum=0.5),
        optax.rmsprop(0.02, centered=True, momentum=0.5),
    ),
    "adam": (jos.adam(0.1), optax.adam(0.1)),
    "scheduled": (
        jos.adam(lambda count: 0.1 / (1 + count)),
        optax.adam(lambda count: 0.1 / (1 + count)),
    ),
    "half": (jos.adam(0.1, mu_dtype="bfloat16"), optax.adam(0.1, mu_dtype="bfloat16")),
    "an array for a rate": (jos.sgd(jnp.array([0.05, 0.01])), optax.sgd(jnp.array([0.05, 0.01]))),
    "a schedule of arrays": (
        jos.sgd(lambda count: jnp.array([0.05, 0.01]) / (1 + count)),
        optax.sgd(lambda count: jnp.array([0.05, 0.01]) / (1 + count)),
    ),
}


def start():
    return {"w": jnp.array([[1.0, 2.0], [-1.0, 0.5]]), "b": [jnp.array([0.3, -0.2]), jnp.array([3.0, 1.0])]}


def bowl(p, scale):
    return scale * (
        jnp.sum(p["w"] ** 4) + jnp.sum((p["b"][0] - 1) ** 2) + jnp.sum(p["b"][0] * p["b"][1] ** 2)
    )


@functools.cache
def by_optax(name):
    """Leaf by leaf: parameters and values of every step, and the state at the end."""
    optimizer = OPTIMIZERS[name][1]
    params, path = start(), []
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for _ in range(STEPS):
        path.append((params, bowl(params, 0.5)))
        updates, state = step(jax.grad(bowl)(params, 0.5), state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(lambda *all_: jnp.stack(all_), *path, (params, bowl(params, 0.5))), state


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_and_the_state_are_those_of_optax_leaf_by_leaf(name):
    with jax.numpy_rank_promotion("allow"):
        result = jos.minimize(bowl, start(), OPTIMIZERS[name][0], (0.5,), max_steps=STEPS, trace=lambda p: p)
        (path, values), state = by_optax(name)
    rtol, atol = (3e-2, 3e-2) if name == "half" else (1e-10, 1e-9)  # digits of bfloat16
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), result.trace.observed, path
    )
    np.testing.assert_allclose(result.trace.value, values, rtol=rtol, atol=atol)
    np.testing.assert_allclose(result.value, values[-1], rtol=rtol, atol=atol)
    theirs = [leaf for leaf in jax.tree.leaves(state) if jnp.size(leaf) > 1]
    ours = [leaf for leaf in jax.tree.leaves(result.opt_state) if jnp.size(leaf) > 1]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


def roots(optimizer, params):
    """How many square roots the program of a minimization takes; one a kernel of Adam, and of each norm."""
    objective = lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))  # noqa: E731
    program = jax.make_jaxpr(lambda p: jos.minimize(objective, p, optimizer, max_steps=3).params)(params)
    return str(program).count(" sqrt ")


@pytest.mark.slow
def test_twelve_leaves_are_updated_as_one():
    small = [jnp.ones(3)] * 12
    one = roots(jos.adam(0.1), small[:1])
    assert roots(jos.adam(0.1), small) == one
    # Leaf by leaf: what may not be elementwise, what would be rounded, and what is long.
    assert roots(optax.adam(0.1), small) == one + 11
    assert roots(jos.adam(jnp.full(3, 0.1)), small) == one + 11
    assert roots(jos.adam(0.1), [jnp.ones(3, "float32"), jnp.ones(3)]) == one + 1
    assert roots(jos.adam(0.1), [jnp.ones(2**16), jnp.ones(3)]) == one + 1


def test_bounds_hold_leaf_by_leaf():
    """The distance from a center that is partly outside: the nearest point of the box."""
    center = {"w": jnp.array([[3.0, 1.0], [0.0, -2.0]]), "b": [jnp.array([0.0, 2.0]), jnp.array(5.0)]}
    inside = jax.tree.map(jnp.ones_like, center)
    distance = lambda p, c: sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), p, c)))  # noqa: E731
    bounds = ({"w": -1.0, "b": [0.5, None]}, {"w": 2.0, "b": None})
    result = jos.minimize(distance, inside, jos.sgd(0.3), (center,), bounds=bounds, max_steps=80)
    expected = {"w": jnp.array([[2.0, 1.0], [0.0, -1.0]]), "b": [jnp.array([0.5, 2.0]), jnp.array(5.0)]}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), result.params, expected)
    np.testing.assert_array_equal(result.active["w"], [[1, 0], [0, -1]])
    np.testing.assert_array_equal(result.active["b"][0], [-1, 0])
    assert result.active["b"][1] == 0
    assert result.grad_norm < 1e-12


def test_derivatives_of_the_end_and_lanes_of_a_batch_are_as_before():
    objective = lambda p, c: jnp.sum((p["a"] - c) ** 2) + jnp.sum((p["b"] - p["a"][0]) ** 2)  # noqa: E731

    def end(c):
        params = {"a": jnp.zeros(2), "b": jnp.zeros(())}
        return jos.minimize(objective, params, jos.sgd(0.2), (c,), max_steps=500, gtol=1e-12).params["b"]

    np.testing.assert_allclose(jax.grad(end)(jnp.array([1.0, 2.0])), [1.0, 0.0], atol=1e-6)
    ends = jax.vmap(end)(jnp.array([[1.0, 2.0], [jnp.nan, 0.0], [-3.0, 1.0]]))
    np.testing.assert_allclose(ends[jnp.array([0, 2])], [1.0, -3.0], atol=1e-6)
