"""Loops that compute much: the large operations stay kernels, the small ones between them are functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from jaxopt_study.one_kernel import one_kernel, parts
from jaxopt_study.one_kernel.parts import run_in_parts

DATA = np.random.default_rng(0).normal(size=2 * parts.LARGE)
MANY = parts.FEWEST + 1
START = (jnp.zeros((), jnp.int32), 0.3, DATA)


def _chain(x, n):
    for _ in range(n):
        x = x + 1.0
    return x


def _step(state):
    i, x, data = state
    data = jnp.sort(_chain(x, MANY) - MANY + data)  # so many small operations and one, and two large ones
    return i + 1, jnp.tanh(_chain(data[0], 20) - 20.0), data


def _loop(state, going=lambda state: state[0] < 3):
    return jax.lax.while_loop(going, _step, state)


def _run(fn, *args):
    """What it returns run in parts, and the names of the operations of every part, sorted."""
    program, seen = jax.make_jaxpr(fn)(*args), []

    def call(part, *args):
        seen.append(sorted(eqn.primitive.name for eqn in part.jaxpr.eqns))
        return jaxpr_as_fun(part)(*args)

    return run_in_parts(call, program, *jax.tree.leaves(args)), seen


def _agree(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jax.typeof(x) == jax.typeof(y)
        np.testing.assert_allclose(x, y, rtol=1e-13)


def _parts_of(fn, *args):
    return jax.jit(lambda *args: one_kernel(fn, *args)).lower(*args).as_text().count("xla_cpu_small_call")


def test_before_and_after_a_large_operation_the_small_ones_are_a_part_each():
    found, seen = _run(_loop, START)
    _agree(found, _loop(START))
    before, after = seen
    assert (before.count("add"), before.count("sub")) == (MANY + 1, 1)  # the counter's is among them
    assert (after.count("add"), after.count("tanh")) == (20, 1)
    assert not {"sort", "jit"} & {*before, *after}
    assert _parts_of(_loop, START) == 2


def test_no_part_holds_a_large_array_or_much_work():
    def call(part, *args):
        assert not any(map(parts._is_large, part.jaxpr.eqns))
        return jaxpr_as_fun(part)(*args)

    run_in_parts(call, jax.make_jaxpr(_loop)(START), *START)


def test_a_handful_of_operations_is_no_part():
    few = lambda x: jax.lax.while_loop(lambda x: x < 9.0, lambda x: _chain(x, parts.FEWEST - 1), x)  # noqa: E731
    _, seen = _run(few, 0.0)
    assert seen == []


def test_loops_in_loops_are_divided_and_what_is_outside_of_them_is_not():
    def outer(state):
        state = jax.lax.while_loop(
            lambda s: s[1] < 2.0, lambda s: (_loop((0 * s[0], *s[1:]))[0], s[1] + 1, s[2]), state
        )
        return _chain(state[1], 20)

    found, seen = _run(outer, START)
    _agree(found, [outer(START)])
    assert len(seen) == 2


def test_loops_of_vmap_are_as_they_were():
    many = lambda limits: jax.vmap(lambda n: _loop(START, lambda state: state[0] < n))(limits)  # noqa: E731
    found, seen = _run(many, jnp.arange(3, dtype=jnp.int32))
    assert seen == []
    _agree(found, many(jnp.arange(3, dtype=jnp.int32)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint32", "complex64", "key"])
def test_numbers_of_other_kinds_are_large(dtype, precision):
    def step(state):
        i, x, other = state
        if dtype == "key":
            y = jax.random.uniform(jax.random.fold_in(other, i), dtype=x.dtype)
        else:
            other = other + jnp.asarray(2, dtype)
            y = jnp.real(other).astype(x.dtype)
        return i + 1, jnp.sin(_chain(x, MANY)) + y, other

    def loop(x):
        other = jax.random.key(3) if dtype == "key" else jnp.ones((), dtype)
        i, x, _ = jax.lax.while_loop(lambda state: state[0] < 3, step, (0, x, other))
        return i, x

    assert _parts_of(loop, jnp.asarray(0.3, precision)) > 0
    x = jnp.asarray(0.3, precision)
    for found, expected in zip(jax.jit(lambda x: one_kernel(loop, x))(x), loop(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_nobody_reads_is_not_compiled():
    broken = lambda x: jax.pure_callback(_unreachable, jax.ShapeDtypeStruct((), x.dtype), x)  # noqa: E731
    both = jax.jit(lambda x: one_kernel(lambda x: (_loop((0, x, DATA))[1], broken(x)), x)[0])
    assert "callback" not in both.lower(0.3).as_text()
    _agree(both(0.3), _loop((0, 0.3, DATA))[1])


def _unreachable(x):
    raise AssertionError(x)


def test_sizes_that_are_not_known_are_left_alone():
    (size,) = jax.export.symbolic_shape("n")
    fn = jax.jit(lambda data: one_kernel(lambda data: _loop((0, data[0], data)), data))
    exported = jax.export.export(fn)(jax.ShapeDtypeStruct((size,), DATA.dtype))
    assert "xla_cpu_small_call" not in exported.mlir_module()
    for rows in (3, 600):
        data = jnp.linspace(0.0, 1.0, rows)
        _agree(exported.call(data)[1:], _loop((0, data[0], data))[1:])
