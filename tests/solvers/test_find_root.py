"""Roots against closed forms, SciPy and mpmath; and what is said where there is none."""

import functools
import inspect

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS
from jaxopt_study.problems.more_garbow_hillstrom.equations import broyden_tridiagonal
from jaxopt_study.result import Status

METHODS = ["newton", "broyden", "levenberg_marquardt"]
ROOTS = 3 - 5**0.5, 3 + 5**0.5


def quadratic(x):
    return x**2 - 6 * x + 4


def cube(p):
    """z³ - 1 as a real system."""
    x, y = p
    return jnp.stack([x**3 - 3 * x * y**2 - 1, 3 * x**2 * y - y**3])


def no_root(x):
    return x**2 + 1


def log_less_one(x):
    """Newton's step from 50 goes below 0, where it is not a number."""
    return jnp.log(x) - 1


@functools.cache
def solver(fn, **options):
    """Compiled once for all tests; starts along the first axis."""
    return jax.jit(jax.vmap(lambda x: jos.find_root(fn, x, **options)))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_both_roots_of_the_quadratic(method):
    result = solver(quadratic, method=method)(jnp.array([-10.0, 10.0]))
    assert result.converged.all()
    np.testing.assert_allclose(result.params, ROOTS, rtol=1e-13)
    np.testing.assert_allclose(np.round(result.params, 4), [0.7639, 5.2361])


def test_a_bracket_finds_the_root_in_it():
    result = jax.vmap(lambda a, b: jos.find_root(quadratic, bracket=(a, b)))(
        jnp.array([-10.0, 10.0]), jnp.array([3.0, 3.0])
    )
    assert result.converged.all()
    np.testing.assert_allclose(result.params, ROOTS, rtol=4e-16)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_three_roots_of_z_cubed_minus_one(method):
    starts = jnp.array([[2.0, 0.5], [-1.0, 0.6], [-1.0, -0.6]])
    result = solver(cube, method=method)(starts)
    expected = [[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    assert result.converged.all()
    np.testing.assert_allclose(result.params, expected, atol=1e-14)


@pytest.mark.slow
def test_a_function_without_a_root_says_so_from_everywhere():
    result = solver(no_root)(jnp.array([3.0, -40.0, 1e-9, 0.0, 1e6]))
    assert (result.status == Status.NO_ROOT).all()
    assert not result.converged.any()
    assert "no root" in result.message[0]
    np.testing.assert_allclose(result.value, 0.5, atol=1e-9)  # the least that ½‖f‖² can be


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_systems_without_a_root_say_so_where_the_distance_is_least(method):
    def apart(p):  # a circle, and a line that misses it by 1
        return jnp.stack([p[0] ** 2 + p[1] ** 2 - 1, p[0] + p[1] - 3])

    result = jos.find_root(apart, jnp.array([1.0, 0.3]), method=method, max_steps=1000)
    assert result.status == Status.NO_ROOT

    def merit(p):
        f = np.array([p[0] ** 2 + p[1] ** 2 - 1, p[0] + p[1] - 3])
        return 0.5 * f @ f

    lowest = scipy.optimize.minimize(merit, [1.0, 1.0], method="Nelder-Mead", options={"fatol": 1e-14})
    assert float(result.value) == pytest.approx(lowest.fun, rel=1e-4)


@pytest.mark.slow
def test_a_small_minimum_is_no_root_and_a_double_root_is():
    def lifted(x, lift):
        return (x - 2) ** 2 + lift

    solve = jax.jit(jax.vmap(lambda lift: jos.find_root(lifted, 5.0, (lift,), max_steps=500)))
    result = solve(jnp.array([1e-12, 1e-10, 1e-6, 1.0, 0.0]))
    assert (result.status[:4] == Status.NO_ROOT).all()
    assert result.converged[4]
    assert abs(result.params[4] - 2) < 1e-7


@pytest.mark.slow
def test_a_start_where_the_distance_is_largest_is_left():
    result = solver(lambda x: x**2 - 2)(jnp.array([0.0]))
    assert result.converged.all()
    assert abs(result.params[0]) == pytest.approx(2**0.5, rel=1e-15)
    result = solver(cube)(jnp.zeros((1, 2)))  # all first and second derivatives of f are zero here
    assert result.converged.all()


def test_where_all_is_flat_nothing_is_claimed():
    result = jos.find_root(lambda x: jnp.where(x > 0, 1.0, 0.5) + 0 * x, 3.0)
    assert result.status == Status.RANK_DEFICIENT


def test_an_asymptote_is_no_root():
    result = jos.find_root(lambda x: jnp.exp(x), 0.0)
    assert result.status == Status.OUT_OF_STEPS


@pytest.mark.slow
def test_what_is_not_finite_at_a_trial_is_gone_around():
    result = solver(log_less_one)(jnp.array([1e-3, 1.0, 50.0, 1e6]))
    np.testing.assert_allclose(result.params, np.e, rtol=1e-15)
    assert result.converged.all()


@pytest.mark.slow
def test_a_start_that_is_not_finite_says_so_and_touches_no_other():
    result = solver(log_less_one)(jnp.array([-1.0, 1.0, 50.0, jnp.nan]))
    assert list(result.status[jnp.array([0, 3])]) == [Status.NON_FINITE_START] * 2
    assert result.converged[1:3].all()


SQUARE = [
    "rosenbrock",
    "helical_valley",
    "powell_singular",
    "brown_almost_linear",
    "powell_badly_scaled",
    "discrete_boundary_value",
    "discrete_integral_equation",
    "broyden_tridiagonal",
    "broyden_banded",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SQUARE)
def test_square_systems_of_more_garbow_and_hillstrom_are_solved_as_by_minpack(name):
    problem = ({**NONLINEAR_LEAST_SQUARES, **OTHERS})[name]()
    fn = problem.objective.residual_fn
    result = jos.find_root(fn, problem.init, problem.data)
    assert result.converged, result.message
    residual = np.asarray(fn(result.params, *problem.data))
    np.testing.assert_allclose(residual, result.opt_state.residual, atol=1e-14)
    start = np.linalg.norm(fn(problem.init, *problem.data))
    assert np.linalg.norm(residual) <= 1e-12 * max(start, 1)
    reference = scipy.optimize.root(
        lambda x: np.asarray(fn(jnp.asarray(x), *problem.data)),
        np.asarray(problem.init),
        jac=lambda x: np.asarray(jax.jacfwd(fn)(jnp.asarray(x), *problem.data)),
        tol=1e-14,
    )
    if name not in ("powell_singular", "brown_almost_linear"):  # one root, and regular
        np.testing.assert_allclose(result.params, reference.x, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_residual_may_rise_for_a_step_where_that_is_the_short_way():
    # Powell's badly scaled function: 48 steps where nothing may rise; Newton's method alone takes 13.
    problem = ({**NONLINEAR_LEAST_SQUARES, **OTHERS})["powell_badly_scaled"]()
    result = jos.find_root(problem.objective.residual_fn, problem.init, problem.data)
    assert result.converged
    assert result.num_steps <= 15
    np.testing.assert_allclose(result.params, [1.098159e-5, 9.106146], rtol=1e-6)  # as published


def test_where_newtons_whole_steps_diverge_the_region_takes_over():
    for start in (1.5, 20.0, -1e3):  # from beyond 1.39 the whole step overshoots by more each time
        result = jos.find_root(jnp.arctan, start)
        assert result.converged, result.message
        assert abs(float(result.params)) < 1e-12


def test_the_published_minimum_of_a_system_that_is_not_zero_is_no_root():
    problem = OTHERS["trigonometric"]()
    result = jos.find_root(problem.objective.residual_fn, problem.init, problem.data)
    assert result.status == Status.NO_ROOT
    assert 2 * float(result.value) == pytest.approx(2.79506e-5, rel=1e-5)


@pytest.mark.slow
def test_units_of_equations_and_unknowns_change_nothing():
    def scaled(p, rows, columns):
        return rows * cube(p * columns)

    solve = jax.jit(
        jax.vmap(lambda r, c: jos.find_root(scaled, jnp.array([2.0, 0.5]) / c, (r, c)), in_axes=(0, 0))
    )
    rows = jnp.array([[1.0, 1.0], [1e-150, 1e-150], [1e150, 1e150], [1.0, 1.0]])
    columns = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1e-60, 1e60]])
    result = solve(rows, columns)
    assert result.converged.all()
    np.testing.assert_allclose(result.params * columns, [[1.0, 0.0]] * 4, atol=1e-12)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)], indirect=True
)
def test_precision(precision):
    result = jos.find_root(quadratic, jnp.asarray(10.0))
    assert result.params.dtype == precision
    assert result.converged
    eps = jnp.finfo(precision).eps
    assert abs(float(result.params) - ROOTS[1]) < 8 * eps
    assert jos.find_root(no_root, jnp.asarray(3.0)).status == Status.NO_ROOT
    enclosed = jos.find_root(quadratic, bracket=(jnp.asarray(3.0), jnp.asarray(9.0)))
    assert enclosed.params.dtype == precision
    assert abs(float(enclosed.params) - ROOTS[1]) < 8 * eps


def test_roots_of_high_order_are_found_to_their_digits():
    # Of a root of order m rounding leaves 16/m digits.
    def expanded(x, a, b, c, d):
        return a * x**3 + b * x**2 + c * x + d

    for order, coefficients in {2: (0.0, 1.0, -2.0, 1.0), 3: (1.0, -3.0, 3.0, -1.0)}.items():
        result = jos.find_root(expanded, 3.0, coefficients)
        assert result.converged
        assert abs(result.params - 1) < 3 * 1e-16 ** (1 / order)
    assert abs(jos.find_root(expanded, -10.0, (0.0, 1.0, 0.0, 0.0)).params) < 1e-14


CROSSINGS = {
    "cos x - x": (lambda m, x: m.cos(x) - x, 0.0, 1.0),
    "x exp(-x) - 0.1": (lambda m, x: x * m.exp(-x) - 0.1, 1.0, 100.0),
    "log x": (lambda m, x: m.log(x), 0.01, 30.0),
    "x^3 - 2x - 5": (lambda m, x: x**3 - 2 * x - 5, 2.0, 3.0),
    "(x - 1/3)^9": (lambda m, x: (x - 1 / 3) ** 9, -1.0, 4.0),
    "tan x - 3": (lambda m, x: m.tan(x) - 3, 0.0, 1.5),
    "1 - 1e-9/x": (lambda m, x: 1 - 1e-9 / x, 1e-12, 1.0),
    "sinh(40 x) - 1": (lambda m, x: m.sinh(40 * x) - 1, -1.0, 2.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CROSSINGS)
def test_brackets_close_on_the_root_in_about_as_many_evaluations_as_brents_method(name):
    fn, a, b = CROSSINGS[name]
    result = jos.find_root(functools.partial(fn, jnp), bracket=(a, b))
    root, reference = scipy.optimize.brentq(
        functools.partial(fn, np), a, b, xtol=1e-300, maxiter=2000, full_output=True
    )
    assert result.converged
    exact = float(mpmath.findroot(functools.partial(fn, mpmath), root, tol=1e-60, verify=False))
    rtol = 3e-3 if "^9" in name else 1e-13
    np.testing.assert_allclose(float(result.params), exact, rtol=rtol)
    assert result.num_evals <= 1.5 * reference.function_calls + 8


def test_a_sign_that_changes_without_a_zero_is_no_root():
    for fn in (
        lambda x: 1 / x,
        lambda x: 1 / (x - 0.3) ** 3,
        lambda x: jnp.where(x > 0.3, 1.0, -1.0),
        lambda x: x + 5 * jnp.sign(x - 0.3),
    ):
        assert jos.find_root(fn, bracket=(-10.0, 11.0)).status == Status.NO_ROOT


@pytest.mark.slow
def test_beside_an_end_of_the_bracket_the_other_side_tells_a_root_from_a_jump():
    crossing = jos.find_root(lambda x: x - 1e-300, bracket=(0.0, 1.0))
    assert crossing.converged
    assert 0 <= crossing.params < 1e-30
    assert jos.find_root(lambda x: 2.0 - x - 1e-14, bracket=(1.0, 2.0)).converged
    for without in (lambda x: 1 / (x - 1e-15), lambda x: jnp.where(x > 1e-15, 1.0, -1.0)):
        assert jos.find_root(without, bracket=(0.0, 1.0)).status == Status.NO_ROOT
    coarse = jos.find_root(lambda x: x - 0.4, bracket=(0.0, 1.0), xatol=0.6)  # neither side is far enough
    assert (coarse.status, coarse.params) == (Status.STEP_CONVERGED, 0.5)


@pytest.mark.parametrize("width", [1e2, 1e12, 1e25])
def test_a_wide_bracket_closes_on_the_root_as_a_narrow_one(precision, width):
    end = jos.find_root(
        lambda x: x**3 - 3, bracket=(jnp.asarray(-width, precision), jnp.asarray(1.1 * width, precision))
    )
    np.testing.assert_allclose(end.params, 3 ** (1 / 3), rtol=4 * jnp.finfo(precision).eps)
    assert end.status in (Status.STEP_CONVERGED, Status.TARGET_REACHED)


@pytest.mark.parametrize("ends", [(-1e308, 1e308), (-1e110, 2e110), (0.0, np.inf)])
def test_no_root_is_claimed_where_the_function_overflows(ends):
    end = jax.jit(lambda a, b: jos.find_root(lambda x: x**3 - 3, bracket=(a, b)))(*map(jnp.asarray, ends))
    assert not end.converged


def test_the_same_sign_at_both_ends_is_no_bracket():
    result = jos.find_root(no_root, bracket=(-1.0, 4.0))
    assert result.status == Status.NOT_BRACKETED
    assert not result.converged
    end = jos.find_root(lambda x: x - 1, bracket=(1.0, 4.0))
    assert (end.status, end.params) == (Status.TARGET_REACHED, 1.0)
    assert jos.find_root(jnp.log, bracket=(-1.0, 4.0)).status == Status.NON_FINITE_START


def test_a_bracket_needs_no_derivatives_and_every_evaluation_is_counted():
    calls = []

    def host(x):
        calls.append(float(x))
        return np.asarray(np.tanh(x) - 0.5)

    def fn(x):
        shape = jax.ShapeDtypeStruct((), jnp.float64)
        return jax.pure_callback(host, shape, x, vmap_method="sequential")

    result = jax.block_until_ready(jos.find_root(fn, bracket=(-1.0, 3.0)))
    assert result.converged
    assert result.num_evals == len(calls)
    assert float(result.params) == pytest.approx(np.arctanh(0.5), rel=1e-15)


@pytest.mark.slow
def test_evaluations_of_newtons_method_are_counted():
    calls = []

    def fn(x):
        jax.debug.callback(lambda x: calls.append(float(x)), x)
        return quadratic(x)

    result = jax.block_until_ready(jos.find_root(fn, 10.0))
    jax.effects_barrier()
    # A trial, and the Jacobian at the point that it led to.
    assert result.num_evals <= len(calls) <= result.num_evals + result.opt_state.num_jacobians


@pytest.mark.slow
def test_broyden_takes_few_jacobians():
    newton, broyden = (jos.find_root(*tridiagonal(30), method=method) for method in ("newton", "broyden"))
    np.testing.assert_allclose(newton.params, broyden.params, atol=1e-9)
    assert broyden.opt_state.num_jacobians <= 3 < newton.opt_state.num_jacobians
    assert newton.converged
    assert broyden.converged


def tridiagonal(n):
    problem = broyden_tridiagonal(n)
    return problem.objective.residual_fn, problem.init


@pytest.mark.slow
def test_ten_thousand_unknowns_without_a_matrix():
    fn, start = tridiagonal(10_000)
    result = jos.find_root(fn, start)
    assert result.converged, result.message
    # SciPy's banded solver in a Newton iteration of its own.
    x = np.asarray(start)
    for _ in range(20):
        bands = np.stack([np.full(x.size, -2.0), 3 - 4 * x, np.full(x.size, -1.0)])
        x = x - scipy.linalg.solve_banded((1, 1), bands, np.asarray(fn(jnp.asarray(x))))
    np.testing.assert_allclose(result.params, x, atol=1e-9)


@pytest.mark.slow
def test_bounds_choose_the_root_and_an_empty_box_says_so():
    result = jos.find_root(quadratic, 4.0, bounds=(2.0, 10.0))
    assert result.converged
    assert float(result.params) == pytest.approx(ROOTS[1], rel=1e-12)
    assert result.active == 0
    result = jos.find_root(quadratic, 2.0, bounds=(1.0, 4.0))
    assert result.status == Status.NO_ROOT
    assert 1 <= result.params <= 4
    edge = jos.find_root(lambda x: x - 1, 2.0, bounds=(1.0, 4.0))
    assert edge.converged
    assert float(edge.params) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_unknowns_and_equations_are_any_pytrees():
    def system(p, c):
        return {
            "a": p["x"] @ jnp.arange(1.0, 3.0) - c,
            "b": [p["y"] ** 3 - p["x"][0], p["x"][1] + p["y"] - 1],
        }

    start = {"x": jnp.ones(2), "y": jnp.array(0.5)}
    result = jos.find_root(system, start, (2.0,))
    assert result.converged
    x, y = np.asarray(result.params["x"]), float(result.params["y"])
    np.testing.assert_allclose([x @ [1, 2], y**3 - x[0], x[1] + y], [2, 0, 1], atol=1e-14)
    assert jax.tree.structure(result.opt_state.residual) == jax.tree.structure({"a": 0, "b": [0, 0]})


def test_changing_numbers_compiles_nothing(count_traces):
    counted = count_traces(lambda x, a: x**2 - a)
    jos.find_root(counted.fn, 3.0, (2.0,), xtol=1e-8, max_steps=30)
    before = counted.count
    result = jos.find_root(counted.fn, 5.0, (7.0,), xtol=1e-12, max_steps=90)
    assert counted.count == before
    assert float(result.params) == pytest.approx(7**0.5)


@pytest.mark.slow
def test_tolerances_mean_what_they_say():
    def steps(**options):
        result = jos.find_root(quadratic, 100.0, **options)
        return int(result.num_steps), abs(float(quadratic(result.params))), result.status

    loose, residual, status = steps(ftol=1.0)
    assert residual <= 1
    assert status == Status.TARGET_REACHED
    assert loose < steps()[0]
    few, _, status = steps(max_steps=2)
    assert (few, status) == (2, Status.OUT_OF_STEPS)
    assert steps(xtol=0.1)[0] < steps()[0]


BAD = {
    "fn: returns 2 numbers for 1 unknowns": lambda find: find(lambda x: jnp.stack([x, x]), 1.0),
    "x0: has no elements": lambda find: find(lambda x: x, jnp.zeros(0)),
    "fn: expected real floats, got dtype int": lambda find: find(lambda x: jnp.array(1), 1.0),
    "fn: expected a function": lambda find: find(3.0, 1.0),
    "x0: expected where to start": lambda find: find(quadratic),
    "x0: expected a real float array, got dtype int": lambda find: find(quadratic, 1),
    "args: expected a tuple": lambda find: find(quadratic, 1.0, 2.0),
    "method: expected one of": lambda find: find(quadratic, 1.0, method="brent"),
    "solver: expected one of": lambda find: find(quadratic, 1.0, solver="qr"),
    "jacobian: expected one of": lambda find: find(quadratic, 1.0, jacobian="sparse"),
    "max_steps: expected a whole number": lambda find: find(quadratic, 1.0, max_steps=1.5),
    "bracket: expected a pair": lambda find: find(quadratic, bracket=3.0),
    "bracket: expected a pair (a, b), got (0.0, 1.0, 2.0)": lambda find: find(
        quadratic, bracket=(0.0, 1.0, 2.0)
    ),
    "bracket: expected two finite": lambda find: find(quadratic, bracket=(0.0, np.inf)),
    "x0: starts outside its bounds": lambda find: find(quadratic, 7.0, bounds=(0.0, 2.0)),
    "bracket: expected two different": lambda find: find(quadratic, bracket=(1.0, 1.0)),
    "bracket: expected one number": lambda find: find(quadratic, bracket=(jnp.zeros(2), jnp.ones(2))),
    "bracket: method 'newton' takes no": lambda find: find(quadratic, bracket=(0.0, 1.0), method="newton"),
    "bracket: method 'chandrupatla' needs": lambda find: find(quadratic, 1.0, method="chandrupatla"),
    "bounds: method 'newton' takes none": lambda find: find(
        quadratic, 1.0, bounds=(0.0, 2.0), method="newton"
    ),
    "bounds: expected a pair": lambda find: find(quadratic, 1.0, bounds=0.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_that_names_the_argument(message):
    with pytest.raises((TypeError, ValueError)) as error:
        BAD[message](
            inspect.unwrap(jos.find_root)
        )  # without the checks of annotations that tests put around it
    assert str(error.value).startswith(message), error.value
    assert "\n" not in str(error.value)
