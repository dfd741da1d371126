import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jaxopt_study.one_kernel import decaying_power, one_kernel, rewrite

TABLE = np.arange(6, dtype=np.int32).reshape(2, 3)


@jax.jit
def _inner(x, y):
    return jnp.where(x > y, x * y, x - y) + jnp.asarray(TABLE)[0]


def _called_twice(x, rate):
    return _inner(x, rate) + _inner(_inner(x, 2.0), x)


def _loops(x, rate):
    def body(carry):
        n, y = carry
        return n + 1, jax.lax.fori_loop(0, 3, lambda k, z: z * rate + TABLE[1] * k, y)

    return jax.lax.while_loop(lambda carry: carry[0] < 4, body, (0, x))[1]


def _scanned(x, rate):
    def step(total, row):
        return total * rate + row, total @ row

    total, products = jax.lax.scan(step, x, jnp.asarray(TABLE, x.dtype), unroll=2)
    return total + products.sum()


def _branches(x, rate):
    branches = [lambda x, r: x * r, lambda x, r: jnp.outer(x, TABLE[0]) @ x - r, lambda x, r: _inner(x, r)]
    return jax.lax.switch(jnp.sum(x > 0).astype(jnp.int32), branches, x, rate)


def _solved(x, rate):
    system = jnp.outer(x, x) + rate * jnp.eye(3)
    factor = jnp.linalg.cholesky(system)
    again = jax.scipy.linalg.cho_solve((factor, True), jax.scipy.linalg.cho_solve((factor, True), x))
    return again + jnp.linalg.qr(system, mode="r")[0]


PROGRAMS = [_called_twice, _loops, _scanned, _branches, _solved]


@pytest.mark.parametrize("fn", PROGRAMS)
@pytest.mark.parametrize("known", [False, True], ids=["an argument", "a number"])
def test_a_program_that_is_written_out_computes_the_same(fn, known, precision):
    x, rate = jnp.asarray([1.5, -0.5, 0.25], precision), jnp.asarray(0.75, precision)
    program = jax.make_jaxpr(fn)(x, rate)
    literal = Literal(np.asarray(0.75, precision)[()], program.jaxpr.invars[1].aval)
    written = rewrite.rewritten(program, [None, literal] if known else ())
    found = jaxpr_as_fun(written)(*((x,) if known else (x, rate)))[0]
    np.testing.assert_allclose(found, fn(x, rate), rtol=1e-5 if precision == "float32" else 1e-13)
    assert found.dtype == precision


@pytest.mark.parametrize("fn", PROGRAMS)
def test_what_is_written_calls_nothing_and_leaves_the_program_as_it_was(fn):
    program = jax.make_jaxpr(fn)(jnp.ones(3), 0.75)
    before = str(program)
    names = _primitives(rewrite.rewritten(program))
    assert not names & (set(rewrite.CALLS) | set(rewrite.RULES))
    assert str(program) == before


def test_results_that_nobody_reads_are_not_computed():
    def loops(fn):
        written = rewrite.rewritten(jax.make_jaxpr(fn)(jnp.ones((4, 3))))
        return sum(eqn.primitive.name in ("while", "scan") for eqn in written.eqns)

    assert loops(lambda a: jnp.linalg.qr(a, mode="r")) < loops(jnp.linalg.qr)


def test_a_number_that_stays_the_same_is_no_constant_of_a_loop():
    program = jax.make_jaxpr(_loops)(jnp.ones(3), 0.75)
    literal = Literal(np.float64(0.75), program.jaxpr.invars[1].aval)
    consts = lambda written: next(  # noqa: E731
        eqn.params["body_nconsts"] for eqn in written.eqns if eqn.primitive.name == "while"
    )
    assert consts(rewrite.rewritten(program, [None, literal])) == consts(rewrite.rewritten(program)) - 1


def _primitives(program):
    found = set()
    for eqn in rewrite.inside(program).eqns:
        found.add(eqn.primitive.name)
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda p: isinstance(p, ClosedJaxpr)):
            if isinstance(value, ClosedJaxpr):
                found |= _primitives(value)
    return found


def test_a_power_of_a_weak_count_keeps_the_dtype_of_its_rate():
    fn = lambda rate, count: one_kernel(decaying_power, rate, count)  # noqa: E731
    found = jax.jit(lambda count: fn(np.float32(0.5), count))(3.0)
    assert (float(found), found.dtype) == (pytest.approx(0.125), jnp.float32)


def test_what_one_program_is_lowered_with_is_not_in_the_next():
    matrix = jnp.arange(9.0).reshape(3, 3)
    text = lambda: jax.jit(lambda x: one_kernel(lambda x: matrix @ x, x)).lower(jnp.ones(3)).as_text()  # noqa: E731
    with set_xla_metadata(known_only_here="1"):
        assert "known_only_here" in text()
    jax.clear_caches()
    assert "known_only_here" not in text()
