"""Jacobians: three ways to the same numbers, and a promise that is checked."""

import dataclasses
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.derivatives import check_pointwise, number_of_rows, residual_and_jacobian

MODES = ["forward", "reverse", "pointwise", "sparse", "auto"]


class Data(NamedTuple):
    x: object
    y: object


def several_a_row(params, data, weight):
    """Two residuals a row in one leaf, three in another, one in a third."""
    wave = params["a"] * jnp.sin(params["k"][0] * data.x) - data.y
    return {
        "z": jnp.stack([wave, wave**2], axis=1),
        "a": (data.x[:, None] * params["k"][None, :], weight * params["b"] ** 2),
    }


def make(rows):
    rng = np.random.default_rng(rows)
    params = {"a": jnp.array(1.3), "b": jnp.array(-0.4), "k": jnp.array([0.7, 2.0, -1.0])}
    args = (Data(*(jnp.asarray(rng.normal(size=rows)) for _ in range(2))), jnp.asarray(rng.normal(size=rows)))
    return params, args


def finite_differences(objective, params, args):
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    h = 1e-6
    at = jax.jit(lambda theta: objective.residual(unravel(theta), *args))
    return np.stack([(at(flat + h * e) - at(flat - h * e)) / (2 * h) for e in np.eye(flat.size)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [1, 7])
def test_every_mode_equals_finite_differences(mode, rows):
    params, args = make(rows)
    objective = jos.LeastSquares(several_a_row, pointwise=True)
    residual, jacobian_t = jax.jit(lambda p, a: residual_and_jacobian(objective, p, a, mode))(params, args)
    np.testing.assert_allclose(residual, objective.residual(params, *args), rtol=1e-14)
    np.testing.assert_allclose(jacobian_t, finite_differences(objective, params, args), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(1, 1, 1), (2, 3, 1), (5, 2, 3)])
def test_modes_agree_for_any_number_of_rows_and_outputs(rows, outputs, inputs):
    rng = np.random.default_rng(rows)
    params = {"w": jnp.asarray(rng.normal(size=(inputs, outputs))), "c": jnp.array(0.5)}
    args = (jnp.asarray(rng.normal(size=(rows, inputs))),)
    objective = jos.LeastSquares(lambda p, x: (jnp.tanh(x @ p["w"]), p["c"] * x), pointwise=True)

    @jax.jit
    def everything(params, args):
        return [residual_and_jacobian(objective, params, args, mode) for mode in MODES[:4]]

    forward, reverse, pointwise, sparse = everything(params, args)
    assert forward[1].shape == (inputs * outputs + 1, rows * (inputs + outputs))
    for other in (reverse, pointwise, sparse):
        for left, right in zip(forward, other, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-13, atol=1e-14)


def test_auto_is_forward_for_tall_and_reverse_for_wide_residuals():
    """Both give the same numbers, so it is asked which passes are made."""
    for residuals, params in ((5, 3), (3, 5)):
        matrix = jnp.ones((residuals, params))
        objective = jos.LeastSquares(lambda p, a: jnp.sin(a @ p))

        def jaxpr(mode, objective=objective, matrix=matrix):
            theta = jnp.ones(matrix.shape[1])
            return str(jax.make_jaxpr(lambda p: residual_and_jacobian(objective, p, (matrix,), mode))(theta))

        right, wrong = ("forward", "reverse") if residuals >= params else ("reverse", "forward")
        assert jaxpr("auto") == jaxpr(right)
        assert jaxpr("auto") != jaxpr(wrong)


def test_a_jacobian_of_float32_parameters_is_float32():
    objective = jos.LeastSquares(lambda p, x: p * x, pointwise=True)
    for mode in MODES:
        ones = jnp.ones(3, jnp.float32)
        parts = jax.eval_shape(
            lambda p, x, mode=mode: residual_and_jacobian(objective, p, (x,), mode), ones, ones
        )
        assert [part.dtype for part in parts] == [jnp.float32] * 2


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"jacobian.*'sideways'"):
        # Unwrapped, because the tests check annotations, and this one says which words there are.
        inspect.unwrap(residual_and_jacobian)(jos.LeastSquares(lambda p: p), jnp.ones(2), (), "sideways")


def couples_rows(p, x):
    return p * (x - jnp.mean(x))


def couples_values_alone(p, x):
    return p - jnp.cumsum(x)


@pytest.mark.parametrize("residual_fn", [couples_rows, couples_values_alone])
def test_a_broken_pointwise_promise_is_refused_before_the_solve(residual_fn):
    with pytest.raises(ValueError, match="pointwise"):
        jos.least_squares(jos.LeastSquares(residual_fn, pointwise=True), jnp.array([0.5]), (jnp.arange(5.0),))


def test_a_kept_promise_passes_for_several_residuals_a_row():
    params, args = make(9)
    check_pointwise(jos.LeastSquares(several_a_row, pointwise=True), params, args)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CallableModule:
    """As an Equinox module is: a callable pytree that cannot be hashed, because it holds arrays."""

    scale: jax.Array

    def __call__(self, params, x, y):
        return params * self.scale * x - y


def test_a_callable_pytree_may_promise_to_be_pointwise():
    x = jnp.arange(1.0, 5.0)
    objective = jos.LeastSquares(CallableModule(jnp.array(2.0)), pointwise=True)
    result = jos.least_squares(objective, jnp.array(0.0), (x, 6 * x))
    np.testing.assert_allclose(result.params, 3.0, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 7])
def test_pointwise_works_with_traced_parameters(rows):
    x = jnp.linspace(1.0, 2.0, rows)
    objective = jos.LeastSquares(lambda p, x, y: p * x - y, pointwise=True)
    solve = jax.jit(jax.vmap(lambda start: jos.least_squares(objective, start, (x, 3 * x)).params))
    np.testing.assert_allclose(solve(jnp.array([0.0, 10.0])), [3.0, 3.0], rtol=1e-12)


def test_a_scalar_argument_cannot_be_pointwise():
    with pytest.raises(ValueError, match=r"args\[1\].*scalar"):
        number_of_rows((jnp.ones(3), jnp.array(2.0)))


def test_arguments_of_unequal_length_cannot_be_pointwise():
    with pytest.raises(ValueError, match=r"args\[1\].*4 rows"):
        number_of_rows((jnp.ones(3), jnp.ones(4)))


@pytest.mark.parametrize("args", [(), (np.zeros((0, 2)),)])
def test_no_rows_cannot_be_pointwise(args):
    with pytest.raises(ValueError, match="no rows"):
        number_of_rows(args)


def many_waves(theta, x):
    return sum(theta[i] * jnp.sin(theta[i + 3] * x) for i in range(3)) + 1 / theta[6]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_passes_of_many_residuals_share_what_they_have_in_common(dtype):
    theta, x = jnp.linspace(1.0, 2.0, 7, dtype=dtype), jnp.linspace(0.0, 3.0, 200, dtype=dtype)
    objective = jos.LeastSquares(many_waves)
    take = jax.jit(lambda theta: residual_and_jacobian(objective, theta, (x,), "forward"))
    assert "cond" in str(jax.make_jaxpr(take)(theta))
    residual, jacobian_t = take(theta)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    expected = np.asarray(jax.jacrev(many_waves)(theta, x)).T
    assert jacobian_t.dtype == residual.dtype == dtype
    np.testing.assert_allclose(residual, many_waves(theta, x), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(jacobian_t, expected, rtol=tolerance, atol=tolerance)


def test_passes_through_loops_are_made_as_ever():
    def decay(theta, x):
        return jax.lax.fori_loop(0, 50, lambda _, y: y - theta[0] * y / 50, jnp.sin(x)) + theta[1]

    @jax.custom_batching.custom_vmap
    def twice(x):
        return 2 * x

    twice.def_vmap(lambda axis_size, batched, x: (2 * x, batched[0]))
    theta, x = jnp.array([1.0, 2.0]), jnp.linspace(0.0, 3.0, 400)
    for fn in (decay, lambda theta, x: twice(theta[0] * x) + theta[1]):

        def take(theta, fn=fn):
            return residual_and_jacobian(jos.LeastSquares(fn), theta, (x,), "forward")[1]

        assert "cond" not in str(jax.make_jaxpr(take)(theta))
        np.testing.assert_allclose(take(theta), np.asarray(jax.jacfwd(fn)(theta, x)).T, rtol=1e-12)


@pytest.mark.slow
def test_shared_passes_work_in_batches_and_have_derivatives():
    theta, x = jnp.linspace(1.0, 2.0, 7), jnp.linspace(0.0, 3.0, 200)
    objective = jos.LeastSquares(many_waves)
    take = lambda theta: residual_and_jacobian(objective, theta, (x,), "forward")[1]  # noqa: E731
    thetas = jnp.stack([theta, theta + 0.1, jnp.full_like(theta, jnp.inf)])
    together = jax.vmap(take)(thetas)
    for one, alone in zip(together[:2], thetas, strict=False):
        np.testing.assert_allclose(one, take(alone), rtol=1e-12, atol=1e-14)
    assert np.isnan(together[2]).all()
    direction = jnp.arange(7.0)
    _, along = jax.jvp(take, (theta,), (direction,))
    higher, lower = take(theta + 1e-6 * direction), take(theta - 1e-6 * direction)
    np.testing.assert_allclose(along, (higher - lower) / 2e-6, rtol=1e-6, atol=1e-6)


def test_auto_takes_pass_after_pass_for_many_rows_of_few_parameters():
    theta = jnp.linspace(1.0, 2.0, 7)
    objective = jos.LeastSquares(many_waves, pointwise=True)

    def programs(rows, mode):
        x = jnp.linspace(0.0, 3.0, rows)
        return str(jax.make_jaxpr(lambda theta: residual_and_jacobian(objective, theta, (x,), mode))(theta))

    assert programs(100, "auto") == programs(100, "pointwise")
    assert programs(2000, "auto") == programs(2000, "forward") != programs(2000, "pointwise")
