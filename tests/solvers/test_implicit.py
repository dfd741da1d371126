"""Derivatives of solutions against finite differences of whole fits, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.solvers import implicit

T = np.linspace(0.0, 4.0, 12)
TIGHT = {"gtol": 1e-14, "ftol": 0.0, "xtol": 1e-15, "max_steps": 300}


def decay(p, t, y):
    return p["a"] * jnp.exp(-p["k"] * t) + p["c"] - y


START = {"a": np.array(1.0), "k": np.array(1.0), "c": np.array(0.0)}
Y = 3 * np.exp(-0.5 * T) + 0.1 * np.random.default_rng(0).normal(size=12) + np.eye(12)[3]
KINDS = {
    "plain": {},
    "robust": {"loss": "cauchy", "loss_scale": 0.3},
    "bounded": {"bounds": (0.0, 2.0)},
    "bounded and robust": {"bounds": (0.0, 2.0), "loss": "soft_l1", "loss_scale": 0.3},
}


def fit(y, options):
    result = jos.least_squares(decay, START, (T, y), **options, **TIGHT)
    return jnp.stack([*jax.tree.leaves(result.params), result.value])


def differences(fn, x, h):
    """Central differences with one step of Richardson's extrapolation."""
    basis = np.eye(x.size)

    def central(h):
        return np.stack([(fn(x + h * e) - fn(x - h * e)) / (2 * h) for e in basis], -1)

    return (4 * central(h) - central(2 * h)) / 3


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "bounded and robust" else pytest.mark.slow) for k in KINDS]
)
def test_gradients_are_those_of_the_whole_fit(kind):
    options = KINDS[kind]
    reverse = jax.jit(jax.jacrev(lambda y: fit(y, options)))(Y)
    forward = jax.jit(jax.jacfwd(lambda y: fit(y, options)))(Y)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-12)
    expected = differences(jax.jit(lambda y: fit(y, options)), Y, 1e-3)
    np.testing.assert_allclose(reverse, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert (np.abs(reverse).max(1) < 1e-12).sum() == (1 if "bounds" in options else 0)  # what a bound holds


@pytest.mark.slow
def test_hessians_are_those_of_the_whole_fit():
    def rate(y):
        return fit(y, KINDS["robust"])[2]

    hessian = jax.jit(jax.hessian(rate))(Y)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-10)
    expected = differences(jax.jit(jax.grad(rate)), Y, 1e-3)
    np.testing.assert_allclose(hessian, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_derivatives_use_the_whole_hessian_where_residuals_remain():
    # θ² fits a > 0 exactly; with a second residual that pulls, dθ/da is not what JᵀJ alone says.
    def solution(a):
        return jos.least_squares(
            lambda p, a: jnp.stack([p**2 - a, 3 * (p - 2.0)]), jnp.array(1.0), (a,), **TIGHT
        ).params

    theta = solution(1.0)
    by_hand = 2 * theta / (2 * (theta**2 - 1.0) + 4 * theta**2 + 9)
    without_residuals = 2 * theta / (4 * theta**2 + 9)
    np.testing.assert_allclose(jax.grad(solution)(1.0), by_hand, rtol=1e-9)
    assert abs(by_hand / without_residuals - 1) > 0.05


@pytest.mark.slow
def test_what_a_residual_closes_over_is_differentiated_too():
    def solution(a):
        return jos.least_squares(lambda p: p - a * jnp.arange(1.0, 3.0), jnp.zeros(2)).params.sum()

    assert jax.grad(solution)(1.5) == 3.0
    assert jax.jacfwd(solution)(1.5) == 3.0
    assert jax.jit(jax.grad(solution))(1.5) == 3.0


@pytest.mark.slow
def test_a_bound_is_differentiated_where_it_holds():
    def solution(high):
        return jos.least_squares(
            lambda p: p - jnp.array([1.0, 5.0]), jnp.zeros(2), bounds=(-9.0, high)
        ).params

    np.testing.assert_allclose(jax.jacfwd(solution)(2.0), [0.0, 1.0])
    np.testing.assert_allclose(jax.jacrev(solution)(2.0), [0.0, 1.0])


@pytest.mark.slow
def test_minima_of_scalar_functions_are_differentiated():
    def solution(a, optimizer, **options):
        return jos.minimize(
            lambda p, a: jnp.sum((p - a) ** 2) + p[0] ** 4, jnp.zeros(2), optimizer, (a,), **options
        ).params

    theta = solution(1.0, jos.newton())[0]
    expected = [2 / (2 + 12 * theta**2), 1.0]
    np.testing.assert_allclose(jax.jacrev(lambda a: solution(a, jos.newton()))(1.0), expected, rtol=1e-8)
    slow = jax.jacrev(lambda a: solution(a, jos.adam(0.05), gtol=1e-10, max_steps=5000))(1.0)
    np.testing.assert_allclose(slow, expected, rtol=1e-8)


@pytest.mark.slow
def test_where_the_end_is_no_minimum_the_tangents_are_nan():
    def solution(a):
        return jos.minimize(
            lambda p, a: jnp.sum((p - a) ** 2), jnp.zeros(2), jos.adam(0.1), (a,), max_steps=5
        )

    assert np.isnan(jax.jacrev(lambda a: solution(a).params)(1.0)).all()
    assert np.isnan(jax.jacfwd(lambda a: solution(a).value)(1.0))


@pytest.mark.slow
def test_other_fields_carry_no_derivatives():
    def end(a):
        return jos.least_squares(lambda p, a: p - a, jnp.zeros(2), (a,))

    assert jax.grad(lambda a: end(a).grad_norm)(1.0) == 0
    assert jax.grad(lambda a: end(a).opt_state.info.gain_ratio)(1.0) == 0


@pytest.mark.slow
def test_derivatives_under_vmap_equal_a_loop():
    gradient = jax.grad(
        lambda a: jos.least_squares(lambda p, a: p**3 - a, jnp.array(1.0), (a,), **TIGHT).params
    )
    a = jnp.array([1.0, 8.0, 27.0])
    np.testing.assert_allclose(jax.vmap(gradient)(a), 1 / 3 * a ** (-2 / 3), rtol=1e-7)


@pytest.mark.slow
def test_many_parameters_are_solved_for_without_a_matrix():
    size = 300

    def solution(a):
        return jos.least_squares(
            lambda p, a: p - a * jnp.arange(1.0, size + 1), jnp.zeros(size), (a,)
        ).params.sum()

    np.testing.assert_allclose(jax.grad(solution)(1.0), size * (size + 1) / 2, rtol=1e-10)
    np.testing.assert_allclose(jax.jacfwd(solution)(1.0), size * (size + 1) / 2, rtol=1e-10)


@pytest.mark.slow
def test_a_frozen_leaf_is_a_constant():
    params = {"a": jnp.array(1.0), "k": jnp.array(0.6), "c": jnp.array(0.0)}
    frozen = jos.masked(jos.levenberg_marquardt(), {"a": True, "k": False, "c": True})
    bounds = ({"a": -9.0, "k": 0.6, "c": -9.0}, {"a": 9.0, "k": 0.6, "c": 9.0})

    def solution(y, **options):
        return jos.least_squares(decay, params, (T, y), **options).params["a"]

    by_mask = jax.jit(jax.grad(lambda y: solution(y, optimizer=frozen)))(Y)
    by_bounds = jax.jit(jax.grad(lambda y: solution(y, bounds=bounds)))(Y)
    np.testing.assert_allclose(by_mask, by_bounds, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds", [None, ({"a": 0.0, "k": 0.0}, {"a": 9.0, "k": 9.0})], ids=["free", "bounds"]
)
def test_a_frozen_leaf_is_its_start_and_the_others_follow_it(bounds):
    frozen = jos.masked(jos.levenberg_marquardt(), {"a": True, "k": False})
    two = lambda p, t, y: p["a"] * jnp.exp(-p["k"] * t) - y  # noqa: E731

    def solution(a, k):
        start = {"a": a, "k": k}
        return jos.least_squares(two, start, (T, Y), optimizer=frozen, bounds=bounds).params

    def in_closed_form(k):
        column = jnp.exp(-k * T)
        return column @ Y / (column @ column)

    for derivative in (jax.jacfwd, jax.jacrev):
        slopes = jax.jit(derivative(solution, (0, 1)))(1.0, 0.6)
        np.testing.assert_allclose(slopes["k"], [0.0, 1.0])
        np.testing.assert_allclose(slopes["a"], [0.0, jax.grad(in_closed_form)(0.6)], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_moving_bounds_are_followed_without_a_matrix(monkeypatch):
    random = np.random.default_rng(0)
    matrix, target, weights = random.normal(size=(12, 5)), random.normal(size=12), random.normal(size=5)

    def solution(lower):
        residual = lambda p, lower: matrix @ p - target + 0.1 * jnp.sum(p**2)  # noqa: E731
        bounds = (jnp.full(5, lower), 9.0)
        return weights @ jos.least_squares(residual, jnp.zeros(5), (lower,), bounds=bounds, **TIGHT).params

    by_matrix = jax.grad(lambda lower: solution(lower))(-0.02)
    difference = (solution(-0.02 + 1e-5) - solution(-0.02 - 1e-5)) / 2e-5
    np.testing.assert_allclose(by_matrix, difference, rtol=1e-5)
    monkeypatch.setattr(implicit, "LARGEST_MATRIX", 2)
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derivative(lambda lower: solution(lower))(-0.02), by_matrix, rtol=1e-7)


def test_a_short_step_of_a_slow_method_is_no_minimum():
    def bowl(p, a):
        return jnp.sum((p - a) ** 2)

    def solution(a):
        return jos.minimize(bowl, jnp.zeros(2), jos.sgd(1e-9), (a,), xtol=1e-3, max_steps=50)

    assert np.isnan(jax.grad(lambda a: solution(a).params.sum())(1.0))


@pytest.mark.slow
def test_derivatives_do_not_depend_on_the_units_of_parameters_in_float32():
    def sensitivity(unit):
        def residual(p, y):
            x = jnp.arange(5.0)
            return p["a"] * jnp.exp(-p["k"] / unit * x) - y

        y = jnp.array([3.0, 1.9, 1.1, 0.7, 0.4])
        start = {"a": jnp.array(2.5), "k": jnp.array(0.4 * unit)}
        return jax.jacrev(lambda y: jos.least_squares(residual, start, (y,)).params["k"] / unit)(y)

    with jax.enable_x64(True):
        exact = sensitivity(1.0)
    with jax.enable_x64(False):
        for unit in (1e-12, 1e12):
            np.testing.assert_allclose(sensitivity(unit), exact, rtol=1e-3, atol=1e-4)


def test_leaves_without_elements_are_refused():
    with pytest.raises(ValueError, match=r"params\['b'\]: has no elements"):
        jos.least_squares(lambda p: p["a"], {"a": jnp.ones(2), "b": jnp.zeros((0, 3))})
