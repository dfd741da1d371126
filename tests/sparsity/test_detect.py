"""Patterns: never without an entry that is there, and exact where the program says where things go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.sparsity.detect import detect

N = 12
DRAW = np.random.default_rng(0)
MATRIX = DRAW.normal(size=(6, N)) * (DRAW.random((6, N)) < 0.3)
PLACES = DRAW.integers(0, N, 9)


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(primals[0]), tangents[0]))


@jax.custom_vjp
def backward_rule(x):
    return x**2 * x[::-1]


backward_rule.defvjp(lambda x: (backward_rule(x), x), lambda x, g: (2 * x * x[::-1] * g + (g * x**2)[::-1],))


def convolved(x):
    return jax.lax.conv_general_dilated(x.reshape(1, 2, 6), jnp.ones((4, 1, 3)), (2,), [(1, 1)],
                                        feature_group_count=2, rhs_dilation=(2,))  # fmt: skip


def by_kernel(x):
    return jax.lax.conv_general_dilated(jnp.ones((1, 2, 7)), x.reshape(3, 2, 2), (1,), "VALID")


def long_map(x):
    return jax.lax.map(lambda a: jnp.sin(a) ** 2 * jnp.cos(a), jnp.tile(x, 400))


def long_lookup(x):
    return jax.lax.scan(lambda c, i: (c, x[i % N] * x[(i + 1) % N]), None, jnp.arange(3000))[1]


def in_place(x):
    return jax.lax.fori_loop(0, N - 1, lambda i, y: y.at[i].set(y[i] * y[i + 1]), x)


EXACT = {
    "gather": lambda x: x[PLACES] * x[3],
    "reversed": lambda x: -x[::-2],
    "constant matrix": lambda x: MATRIX @ x,
    "matrix of the inputs": lambda x: jnp.eye(3) @ x.reshape(3, 4),
    "batched product": lambda x: jnp.einsum("bij,bjk->bik", x.reshape(3, 2, 2), jnp.sin(x.reshape(3, 2, 2))),
    "outer": lambda x: x[:4, None] * x[None, 4:8],
    "scatter add": lambda x: jnp.zeros(N).at[PLACES].add(x[:9] ** 2),
    "scatter set": lambda x: x.at[jnp.array([1, 4])].set(x[:2] * 3.0),
    "cumulative": lambda x: jnp.cumsum(x.reshape(3, 4), axis=1),
    "cumulative reversed": lambda x: jax.lax.cumsum(x, reverse=True),
    "known where": lambda x: jnp.where(jnp.arange(N) < 5, x, jnp.roll(x, 2)),
    "rule of a rounding": straight_through,
    "backward rule": backward_rule,
    "short scan": lambda x: jax.lax.scan(lambda c, a: (c * 0.5 + a, c * a), x[0], x)[1],
    "long map": long_map,
    "long lookup": long_lookup,
    "fori_loop": in_place,
    "convolution": convolved,
    "kernel": by_kernel,
    "fft": lambda x: jnp.abs(jnp.fft.fft(x.reshape(3, 4))) ** 2,
    "tree": lambda x: {"a": x[:2], "b": (x[3], x[4:6] * x[0])},
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * x[::-1]),
    "update of a slice": lambda x: jax.lax.dynamic_update_slice(x, x[:2] ** 2, (5,)),
    "pads": lambda x: jnp.pad(x, (1, 2), mode="wrap"),
    "stacked": lambda x: jnp.stack([x[:6], x[6:] ** 2], axis=1),
    "norms of rows": lambda x: jnp.linalg.norm(x.reshape(3, 4), axis=1),
    "products of rows": lambda x: jnp.prod(x.reshape(3, 4), axis=1),  # a reshape of axes in another order
    "constant": lambda x: jnp.ones(3),
    "stopped": lambda x: jax.lax.stop_gradient(x) * x[0],
}  # fmt: skip

SAFE = {
    "sort": lambda x: jnp.sort(x.reshape(3, 4), axis=1),
    "maximum": lambda x: jnp.max(x.reshape(3, 4), axis=1),
    "where": lambda x: jnp.where(x > 0, x, x[0]),
    "pool": lambda x: jax.lax.reduce_window(x.reshape(3, 4), -jnp.inf, jax.lax.max, (2, 2), (1, 2), "VALID"),
    "while": lambda x: jax.lax.fori_loop(0, jnp.argmax(x), lambda i, y: y + 0.1 * jnp.roll(y, 1), x),
    "long carry": lambda x: jax.lax.scan(
        lambda c, i: ((c[0] + 1, jnp.sin(c[1])), c[1][0] * x[i % N]), (0, x[:2]), jnp.arange(3000)
    )[1],
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda x: x, lambda x: 2 * x[::-1], x),
    "solve": lambda x: jax.vmap(lambda a, b: jnp.linalg.solve(a + 9 * jnp.eye(2), b))(
        x.reshape(3, 2, 2), x[:6].reshape(3, 2)
    ),
    "interpolation": lambda x: jnp.interp(x[:4], jnp.arange(5.0), x[4:9]),
    "slice at the largest": lambda x: jax.lax.dynamic_slice(x.reshape(3, 4), (jnp.argmax(x) % 2, 1), (2, 2)),
    "update at the smallest": lambda x: jax.lax.dynamic_update_slice(
        x.reshape(3, 4), x[:2].reshape(1, 2) ** 2, (jnp.argmin(x) % 3, 1)
    ),
}


def seen(fn, derivative):
    """Where the dense Jacobian is not zero at some of ten points."""
    program = jax.jit(derivative(lambda x: jax.flatten_util.ravel_pytree(fn(x))[0]))
    points = np.random.default_rng(1).normal(size=(10, N))
    return np.any([np.asarray(program(jnp.asarray(x))) != 0 for x in points], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_the_pattern_is_exact(name):
    derivative = jax.jacrev if name == "backward rule" else jax.jacfwd
    np.testing.assert_array_equal(
        detect(EXACT[name], jnp.ones(N), ()).todense(), seen(EXACT[name], derivative)
    )


@pytest.mark.parametrize("name", SAFE)
def test_the_pattern_lacks_nothing(name):
    pattern = detect(SAFE[name], jnp.ones(N), ()).todense()
    assert not (seen(SAFE[name], jax.jacfwd) & ~pattern).any()
    if name in ("pool", "maximum", "sort", "solve"):
        assert not pattern.all()  # rows and windows stay apart


def test_integers_in_args_are_structure_and_floats_are_not():
    def lookup(x, places, weights):
        return weights * x[places]

    places = jnp.array([3, 0, 0])
    pattern = detect(lookup, jnp.ones(5), (places, jnp.zeros(3))).todense()
    np.testing.assert_array_equal(pattern, np.eye(5, dtype=bool)[np.array([3, 0, 0])])
    patterns = []
    jax.jit(lambda places: patterns.append(detect(lookup, jnp.ones(5), (places, jnp.zeros(3)))))(places)
    assert patterns[0].todense().all()  # places that are traced may be anywhere


def test_a_random_key_is_an_argument_like_any_other():
    matrix = jos.jacobian(lambda x, key: x**2 * jax.random.normal(key, x.shape), mode="sparse")
    assert matrix(jnp.ones(3), jax.random.key(0)).nse == 3


def test_nothing_at_all_has_a_pattern():
    assert jos.jacobian(lambda x: x[:0], mode="sparse")(jnp.ones(N)).shape == (0, N)


def test_rows_are_taken_only_where_there_is_a_reverse_mode():
    def until(x):  # one pass by rows, if it had any
        return jax.lax.while_loop(
            lambda c: c[0] < jnp.sum(x > -9), lambda c: (c[0] + 1, c[1] + x[c[0]] ** 2), (0, 0.0)
        )[1]

    found = jos.jacobian(until, mode="sparse")(jnp.arange(1.0, 4.0)).todense()
    np.testing.assert_allclose(found, [[2, 4, 6]])


@pytest.mark.slow
def test_what_is_written_into_a_mutable_array_is_not_lost():
    def written_in_place(x):
        ref = jax.new_ref(jnp.zeros(N))
        ref[2:5] = x[:3] ** 2
        ref[7] = x[1] * x[0]
        return ref[...]

    x = jnp.linspace(1.0, 2.0, N)
    found = jos.jacobian(written_in_place, mode="sparse")(x).todense()
    np.testing.assert_allclose(found, jax.jacrev(written_in_place)(x), rtol=1e-14)


def test_an_unknown_primitive_depends_on_all_of_its_inputs():
    def unknown(x):
        return jax.lax.linalg.eigh(x[:4].reshape(2, 2))[1]

    pattern = detect(unknown, jnp.ones(N), ()).todense()
    assert pattern[:, :4].all()
    assert not pattern[:, 4:].any()


def test_a_dense_pattern_too_large_to_write_down_is_refused():
    with pytest.raises(ValueError, match=r"sparse: .* entries of the 20000 × 20000"):
        detect(lambda x: x * jnp.sum(x), jnp.ones(20_000), ())
