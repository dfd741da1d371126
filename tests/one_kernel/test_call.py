"""Programs in one function of machine code compute what separate kernels do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.one_kernel import call, one_kernel, rewrite, separate_kernels
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES

X = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 4))
V = np.array([0.3, -0.7, 0.2, 0.9])
INDEX = np.array([2, 0, 2], np.int32)

# A function for every primitive that is left as it is.
ELEMENTWISE = {
    name: getattr(jax.lax, name)
    for name in (
        *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "erf"),
        *("erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "is_finite", "log", "log1p", "logistic", "neg"),
        *("round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
    )
}
BINARY = {
    name: getattr(jax.lax, name)
    for name in (
        *(
            "add",
            "atan2",
            "div",
            "eq",
            "ge",
            "gt",
            "le",
            "lt",
            "max",
            "min",
            "mul",
            "ne",
            "pow",
            "rem",
            "sub",
        ),
    )
}
OTHERS = {
    "and": lambda x: (x > 0) & (x < 0.5),
    "or": lambda x: (x > 0) | (x < -0.5),
    "xor": lambda x: (x > 0) ^ (x < 0.5),
    "not": lambda x: ~(x > 0),
    "add_any": jax.grad(lambda x: jnp.sum(x * x)),
    "argmax": lambda x: jnp.argmax(x, 1),
    "argmin": lambda x: jnp.argmin(x, 0),
    "broadcast_in_dim": lambda x: jnp.broadcast_to(x[None], (2, 3, 4)),
    "clamp": lambda x: jax.lax.clamp(-0.2, x, 0.3),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x, x[:1]]),
    "convert_element_type": lambda x: (10 * x).astype(int),
    "copy": jnp.copy,
    "dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 1), (2, 2)),
    "dynamic_update_slice": lambda x: jax.lax.dynamic_update_slice(x, x[:1, :2], (jnp.argmin(x[:, 1]), 2)),
    "gather": lambda x: x[jnp.asarray(INDEX)],
    "integer_pow": lambda x: x**3,
    "iota": lambda x: x + jax.lax.iota(x.dtype, 4)[None, :],
    "pad": lambda x: jnp.pad(x, 1),
    "reduce_and": lambda x: jnp.all(x > -0.5, 0),
    "reduce_max": lambda x: jnp.max(x, 0),
    "reduce_min": lambda x: jnp.min(x, 1),
    "reduce_or": lambda x: jnp.any(x > 0.5, 1),
    "reduce_precision": lambda x: jax.lax.reduce_precision(x, 8, 10),
    "reduce_prod": lambda x: jnp.prod(x, 1),
    "reduce_sum": jnp.sum,
    "reshape": lambda x: x.reshape(2, 6),
    "select_n": lambda x: jnp.where(x > 0, x, 2 * x),
    "slice": lambda x: x[1:, :2],
    "split": lambda x: jnp.split(x, 2, axis=1),
    "squeeze": lambda x: jnp.squeeze(x[:1]),
    "stack": lambda x: jnp.stack([x, 2 * x]),
    "transpose": lambda x: x.T + 1,
    "while": lambda x: jax.lax.while_loop(lambda y: jnp.sum(y) < 50, lambda y: y + 1.5, x),
    "cond": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "switch": lambda x: jax.lax.switch(jnp.argmax(x[:, 0]), [jnp.sin, jnp.cos, jnp.tan], x),
    "scan": lambda x: jax.lax.scan(lambda c, row: (c + row, c * row), jnp.zeros(4, x.dtype), x, reverse=True),
    "map": lambda x: jax.lax.map(jnp.sum, x),
    "custom_jvp_call": jax.nn.relu,
    "custom_vjp_call": lambda x: _with_a_rule(x),
    "checkpoint": lambda x: jax.grad(lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(x) ** 2)(x)))(x),
    "jit": lambda x: jax.jit(jnp.cosh)(x),
    "dot_general": lambda x: (x @ x.T, x @ jnp.asarray(V, x.dtype), jnp.einsum("ij,ij->i", x, x)),
    "cholesky": lambda x: jnp.linalg.cholesky(x.T @ x + jnp.eye(4, dtype=x.dtype)),
    "qr": lambda x: jnp.linalg.qr(x.T),
    "lu": lambda x: jax.lax.linalg.lu(x @ x.T + jnp.eye(3, dtype=x.dtype))[0],
    "triangular_solve": lambda x: [
        jax.lax.linalg.triangular_solve(
            x[:, :3] + 2 * jnp.eye(3, dtype=x.dtype),
            x if left else x.T,
            left_side=left,
            lower=lower,
            transpose_a=turned,
        )
        for left in (False, True)
        for lower in (False, True)
        for turned in (False, True)
    ],
}


@jax.custom_vjp
def _with_a_rule(x):
    return jnp.sin(x)


_with_a_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g,))


def _names(jaxpr) -> set[str]:
    names = set()
    for eqn in jaxpr.eqns:
        names.add(eqn.primitive.name)
        for inside in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            names |= _names(getattr(inside, "jaxpr", inside)) if hasattr(inside, "eqns") else set()
    return names


def _is_one_kernel(fn, *args) -> bool:
    lowered = jax.jit(lambda *args: one_kernel(fn, *args)).lower(*args)
    return "xla_cpu_small_call" in lowered.as_text()


def _compare(fn, *args):
    assert _is_one_kernel(fn, *args)
    for found, expected in zip(
        jax.tree.leaves(jax.jit(lambda *args: one_kernel(fn, *args))(*args)),
        jax.tree.leaves(jax.jit(fn)(*args)),
        strict=True,
    ):
        assert found.dtype == expected.dtype
        few = 2e-6 if args[0].dtype == np.float32 else 1e-13
        np.testing.assert_allclose(found, expected, rtol=few, atol=few)


@pytest.mark.parametrize("name", [*ELEMENTWISE, *OTHERS])
@pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
def test_of_one_argument(name, precision):
    x = jnp.asarray(X + 2 if name in ("acosh", "log", "sqrt", "rsqrt") else X, precision)
    _compare({**ELEMENTWISE, **OTHERS}[name], x)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
def test_of_two_arguments(name, precision):
    _compare(BINARY[name], jnp.asarray(abs(X), precision), jnp.asarray(X[::-1] + 0.5, precision))


def test_every_primitive_that_is_left_as_it_is_was_compared():
    seen = set()
    for name, fn in {**ELEMENTWISE, **OTHERS, **BINARY}.items():
        args = (X, X) if name in BINARY else (X,)
        seen |= _names(jax.make_jaxpr(fn)(*args).jaxpr)
    # copy_p, unstack: names that other versions of JAX give; platform_index: of jax.scipy.linalg.
    unseen = (rewrite.CHEAP | rewrite.DEAR) - seen - {"copy_p", "unstack", "platform_index", "stop_gradient"}
    assert not unseen


@pytest.mark.parametrize(
    "fn",
    [
        jnp.sort,
        lambda x: x.at[jnp.asarray(INDEX[:2])].add(1.0),
        lambda x: jnp.linalg.svd(x)[1],
        lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
        lambda x: x.astype(jnp.complex64) * 1j,
        lambda x: jax.vmap(lambda x: jax.lax.while_loop(lambda x: x < 5, lambda x: x + 1.5, x))(x[0]),
        lambda x: x + x[::-1],  # 20 of them, one after the other, took minutes to compile
        lambda x: jax.random.normal(jax.random.key(0), x.shape) + x,
        lambda x: jax.debug.print("{}", x[0, 0]) or x,
    ],
    ids=["sort", "scatter", "svd", "callback", "complex", "vmapped loop", "reversed", "random", "print"],
)
def test_what_xla_does_not_write_itself_is_left_alone(fn):
    assert not _is_one_kernel(fn, X)
    np.testing.assert_array_equal(jax.jit(lambda x: one_kernel(fn, x))(X), jax.jit(fn)(X))


@pytest.mark.parametrize("terms", [rewrite.LARGEST_SUM, rewrite.LARGEST_SUM + 1, 4 * rewrite.LARGEST_SUM])
def test_long_sums_are_left_to_the_library(terms):
    x = jnp.linspace(0.0, 1.0, terms)
    fn = lambda x: jnp.sum(x) + jnp.sqrt(jnp.sum(x**2)) + jnp.max(x)  # noqa: E731
    assert _is_one_kernel(fn, x) == (terms <= rewrite.LARGEST_SUM)
    np.testing.assert_allclose(jax.jit(lambda x: one_kernel(fn, x))(x), fn(x), rtol=1e-13)


@pytest.mark.parametrize("spec", ["ij,kj->ik", "ij,kj->ki", "ij,jk->ik", "ij,j->i", "j,jk->k", "ij,k->ijk"])
@pytest.mark.parametrize("rows", [3, 30])
def test_products_of_matrices(spec, rows):
    random = np.random.default_rng(0)
    sizes = {"i": rows, "j": 65, "k": 30}
    shapes = [[sizes[axis] for axis in axes] for axes in spec.split("->")[0].split(",")]
    args = [jnp.asarray(random.normal(size=shape)) for shape in shapes]
    fn = lambda *args: jnp.einsum(spec, *args)  # noqa: E731
    found = jax.jit(lambda *args: one_kernel(fn, *args))(*args)
    np.testing.assert_allclose(found, fn(*args), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("terms", [(40, 50), (60, 50)])
def test_products_summed_over_all_of_a_matrix(terms):
    left, right = np.random.default_rng(0).normal(size=(2, *terms))
    fn = lambda left, right: jnp.tensordot(left, right, 2)  # noqa: E731
    assert _is_one_kernel(fn, left, right) == (left.size <= rewrite.LARGEST_SUM)
    found = jax.jit(lambda *args: one_kernel(fn, *args))(left, right)
    np.testing.assert_allclose(found, np.sum(left * right), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_products_of_whole_numbers_and_flags_keep_their_dtype(dtype):
    matrix = (3 * X).astype(dtype)
    _compare(lambda a, b: (a @ b, a.ravel() @ a.ravel()), matrix, matrix.T)


def test_a_product_with_a_number_of_the_program(precision):
    by_two = lambda x: jax.lax.dot_general(x, jnp.asarray(2, x.dtype), (((), ()), ((), ())))  # noqa: E731
    _compare(by_two, jnp.asarray(X, precision))


def test_programs_traced_with_strict_promotion():
    factors = lambda x: jax.lax.linalg.lu(x)[0]  # noqa: E731
    with jax.numpy_dtype_promotion("strict"):
        _compare(factors, jnp.asarray(X))


def test_wide_arrays_closed_over_where_x64_is_off():
    wide = jnp.asarray(X)
    with jax.enable_x64(False):
        halved = lambda x: one_kernel(lambda x: wide.astype(jnp.float32) @ x, x)  # noqa: E731
        x = jnp.ones(wide.shape[1])
        for found in (jax.jit(halved)(x), jax.jit(jax.vmap(halved))(x[None])[0]):
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found, X.sum(1), rtol=1e-6)


def test_values_closed_over_are_arguments():
    def outer(a, b):
        return one_kernel(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: a["m"] * x + b, x), b)

    a = {"m": jnp.asarray(2.0)}
    assert float(jax.jit(outer)(a, 1.0)) == 15.0
    assert float(jax.jit(jax.grad(outer, 1))(a, 1.0)) == 15.0
    assert float(jax.jit(jax.jacfwd(outer))(a, 1.0)["m"]) == 3 * 4 + 2 * 2 + 1
    np.testing.assert_array_equal(jax.jit(jax.vmap(outer, (None, 0)))(a, jnp.arange(2.0)), [0.0, 15.0])


def test_integers_and_flags_beside_what_is_differentiated():
    def fn(x, n, flag):
        return one_kernel(lambda x, n, flag: (jnp.where(flag, x**2, x), n + 1, ~flag), x, n, flag)

    (value, number, flag), tangents = jax.jvp(
        lambda x: fn(x, jnp.asarray(2), jnp.asarray(True)), (3.0,), (1.0,)
    )
    assert (float(value), int(number), bool(flag), float(tangents[0])) == (9.0, 3, False, 6.0)


def test_nested_calls_are_one():
    double = lambda x: one_kernel(lambda x: 2 * x, x)  # noqa: E731
    _compare(lambda x: double(x) + 1, jnp.asarray(X))


def test_without_a_trace_and_by_request_nothing_is_special(monkeypatch):
    assert float(one_kernel(lambda x: x + 1, 1.0)) == 2.0
    with separate_kernels():
        assert not _is_one_kernel(jnp.sin, X)
    with jax.disable_jit():
        assert one_kernel(lambda x: x if x > 0 else -x, -1.0) == 1.0
    monkeypatch.setenv(call.OFF, "1")
    assert not _is_one_kernel(jnp.sin, X)


def test_what_takes_long_is_not_worth_it():
    slow = lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jnp.exp(x) - 1.5, x)  # noqa: E731
    few, many = jnp.ones(100), jnp.ones(call.MOST)
    assert _is_one_kernel(slow, few)
    assert not _is_one_kernel(slow, many)
    assert not _is_one_kernel(lambda x: x + 1, jnp.ones(rewrite.LARGEST_ARRAY + 1))


QUICK = ("rosenbrock", "bard", "osborne_1")


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        pytest.param(name, factor, marks=() if name in QUICK and factor == 1.0 else pytest.mark.slow)
        for name in NONLINEAR_LEAST_SQUARES
        for factor in (1.0, 10.0)
    ],
)
def test_fits_end_where_they_do_with_separate_kernels(name, factor):
    problem = NONLINEAR_LEAST_SQUARES[name]()
    start = jax.tree.map(lambda leaf: factor * leaf, problem.init)
    solve = lambda start, data: jos.least_squares(problem.objective, start, data)  # noqa: E731
    assert "xla_cpu_small_call" in jax.jit(solve).lower(start, problem.data).as_text()
    together = jax.jit(solve)(start, problem.data)
    with separate_kernels():
        apart = jax.jit(lambda *args: solve(*args))(start, problem.data)
    assert bool(together.converged) == bool(apart.converged)
    if together.converged:
        scale = max(float(apart.value), 1e-20 * float(problem.objective(start, *problem.data)))
        assert abs(float(together.value) - float(apart.value)) <= 1e-6 * scale


def test_what_stands_still_may_have_no_derivative():
    def fn(x, c):
        slow = lambda x, c: (x * _with_a_rule(c), jax.lax.while_loop(lambda c: c < 9, lambda c: 2 * c, c))  # noqa: E731
        return sum(one_kernel(slow, x, c))

    tangent = jax.jit(lambda x, c: jax.jvp(lambda x: fn(x, c), (x,), (1.0,))[1])(3.0, 2.0)
    gradient = jax.jit(jax.grad(fn))(3.0, 2.0)
    np.testing.assert_allclose([tangent, gradient], np.sin(2.0), rtol=1e-15)


def test_empty_arrays_are_left_alone():
    # XLA stopped the process: it took the empty argument for a constant, so the function did not use it.
    fn = lambda nothing, flags: (jax.lax.fori_loop(0, 2, lambda _, x: x * 2, nothing), flags)  # noqa: E731
    assert not _is_one_kernel(fn, np.ones((0, 1)), np.ones((1, 3), bool))
    assert not _is_one_kernel(lambda x: (x[:0], x), np.ones(3))
