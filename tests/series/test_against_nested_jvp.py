"""Taylor mode through everything JAX differentiates, against nested `jax.jvp`.

Where nesting itself is wrong (x**3. at 0 is NaN) mpmath and closed forms are asked, in `test_towers`.
"""

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
import pytest
from jax import lax

import jaxopt_study as jos

ORDER = 3  # 4 where it is slow: nesting compiles for long
ANY = np.array([-1.7, -0.6, 0.37, 2.3])
WITH_ZERO = np.array([-1.7, 0.0, 0.37, 2.3])
UNIT = np.array([-0.9, -0.3, 0.7])
POSITIVE = np.array([0.2, 1.3, 2.9])
SOME = np.array([-0.4, 0.8])


def nested_jvp(fn, x, order):
    fns = [fn]
    for _ in range(order):
        fns.append(lambda x, fn=fns[-1]: jax.jvp(fn, (x,), (jnp.ones_like(x),))[1])
    return jax.jit(jax.vmap(lambda x: jnp.stack([fn(x) for fn in fns]), out_axes=1))(x)


def assert_equals_nested_jvp(fn, x, order=ORDER):
    with jax.numpy_rank_promotion("allow"):  # JAX's own functions are not strict with it
        # Mapped from outside: that these functions would not take arrays as arrays is not the question here.
        ours = np.asarray(jax.vmap(jos.derivatives(fn, order), out_axes=1)(x))
        wanted = np.asarray(nested_jvp(fn, x, order))
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


ELEMENTWISE = {
    "abs": (jnp.abs, WITH_ZERO),
    "acos": (jnp.arccos, UNIT),
    "acosh": (jnp.arccosh, POSITIVE + 1),
    "asin": (jnp.arcsin, UNIT),
    "asinh": (jnp.arcsinh, ANY),
    "atan": (jnp.arctan, ANY),
    "atan2": (lambda x: jnp.arctan2(x, 1 + x**2) + jnp.arctan2(2.0, x), ANY),
    "atanh": (jnp.arctanh, UNIT),
    "cbrt": (jnp.cbrt, ANY),
    "clip": (lambda x: jnp.clip(x**3, -1, 1) * x, ANY),
    "cosh": (jnp.cosh, ANY),
    "deg2rad": (jnp.deg2rad, ANY),
    "division": (lambda x: jnp.sin(x) / (2 + jnp.cos(x)) + 3.0 / (x + 4) + x / 7, ANY),
    "elu": (jax.nn.elu, ANY),
    "erf_inv": (special.erfinv, UNIT),
    "erfc": (special.erfc, ANY),
    "exp2": (jnp.exp2, ANY),
    "expm1": (jnp.expm1, WITH_ZERO),
    "floor": (lambda x: x**2 * jnp.floor(x) + jnp.round(x) * jnp.sign(x), ANY),
    "gelu": (lambda x: jax.nn.gelu(x, approximate=False), ANY),
    "integer powers": (lambda x: x**5 - x**-2 + x**0, ANY),
    "leaky_relu": (jax.nn.leaky_relu, WITH_ZERO),
    "lgamma": (special.gammaln, POSITIVE),
    "log_ndtr": (special.log_ndtr, ANY),
    "logistic": (jax.nn.sigmoid, ANY),
    "logs": (lambda x: jnp.log(x) + jnp.log2(1 + x) * jnp.log10(2 + x), POSITIVE),
    "logaddexp": (lambda x: jnp.logaddexp(x, jnp.sin(x)), ANY),
    "max and min": (lambda x: jnp.maximum(jnp.sin(x), x**2) + jnp.minimum(x, jnp.cos(x)), ANY),
    "power of a power": (lambda x: x**x + 2.0**x + x**2.5 + x**-0.3, POSITIVE),
    "relu": (jax.nn.relu, WITH_ZERO),
    "remainder": (lambda x: jnp.fmod(x * x, 0.7) + jnp.mod(x, 0.6) ** 2, ANY),
    "silu": (jax.nn.silu, WITH_ZERO),
    "sinc": (jnp.sinc, WITH_ZERO),
    "sinh": (jnp.sinh, ANY),
    "softplus": (jax.nn.softplus, WITH_ZERO),
    "sqrt and rsqrt": (lambda x: jnp.sqrt(x) + lax.rsqrt(1 + x), POSITIVE),
    "stop_gradient": (lambda x: x**2 * lax.stop_gradient(jnp.sin(x)), ANY),
    "tan": (jnp.tan, UNIT),
    "where": (lambda x: jnp.where(x > 0, jnp.sin(x), x**2), ANY),
    "xlogy": (lambda x: special.xlogy(x, x), POSITIVE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name):
    assert_equals_nested_jvp(*ELEMENTWISE[name])


SPECIAL = {
    "bessel_i0": (special.i0, ANY),
    "bessel_i1e": (special.i1e, ANY),
    "betainc": (lambda x: special.betainc(1.3, 2.2, x), np.array([0.2, 0.6])),
    "beta": (lambda x: special.beta(x, 2.0), POSITIVE),
    "digamma": (special.digamma, POSITIVE),
    "entr": (special.entr, POSITIVE),
    "expi": (special.expi, POSITIVE),
    "gammainc": (lambda x: special.gammainc(1.3, x), POSITIVE),
    "gammaincc": (lambda x: special.gammaincc(1.3, x), POSITIVE),
    "hyp1f1": (lambda x: special.hyp1f1(1.2, 2.3, x), SOME),
    "kl_div": (lambda x: special.kl_div(x, 2.0), POSITIVE),
    "logit": (special.logit, np.array([0.02, 0.3, 0.6])),
    "mish": (jax.nn.mish, ANY),
    "ndtri": (special.ndtri, np.array([0.02, 0.3, 0.6])),
    "polygamma": (lambda x: special.polygamma(2, x), POSITIVE),
    "selu": (jax.nn.selu, ANY),
    "spence": (special.spence, POSITIVE),
    "squareplus": (jax.nn.squareplus, ANY),
    "zeta": (lambda x: special.zeta(2.5, x), POSITIVE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name):
    assert_equals_nested_jvp(*SPECIAL[name], order=4)


FACTORS = np.array([0.5, -1.0, 2.0, 0.1, 1.5])


def vector(x):
    return jnp.sin(FACTORS * x) + FACTORS * x**2 + 2.5


def weighed(fn):
    """A scalar of arrays: every entry counts, none like another."""

    def scalar(x):
        y = jnp.real(fn(x)).ravel()
        return jnp.sum(y * np.cos(1.0 + 2.0 * np.arange(y.size)))

    return scalar


ARRAYS = {
    "attention": lambda x: jax.nn.softmax(vector(x)[:, None] * vector(2 * x)[None, :]) @ vector(3 * x),
    "convolution": lambda x: jnp.convolve(vector(x), vector(3 * x)[:3]),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(vector(x)),
    "cumulative": lambda x: jnp.cumsum(vector(x)) * jnp.cumprod(vector(x)) + lax.cummax(vector(x)),
    "dynamic slices": lambda x: lax.dynamic_update_slice(
        vector(x), lax.dynamic_slice(vector(2 * x), (1,), (2,)), (2,)
    ),
    "fft": lambda x: jnp.abs(jnp.fft.fft(vector(x))) ** 2,
    "gather and scatter": lambda x: (
        vector(x)[jnp.array([0, 2, 2])].sum()
        + vector(x).at[jnp.array([0, 2])].set(vector(2 * x)[:2])
        * jnp.zeros(5).at[jnp.array([0, 2, 2])].add(vector(x)[:3])
    ),
    "indexing by order": lambda x: vector(x)[jnp.argsort(-vector(x))],
    "interpolation": lambda x: jnp.interp(x, np.array([-2.0, 0.0, 3.0]), np.array([1.0, 3.0, 2.0])) * x,
    "log_softmax": lambda x: jax.nn.log_softmax(vector(x)),
    "complex": lambda x: jnp.tanh(1j * x * 0.3 + FACTORS) * (1j * x + FACTORS) ** (0.3 + 0.1j) / (2 + 1j * x),
    "order statistics": lambda x: jnp.stack([jnp.median(vector(x)), jnp.percentile(vector(x), 30.0)]),
    "pad and roll": lambda x: jnp.pad(vector(x), 2, mode="reflect") * jnp.roll(jnp.tile(vector(x), 2), 1)[:9],
    "pooling": lambda x: lax.reduce_window(vector(x), -jnp.inf, lax.max, (2,), (1,), "VALID"),
    "reductions": lambda x: (
        jnp.prod(vector(x)) + jnp.max(vector(x)) * jnp.min(vector(x)) - jnp.std(vector(x))
    ),
    "scan over": lambda x: lax.associative_scan(jnp.multiply, vector(x)),
    "sort and top": lambda x: jnp.concatenate([jnp.sort(vector(x)), lax.top_k(vector(x), 2)[0]]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARRAYS)
def test_functions_of_arrays(name):
    assert_equals_nested_jvp(weighed(ARRAYS[name]), SOME)


BASE = np.array([[2.0, 0.3, 0.1], [0.2, 3.0, 0.4], [0.5, 0.1, 4.0]])
RHS = np.array([1.0, 2.0, -1.0])


def matrix(x):
    return BASE + x * np.arange(9.0).reshape(3, 3) / 9 + 0.2 * jnp.sin(x) * np.eye(3)


def symmetric(x):
    return matrix(x) @ matrix(x).T + np.eye(3)


LINEAR_ALGEBRA = {
    "cholesky": lambda x: jnp.linalg.cholesky(symmetric(x)),
    "conjugate gradients": lambda x: jax.scipy.sparse.linalg.cg(symmetric(x), RHS, tol=1e-14)[0],
    "eigh": lambda x: jnp.linalg.eigh(symmetric(x))[1] ** 2,
    "einsum": lambda x: jnp.einsum("ij,jk,ki->i", matrix(x), symmetric(x), matrix(x)),
    "expm": lambda x: jax.scipy.linalg.expm(0.2 * matrix(x)),
    "inverse": lambda x: jnp.linalg.inv(matrix(x)),
    "least squares": lambda x: jnp.linalg.lstsq(matrix(x), RHS)[0],
    "lu": lambda x: jax.scipy.linalg.lu(matrix(x))[2],
    "qr": lambda x: jnp.linalg.qr(matrix(x))[1],
    "slogdet": lambda x: jnp.linalg.slogdet(matrix(x))[1],
    "svd": lambda x: jnp.linalg.svd(matrix(x), compute_uv=False),
    "triangles": lambda x: (
        jax.scipy.linalg.solve_triangular(matrix(x), RHS * x, lower=True)
        + jax.scipy.linalg.solve_triangular(matrix(x), RHS, trans=1, unit_diagonal=True)
        + jax.scipy.linalg.solve_triangular(BASE, RHS * jnp.sin(x))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_linear_algebra(name):
    assert_equals_nested_jvp(weighed(LINEAR_ALGEBRA[name]), SOME, order=4)


def test_the_solution_of_a_linear_system_is_neumanns_series():
    """(I − t A)⁻¹ b = Σ tᵏ Aᵏ b."""
    c = jos.taylor(lambda t: jnp.linalg.solve(jnp.eye(3) - t * BASE, RHS), 0.0, 1.0, 6)
    wanted = [np.linalg.matrix_power(BASE, k) @ RHS for k in range(7)]
    np.testing.assert_allclose(c, wanted, rtol=1e-12)


def test_a_cholesky_factor_multiplies_to_its_matrix_coefficient_by_coefficient():
    a, b = BASE @ BASE.T + np.eye(3), BASE + BASE.T
    c = np.asarray(jos.taylor(jnp.linalg.cholesky, jnp.asarray(a), jnp.asarray(b), 5))
    products = [sum(c[j] @ c[k - j].T for j in range(k + 1)) for k in range(6)]
    wanted = [a, b] + [np.zeros((3, 3))] * 4
    np.testing.assert_allclose(products, wanted, atol=1e-12)


def of_unknown_length(x):
    def turn(carry):
        count, y = carry
        return count + jnp.abs(jnp.sin(y)) + 0.3, y * jnp.cos(count) + x

    return lax.while_loop(lambda carry: carry[0] < 3.0, turn, (0.1 * x, x))[1]


def scan_both_ways(x):
    def turn(carry, a):
        y, count = carry
        return (jnp.sin(y * a) + x, count + 1), (y * y, count)

    (y, count), (squares, counts) = lax.scan(turn, (x, 0), vector(x), reverse=True)
    return jnp.concatenate([y[None], squares]) * count + jnp.sum(counts)


@jax.custom_vjp
def vector_with_backward_rule(x):
    return matrix(x) @ RHS


vector_with_backward_rule.defvjp(
    lambda x: (matrix(x) @ RHS, x),
    lambda x, t: (jnp.sum(t * ((np.arange(9.0).reshape(3, 3) / 9 + 0.2 * jnp.cos(x) * np.eye(3)) @ RHS)),),
)


def root(x):
    def solve(f, start):
        return lax.fori_loop(0, 60, lambda i, y: y - f(y) / (3 * y**2 + 1), start)

    return lax.custom_root(lambda y: y**3 + y - x, 0.5, solve, lambda g, y: y / g(1.0))


CONTROL_FLOW = {
    "callback": lambda x: (jax.debug.callback(lambda y: None, x), jnp.sin(x))[1],
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(jnp.exp(x))),
    "cond": lambda x: (
        lax.cond(x > 0.5, jnp.sin, lambda x: x**3, x) * lax.cond(x > 0, lambda: 2.0, lambda: 3.0)
    ),
    "custom_root": root,
    "fori": lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + x * i, x),
    "grad inside": jax.grad(lambda z: jnp.sin(z * z)),
    "hessian inside": lambda x: jax.hessian(lambda z: jnp.sum(jnp.tanh(z) * z))(vector(x)),
    "jit": lambda x: jax.jit(lambda x, y: (x * y, y))(x, 2.0)[0] * x,
    "map": lambda x: lax.map(lambda a: jnp.sin(a * x), FACTORS),
    "scan": scan_both_ways,
    "scan of cond": lambda x: lax.scan(
        lambda c, a: (lax.cond(a > 0, lambda c: jnp.sin(c) * x, lambda c: 2 * c, c), None), x, FACTORS
    )[0],
    "switch": lambda x: lax.switch(jnp.int32(x > 0) + 1, [jnp.sin, jnp.cos, lambda x: x**2], x),
    "vmap": lambda x: jax.vmap(lambda a: jnp.sin(a * x))(FACTORS),
    "while": of_unknown_length,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow(name):
    assert_equals_nested_jvp(weighed(CONTROL_FLOW[name]), SOME)


def test_a_backward_rule_of_a_vector_is_pushed_forward():
    """Forward mode refuses `custom_vjp`, so the oracle is the function without the rule."""
    ours = jax.vmap(jos.derivatives(weighed(vector_with_backward_rule), ORDER), out_axes=1)(SOME)
    wanted = nested_jvp(weighed(lambda x: matrix(x) @ RHS), SOME, ORDER)
    np.testing.assert_allclose(ours, wanted, rtol=1e-11)
