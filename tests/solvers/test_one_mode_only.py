"""Residuals that have forward mode alone, or reverse mode alone, are fitted like others."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

T = np.linspace(0.0, 2.0, 15)
START = np.ones(2)


def _root_by_a_loop(a):
    """√a by Newton's method until it stands still: a loop of unknown length has no reverse mode."""

    def moves(state):
        x, before, count = state
        return jnp.any(jnp.abs(x - before) > 1e-13) & (count < 60)

    def step(state):
        x, _, count = state
        return 0.5 * (x + a / x), x, count + 1

    return jax.lax.while_loop(moves, step, (jnp.ones_like(a), jnp.full_like(a, 2.0), 0))[0]


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
    for ours, others in (
        (fit.predict(T[:3]), plain.predict(T[:3])),
        (fit.confidence_interval(), plain.confidence_interval()),
        (fit.profile(), plain.profile()),
    ):
        np.testing.assert_allclose(ours, others, rtol=1e-6)
    many = jos.curve_fit_batch(model, T, np.stack([Y, 2 * Y]), np.ones((2, 2)))
    np.testing.assert_allclose(many.params[0], plain.params, rtol=1e-6)
    np.testing.assert_allclose(many.stderr[0], plain.stderr, rtol=1e-5)


@pytest.mark.parametrize("mode", ROOTS)
def test_pointwise(mode):
    def residual(p, t, y):
        return _model_of(ROOTS[mode])(p, t) - y

    plain = jos.curve_fit(PLAIN, T, Y, START)
    objective = jos.LeastSquares(residual, pointwise=True)
    params = jax.jit(lambda y: jos.least_squares(objective, START, (T, y)).params)(Y)
    np.testing.assert_allclose(params, plain.params, rtol=1e-7)
    fit = jos.curve_fit(_model_of(ROOTS[mode]), T, Y, START, pointwise=True)
    np.testing.assert_allclose(fit.stderr, plain.stderr, rtol=1e-6)


@pytest.mark.parametrize("mode", ROOTS)
def test_a_broken_promise_of_pointwise(mode):
    def residual(p, t, y):
        return ROOTS[mode](1.0 + (p[0] * t) ** 2) - jnp.mean(y * p[1])

    with pytest.raises(ValueError, match="more than its own row"):
        jos.least_squares(jos.LeastSquares(residual, pointwise=True), START, (T, Y))


@pytest.mark.parametrize("mode", ROOTS)
def test_under_vmap_with_bounds_and_a_loss(mode):
    def fitted(model):
        residual = lambda p, y: model(p, T) - y  # noqa: E731
        options = {"bounds": (0.0, 1.9), "loss": "soft_l1", "loss_scale": 0.1}
        return jax.jit(jax.vmap(lambda y: jos.least_squares(residual, START, (y,), **options).params))(
            np.stack([Y, 0.5 * Y])
        )

    np.testing.assert_allclose(fitted(_model_of(ROOTS[mode])), fitted(PLAIN), rtol=1e-6)


def test_a_solution_of_diffrax_as_it_comes():
    """∂y/∂t = -k y: the model is a exp(-k t), here with diffrax's default adjoint."""

    def model(p, t):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, k: -k * y),
            diffrax.Tsit5(),
            t0=0.0,
            t1=2.0,
            dt0=0.1,
            y0=p[0],
            args=p[1],
            saveat=diffrax.SaveAt(ts=t),
            stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        )
        return solution.ys

    fit = jos.curve_fit(model, T, Y, START)
    plain = jos.curve_fit(lambda p, t: p[0] * jnp.exp(-p[1] * t), T, Y, START)
    np.testing.assert_allclose(fit.params, plain.params, rtol=1e-6)
    np.testing.assert_allclose(fit.stderr, plain.stderr, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(T)[1], plain.predict(T)[1], rtol=1e-5)


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

    with pytest.raises(TypeError, match="custom_vjp"):
        jos.least_squares(lambda p: model(p, T) - Y, START)
