"""Whole solves in one function end as they do with separate kernels, wherever people put them."""

import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.one_kernel import separate_kernels

X = np.linspace(0.0, 4.0, 12)
Y = 3.0 * np.exp(-0.5 * X) + 0.05 * np.cos(7.0 * X)
START = {"a": 1.0, "k": 1.0}


def decay(p, x, y):
    return p["a"] * jnp.exp(-p["k"] * x) - y


def fit(x, y, **options):
    result = jos.least_squares(decay, START, (x, y), **options)
    return result.params, result.value, result.status, result.num_steps


def _of_kinds(x, y, n, flag):
    def residual(p, x, y, n, flag):
        return jnp.where(flag, decay(p, x, y), p["a"] * x**n - p["k"])

    return jos.least_squares(residual, START, (x, y, n, flag)).params


def _empty_leaves(x, y):
    start = {"a": 1.0, "k": 1.0, "none": None, "empty": (), "no rows": jnp.zeros((0, 2))}
    loss = lambda p, x, y: jnp.sum(decay(p, x, y) ** 2) + jnp.sum(p["no rows"])  # noqa: E731
    return jos.minimize(loss, start, jos.adam(0.1), (x, y), max_steps=20).params


def _matrix(x, y):
    target = jnp.outer(x[:3], x[:3]) + jnp.eye(3)
    return jos.least_squares(lambda m, target: m @ m.T - target, jnp.eye(3), (target,)).value, y


def _in_parts(x, y):
    carry = jos.start(jos.LeastSquares(decay), START, jos.levenberg_marquardt(), (x, y), max_steps=50)
    carry, values = jax.lax.scan(
        lambda carry, _: ((later := jos.advance(carry, 1)), later.state.value), carry, length=4
    )
    return jos.finish(jos.advance(carry, 50)).params, values


def _in_a_loop(x, y):
    after = lambda start, y: (lambda p: (p, p))(jos.least_squares(decay, start, (x, y)).params)  # noqa: E731
    return jax.lax.scan(after, START, jnp.stack([y, 2.0 * y]))


def _in_a_branch(x, y):
    whole, begun = lambda x, y: fit(x, y), lambda x, y: fit(x, y, max_steps=2)  # traced anew by `cond`
    return jax.lax.cond(y[0] > 0, whole, begun, x, y)


def _of_roots(x, y):
    def residual(p, x, y):
        root = jos.find_root(lambda z, p, x: z + p["a"] * z**3 - x, jnp.zeros_like(x), (p, x)).params
        return p["k"] * root - y

    return jos.least_squares(residual, START, (x[:4], y[:4])).params


def _minibatches(x, y):
    rows = lambda step, key: tuple(jax.lax.dynamic_slice(z, (4 * step % 12,), (4,)) for z in (x, y))  # noqa: E731
    return jos.least_squares(decay, START, optimizer=jos.adam(0.05), batch_fn=rows, max_steps=20).params


def _random_batches(x, y):
    def rows(step, key):
        places = jax.random.randint(key, (4,), 0, 12)
        return x[places], y[places]

    return jos.least_squares(decay, START, optimizer=jos.adam(0.05), batch_fn=rows, max_steps=20).params


SOLVES = {
    "bounds": functools.partial(fit, bounds=({"a": 0.0, "k": 0.6}, {"a": jnp.inf, "k": 5.0})),
    "frozen": functools.partial(
        fit, optimizer=jos.masked(jos.levenberg_marquardt(), {"a": True, "k": False})
    ),
    "robust": functools.partial(fit, loss="cauchy", loss_scale=0.1),
    "optax": functools.partial(fit, optimizer=optax.lbfgs(), max_steps=30),
    "traced": lambda x, y: jos.least_squares(decay, START, (x, y), trace=True, max_steps=9).trace.value,
    "whole numbers and flags": lambda x, y: _of_kinds(x, y, jnp.arange(12), jnp.arange(12) % 2 == 0),
    "leaves of nothing": _empty_leaves,
    "matrix": _matrix,
    "minibatches": _minibatches,
    "random minibatches": _random_batches,
    "parts in a scan": _in_parts,
    "scan": _in_a_loop,
    "branch": _in_a_branch,
    "map": lambda x, y: jax.lax.map(lambda y: fit(x, y), jnp.stack([y, 2.0 * y])),
    "checkpoint": lambda x, y: jax.grad(jax.checkpoint(lambda y: fit(x, y)[0]["k"]))(y),
    "hessian": lambda x, y: jax.hessian(lambda a: fit(x, a * y)[1])(1.0),
    "forward": lambda x, y: jax.jacfwd(lambda y: fit(x, y)[0])(y),
    "a fit of roots": _of_roots,
}
QUICK = ("frozen", "whole numbers and flags")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SOLVES]
)
def test_a_solve_ends_as_it_does_with_separate_kernels(name):
    solve = SOLVES[name]
    together = jax.jit(lambda x, y: solve(x, y))(X, Y)
    with separate_kernels():
        lowered = jax.jit(lambda x, y: solve(x, y)).lower(X, Y)
    assert "xla_cpu_small_call" not in lowered.as_text()
    apart = lowered.compile()(X, Y)
    for found, expected in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_what_was_traced_for_one_way_is_not_used_for_the_other():
    # One function object, so that JAX finds what it has traced before.
    loss = jos.LeastSquares(decay)
    solve = lambda x, y: jos.least_squares(loss, START, (x, y)).params  # noqa: E731
    with separate_kernels():
        jax.jit(lambda x, y: solve(x, y)).lower(X, Y)
    assert "xla_cpu_small_call" in jax.jit(lambda x, y: solve(x, y)).lower(X, Y).as_text()


@pytest.mark.slow
def test_a_solve_traced_in_float64_is_lowered_where_that_is_off():
    x, y = jnp.asarray(X), jnp.asarray(Y)
    traced = jax.jit(lambda x, y: fit(x, y)).trace(x, y)
    with jax.enable_x64(False):
        compiled = traced.lower().compile()
    assert compiled(x, y)[1].dtype == jnp.float64
    np.testing.assert_allclose(compiled(x, y)[0]["k"], fit(x, y)[0]["k"], rtol=1e-9)


@pytest.mark.slow
def test_ahead_of_time_exported_and_with_donated_arguments():
    x, y = jnp.asarray(X), jnp.asarray(Y)
    expected = fit(x, y)[0]["k"]
    exported = jax.export.export(jax.jit(fit), platforms=("cpu", "cuda"))(x, y)
    np.testing.assert_allclose(exported.call(x, y)[0]["k"], expected, rtol=1e-9)
    donated = jax.jit(lambda x, y: fit(x, y)[0]["k"] * x, donate_argnums=0).lower(x, y).compile()
    np.testing.assert_allclose(donated(x + 0, y), expected * x, rtol=1e-9)


def test_lengths_that_are_symbols_are_left_alone():
    (rows,) = jax.export.symbolic_shape("rows")
    data = jax.ShapeDtypeStruct((rows,), jnp.float64)
    solve = lambda x, y: fit(x, y, optimizer=jos.adam(0.1), max_steps=30)[0]  # noqa: E731
    exported = jax.export.export(jax.jit(solve))(data, data)
    np.testing.assert_allclose(exported.call(X, Y)["k"], solve(X, Y)["k"], rtol=1e-9)


@pytest.mark.slow
def test_eight_devices_that_each_fit_their_own():
    program = """
        import jax, jax.numpy as jnp, numpy as np, jaxopt_study as jos
        from jax.sharding import Mesh, PartitionSpec
        jax.config.update("jax_enable_x64", True)
        x = jnp.linspace(0.0, 4.0, 12)
        curves = jnp.arange(1.0, 9.0)[:, None] * jnp.exp(-0.5 * x)
        decay = lambda p, x, y: p[0] * jnp.exp(-p[1] * x) - y
        one = lambda y: jos.least_squares(decay, jnp.ones(2), (x, y)).params
        mesh, rows = Mesh(jax.devices(), "data"), PartitionSpec("data")
        split = dict(mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
        for each in (lambda ys: jax.lax.map(one, ys), jax.vmap(one)):
            found = jax.jit(jax.shard_map(each, **split))(curves)
            assert len(found.sharding.device_set) == 8
            np.testing.assert_allclose(found, np.stack([np.arange(1.0, 9.0), np.full(8, 0.5)], 1), rtol=1e-8)
        last = jax.jit(one)(jax.device_put(curves[0], jax.devices()[-1]))
        np.testing.assert_allclose(last, [1.0, 0.5], rtol=1e-8)
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
