"""`jacobian`: dense in three ways, sparse by colors, on trees, against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental.sparse import BCOO

import jaxopt_study as jos


def pentadiagonal(x):
    p = jnp.pad(x, 2)
    return p[:-4] + jnp.sin(p[1:-3]) * x + x**3 - jnp.exp(-p[3:-1]) + p[4:] ** 2


def pentadiagonal_by_hand(x):
    before, after = np.concatenate([[0], x[:-1]]), np.concatenate([x[1:], [0]])
    far = np.concatenate([x[2:], [0, 0]])
    bands = [
        np.ones_like(x),
        np.cos(before) * x,
        np.sin(before) + 3 * x**2,
        np.exp(-after),
        2 * far,
    ]
    n = len(x)
    return sum(
        np.diag(band[max(0, -k) : n - max(0, k)], k) for k, band in zip(range(-2, 3), bands, strict=True)
    )


def tree_function(params, scale):
    return {"u": scale * params["a"] ** 2, "v": (jnp.sum(params["b"]) * params["a"][:2],)}


PARAMS = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([[0.5, 1.5]])}


def test_a_sparse_jacobian_is_the_one_by_hand_in_five_passes(precision):
    x = np.random.default_rng(0).normal(size=40).astype(precision)
    jac = jos.jacobian(pentadiagonal, mode="sparse")
    matrix = jac(jnp.asarray(x))
    assert isinstance(matrix, BCOO)
    assert matrix.dtype == precision
    expected = pentadiagonal_by_hand(x.astype(float))
    np.testing.assert_allclose(matrix.todense(), expected, rtol=1e-5 if precision == "float32" else 1e-13)
    assert jos.jacobian_coloring(pentadiagonal, jnp.asarray(x)).passes == 5


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_a_jacobian_of_trees_is_a_tree_of_trees(mode):
    out = jos.jacobian(tree_function, mode)(PARAMS, 2.0)
    np.testing.assert_allclose(out["u"]["a"], np.diag([4.0, 8.0, 12.0]))
    np.testing.assert_allclose(out["u"]["b"], np.zeros((3, 1, 2)))
    np.testing.assert_allclose(out["v"][0]["a"], 2.0 * np.eye(2, 3))
    np.testing.assert_allclose(out["v"][0]["b"], np.array([1.0, 2.0])[:, None, None] * np.ones((2, 1, 2)))


def test_a_sparse_jacobian_of_trees_is_one_matrix_in_the_order_of_ravel():
    matrix = jos.jacobian(tree_function, "sparse")(PARAMS, 2.0).todense()
    expected = np.zeros((5, 5))
    expected[:3, :3] = np.diag([4.0, 8.0, 12.0])
    expected[3:, :2] = 2.0 * np.eye(2)
    expected[3:, 3:] = np.array([[1.0, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(matrix, expected)


def test_pointwise_is_the_same_and_a_broken_promise_is_refused():
    x = jnp.linspace(0.0, 1.0, 6)

    def model(params, x):
        return {
            "one": params["a"] * jnp.sin(params["b"] * x),
            "two": x[:, None] * jnp.ones((1, 2)) * params["b"],
        }

    params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
    out = jos.jacobian(model, "pointwise")(params, x)
    np.testing.assert_allclose(out["one"]["a"], np.sin(3 * x), rtol=1e-14)
    np.testing.assert_allclose(out["one"]["b"], 2 * x * np.cos(3 * x), rtol=1e-14)
    np.testing.assert_allclose(out["two"]["b"], np.tile(x[:, None], 2), rtol=1e-14)
    with pytest.raises(ValueError, match="pointwise"):
        jos.jacobian(lambda p, x: p["a"] * (x - jnp.mean(x)), "pointwise")(params, x)


def test_auto_takes_the_mode_that_works():
    def looped(x):  # reverse mode cannot
        return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x[0]), (0, jnp.sum(x)))[1]

    @jax.custom_vjp
    def with_rule(x):  # forward mode cannot
        return x**2

    with_rule.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    x = jnp.array([2.0, 1.0])
    np.testing.assert_allclose(jos.jacobian(looped)(x), [8.0 + 3 * 4 * 3.0, 8.0])
    np.testing.assert_allclose(jos.jacobian(with_rule)(x), np.diag([4.0, 2.0]))
    np.testing.assert_allclose(jos.jacobian(with_rule, "sparse")(x).todense(), np.diag([4.0, 2.0]))
    assert jos.jacobian_coloring(with_rule, x).by == "rows"


GIVEN = np.eye(6, dtype=bool) | np.eye(6, k=1, dtype=bool)


@pytest.mark.parametrize(
    "given",
    [GIVEN, np.nonzero(GIVEN), scipy.sparse.csr_matrix(GIVEN), BCOO.fromdense(GIVEN * 1.0)],
    ids=["dense", "pairs", "scipy", "BCOO"],
)
def test_a_pattern_may_be_given(given):
    def ring(x):  # reads as dense, because of the unknown place, but is not
        return x * jnp.append(x[1:], 1.0)

    x = jnp.arange(1.0, 7.0)
    matrix = jos.jacobian(ring, "sparse", sparsity=given)(x)
    assert matrix.nse == GIVEN.sum()
    np.testing.assert_allclose(matrix.todense(), jax.jacfwd(ring)(x))


def test_a_pattern_that_lacks_an_entry_is_refused():
    with pytest.raises(ValueError, match="pattern lacks a place: row 1"):
        jos.jacobian(lambda x: x * x[::-1], "sparse", sparsity=np.array([[1, 1], [0, 1]]))(jnp.ones(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "sideways"}, "mode: expected one of"),
        ({"mode": "forward", "sparsity": GIVEN}, "sparsity: only"),
        ({"mode": "sparse", "sparsity": np.ones((2, 2))}, r"shape \(6, 6\), the pattern \(2, 2\)"),
        ({"mode": "sparse", "sparsity": (np.array([0]), np.array([9]))}, "column 9 is outside"),
    ],
)
def test_what_makes_no_sense_is_named(arguments, message):
    import inspect

    with pytest.raises(ValueError, match=message):
        inspect.unwrap(jos.jacobian)(lambda x: x, **arguments)(jnp.ones(6))


def test_integers_are_not_differentiated_by():
    with pytest.raises(TypeError, match="params: expected a real float array"):
        jos.jacobian(lambda x: x * 1.0)(jnp.arange(3))


def test_places_that_change_are_seen_outside_jit_and_a_second_call_compiles_nothing(count_traces):
    counted = count_traces(lambda x, places: x[places] ** 2)
    jac = jos.jacobian(counted.fn, "sparse")
    x = jnp.array([1.0, 2.0, 3.0])
    for places in ([2, 0], [1, 1]):
        expected = np.zeros((2, 3))
        expected[[0, 1], places] = 2 * np.array([1.0, 2.0, 3.0])[places]
        np.testing.assert_allclose(jac(x, jnp.array(places)).todense(), expected)
    before = counted.count
    jac(2 * x, jnp.array([1, 1]))
    assert counted.count == before


@pytest.mark.slow
def test_a_sparse_jacobian_works_under_jit_vmap_and_grad():
    jac = jos.jacobian(pentadiagonal, "sparse")
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)))
    data = jax.jit(jax.vmap(lambda x: jac(x).data))(xs)
    dense = np.stack([pentadiagonal_by_hand(np.asarray(x)) for x in xs])
    coloring = jos.jacobian_coloring(pentadiagonal, xs[0])
    np.testing.assert_allclose(data, dense[:, coloring.sparsity.rows, coloring.sparsity.columns], rtol=1e-12)
    total = jax.grad(lambda x: jnp.sum(jac(x).data ** 2))(xs[0])
    expected = jax.grad(lambda x: jnp.sum(jax.jacfwd(pentadiagonal)(x) ** 2))(xs[0])
    np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_functions_of_traced_values_leave_nothing_behind():
    def outer(a):
        jac = jos.jacobian(lambda x: a * x**2, "sparse")
        return jac(jnp.ones(3)).data

    np.testing.assert_allclose(jax.jit(outer)(2.0), 4.0 * np.ones(3))
    np.testing.assert_allclose(jax.vmap(outer)(jnp.array([1.0, 3.0])), [[2.0] * 3, [6.0] * 3])


@pytest.mark.slow
def test_least_squares_by_colors_is_least_squares():
    def residual(x, target):
        return pentadiagonal(x) - target

    target = pentadiagonal(jnp.linspace(0.2, 0.8, 12))
    results = [
        jos.least_squares(
            residual, jnp.full(12, 0.5), (target,), optimizer=jos.levenberg_marquardt(jacobian=mode)
        )
        for mode in ("sparse", "forward")
    ]
    assert all(bool(result.converged) for result in results)
    np.testing.assert_allclose(results[0].params, jnp.linspace(0.2, 0.8, 12), rtol=1e-8)
    np.testing.assert_allclose(results[0].params, results[1].params, rtol=1e-10)
