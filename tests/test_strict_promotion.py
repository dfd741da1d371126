"""What is called works where JAX promotes no dtype on its own, and gives the same numbers.

`jax.numpy_dtype_promotion("strict")` is how a codebase keeps float64 from creeping in: an int32 is then never
added to a bool, and a float never to an int.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import jaxopt_study as jos

T = np.linspace(0.0, 4.0, 12)
CURVES = np.stack([a * np.exp(-0.6 * T) + 0.01 * np.sin(9.0 * T) for a in (1.5, 2.5)])
START = np.ones(2)
BOX = (np.array([0.0, 0.0]), np.array([2.0, 9.0]))


def _decay(p, t):
    return p[0] * jnp.exp(-p[1] * t)


def _residual(p, t, y):
    return _decay(p, t) - y


def _valley(p, a=1.0):
    return (a - p[0]) ** 2 + 10.0 * (p[1] - p[0] ** 2) ** 2


def _equations(x, a):
    return jnp.stack([x[0] ** 2 + x[1] ** 2 - a, x[0] - x[1]])


def _field(t, y, p):
    return -p[0] * y + p[1] * jnp.sin(t)


def _solved(**options):
    def fit(y):
        result = jos.least_squares(_residual, START, (T, y), **options)
        return result.params, result.num_steps, result.status

    return fit


def _minimized(optimizer, **options):
    def run(y):
        result = jos.minimize(_valley, np.zeros(2), optimizer, (y[0],), **options)
        return result.params, result.num_steps, result.trace

    return run


def _fitted(**options):
    def fit(y):
        found = jos.curve_fit(_decay, T, y, START, **options)
        questions = (
            found.stderr,
            found.reduced_chi2,
            found.r_squared,
            found.aic,
            found.bic,
            found.correlation,
        )
        return questions, found.confidence_interval(), found.predict(T, 0.9), found.profile()

    return fit


def _integrated(**options):
    def end(y):
        return jos.solve_ode(_field, y[:2], T, START, **options).ys

    return end


def _slope_of(end):
    return lambda y: jax.grad(lambda y: jnp.sum(jax.tree.leaves(end(y))[0] ** 2))(y)


CASES = {
    "least_squares": _solved(),
    "qr": _solved(optimizer=jos.levenberg_marquardt(solver="qr")),
    "cg": _solved(optimizer=jos.levenberg_marquardt(solver="cg")),
    "geodesic": _solved(optimizer=jos.levenberg_marquardt(geodesic=True)),
    "dogleg": _solved(optimizer=jos.dogleg()),
    "gauss-newton": _solved(optimizer=jos.gauss_newton()),
    "bounds and a loss": _solved(bounds=BOX, loss="soft_l1"),
    "derivative of a fit": _slope_of(_solved()),
    "second derivative of a fit": lambda y: jax.hessian(lambda a: _solved()(a * y)[0][0])(1.0),
    "newton": _minimized(jos.newton(), trace=True),
    "newton by cg": _minimized(jos.newton(solver="cg")),
    "newton, exact": _minimized(jos.newton(solver="exact")),
    "lbfgs": _minimized(jos.lbfgs()),
    "sgd": _minimized(jos.sgd(0.01, momentum=0.9), max_steps=20),
    "adam": _minimized(jos.adam(0.1), max_steps=20, trace=True),
    "find_root": lambda y: jos.find_root(_equations, START, (y[0],)).params,
    "derivative of a root": lambda y: jax.jacfwd(lambda a: jos.find_root(_equations, START, (a,)).params)(
        y[0]
    ),
    "find_roots": lambda y: jos.find_roots(
        _equations, (np.full(2, -3.0), np.full(2, 3.0)), (y[0],), starts=16, max_roots=4
    ),
    "curve_fit": _fitted(),
    "curve_fit, robust": _fitted(loss="huber", loss_scale=0.01, sigma=np.full(12, 0.1)),
    "solve_ode": _integrated(),
    "derivative of solve_ode": _slope_of(_integrated()),
    "backsolve": _slope_of(_integrated(adjoint="backsolve")),
    "an implicit method": _slope_of(_integrated(solver="kvaerno5")),
    "fit_ode": lambda y: jos.fit_ode(_field, T, y[:, None], START, y[:1]).params,
}


@pytest.mark.parametrize("name", CASES)
def test_the_program_is_the_same(name):
    plain = jax.make_jaxpr(jax.vmap(CASES[name]))(CURVES)
    with jax.numpy_dtype_promotion("strict"):
        found = jax.make_jaxpr(jax.vmap(CASES[name]))(CURVES)
    assert _operations(found.jaxpr) == _operations(plain.jaxpr)


def _operations(program):
    """What is computed, in its order; a listing would also tell which programs JAX has kept and shares."""
    return [
        (
            eqn.primitive.name,
            str([v.aval for v in eqn.outvars]),
            *map(_operations, jaxprs_in_params(eqn.params)),
        )
        for eqn in program.eqns
    ]


@pytest.mark.parametrize("name", ["derivative of a fit", "curve_fit", "newton", "find_root"])
def test_numbers_are_the_same_outside_of_a_trace(name):
    plain = CASES[name](CURVES[0])
    with jax.numpy_dtype_promotion("strict"):
        found = CASES[name](CURVES[0])
    for x, y in zip(*map(jax.tree.leaves, (found, plain)), strict=True):
        np.testing.assert_array_equal(x, y)


def _batches(curves):
    starts = np.ones((2, 2))
    many = jos.least_squares_batch(_residual, starts, (T, curves), args_axes=(None, 0))
    fits = jos.curve_fit_batch(_decay, T, curves, starts)
    return many.params, many.num_steps, fits.params, fits.stderr, fits.reduced_chi2


def test_batches():
    plain = _batches(CURVES)
    with jax.numpy_dtype_promotion("strict"):
        found = _batches(CURVES)
    for x, y in zip(*map(jax.tree.leaves, (found, plain)), strict=True):
        np.testing.assert_array_equal(x, y)
