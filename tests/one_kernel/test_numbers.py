"""Numbers that a program says are compiled in, and powers of those that decay are exponentials."""

import gc
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.one_kernel import decaying_power, one_kernel, separate_kernels

RATES = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)


def _carried(fn, *args):
    """How many arguments the function of machine code has."""
    (call,) = re.findall(r"call @one_kernel\w*\((.*?)\)", jax.jit(fn).lower(*args).as_text())
    return len([word for word in call.split(",") if word.strip()])


def _multiplied(x, *numbers):
    def step(_, y):
        for number in numbers:
            y = y * number
        return y

    return one_kernel(lambda x: jax.lax.fori_loop(0, 3, step, x), x)


def test_a_number_is_no_argument_of_the_loop_and_an_array_is():
    x, array = jnp.asarray(2.0), jnp.asarray([1.0, 3.0])
    number = jnp.asarray(3.0)
    assert _carried(lambda x: _multiplied(x, 3.0), x) == 1
    assert _carried(lambda x, number: _multiplied(x, number), x, number) == 2
    assert _carried(lambda x: _multiplied(x, array), array) == 1 + 1
    for fn in (lambda x, _: _multiplied(x, 3.0), _multiplied):
        assert float(jax.jit(fn)(x, number)) == 54.0


@pytest.mark.parametrize("value", [-0.0, 0.0, np.inf, -np.inf, np.nan, 1e-40, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_numbers_keep_their_bits(value, dtype):
    if dtype in ("int32", "bool") and not (np.isfinite(value) and value in (0, 3)):
        value = 3
    known = np.asarray(value, dtype)

    def copied(x, number):
        return one_kernel(
            lambda x: (x + 1, jnp.copy(number), jax.lax.while_loop(lambda c: False, lambda c: c, number)), x
        )

    _, *copies = jax.jit(lambda x: copied(x, jnp.asarray(known)))(1.0)
    for copy in copies:
        assert copy.dtype == known.dtype
        assert np.asarray(copy).tobytes() == known.tobytes()


def test_a_program_of_numbers_alone_is_run_when_it_is_called():
    """XLA would run what it knows all of while it compiles, with an interpreter."""
    valley = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2  # noqa: E731
    start = {"x": jnp.asarray(-1.2), "y": jnp.asarray(1.0)}
    known = jax.jit(
        lambda: jos.minimize(valley, {"x": -1.2 + jnp.zeros(()), "y": jnp.ones(())}, jos.adam(0.01))
    )
    given = jax.jit(lambda p: jos.minimize(valley, p, jos.adam(0.01)))
    assert _carried(lambda: _multiplied(jnp.asarray(2.0), 3.0)) == 1  # it stays an argument
    np.testing.assert_allclose(float(known().value), float(given(start).value), rtol=1e-12)


def test_equal_calls_are_lowered_once():
    multiplied = jax.jit(_multiplied, inline=True)

    def functions(fn):
        return len(re.findall(r"func private @one_kernel(?!_with)", jax.jit(fn).lower(1.0).as_text()))

    assert functions(lambda x: multiplied(multiplied(x, 3.0), 3.0)) == 1
    assert functions(lambda x: multiplied(multiplied(x, 3.0), 5.0)) == 2
    assert float(jax.jit(lambda x: multiplied(multiplied(x, 3.0), 5.0))(1.0)) == 27 * 125


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bias_is_corrected_as_exactly_as_by_a_power(rate, dtype):
    counts = np.unique(np.geomspace(1, 1e6, 300).astype(np.int32))
    rate = np.asarray(rate, dtype)[()]
    exact = -np.expm1(counts * np.log(np.longdouble(rate)))
    compiled = jax.jit(lambda count: one_kernel(lambda n, r: 1 - decaying_power(r, n), count, rate))
    assert "power(" not in compiled.lower(counts[0]).compile().as_text()
    ours = np.asarray([compiled(count) for count in counts])
    powers = np.asarray(1 - jnp.power(rate, jnp.asarray(counts)))
    assert ours.dtype == powers.dtype == dtype
    most = lambda found: np.max(np.abs(found - exact) / exact)  # noqa: E731
    assert most(ours) <= max(1.5 * most(powers), 4 * np.finfo(dtype).eps)


def test_a_known_rate_takes_no_power_and_what_is_not_known_or_zero_does():
    count = jnp.asarray(3)
    text = lambda fn, *args: jax.jit(fn).lower(*args).compile().as_text()  # noqa: E731
    inside = lambda rate, count: one_kernel(decaying_power, rate, count)  # noqa: E731
    assert "power(" not in text(lambda count: inside(0.9, count), count)
    assert "power(" in text(inside, 0.9, count)
    assert "power(" in text(lambda count: decaying_power(0.9, count), count)
    np.testing.assert_allclose(jax.jit(lambda count: inside(0.9, count))(count), 0.729, rtol=1e-15)
    for count, power in ((0, 1.0), (2, 0.0)):
        assert float(jax.jit(lambda count: inside(0.0, count))(jnp.asarray(count))) == power


@pytest.mark.parametrize(
    "derived",
    [
        lambda fn: jax.grad(fn),
        lambda fn: jax.value_and_grad(fn),
        lambda fn: lambda rate: jax.jvp(fn, (rate,), (1.0,)),
        lambda fn: jax.grad(jax.grad(fn)),
        lambda fn: jax.vmap(fn, axis_size=2, in_axes=None),
    ],
    ids=["grad", "value_and_grad", "jvp", "twice", "vmap"],
)
def test_derivatives_inside_are_those_of_the_power(derived):
    """JAX gives them the name of the function that they are of."""

    def fn(count, rate):
        return one_kernel(lambda n, r: derived(lambda r: decaying_power(r, n))(r), count, rate)

    known = jax.jit(lambda count: fn(count, 0.9))(jnp.asarray(3))
    np.testing.assert_allclose(known, derived(lambda r: r**3)(0.9), rtol=1e-14)


def test_a_step_of_adam_as_an_objective_that_is_differentiated():
    def tuned(p, rate):
        def loss(b1):
            optimizer = jos.adam(0.1, b1=b1)
            state, q = optimizer.init(p), p
            for _ in range(2):
                updates, state = optimizer.update(2 * (q - 1), state, q)
                q = q + updates
            return (q - 1) ** 2

        return jax.grad(loss)(rate) ** 2

    def solve(p):
        return jos.minimize(tuned, p, jos.sgd(1e-3), (0.9,), max_steps=3).value

    with separate_kernels():
        apart = jax.jit(lambda p: solve(p))(jnp.asarray(2.0))
    np.testing.assert_allclose(jax.jit(solve)(jnp.asarray(2.0)), apart, rtol=1e-9)


def test_strict_promotion_outside_of_a_trace():
    with jax.numpy_dtype_promotion("strict"):
        optimizer, grads = jos.adam(0.1), jnp.ones(2)
        updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(updates, -0.1 * grads, rtol=1e-6)


def test_what_programs_close_over_is_let_go():
    def used():
        data = jnp.ones(1237)

        @jax.custom_jvp
        def summed(x):
            return jnp.sum(data * x)

        summed.defjvp(lambda primals, tangents: (summed(*primals), jnp.sum(data) * tangents[0]))
        jax.jit(lambda p: jos.minimize(lambda p: (summed(p) - 1) ** 2, p, jos.adam(0.1)).value)(jnp.ones(()))

    used()
    jax.clear_caches()
    gc.collect()
    assert not [array for array in jax.live_arrays() if array.shape == (1237,)]


def test_derivatives_of_a_power_with_respect_to_the_rate():
    slope = jax.grad(lambda rate: one_kernel(lambda rate: decaying_power(rate, 3), rate))
    assert float(slope(0.5)) == 0.75
    assert float(jax.jit(slope)(0.0)) == 0.0


@pytest.mark.parametrize(
    "make", [jos.adam, lambda rate: jos.adam(rate, nesterov=True)], ids=["adam", "nadam"]
)
def test_a_jitted_minimization_takes_the_path_of_optax(make):
    """With all of its numbers known, to rounding, after a thousand steps."""
    valley = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2  # noqa: E731
    start = {"x": jnp.asarray(-1.2), "y": jnp.asarray(1.0)}
    theirs = optax.nadam(0.01) if make is not jos.adam else optax.adam(0.01)

    @jax.jit
    def by_hand(params):
        def step(carry, _):
            params, state = carry
            updates, state = theirs.update(jax.grad(valley)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, theirs.init(params)), length=1000)[0][0]

    ours = jax.jit(lambda p: jos.minimize(valley, p, make(0.01)).params)(start)
    for name, value in by_hand(start).items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-10)
