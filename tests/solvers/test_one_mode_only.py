"""Residuals that have forward mode alone, or reverse mode alone, are fitted like others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

T = np.linspace(0.0, 2.0, 15)
START = np.ones(2)


def _root_by_a_loop(a):
    """√a by Newton's method until it stands still: a loop of unknown length has no reverse mode."""
    stands = lambda state: jnp.any(jnp.abs(state[0] - state[1]) > 1e-13)  # noqa: E731
    begin = (jnp.ones_like(a), jnp.full_like(a, 2.0))
    return jax.lax.while_loop(stands, lambda state: (0.5 * (state[0] + a / state[0]), state[0]), begin)[0]


@jax.custom_vjp
def _root_with_a_rule(a):
    """√a with a rule of its own for reverse mode, which leaves no forward mode."""
    return jnp.sqrt(a)


_root_with_a_rule.defvjp(lambda a: (jnp.sqrt(a), a), lambda a, bar: (0.5 * bar / jnp.sqrt(a),))

ROOTS = {"forward": _root_by_a_loop, "reverse": _root_with_a_rule}


def _model_of(root):
    return lambda p, t: p[0] * root(1.0 + p[1] * t)


PLAIN = _model_of(jnp.sqrt)
Y = np.asarray(2.0 * np.sqrt(1.0 + 0.7 * T) + 0.05 * np.sin(20.0 * T))


@pytest.mark.parametrize("mode", ROOTS)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.9)])
@pytest.mark.parametrize("within", [lambda fn: fn, jax.jit])
def test_least_squares(mode, bounds, within):
    def fitted(model):
        result = within(
            lambda y: jos.least_squares(lambda p, y: model(p, T) - y, START, (y,), bounds=bounds)
        )(Y)
        assert bool(result.converged)
        return result.params

    np.testing.assert_allclose(fitted(_model_of(ROOTS[mode])), fitted(PLAIN), rtol=1e-7)


@pytest.mark.parametrize("mode", ROOTS)
def test_curve_fit_and_batches(mode):
    model = _model_of(ROOTS[mode])
    fit, plain = jos.curve_fit(model, T, Y, START), jos.curve_fit(PLAIN, T, Y, START)
    np.testing.assert_allclose(fit.stderr, plain.stderr, rtol=1e-6)
    many = jos.curve_fit_batch(model, T, np.stack([Y, 2 * Y]), np.ones((2, 2)))
    np.testing.assert_allclose(many.params[0], plain.params, rtol=1e-6)
    np.testing.assert_allclose(many.stderr[0], plain.stderr, rtol=1e-5)


@pytest.mark.parametrize("mode", ROOTS)
def test_fewer_residuals_than_parameters(mode):
    def fitted(root):
        return jos.least_squares(lambda p: p[:1] * root(1.0 + p[1:] ** 2) - 2.0, START).params

    np.testing.assert_allclose(fitted(ROOTS[mode]), fitted(jnp.sqrt), rtol=1e-7)


def test_derivatives_of_a_fit_with_forward_mode_alone():
    def params(root):
        return lambda y: jos.least_squares(lambda p, y: _model_of(root)(p, T) - y, START, (y,)).params

    np.testing.assert_allclose(
        jax.jacfwd(params(_root_by_a_loop))(Y), jax.jacfwd(params(jnp.sqrt))(Y), rtol=1e-6, atol=1e-9
    )


def test_without_any_derivative_it_is_said():
    def model(p, t):
        return _root_with_a_rule(_root_by_a_loop(p[0] + p[1] * t))

    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jos.least_squares(lambda p: model(p, T) - Y, START)
