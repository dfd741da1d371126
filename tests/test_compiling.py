"""Programs compiled quickly compute what the others do, and are left alone inside of another trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study import compiling
from jaxopt_study.compiling import SMALL, Task, jit_small, quick_options

ASKED = []


def _asked(x: jax.Array) -> Task:
    ASKED.append(x)
    return Task(x)


@jit_small(_asked)
def softplus(x):
    return jnp.log1p(jnp.exp(x))


def test_few_numbers_and_many_give_the_same():
    x = np.linspace(-3.0, 3.0, 4 * SMALL)
    whole = softplus(x)
    np.testing.assert_allclose(whole, np.logaddexp(0.0, x), rtol=1e-5)
    np.testing.assert_allclose(softplus(x[:8]), whole[:8], rtol=1e-6)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.jacfwd])
def test_inside_of_a_trace_nobody_asks_for_options(transform):
    ASKED.clear()
    transform(softplus)(jnp.ones(3) if transform in (jax.jit, jax.vmap) else 1.0)
    assert not ASKED


def test_a_value_closed_over_is_differentiated_through():
    slope = jax.grad(lambda a: jnp.sum(jit_small(Task)(lambda x: a * x)(jnp.ones(3))))(2.0)
    assert float(slope) == 3.0


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    quick_options.cache_clear()

    def refuse(*args, **options):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", refuse)
        assert quick_options(0) is None
    quick_options.cache_clear()


@pytest.mark.slow
def test_a_fit_at_a_prompt_is_that_inside_jit_and_is_traced_once():
    traces = []

    def line(params, x):
        traces.append(1)
        return params["a"] + params["b"] * x

    x, y = np.arange(5.0), np.array([1.0, 2.9, 5.1, 7.0, 8.8])
    first = jos.curve_fit(line, x, y, {"a": 0.0, "b": 1.0}, loss="huber", loss_scale=1.0)
    count = len(traces)
    jos.curve_fit(line, x, 2 * y, {"a": 1, "b": np.float64(2.0)}, loss="huber", loss_scale=2)
    assert len(traces) == count
    inside = jax.jit(lambda y: jos.curve_fit(line, x, y, {"a": 0.0, "b": 1.0}, loss="huber", loss_scale=1.0))(
        y
    )
    for name in ("params", "stderr"):
        for left, right in zip(
            *(jax.tree.leaves(getattr(fit, name)) for fit in (first, inside)), strict=True
        ):
            np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize(
    ("residual", "level"),
    [
        (lambda p, x: jax.nn.softplus(p * x), 0),
        (lambda p, x: jax.lax.fori_loop(0, 3, lambda _, y: y * p, x), 1),
        (lambda p, x: jnp.mean(p * x[:, None] * jnp.arange(5000.0)[None, :], axis=1), 1),
    ],
    ids=["straight", "loop", "wide"],
)
def test_llvm_does_nothing_for_what_is_straight_and_narrow(monkeypatch, residual, level):
    if jax.default_backend() == "cpu":
        assert quick_options(level) is not None
    asked = []
    monkeypatch.setattr(compiling, "quick_options", lambda level: asked.append(level))
    solve = jit_small(lambda fn, p, x: Task((p, x), fn, (p, x)))(lambda fn, p, x: fn(p, x))
    x = jnp.ones(4)
    np.testing.assert_allclose(solve(jax.tree_util.Partial(residual), 1.5, x), residual(1.5, x), rtol=1e-6)
    assert asked == [level]


SOLVES = {
    "least_squares": lambda a: jos.least_squares(lambda p: p - a, jnp.zeros(2)).params,
    "minimize": lambda a: jos.minimize(lambda p: jnp.sum((p - a) ** 2), jnp.zeros(2), jos.sgd(0.5)).params,
    "find_root": lambda a: jos.find_root(lambda p: p - a, jnp.zeros(2)).params,
    "curve_fit": lambda a: jos.curve_fit(lambda p, x: p + a * x, np.ones(2), np.ones(2), jnp.zeros(2)).params,
    "solve_ode": lambda a: jos.solve_ode(lambda t, y, p: -a * y, jnp.ones(2), np.arange(2.0)).ys,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVES)
def test_no_traced_value_that_a_function_closes_over_outlives_the_trace(name):
    with jax.checking_leaks():  # raises if one does
        found = jax.jit(SOLVES[name])(jnp.ones(2))
    assert np.all(np.isfinite(found))
