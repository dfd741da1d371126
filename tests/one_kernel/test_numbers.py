"""Numbers that a program says are compiled in, and powers of those that decay are exponentials."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.one_kernel import decaying_power, one_kernel
from jaxopt_study.one_kernel.powers import as_exponential

RATES = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)


def _carried(fn, *args):
    """How many arguments the function of machine code has."""
    (call,) = re.findall(r"call @whole\w*\((.*?)\)", jax.jit(fn).lower(*args).as_text())
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
    np.testing.assert_allclose(float(known().value), float(given(start).value), rtol=1e-12)


def test_equal_calls_are_lowered_once():
    multiplied = jax.jit(_multiplied, inline=True)

    def functions(fn):
        return len(re.findall(r"func private @whole", jax.jit(fn).lower(1.0).as_text()))

    assert functions(lambda x: multiplied(multiplied(x, 3.0), 3.0)) == 1
    assert functions(lambda x: multiplied(multiplied(x, 3.0), 5.0)) == 2
    assert float(jax.jit(lambda x: multiplied(multiplied(x, 3.0), 5.0))(1.0)) == 27 * 125


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bias_is_corrected_as_exactly_as_by_a_power(rate, dtype):
    counts = np.unique(np.geomspace(1, 1e6, 300).astype(np.int32))
    rate = np.asarray(rate, dtype)[()]
    exact = -np.expm1(counts * np.log(np.longdouble(rate)))
    ours = np.asarray([1 - as_exponential(rate, jnp.asarray(count)) for count in counts])
    powers = np.asarray([1 - jnp.power(rate, jnp.asarray(count)) for count in counts])
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
