"""Residuals that misbehave: always a status that is right, parameters that are finite, never an exception."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_study as jos
from jaxopt_study.result import Status

pytestmark = pytest.mark.slow  # every example is traced and compiled anew

X = np.linspace(-1.0, 1.0, 6)

# One function of (params, x, kind, level), so that hypothesis pays for one compilation an optimizer.
# BUG if "huge" fails: the gradient is finite, but the square of its norm is not.
KINDS = ["plain", "nan region", "inf region", "constant", "zero column", "duplicate", "kink", "huge", "flat"]


def residual_fn(params, x, kind, level):
    a, b, c = params["a"], params["bc"][0], params["bc"][1]
    line = a * x + b * x**2 + c - jnp.sin(3 * x)
    return jax.lax.switch(
        kind,
        [
            lambda: line,
            lambda: jnp.where(a > level, jnp.nan, line),
            lambda: jnp.where(b > level, jnp.inf, line),
            lambda: jnp.full_like(x, level),
            lambda: a * x + c - jnp.sin(3 * x),
            lambda: (a + b) * x + c - jnp.sin(3 * x),
            lambda: jnp.abs(line) + level * jnp.abs(a),
            lambda: 1e100 * line,
            lambda: jnp.exp(-((a - level) ** 2)) * jnp.ones_like(x) + 0 * line,
        ],
    )


OBJECTIVE = jos.LeastSquares(residual_fn)
value_and_grad = jax.jit(jax.value_and_grad(OBJECTIVE))
OPTIMIZERS = {
    "lm": jos.levenberg_marquardt(),
    "lm_qr": jos.levenberg_marquardt(solver="qr"),
    "gauss_newton": jos.gauss_newton(),
    "newton": jos.newton(),
}


def check(result, args):
    """What is true of every end; the value and the gradient are taken anew."""
    status = Status(int(result.status))
    assert status != Status.RUNNING
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.params))
    if status == Status.NON_FINITE_START:
        return status
    value, grads = value_and_grad(result.params, *args)
    assert np.isfinite(result.value)
    np.testing.assert_allclose(result.value, value, rtol=1e-9, atol=1e-300)
    if status == Status.GRADIENT_CONVERGED:
        flat = np.asarray(jax.flatten_util.ravel_pytree(grads)[0])
        unit = np.max(np.abs(flat)) or 1.0  # squares of 1e200 overflow here as well
        expected = unit * np.linalg.norm(flat / unit)
        np.testing.assert_allclose(result.grad_norm, expected, rtol=1e-6, atol=1e-9 * (1 + abs(value)))
    return status


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=25)
@given(
    kind=st.integers(0, len(KINDS) - 1),
    level=st.sampled_from([-1.0, -0.1, 0.3, 2.0]),
    start=st.tuples(*[st.sampled_from([-3.0, -0.2, 0.0, 0.25, 1.0, 40.0])] * 3),
)
def test_hostile_residuals_end_with_a_status_and_finite_params(name, kind, level, start):
    with jax.enable_x64(True):
        params = {"a": jnp.full((), start[0], float), "bc": jnp.array(start[1:])}
        args = (jnp.asarray(X), jnp.int32(kind), jnp.full((), level, float))
        result = jos.minimize(OBJECTIVE, params, OPTIMIZERS[name], args, max_steps=60)
        first, _ = value_and_grad(params, *args)
        status = check(result, args)
        assert (status == Status.NON_FINITE_START) == (not np.isfinite(first))
        if np.isfinite(first) and name != "gauss_newton":
            assert result.value <= first
        if KINDS[kind] == "constant":
            assert (status, result.num_steps) == (Status.GRADIENT_CONVERGED, 0)
        if KINDS[kind] in ("plain", "zero column", "duplicate") and not (
            name == "newton" and status == Status.STALLED
        ):
            assert result.converged, result.message


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (1, 4), (2, 5), (5, 1)],
    ids=["1x1", "one residual", "wide", "one parameter"],
)
def test_problems_of_any_shape_are_solved(name, rows, columns):
    """BUG if it fails for Gauss-Newton on fewer rows than columns: a residual of zero is a minimum."""
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=(rows, columns))), jnp.asarray(rng.normal(size=rows))
    objective = jos.LeastSquares(lambda p, a, b: a @ p - b)
    result = jos.minimize(objective, jnp.ones(columns), OPTIMIZERS[name], (a, b))
    assert result.converged, result.message
    residual = a @ np.linalg.lstsq(a, b, rcond=None)[0] - b
    np.testing.assert_allclose(result.value, 0.5 * residual @ residual, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["lm", "gauss_newton"])
def test_leaves_of_no_dimension_alone_are_fitted(name):
    objective = jos.LeastSquares(lambda p: {"r": p["a"] - 2.0, "s": 3 * (p["b"] - 1.0)})
    result = jos.minimize(objective, {"a": jnp.zeros(()), "b": jnp.zeros(())}, OPTIMIZERS[name])
    np.testing.assert_allclose([result.params["a"], result.params["b"]], [2.0, 1.0], rtol=1e-9)
    assert result.converged


@pytest.mark.parametrize("name", ["lm", "lm_qr", "gauss_newton"])
def test_a_residual_that_is_zero_at_the_start_is_converged(name):
    result = jos.minimize(jos.LeastSquares(lambda p: p - 1), jnp.ones(3), OPTIMIZERS[name])
    assert (result.status, result.num_steps, result.value) == (Status.GRADIENT_CONVERGED, 0, 0)
