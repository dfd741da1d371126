"""Levenberg-Marquardt on classical problems, against SciPy and closed forms.

Problems: Moré, Garbow and Hillstrom, Testing unconstrained optimization software, 1981.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import jaxopt_study as jos

BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])
KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def rosenbrock(p):
    return jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def freudenstein_roth(p):
    x, y = p
    return jnp.stack([-13 + x + ((5 - y) * y - 2) * y, -29 + x + ((y + 1) * y - 14) * y])


def helical_valley(p):
    angle = jnp.arctan2(p[1], p[0]) / (2 * jnp.pi)
    return jnp.stack([10 * (p[2] - 10 * angle), 10 * (jnp.hypot(p[0], p[1]) - 1), p[2]])


def bard(p):
    u = jnp.arange(1.0, 16.0)
    v = 16 - u
    return BARD - (p[0] + u / (v * p[1] + jnp.minimum(u, v) * p[2]))


def kowalik_osborne(p):
    u = jnp.asarray(KOWALIK_U)
    return KOWALIK_Y - p[0] * (u**2 + u * p[1]) / (u**2 + u * p[2] + p[3])


def beale(p):
    return jnp.array([1.5, 2.25, 2.625]) - p[0] * (1 - p[1] ** jnp.arange(1.0, 4.0))


def brown_badly_scaled(p):
    return jnp.stack([p[0] - 1e6, p[1] - 2e-6, p[0] * p[1] - 2])


def powell_singular(p):
    return jnp.stack(
        [p[0] + 10 * p[1], 5**0.5 * (p[2] - p[3]), (p[1] - 2 * p[2]) ** 2, 10**0.5 * (p[0] - p[3]) ** 2]
    )


def wood(p):
    a, b, c, d = p
    return jnp.stack(
        [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c, 10**0.5 * (b + d - 2), 10**-0.5 * (b - d)]
    )


def misra(p):
    x = jnp.linspace(0.1, 5.0, 14)
    return p[0] * (1 - jnp.exp(-p[1] * x)) - 2.5 * (1 - jnp.exp(-0.55 * x)) + 0.01 * jnp.cos(9 * x)


PROBLEMS = {  # start, and the solution where it has a closed form
    "rosenbrock": (rosenbrock, [-1.2, 1.0], [1.0, 1.0]),
    "rosenbrock_far": (rosenbrock, [-12.0, 10.0], [1.0, 1.0]),
    "freudenstein_roth": (freudenstein_roth, [6.0, 5.0], [5.0, 4.0]),
    "helical_valley": (helical_valley, [-1.0, 0.1, 0.0], [1.0, 0.0, 0.0]),
    "bard": (bard, [1.0, 1.0, 1.0], None),
    "kowalik_osborne": (kowalik_osborne, [0.25, 0.39, 0.415, 0.39], None),
    "beale": (beale, [1.0, 1.0], [3.0, 0.5]),
    "brown_badly_scaled": (brown_badly_scaled, [1.0, 1.0], [1e6, 2e-6]),
    "wood": (wood, [-3.0, -1.0, -3.0, -1.0], [1.0, 1.0, 1.0, 1.0]),
    "misra": (misra, [10.0, 0.1], None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_finds_the_solution_to_eight_digits_and_says_converged(name):
    residual_fn, start, solution = PROBLEMS[name]
    result = jos.least_squares(residual_fn, jnp.array(start))
    if solution is None:
        residual, jacobian = jax.jit(residual_fn), jax.jit(jax.jacfwd(residual_fn))
        options = {"method": "lm", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        found = optimize.least_squares(residual, start, lambda p: np.asarray(jacobian(p)), **options)
        solution = found.x
        np.testing.assert_allclose(result.value, found.cost, rtol=1e-10)
    digits = 1e-6 if name == "kowalik_osborne" else 1e-8  # its minimum is flat: the cost has all its digits
    np.testing.assert_allclose(result.params, solution, rtol=digits, atol=digits)
    assert result.converged, result.message


@pytest.mark.slow
def test_powells_singular_function_is_solved_as_far_as_a_double_root_can_be():
    """J loses rank at the solution: convergence is linear, and the value is the fourth power of the error."""
    result = jos.least_squares(powell_singular, jnp.array([3.0, -1.0, 0.0, 1.0]))
    assert result.converged, result.message
    assert result.value < 1e-20
    np.testing.assert_allclose(result.params, np.zeros(4), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["auto", "cholesky", "qr"])
def test_a_linear_fit_equals_lstsq(solver):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 4)) * [1, 1e5, 1e-5, 3], rng.normal(size=20)
    optimizer = jos.levenberg_marquardt(solver=solver)
    result = jos.least_squares(
        lambda p, a, b: a @ p - b, jnp.zeros(4), (jnp.asarray(a), jnp.asarray(b)), optimizer=optimizer
    )
    np.testing.assert_allclose(result.params, np.linalg.lstsq(a, b)[0], rtol=1e-8)
    assert result.converged


@pytest.mark.slow
def test_the_path_does_not_depend_on_the_units_of_the_parameters():
    units = jnp.array([1e-7, 1e6])
    plain = jos.least_squares(misra, jnp.array([10.0, 0.1]))
    scaled = jos.least_squares(lambda q: misra(q * units), jnp.array([10.0, 0.1]) / units)
    np.testing.assert_allclose(scaled.params * units, plain.params, rtol=1e-9)
    assert scaled.num_steps == plain.num_steps


@pytest.mark.slow
def test_fits_in_float32_reach_its_precision():
    """BUG if it fails: residuals small beside the data carry more rounding than ε says: a stall."""
    with jax.enable_x64(False):
        result = jos.least_squares(misra, jnp.array([10.0, 0.1]))
        assert result.params.dtype == jnp.float32
        assert result.converged, result.message
    expected = jos.least_squares(misra, jnp.array([10.0, 0.1])).params
    np.testing.assert_allclose(result.params, expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e25, 1e-25])
def test_float32_parameters_in_extreme_units_are_fitted(unit):
    """BUG if it fails: norms of scaled parameters or of the gradient overflow, or vanish, when squared."""
    with jax.enable_x64(False):
        x = jnp.linspace(1.0, 2.0, 8)
        target = 2 * x + 3
        residual_fn = lambda p, x, y: unit * (p["slope"] * x + p["offset"]) - y  # noqa: E731
        start = {"slope": jnp.array(1 / unit), "offset": jnp.array(0.5 / unit)}
        result = jos.least_squares(residual_fn, start, (x, target))
        assert result.converged, result.message
        np.testing.assert_allclose(result.params["slope"] * unit, 2.0, rtol=1e-4)
        np.testing.assert_allclose(result.params["offset"] * unit, 3.0, rtol=1e-4)


@pytest.mark.slow
def test_a_function_and_a_least_squares_of_it_are_the_same():
    one = jos.least_squares(rosenbrock, jnp.array([-1.2, 1.0]))
    two = jos.least_squares(jos.LeastSquares(rosenbrock), jnp.array([-1.2, 1.0]))
    np.testing.assert_array_equal(one.params, two.params)


def test_another_optimizer_may_do_it():
    result = jos.least_squares(bard, jnp.ones(3), optimizer=jos.gauss_newton(), trace=True)
    np.testing.assert_allclose(2 * result.value, 8.21487e-3, rtol=1e-5)  # published
    np.testing.assert_allclose(result.trace.value[0], jos.LeastSquares(bard)(jnp.ones(3)), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["nielsen", "delayed"])
@pytest.mark.parametrize("damping", [1e-8, 1e-3, 1e3])
def test_every_damping_rule_and_start_finds_the_minimum(rule, damping):
    optimizer = jos.levenberg_marquardt(damping, damping_rule=rule)
    result = jos.least_squares(bard, jnp.ones(3), optimizer=optimizer)
    np.testing.assert_allclose(2 * result.value, 8.21487e-3, rtol=1e-5)
    assert result.converged


@pytest.mark.slow
def test_every_jacobian_gives_the_same_fit():
    x = jnp.linspace(0.0, 4.0, 9)
    y = 3 * jnp.exp(-0.5 * x) + 0.1 * jnp.cos(7 * x)
    objective = jos.LeastSquares(lambda p, x, y: p[0] * jnp.exp(-p[1] * x) - y, pointwise=True)
    fits = [
        jos.least_squares(
            objective, jnp.array([2.0, 0.6]), (x, y), optimizer=jos.levenberg_marquardt(jacobian=mode)
        ).params
        for mode in ("forward", "reverse", "pointwise")
    ]
    np.testing.assert_allclose(fits[1], fits[0], rtol=1e-10)
    np.testing.assert_allclose(fits[2], fits[0], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["radius", "nielsen"])
@pytest.mark.parametrize("bounds", [None, (0.0, 2.0)], ids=["free", "bounded"])
def test_residuals_that_stay_large_are_polished_to_the_last_digits(rule, bounds):
    """JᵀJ lacks the residuals' curvature: undamped steps go round the minimum once rounding hides gains."""
    t = jnp.linspace(0.0, 4.0, 12)
    y = 3 * jnp.exp(-0.5 * t) + 0.1 * np.random.default_rng(0).normal(size=12) + jnp.eye(12)[3]
    optimizer = jos.levenberg_marquardt(damping_rule=rule)

    def fit(y):
        residual = lambda p, y: p["a"] * jnp.exp(-p["k"] * t) + p["c"] - y  # noqa: E731
        start = {"a": jnp.array(1.0), "k": jnp.array(1.0), "c": jnp.array(0.0)}
        tolerances = {"gtol": 1e-14, "ftol": 0.0, "xtol": 0.0, "max_steps": 300}
        return jos.least_squares(residual, start, (y,), bounds=bounds, optimizer=optimizer, **tolerances)

    many = jax.jit(lambda ys: jax.lax.map(fit, ys))(y[None] + 1e-3 * jnp.eye(12))
    assert jnp.all(many.status == jos.Status.GRADIENT_CONVERGED)
    assert jnp.max(many.num_steps) < 50


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["radius", "nielsen"])
def test_a_state_may_go_on_with_other_data(rule):
    """What the last steps of one fit say of rounding says nothing of the next."""
    t = jnp.linspace(0.0, 4.0, 50)
    y = 3 * jnp.exp(-0.7 * t) + 0.3 * jnp.cos(31.0 * jnp.arange(50.0) ** 2)
    objective = jos.LeastSquares(lambda p, y: p[0] * jnp.exp(-p[1] * t) - y)
    optimizer = jos.levenberg_marquardt(damping_rule=rule)
    for tolerances in ({}, {"gtol": 1e-13, "ftol": 0.0, "xtol": 0.0}):
        one = jos.minimize(objective, jnp.array([1.0, 0.1]), optimizer, (y,), **tolerances)
        two = jos.minimize(
            objective, one.params, optimizer, (1.001 * y + 0.01,), opt_state=one.opt_state, **tolerances
        )
        assert two.converged
        assert two.num_steps <= 10


@pytest.mark.slow
def test_a_narrow_valley_whose_gains_rounding_hides_is_still_walked_to_its_end():
    def residual(p):
        along = p[0] - p[1]
        return jnp.stack([1e3 + 0 * along, p[0] + p[1] - 2.0 + 0.01 * along**2, 3e-5 * (along - 1.0)])

    start = jnp.zeros(2)
    one = jos.least_squares(residual, start, gtol=0.0, ftol=0.0)
    many = jos.least_squares_batch(residual, start[None], gtol=0.0, ftol=0.0)
    for params, steps in ((one.params, one.num_steps), (many.params[0], many.num_steps[0])):
        np.testing.assert_allclose(params, [1.495, 0.495], rtol=1e-8)  # xtol
        assert steps < 100


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 1e5, 1e8, 1e9])
def test_a_line_far_from_the_origin_is_fitted_as_well_as_near_it(offset):
    """The columns 1 and x are parallel but for their last digits: damped steps are short long before."""
    u = np.linspace(0.0, 4.0, 40)
    y = 2 * u + 1 + 0.1 * np.random.default_rng(0).normal(size=u.size)
    slope, level = np.polyfit(u, y, 1)
    result = jos.least_squares(lambda p, x, y: p[0] + p[1] * x - y, jnp.array([0.0, 1.0]), (offset + u, y))
    np.testing.assert_allclose(result.params[1], slope, rtol=1e-7)
    np.testing.assert_allclose(result.value, 0.5 * np.sum((level + slope * u - y) ** 2), rtol=1e-6)
    assert result.converged
