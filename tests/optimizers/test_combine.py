"""Chains and masks, with second-order methods in them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos

X = np.linspace(0.0, 4.0, 12)
Y = 3 * np.exp(-0.5 * X) + 0.25
FROZEN = {"zero": np.array([-0.0, 0.0]), "offset": np.array(0.1)}


def residual_fn(params, x, y):
    return params["a"] * jnp.exp(-params["k"] * x) + params["offset"] + jnp.sum(params["zero"]) - y


CURVE = jos.LeastSquares(residual_fn)


def start():
    return {"a": jnp.full((), 2.0, float), "k": jnp.full((), 0.6, float), **jax.tree.map(jnp.asarray, FROZEN)}


MASK = {"a": True, "k": True, "offset": False, "zero": False}
SCALE = optax.scale(0.5)
INSIDE = {
    "lm": jos.levenberg_marquardt,
    "gauss_newton": jos.gauss_newton,
    "newton": jos.newton,
    "adam": lambda: jos.adam(0.02),
    "optax_chain_of_lm": lambda: optax.chain(jos.levenberg_marquardt(), SCALE),
    "jos_chain_of_newton": lambda: jos.chain(jos.newton(), SCALE),
}


def data():
    return jnp.asarray(X), jnp.asarray(Y)


def extras(params):
    del params
    return {"residual_fn": CURVE, "args": data(), "value_fn": lambda p: CURVE(p, *data())}


def frozen_are_untouched(params):
    for name, value in FROZEN.items():
        assert np.asarray(params[name]).tobytes() == value.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", INSIDE)
def test_frozen_leaves_keep_every_bit_and_the_others_find_their_own_minimum(name):
    """Minus zero is a bit too. The minimum is that of a fit in which the frozen leaves are constants."""
    result = jos.minimize(CURVE, start(), jos.masked(INSIDE[name](), MASK), data(), max_steps=2000)
    frozen_are_untouched(result.params)
    from scipy.optimize import least_squares

    expected = least_squares(
        lambda p: p[0] * np.exp(-p[1] * X) + 0.1 - Y, [2.0, 0.6], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose([result.params["a"], result.params["k"]], expected.x, rtol=1e-6)
    np.testing.assert_allclose(result.value, expected.cost, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm", "newton", "jos_chain_of_newton"])
def test_masks_work_under_jit_vmap_and_scan(name):
    optimizer = jos.masked(INSIDE[name](), MASK)

    @jax.jit
    def run(a):
        params = start() | {"a": a}

        def body(carry, _):
            params, state = carry
            grads = jax.grad(CURVE)(params, *data())
            updates, state = optimizer.update(grads, state, params, **extras(params))
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, optimizer.init(params)), None, length=8)[0][0]

    many = jax.vmap(run)(jnp.array([1.5, 2.0, 2.5]))
    for lane in range(3):
        frozen_are_untouched(jax.tree.map(lambda leaf: leaf[lane], many))  # noqa: B023
    alone = run(jnp.asarray(2.0))
    np.testing.assert_allclose(many["k"][1], alone["k"], rtol=1e-9)


def test_no_state_is_kept_for_frozen_leaves():
    state = jos.masked(jos.adam(0.1), MASK).init(start())
    sizes = [leaf.size for leaf in jax.tree.leaves(state)]
    assert sum(sizes) == 1 + 2 * 2  # a count, and two means of two numbers
    assert jos.masked(jos.levenberg_marquardt(), MASK).init(start()).inner_state.scale.shape == (2,)


def test_a_mask_may_be_a_prefix_or_a_function():
    grads = {"net": {"w": jnp.ones(2), "b": jnp.ones(())}, "head": jnp.ones(3)}
    for mask in ({"net": False, "head": True}, lambda p: {"net": False, "head": True}):
        optimizer = jos.masked(jos.sgd(0.5), mask)
        updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
        np.testing.assert_array_equal(updates["head"], [-0.5] * 3)
        for leaf in jax.tree.leaves(updates["net"]):
            np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))
            assert np.all(np.signbit(leaf))


def test_a_mask_of_anything_but_bools_is_refused():
    with pytest.raises(TypeError, match=r"mask.*int"):
        jos.masked(jos.sgd(0.1), {"a": 1, "b": 0})


def test_optax_masked_works_with_first_order_methods():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    masked = optax.masked(jos.adam(0.1), {"a": True, "b": False})
    result = jos.minimize(lambda p: jnp.sum(p["a"] ** 2) + 0 * jnp.sum(p["b"]), params, masked, max_steps=5)
    assert np.all(result.params["a"] < 0.6)
    np.testing.assert_array_equal(result.params["b"], [1.0, 1.0])


def test_a_chain_gives_each_the_update_of_the_one_before():
    optimizer = jos.chain(jos.sgd(0.5), optax.scale(2.0), jos.sgd(-3.0))
    updates, state = optimizer.update(jnp.array([1.0]), optimizer.init(jnp.zeros(1)), jnp.zeros(1))
    np.testing.assert_array_equal(updates, [-0.5 * 2 * 3])
    assert len(state) == 3


def test_a_chain_with_another_number_compiles_nothing(count_traces):
    counted = count_traces(residual_fn)
    objective = jos.LeastSquares(counted.fn)

    def solve(rate, damping):
        masked = jos.masked(jos.chain(jos.levenberg_marquardt(damping), SCALE, jos.sgd(rate)), MASK)
        return jos.minimize(objective, start(), masked, data(), max_steps=3)

    solve(-1.0, 1e-3)
    traced = counted.count
    solve(-0.5, 10.0)
    assert counted.count == traced


def test_a_state_of_another_chain_is_refused():
    one, two = jos.chain(jos.sgd(0.1)), jos.chain(jos.sgd(0.1), jos.sgd(0.1))
    with pytest.raises(ValueError, match=r"state.*2.*1"):
        two.update(jnp.ones(1), one.init(jnp.ones(1)), jnp.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm", "gauss_newton", "newton"])
def test_second_order_methods_need_no_gradient(name):
    optimizer, params = INSIDE[name](), start()

    @jax.jit
    def steps(params):
        grads = jax.grad(CURVE)(params, *data())
        return [
            optimizer.update(g, optimizer.init(params), params, **extras(params))[0] for g in (None, grads)
        ]

    none, given = steps(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), none, given)


def test_an_update_of_levenberg_marquardt_lowers_the_value_and_reports_it():
    optimizer = jos.levenberg_marquardt()
    params = start()
    updates, state = jax.jit(
        lambda p: optimizer.update(None, optimizer.init(p), p, residual_fn=CURVE, args=data())
    )(params)
    info = state.info
    before, after = CURVE(params, *data()), CURVE(optax.apply_updates(params, updates), *data())
    np.testing.assert_allclose(info.value, after, rtol=1e-12)
    np.testing.assert_allclose(info.actual, before - after, rtol=1e-9)
    np.testing.assert_allclose(info.gain_ratio, info.actual / info.predicted, rtol=1e-12)
    assert info.accepted
    assert after < before
    grads = jax.grad(CURVE)(params, *data())
    np.testing.assert_allclose(
        info.grad_norm, np.linalg.norm(jax.flatten_util.ravel_pytree(grads)[0]), rtol=1e-9
    )


def test_the_gain_ratio_of_a_linear_problem_is_one():
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=8))
    for optimizer in (jos.levenberg_marquardt(0.5), jos.gauss_newton()):
        step = jax.jit(lambda p, o=optimizer: o.update(None, o.init(p), p, residual_fn=lambda p: a @ p - b))
        _, state = step(jnp.zeros(3))
        np.testing.assert_allclose(state.info.gain_ratio, 1.0, rtol=1e-10)


@pytest.mark.parametrize("damping", [1e-2, 1.0, 50.0])
def test_one_step_of_levenberg_marquardt_solves_the_damped_equations(damping):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 3)) * [1, 100, 0.01], rng.normal(size=8)
    optimizer = jos.levenberg_marquardt(damping)
    step = jax.jit(lambda p: optimizer.update(None, optimizer.init(p), p, residual_fn=lambda p: a @ p - b)[0])
    scale = np.diag(np.sum(a**2, axis=0))
    np.testing.assert_allclose(
        step(jnp.zeros(3)), np.linalg.solve(a.T @ a + damping * scale, a.T @ b), rtol=1e-10
    )


def test_one_step_of_newton_solves_the_hessian():
    h = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
    g = np.array([1.0, -2.0, 0.5])
    for optimizer in (jos.newton(), jos.newton(None)):
        value_fn = lambda p: 0.5 * p @ h @ p + g @ p  # noqa: E731
        step = jax.jit(lambda p, o=optimizer, f=value_fn: o.update(None, o.init(p), p, value_fn=f)[0])
        np.testing.assert_allclose(step(jnp.zeros(3)), -np.linalg.solve(h, g), rtol=1e-12)


@pytest.mark.slow
def test_plain_newton_goes_to_a_saddle_and_the_others_descend():
    h = np.diag([2.0, -1.0])
    value_fn = lambda p: 0.5 * p @ h @ p  # noqa: E731
    at = jnp.array([1.0, 1.0])

    def step(optimizer):
        return optimizer.update(None, optimizer.init(at), at, value_fn=value_fn)[0]

    np.testing.assert_allclose(step(jos.newton(None)), [-1.0, -1.0], rtol=1e-12)
    np.testing.assert_allclose(step(jos.newton(saddle_free=True)), [-1.0, 1.0], rtol=1e-12)
    exact = np.asarray(step(jos.newton()))
    shift = -2.0 * 1.0 / exact[0] - 2.0  # of (H + λI) d = -g, by the first row
    np.testing.assert_allclose((h + shift * np.eye(2)) @ exact, -h @ at, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(exact), 0.1 * np.sqrt(2), rtol=1e-6)
    assert shift > 1


def test_a_negative_damping_of_newton_is_refused():
    with pytest.raises(ValueError, match="damping"):
        jos.newton(-1.0)
