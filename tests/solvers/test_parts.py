"""`start`, `advance`, `finish`: the same bits however the steps are divided; batches by `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.result import Status

X = np.linspace(0.0, 4.0, 12)
Y = 3 * np.exp(-0.5 * X) + 0.1 * np.cos(7 * X)
DECAY = jos.LeastSquares(lambda p, x, y: p["a"] * jnp.exp(-p["k"] * x) - y)
OPTIMIZERS = {
    "sgd_nesterov": lambda: jos.sgd(0.01, 0.9, nesterov=True),
    "adam_scheduled": lambda: jos.adam(optax.exponential_decay(0.05, 50, 0.9)),
    "rmsprop": lambda: jos.rmsprop(0.01),
    "optax_adam": lambda: ADAM,
    "newton": jos.newton,
    "gauss_newton": jos.gauss_newton,
    "lm": jos.levenberg_marquardt,
    "lm_chain": lambda: jos.chain(jos.levenberg_marquardt(), SCALE),
}
ADAM, SCALE = optax.adam(0.05), optax.scale(0.5)


def start(a=2.0, k=0.6):
    return {"a": jnp.full((), a, float), "k": jnp.full((), k, float)}


def data():
    return jnp.asarray(X), jnp.asarray(Y)


def same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def in_chunks(carry, size, limit=5000):
    for _ in range(limit):
        carry = jos.advance(carry, size)
        if carry.state.status != Status.RUNNING:
            return carry
    raise AssertionError("did not end")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batches"),
    [(name, False) for name in OPTIMIZERS if name != "lm_chain"] + [("adam_scheduled", True), ("lm", True)],
)
def test_chunks_of_1_7_and_1000_steps_give_the_bits_of_one_call(name, batches):
    def batch_fn(step, key):
        chosen = jax.random.choice(key, X.size, (8,))
        return jnp.asarray(X)[chosen], jnp.asarray(Y)[chosen]

    options = {"max_steps": 100, "trace": lambda p: p["k"]}
    if batches:
        options |= {"batch_fn": batch_fn, "key": jax.random.key(3), "ftol": 0.0, "xtol": 0.0, "gtol": 0.0}
    args, optimizer = () if batches else data(), OPTIMIZERS[name]()
    whole = jos.minimize(DECAY, start(), optimizer, args, **options)
    assert whole.num_steps > 2
    for size in (1, 7, 1000):
        carry = in_chunks(jos.start(DECAY, start(), optimizer, args, **options), size)
        same_bits(jos.finish(carry), whole)


def test_a_chunk_is_one_program_for_any_number_of_steps(count_traces):
    counted = count_traces(DECAY.residual_fn)
    carry = jos.start(jos.LeastSquares(counted.fn), start(), jos.adam(0.1), data(), max_steps=100)
    carry = jos.advance(carry, 1)
    traced = counted.count
    for n in (2, 3, np.int32(5), jnp.int32(7)):
        carry = jos.advance(carry, n)
    assert carry.state.num_steps == 18
    assert counted.count <= 3 * traced  # an int, and the integer types of NumPy and JAX, at most


def test_advance_takes_at_most_n_steps_and_none_after_the_end():
    carry = jos.start(DECAY, start(), jos.adam(0.1), data(), max_steps=5)
    assert carry.state.num_steps == 0
    same_bits(jos.advance(carry, 0), carry)
    carry = jos.advance(carry, 3)
    assert (carry.state.num_steps, jos.finish(carry).status) == (3, Status.RUNNING)
    carry = jos.advance(carry, 3)
    assert (carry.state.num_steps, jos.finish(carry).status) == (5, Status.OUT_OF_STEPS)
    same_bits(jos.advance(carry, 10), carry)


def test_any_number_of_steps_may_be_asked_for():
    """BUG if it fails: num_steps + n is more than int32 holds, and no step is taken."""
    carry = jos.advance(jos.start(DECAY, start(), jos.adam(0.1), data(), max_steps=5), 1)
    assert jos.advance(carry, 2**31 - 1).state.num_steps == 5


def test_a_carry_is_a_pytree_of_arrays():
    carry = jos.start(DECAY, start(), jos.adam(0.1), data(), max_steps=5, target=0.1, trace=True)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(carry))


@pytest.mark.slow
def test_many_starts_may_share_one_setup():
    """As the docstring of `start` says."""
    starts = {"a": jnp.array([1.0, 2.0, 0.5]), "k": jnp.array([1.0, 0.2, 0.4])}
    optimizer = jos.levenberg_marquardt()
    axes = jos.Carry(setup=None, state=0)
    begin = jax.vmap(lambda p: jos.start(DECAY, p, optimizer, data(), max_steps=50), out_axes=axes)
    go = jax.vmap(jos.advance, in_axes=(axes, None), out_axes=axes)
    result = jax.vmap(jos.finish, in_axes=(axes,))(go(begin(starts), 1000))
    alone = jos.minimize(DECAY, start(), optimizer, data())
    np.testing.assert_allclose(result.params["k"], np.full(3, alone.params["k"]), rtol=1e-7)


@pytest.mark.parametrize(
    "name",
    ["sgd_nesterov", "lm", *(pytest.param(n, marks=pytest.mark.slow) for n in ("newton", "gauss_newton"))],
)
def test_a_lane_that_fails_changes_no_bit_of_another(name):
    optimizer = OPTIMIZERS[name]()

    @jax.jit
    def fits(starts):
        return jax.vmap(lambda p: jos.minimize(DECAY, p, optimizer, data(), max_steps=30, trace=True))(starts)

    good = {"a": jnp.array([2.0, 2.5, 1.5, 1.0]), "k": jnp.array([0.6, 0.4, 0.7, 0.4])}
    bad = {"a": jnp.array([2.0, jnp.nan, 1.5, 1e200]), "k": jnp.array([0.6, 0.4, 0.7, -400.0])}
    clean, mixed = fits(good), fits(bad)
    for lane in (0, 2):
        same_bits(*(jax.tree.map(lambda leaf: leaf[lane], result) for result in (clean, mixed)))  # noqa: B023
    assert np.all(mixed.status[jnp.array([1, 3])] == Status.NON_FINITE_START)
    alone = jos.minimize(DECAY, start(), optimizer, data(), max_steps=30)
    np.testing.assert_allclose(clean.params["k"][0], alone.params["k"], rtol=1e-9)
    assert clean.num_steps[0] == alone.num_steps


def test_adam_at_another_rate_compiles_nothing(count_traces):
    counted = count_traces(DECAY.residual_fn)
    objective = jos.LeastSquares(counted.fn)
    slow = jos.minimize(objective, start(), jos.adam(0.1), data(), max_steps=10)
    traced = counted.count
    fast = jos.minimize(objective, start(), jos.adam(0.2), data(), max_steps=10)
    assert counted.count == traced
    assert slow.value != fast.value


@pytest.mark.slow
def test_fifty_learning_rates_at_once_compile_once_and_equal_the_loop(count_traces):
    counted = count_traces(DECAY.residual_fn)
    objective, rates = jos.LeastSquares(counted.fn), jnp.linspace(0.01, 0.5, 50)

    def solve(optimizer):
        return jos.minimize(objective, start(), optimizer, data(), max_steps=40)

    by_optimizer = jax.vmap(solve)(jax.vmap(jos.adam)(rates))
    traced = counted.count
    jax.vmap(solve)(jax.vmap(jos.adam)(2 * rates))
    assert counted.count == traced
    by_rate = jax.vmap(lambda rate: solve(jos.adam(rate)))(rates)
    same_bits(by_optimizer.params, by_rate.params)
    for lane in (0, 17, 49):
        alone = solve(jos.adam(float(rates[lane])))
        np.testing.assert_allclose(by_rate.value[lane], alone.value, rtol=1e-10)


@pytest.mark.slow
def test_dampings_can_be_mapped_over():
    dampings = jnp.array([1e-3, 1.0, 100.0])
    solve = lambda optimizer: jos.minimize(DECAY, start(), optimizer, data(), max_steps=2)  # noqa: E731
    mapped = jax.vmap(lambda d: solve(jos.levenberg_marquardt(d)))(dampings)
    looped = [solve(jos.levenberg_marquardt(d)).value for d in (1e-3, 1.0, 100.0)]
    np.testing.assert_allclose(mapped.value, looped, rtol=1e-10)
    assert len({float(value) for value in mapped.value}) == 3


def test_more_steps_than_can_be_counted_are_as_many_as_one_likes():
    result = jos.minimize(lambda x: x**2, jnp.array(1.0), jos.sgd(0.25), max_steps=10**10, target=1e-3)
    assert result.num_steps == 5
