"""Statuses that say what is so: good fits converge, and nothing converges before it has moved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.result import Status

X = jnp.linspace(0.0, 4.0, 48)


def decay(p, x, y):
    return p[0] * jnp.exp(-p[1] * x) + p[2] - y


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-4, 0.0])
def test_every_good_fit_converges(precision, noise):
    """Residuals small beside the data carry larger relative rounding errors than ε."""
    x = X.astype(precision)

    def problem(key):
        of_noise, of_start = jax.random.split(key)
        y = decay(
            jnp.array([3.0, 0.7, 1.0], precision), x, noise * jax.random.normal(of_noise, x.shape, precision)
        )
        return y, jnp.array([1.0, 1.0, 0.5], precision) * (
            1 + 0.3 * jax.random.normal(of_start, (3,), precision)
        )

    y, starts = jax.vmap(problem)(jax.random.split(jax.random.key(1), 60))
    objective = jos.LeastSquares(decay)
    fit = jax.vmap(lambda y, p: jos.minimize(objective, p, jos.levenberg_marquardt(), (x, y)))(y, starts)
    assert np.all(fit.converged), np.unique(fit.message)
    np.testing.assert_allclose(np.median(fit.params, axis=0), [3.0, 0.7, 1.0], atol=0.5 * noise + 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(optax.linear_schedule(0.0, 0.1, 10)),
        optax.MultiSteps(optax.sgd(0.1), 4).gradient_transformation(),
    ],
    ids=["warm-up", "gathered gradients"],
)
@pytest.mark.parametrize("tolerance", ["ftol", "xtol"])
def test_an_update_of_zero_is_no_convergence(optimizer, tolerance):
    result = jos.minimize(
        lambda p: 1 + jnp.sum((p - 1) ** 2), jnp.zeros(2), optimizer, max_steps=400, **{tolerance: 1e-10}
    )
    assert result.converged
    np.testing.assert_allclose(result.params, 1.0, atol=1e-3)


@pytest.mark.parametrize("size", [1e-12, pytest.param(1.0, marks=pytest.mark.slow), 1e12])
def test_newton_ends_at_the_minimum_whatever_the_size_of_the_objective(precision, size):
    def valley(p):
        return size * ((1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2)

    result = jos.minimize(valley, jnp.array([-1.2, 1.0], precision), jos.newton())
    assert result.converged, result.message
    np.testing.assert_allclose(result.params, 1.0, atol=1e-2 if precision == jnp.float32 else 1e-6)


def test_a_run_that_has_not_ended_does_not_claim_a_gradient_it_has_not_measured():
    valley = jos.LeastSquares(lambda p: jnp.stack([1 - p[0], 10 * (p[1] - p[0] ** 2)]))
    carry = jos.advance(jos.start(valley, jnp.array([-1.2, 1.0]), jos.levenberg_marquardt()), 3)
    assert np.isnan(jos.finish(carry).grad_norm)
    ended = jos.finish(jos.advance(carry, 1000))
    np.testing.assert_allclose(
        ended.grad_norm, np.linalg.norm(jax.grad(valley)(ended.params)), rtol=1e-6, atol=1e-12
    )


@pytest.mark.slow
def test_the_gradient_of_a_masked_run_is_that_of_the_leaves_it_trains():
    objective = jos.LeastSquares(lambda p: jnp.stack([p["a"] - 3.0, p["b"] - 7.0]))
    start = {"a": jnp.array(0.0), "b": jnp.array(2.0)}
    mask = {"a": True, "b": False}
    for optimizer in (jos.sgd(0.5), jos.levenberg_marquardt(), jos.newton()):
        result = jos.minimize(objective, start, jos.masked(optimizer, mask), gtol=1e-8, max_steps=200)
        assert result.converged
        assert result.grad_norm < 1e-6
        assert result.params["b"] == 2.0


@pytest.mark.parametrize("damping", [0.0, -1.0])
def test_levenberg_marquardt_without_damping_is_refused(damping):
    with pytest.raises(ValueError, match="damping"):
        jos.levenberg_marquardt(damping)


def test_a_damping_of_zero_that_is_traced_grows_all_the_same():
    valley = jos.LeastSquares(lambda p: jnp.stack([1 - p[0], 10 * (p[1] - p[0] ** 2)]))
    solve = jax.jit(lambda d: jos.minimize(valley, jnp.array([-1.2, 1.0]), jos.levenberg_marquardt(d)).status)
    assert int(solve(0.0)) in (Status.GRADIENT_CONVERGED, Status.STEP_CONVERGED, Status.VALUE_CONVERGED)


@pytest.mark.parametrize("make", [jos.levenberg_marquardt, jos.gauss_newton, jos.newton])
def test_optax_masked_is_refused_by_methods_that_evaluate_the_objective(make):
    with pytest.raises(TypeError, match=r"jaxopt_study\.masked"):
        optax.masked(make(), {"a": True, "b": False}).init({"a": jnp.ones(2), "b": jnp.ones(2)})


@pytest.mark.parametrize("make", [jos.levenberg_marquardt, jos.gauss_newton, jos.newton])
def test_half_precision_is_refused_where_systems_are_solved(make):
    with pytest.raises(TypeError, match="bfloat16"):
        make().init(jnp.ones(2, jnp.bfloat16))


@pytest.mark.parametrize(("ours", "theirs"), [(jos.adam, optax.adam), (jos.rmsprop, optax.rmsprop)])
def test_first_order_methods_work_in_bfloat16_as_optax_does(ours, theirs):
    ends = []
    for make in (ours, theirs):
        optimizer, params = make(0.1), jnp.array([3.0, -2.0], jnp.bfloat16)
        state = optimizer.init(params)
        for _ in range(10):
            updates, state = optimizer.update(2 * (params - 1), state, params)
            params = optax.apply_updates(params, updates)
        ends.append(np.asarray(params, np.float32))
    np.testing.assert_allclose(ends[0], ends[1], rtol=2e-2)


def test_a_mask_may_be_a_callable_pytree_of_bools():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: object
        b: object

        def __call__(self, x):
            return self.w * x + self.b

    mask = Layer(w=True, b=False)
    updates, _ = (optimizer := jos.masked(jos.sgd(0.1), mask)).update(
        Layer(jnp.ones(2), jnp.ones(())),
        optimizer.init(Layer(jnp.ones(2), jnp.ones(()))),
        Layer(jnp.ones(2), jnp.ones(())),
    )
    np.testing.assert_allclose(updates.w, -0.1)
    assert updates.b == 0


def test_masked_lbfgs_runs_on_a_sum_of_squares():
    objective = jos.LeastSquares(lambda p: jnp.concatenate([p["a"] - 3.0, p["b"] - 7.0]))
    start = {"a": jnp.zeros(2), "b": jnp.ones(1)}
    result = jos.minimize(objective, start, jos.masked(optax.lbfgs(), {"a": True, "b": False}), max_steps=20)
    np.testing.assert_allclose(result.params["a"], 3.0, atol=1e-6)
    assert result.params["b"] == 1.0


def test_the_promise_of_pointwise_is_checked_with_minibatches_and_needed_for_the_mode():
    x = jnp.arange(1.0, 7.0)
    mixed = lambda p, x: p[0] * x + p[1] * jnp.flip(x) - 1  # noqa: E731
    with pytest.raises(ValueError, match="pointwise"):
        jos.minimize(
            jos.LeastSquares(mixed, pointwise=True),
            jnp.ones(2),
            jos.levenberg_marquardt(),
            batch_fn=lambda step, key: (x,),
        )
    with pytest.raises(ValueError, match="pointwise"):
        jos.least_squares(mixed, jnp.ones(2), (x,), optimizer=jos.levenberg_marquardt(jacobian="pointwise"))


@pytest.mark.slow
@pytest.mark.parametrize("traced", [False, True], ids=["numbers", "inside jit"])
def test_a_broken_promise_of_pointwise_is_refused(traced):
    objective = jos.LeastSquares(lambda p, x: (p * x - 1) / x.shape[0], pointwise=True)
    solve = lambda x: jos.least_squares(objective, jnp.array(0.0), (x,)).params  # noqa: E731
    with pytest.raises(ValueError, match="its own row"):
        (jax.jit(solve) if traced else solve)(jnp.arange(1.0, 7.0))
