"""Towers of derivatives against mpmath and closed forms, and what they take and refuse."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

import jaxopt_study as jos
from jaxopt_study.series.series import LOW

WEIGHTS = np.random.default_rng(3).normal(size=(4, 4))


def network(x):
    """One scalar in, two layers of tanh, one scalar out."""
    first = jnp.tanh(WEIGHTS[0] * x + WEIGHTS[1])
    return jnp.dot(WEIGHTS[3], jnp.tanh(WEIGHTS @ first))


def network_in_mpmath(x):
    w = WEIGHTS.tolist()
    first = [mpmath.tanh(a * x + b) for a, b in zip(w[0], w[1], strict=True)]
    second = [mpmath.tanh(sum(a * h for a, h in zip(row, first, strict=True))) for row in w]
    return sum(a * h for a, h in zip(w[3], second, strict=True))


POINTS = np.array([-2.3, -0.7, 0.0, 0.31, 1.0, 1.9, 3.2, 7.0])
FUNCTIONS = {
    "tanh": (jnp.tanh, mpmath.tanh, POINTS),
    "exp": (jnp.exp, mpmath.exp, POINTS),
    "sin": (jnp.sin, mpmath.sin, POINTS),
    "log1p": (jnp.log1p, mpmath.log1p, POINTS[1:]),
    "lorentzian": (lambda x: 1 / (1 + x**2), lambda x: 1 / (1 + x**2), POINTS),
    "network": (network, network_in_mpmath, POINTS[:6]),
}


def in_mpmath(fn, points, order):
    with mpmath.workdps(60):
        rows = [
            [c * mpmath.factorial(k) for k, c in enumerate(mpmath.taylor(fn, mpmath.mpf(float(x)), order))]
            for x in points
        ]
        return np.array(rows, dtype=float).T


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_orders_0_to_20_equal_mpmaths(name):
    fn, oracle, points = FUNCTIONS[name]
    rows = np.asarray(jos.derivatives(fn, 20)(points))
    wanted = in_mpmath(oracle, points, 20)
    # What is zero in exact arithmetic (odd derivatives of an even function) is so to rounding of the largest.
    floor = 1e-12 * np.abs(wanted).max(axis=1, keepdims=True)
    wrong = np.abs(rows - wanted) / np.maximum(np.abs(wanted), floor)
    assert wrong[:16].max() < 1e-8
    assert wrong[16:].max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_orders_that_are_written_out_equal_mpmaths(name):
    fn, oracle, points = FUNCTIONS[name]
    wanted = in_mpmath(oracle, points, LOW)
    floor = 1e-12 * np.abs(wanted).max(axis=1, keepdims=True)
    wrong = np.abs(jos.derivatives(fn, LOW)(points) - wanted) / np.maximum(np.abs(wanted), floor)
    assert wrong.max() < 1e-10


@pytest.mark.parametrize(
    "fn",
    [
        jnp.tan,
        jax.nn.sigmoid,
        lambda x: jnp.sinh(x) * jnp.cosh(x),
        lambda x: jnp.cbrt(x) + lax.rsqrt(x),
        lambda x: jnp.expm1(x) / jnp.exp2(x),
        lambda x: x**3.5 - x**-2 + (1 + x) ** 5,
        lambda x: (1 + x) ** x,
        lambda x: jnp.linalg.det(jnp.array([[1.0, 2.0], [0.5, 3.0]]) * x + jnp.eye(2)),
    ],
    ids=["tan", "sigmoid", "hyperbolic", "roots", "exponentials", "powers", "power", "matrix"],
)
def test_orders_that_are_written_out_are_the_first_of_more(fn):
    x = jnp.array([0.2, 1.1])
    np.testing.assert_allclose(
        jos.derivatives(fn, LOW)(x), jos.derivatives(fn, LOW + 2)(x)[: LOW + 1], rtol=1e-11, atol=1e-12
    )


def test_the_first_derivative_of_a_varying_power():
    x = 0.7
    wanted = [x**x, x**x * (math.log(x) + 1)]
    np.testing.assert_allclose(jos.derivatives(lambda x: x**x, 1)(x), wanted, rtol=1e-14)


@pytest.mark.parametrize(
    "fn",
    [jnp.exp, jnp.tanh, jnp.sqrt, lambda x: 1 / x, lambda x: x**2.5],
    ids=["exp", "tanh", "sqrt", "inverse", "power"],
)
@pytest.mark.parametrize("order", [2, LOW + 1])
def test_half_precision_stays(fn, order):
    x = jnp.array([0.5, 1.5], jnp.bfloat16)
    rows = jos.derivatives(fn, order)(x)
    assert rows.dtype == jnp.bfloat16
    wanted = jos.derivatives(fn, order)(x.astype("float64"))
    np.testing.assert_allclose(rows.astype("float64")[:3], wanted[:3], rtol=0.1, atol=0.05)


def test_float32_keeps_its_digits():
    x = jnp.array([-1.3, 0.4, 2.1], "float32")
    rows = jos.derivatives(jnp.tanh, 10)(x)
    assert rows.dtype == jnp.float32
    wanted = in_mpmath(mpmath.tanh, np.asarray(x), 10)
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_far_out_the_slope_of_tanh_and_logistic_does_not_cancel():
    x = np.array([20.0, -20.0, 300.0])
    for fn, oracle in ((jnp.tanh, mpmath.tanh), (jax.nn.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)))):
        with mpmath.workdps(400):
            wanted = [[float(mpmath.diff(oracle, mpmath.mpf(p), k)) for p in x] for k in (1, 2, 3)]
        np.testing.assert_allclose(jos.derivatives(fn, 3)(x)[1:], wanted, rtol=1e-12)


@pytest.mark.slow
def test_powers_are_exact_at_zero():
    at_zero = {
        3.0: [0, 0, 0, 6, 0],
        2.5: [0, 0, 0, np.inf, -np.inf],
        0.5: [0, np.inf, -np.inf, np.inf, -np.inf],
        1.0: [0, 1, 0, 0, 0],
    }
    for exponent, wanted in at_zero.items():
        np.testing.assert_array_equal(jos.derivatives(lambda x, p=exponent: x**p, 4)(0.0), wanted)
    traced = jax.jit(lambda p: jos.derivatives(lambda x: (x + x**2) ** p, 4)(0.0))
    np.testing.assert_array_equal(traced(3.0), [0, 0, 0, 6, 72])  # x³ + 3x⁴ + …
    np.testing.assert_array_equal(traced(2.0), [0, 0, 2, 12, 24])


@pytest.mark.slow
def test_a_base_of_zero_under_a_varying_exponent_has_the_slopes_of_nested_jvp():
    np.testing.assert_array_equal(jos.derivatives(lambda x: 0.0**x, 3)(jnp.array([0.5, 2.0])), 0)
    np.testing.assert_array_equal(jos.derivatives(lambda x: x ** (2 + x), 2)(0.0), [0, 0, 2])
    gradient = jax.grad(lambda x: jos.derivatives(lambda y: y ** (2 + y), 2)(x)[1])(1.0)
    np.testing.assert_allclose(gradient, jos.derivatives(lambda y: y ** (2 + y), 2)(1.0)[2], rtol=1e-12)


def test_any_shape_and_numbers_of_python():
    x = jnp.linspace(-1, 1, 12).reshape(2, 3, 2)
    rows = jos.derivatives(jnp.sin, 2)(x)
    np.testing.assert_allclose(rows, jnp.stack([jnp.sin(x), jnp.cos(x), -jnp.sin(x)]), rtol=1e-14)
    assert jos.derivatives(jnp.exp, 3)(0.0).tolist() == [1, 1, 1, 1]
    assert jos.derivatives(jnp.exp, 0)(0.0).tolist() == [1]
    assert jos.derivatives(jnp.exp, 2)(jnp.zeros((0, 2))).shape == (3, 0, 2)


@pytest.mark.slow
def test_many_points_in_pieces_are_the_same_and_carry_gradients():
    x = jnp.linspace(-2, 2, 5001)  # not a whole number of pieces
    rows = jos.derivatives(jnp.sin, 3)(x)
    np.testing.assert_allclose(rows[1::2], [jnp.cos(x), -jnp.cos(x)], atol=1e-15)
    slopes = jax.grad(lambda x: jnp.sum(jos.derivatives(jnp.sin, 3)(x)[2]))(x)
    np.testing.assert_allclose(slopes, -jnp.cos(x), atol=1e-15)


@pytest.mark.slow
def test_a_tower_compiles_maps_and_is_differentiated_both_ways_and_twice():
    x = jnp.array([-0.4, 0.9])
    tower = jos.derivatives(jnp.sin, 3)
    rows = jos.derivatives(jnp.sin, 5)(x)
    np.testing.assert_allclose(jax.jit(jax.vmap(tower, out_axes=1))(x), rows[:4], rtol=1e-14)
    forward, reverse = jax.jacfwd(tower), jax.jacrev(tower)
    np.testing.assert_allclose(forward(x[0]), rows[1:5, 0], rtol=1e-13)
    np.testing.assert_allclose(reverse(x[1]), rows[1:5, 1], rtol=1e-13)
    np.testing.assert_allclose(jax.jacfwd(reverse)(x[1]), rows[2:6, 1], rtol=1e-13)


def test_a_tower_is_differentiated_with_respect_to_what_the_function_holds():
    def third(a):
        return jos.derivatives(lambda x: jnp.sin(a * x), 3)(0.7)[3]

    a = 1.3  # d/da of −a³ cos(a x)
    wanted = -3 * a**2 * np.cos(0.7 * a) + 0.7 * a**3 * np.sin(0.7 * a)
    np.testing.assert_allclose(jax.grad(third)(a), wanted, rtol=1e-13)
    np.testing.assert_allclose(jax.jvp(third, (a,), (1.0,))[1], wanted, rtol=1e-13)


def test_the_same_function_is_traced_once(count_traces):
    counted = count_traces(lambda x: x * jnp.sin(x))
    jos.derivatives(counted.fn, 3)(0.5)
    traced = counted.count
    for x in (0.1, 0.2):
        jos.derivatives(counted.fn, 3)(x)
    assert counted.count == traced


def twice_itself(x):
    """A rule in which the function stands twice: without care, 2ⁿ of it at order n."""
    return jnp.tanh(x)


twice_itself = jax.custom_jvp(twice_itself)
twice_itself.defjvp(lambda p, t: (twice_itself(*p), (1 - twice_itself(*p) * twice_itself(*p)) * t[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fn", [jnp.tanh, lambda x: 1 / (1 + x**2), network, jax.nn.softplus, twice_itself, lax.erf_inv]
)
def test_the_program_does_not_grow_with_the_order(fn):
    def length(order):
        return str(jax.make_jaxpr(jos.derivatives(fn, order))(0.3)).count("\n")

    assert length(24) <= 1.01 * length(12)


def test_a_rule_in_terms_of_its_own_function_gives_the_derivatives_of_the_function():
    x = jnp.array([-0.3, 1.2])
    np.testing.assert_allclose(
        jos.derivatives(twice_itself, 12)(x), jos.derivatives(jnp.tanh, 12)(x), rtol=1e-12
    )


def test_two_rules_of_the_same_text_are_not_taken_for_one():
    def clipped(bound):
        @jax.custom_jvp
        def fn(x):
            return x**2

        @fn.defjvp
        def _(primals, tangents):
            (x,), (t,) = primals, tangents
            return x**2, jnp.clip(2 * x, -bound, bound) * t

        return fn

    rows = jos.derivatives(lambda x: clipped(1.0)(x) + 10 * clipped(2.0)(x), 1)(3.0)
    assert rows.tolist() == [99, 21]


def test_the_rule_that_a_person_wrote_is_what_counts():
    @jax.custom_vjp
    def gradient_clipped(x):
        return x**2

    gradient_clipped.defvjp(lambda x: (x**2, x), lambda x, t: (jnp.clip(2 * x * t, -1, 1),))
    assert jos.derivatives(gradient_clipped, 1)(5.0).tolist() == [25, 1]
    assert jos.derivatives(gradient_clipped, 2)(0.25).tolist() == [0.0625, 0.5, 2]


NOT_ELEMENTWISE = {
    "sum": jnp.sum,
    "mean": lambda x: x - jnp.mean(x),
    "product with itself": lambda x: x @ x,
    "dot": lambda x: jnp.dot(x, x),
    "cumsum": jnp.cumsum,
    "stack": lambda x: jnp.stack([x, x]),
    "softmax": jax.nn.softmax,
    "element": lambda x: x[0],
    "roll": lambda x: jnp.roll(x, 1),
    "flip": jnp.flip,
    "unit vector": lambda x: x / jnp.linalg.norm(x),
    "against an array": lambda x: x * jnp.arange(3.0),
}


@pytest.mark.parametrize("name", NOT_ELEMENTWISE)
def test_a_function_that_is_not_elementwise_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"^fn: expected a (function of one )?scalar.*taylor") as caught:
        jos.derivatives(NOT_ELEMENTWISE[name], 2)(jnp.array([0.1, 0.5, 2.0]))
    assert "\n" not in caught.value.args[0]


SCALAR_ONLY = {
    "arrays inside": lambda x: jnp.linalg.det(jnp.array([[1.0, x], [x, 3.0]])),
    "norm": lambda x: jnp.linalg.norm(jnp.stack([x, 1 + x])),
    "branch": lambda x: lax.cond(x > 0.2, jnp.sin, jnp.cos, x),
    "loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + x, x),
    "constant": lambda x: 3.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALAR_ONLY)
def test_a_function_of_one_scalar_is_mapped_whatever_it_does_inside(name):
    fn, x = SCALAR_ONLY[name], jnp.array([0.1, 0.5, 2.0])
    one_by_one = jnp.stack([jos.derivatives(fn, 2)(value) for value in x], axis=1)
    np.testing.assert_allclose(jos.derivatives(fn, 2)(x), one_by_one, rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: jos.derivatives(jnp.sin, -1), ValueError, "order: expected an integer >= 0, got -1"),
        (lambda: jos.derivatives(jnp.sin, 2)(3), TypeError, "x: expected a real float array"),
        (lambda: jos.derivatives(jnp.sin, 2)(1j), TypeError, "x: expected a real float array"),
        (lambda: jos.derivatives(lambda x: (x, x), 2)(1.0), TypeError, "fn: expected one float"),
        (lambda: jos.derivatives(lambda x: x > 0, 2)(1.0), TypeError, "fn: expected one float .* got bool"),
        (lambda: jos.taylor(jnp.sin, 1.0, 1.0, -2), ValueError, "order"),
        (lambda: jos.taylor(jnp.sin, 1, 1.0, 2), TypeError, "params: expected a real float"),
        (lambda: jos.taylor(jnp.sin, 1.0, [1.0], 2), ValueError, "direction: expected a pytree like params"),
        (
            lambda: jos.taylor(lambda p: p["a"], {"a": jnp.ones(2)}, {"a": jnp.ones(3)}, 2),
            ValueError,
            r"direction\['a'\]: expected the shape of params, \(2,\), got \(3,\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_an_order_that_is_no_integer_is_refused():
    for order in (2.0, "2", None, True):
        with pytest.raises(TypeError):
            jos.derivatives(jnp.sin, order)


def test_taylor_of_a_product_is_a_polynomial_and_integers_have_no_series():
    def fn(p, scale):
        return {"area": scale * p["a"] * p["b"][0], "count": 3, "sign": p["a"] > 0, "same": scale}

    at, along = {"a": 2.0, "b": [jnp.array(3.0)]}, {"a": 1.0, "b": [jnp.array(10.0)]}
    c = jos.taylor(fn, at, along, 3, 2.0)
    assert c["area"].tolist() == [12, 46, 20, 0]
    assert c["count"].tolist() == [3, 0, 0, 0]
    assert c["sign"].tolist() == [True, False, False, False]
    assert c["same"].tolist() == [2, 0, 0, 0]
    assert jos.taylor(fn, at, along, 0, 2.0)["area"].tolist() == [12]


@pytest.mark.slow
def test_taylor_compiles_maps_and_is_differentiated():
    def third(x):
        return jos.taylor(lambda p: jnp.sum(jnp.sin(p) * p), x, jnp.ones_like(x), 3)[3]

    def fourth_derivative(x):  # of x sin x, over 3!
        return (x * jnp.sin(x) - 4 * jnp.cos(x)) / 6

    x = jnp.array([0.3, -1.1])
    np.testing.assert_allclose(jax.jit(jax.grad(third))(x), fourth_derivative(x), rtol=1e-12)
    batch = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(jax.vmap(third)(batch), [third(x), third(2 * x)], rtol=1e-13)


def test_a_function_with_a_mutable_array_inside_is_nested_instead():
    @jax.jit
    def fn(x):
        ref = jax.new_ref(x)
        ref[...] = ref[...] * jnp.sin(x)
        return ref[...]

    np.testing.assert_allclose(
        jos.derivatives(fn, 3)(0.5), jos.derivatives(lambda x: x * jnp.sin(x), 3)(0.5), rtol=1e-13
    )


@pytest.mark.slow
def test_the_tower_of_a_gradient_is_the_gradient_of_a_tower():
    hidden = jnp.array([0.4, -1.0, 0.7])

    def loss(w, x):
        return jnp.sum(jnp.tanh(w * x)) ** 2

    inside = jos.derivatives(lambda x: jax.grad(loss)(hidden, x)[1], 3)(0.6)
    outside = jax.jacobian(lambda w: jos.derivatives(lambda x: loss(w, x), 3)(0.6))(hidden)[:, 1]
    np.testing.assert_allclose(inside, outside, rtol=1e-12)


def test_a_long_series_still_converges():
    c = np.asarray(jos.taylor(jnp.exp, 0.0, 1.0, 40))
    np.testing.assert_allclose(c, [1 / math.factorial(k) for k in range(41)], rtol=1e-13)


@pytest.mark.parametrize(("dtype", "order"), [("float32", 40), ("float64", 172)])
def test_derivatives_that_are_zero_stay_zero_where_factorials_overflow(dtype, order):
    tower = jos.derivatives(lambda x: x**2, order)(jnp.asarray(3.0, dtype))
    np.testing.assert_array_equal(tower, [9, 6, 2, *[0] * (order - 2)])
