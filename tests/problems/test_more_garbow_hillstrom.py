"""The collection against the paper's formulas, written here once more and evaluated in 50 digits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from mpmath import mpf
from scipy.optimize import least_squares

from jaxopt_study.problems.more_garbow_hillstrom import (
    NONLINEAR_LEAST_SQUARES,
    OTHERS,
    equations,
    exponentials,
    fits,
    linear,
    small_systems,
    start,
)
from jaxopt_study.problems.more_garbow_hillstrom import any_dimension as anyd

MAKE = {
    **NONLINEAR_LEAST_SQUARES,
    **OTHERS,
    "watson_9": lambda: anyd.watson(9),
    "watson_12": lambda: anyd.watson(12),
    "penalty_1_10": lambda: anyd.penalty_1(10),
    "penalty_2_10": lambda: anyd.penalty_2(10),
    "chebyquad_9": lambda: anyd.chebyquad(9),
    "chebyquad_10": lambda: anyd.chebyquad(10),
    "chebyquad_3_of_5": lambda: anyd.chebyquad(3, 5),
    "linear_full_rank_3_of_3": lambda: linear.linear_full_rank(3, 3),
}


# Formulas as the paper prints them: i and j from 1, x[1] the first variable.
def numbers(text):
    return [None, *map(mpf, text.split())]


BARD = numbers("0.14 0.18 0.22 0.25 0.29 0.32 0.35 0.39 0.37 0.58 0.73 0.96 1.34 2.10 4.39")
GAUSSIAN = numbers(
    ".0009 .0044 .0175 .0540 .1295 .2420 .3521 .3989 .3521 .2420 .1295 .0540 .0175 .0044 .0009"
)
MEYER = numbers("34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872")
KOWALIK_Y = numbers(".1957 .1947 .1735 .1600 .0844 .0627 .0456 .0342 .0323 .0235 .0246")
KOWALIK_U = numbers("4.0 2.0 1.0 0.5 0.25 0.167 0.125 0.1 0.0833 0.0714 0.0625")
OSBORNE_1 = numbers(
    """.844 .908 .932 .936 .925 .908 .881 .850 .818 .784 .751 .718 .685 .658 .628 .603 .580 .558 .538
    .522 .506 .490 .478 .467 .457 .448 .438 .431 .424 .420 .414 .411 .406"""
)
OSBORNE_2 = numbers(
    """1.366 1.191 1.112 1.013 .991 .885 .831 .847 .786 .725 .746 .679 .608 .655 .616 .606 .602 .626
    .651 .724 .649 .649 .694 .644 .624 .661 .612 .558 .533 .495 .500 .423 .395 .375 .372 .391 .396
    .405 .428 .429 .523 .562 .607 .653 .672 .708 .633 .668 .645 .632 .591 .559 .597 .625 .739 .710
    .729 .720 .636 .581 .428 .292 .162 .098 .054"""
)


def up_to(m):
    return range(1, m + 1)


def full_rank(x, n, m):
    s = 2 * sum(x[1:]) / m
    return [(x[i] if i <= n else 0) - s - 1 for i in up_to(m)]


def rank_one(x, n, m):
    return [i * sum(j * x[j] for j in up_to(n)) - 1 for i in up_to(m)]


def rank_one_with_zeros(x, n, m):
    s = sum(j * x[j] for j in range(2, n))
    return [-1 if i in (1, m) else (i - 1) * s - 1 for i in up_to(m)]


def rosenbrock(x, n, m):
    return [10 * (x[i + 1] - x[i] ** 2) if i % 2 else 1 - x[i - 1] for i in up_to(n)]


def helical_valley(x, n, m):
    if x[1] == 0:
        theta = mpf("0.25") * (1 if x[2] >= 0 else -1)
    else:
        theta = mp.atan(x[2] / x[1]) / (2 * mp.pi) + (mpf("0.5") if x[1] < 0 else 0)
    return [10 * (x[3] - 10 * theta), 10 * (mp.sqrt(x[1] ** 2 + x[2] ** 2) - 1), x[3]]


def powell_singular(x, n, m):
    out = []
    for k in range(0, n, 4):
        a, b, c, d = x[k + 1 : k + 5]
        out += [a + 10 * b, mp.sqrt(5) * (c - d), (b - 2 * c) ** 2, mp.sqrt(10) * (a - d) ** 2]
    return out


def freudenstein_roth(x, n, m):
    return [
        -13 + x[1] + ((5 - x[2]) * x[2] - 2) * x[2],
        -29 + x[1] + ((x[2] + 1) * x[2] - 14) * x[2],
    ]


def bard(x, n, m):
    return [BARD[i] - (x[1] + i / ((16 - i) * x[2] + min(i, 16 - i) * x[3])) for i in up_to(15)]


def kowalik_osborne(x, n, m):
    pairs = list(zip(KOWALIK_Y, KOWALIK_U, strict=True))[1:]
    return [y - x[1] * (u**2 + u * x[2]) / (u**2 + u * x[3] + x[4]) for y, u in pairs]


def meyer(x, n, m):
    return [x[1] * mp.exp(x[2] / (45 + 5 * i + x[3])) - MEYER[i] for i in up_to(16)]


def watson(x, n, m):
    out = []
    for i in up_to(29):
        t = mpf(i) / 29
        slope = sum((j - 1) * x[j] * t ** (j - 2) for j in range(2, n + 1))
        out.append(slope - sum(x[j] * t ** (j - 1) for j in up_to(n)) ** 2 - 1)
    return [*out, x[1], x[2] - x[1] ** 2 - 1]


def box_3d(x, n, m):
    e = mp.exp
    return [
        e(-t * x[1]) - e(-t * x[2]) - x[3] * (e(-t) - e(-10 * t)) for t in (mpf(i) / 10 for i in up_to(m))
    ]


def jennrich_sampson(x, n, m):
    return [2 + 2 * i - (mp.exp(i * x[1]) + mp.exp(i * x[2])) for i in up_to(m)]


def brown_dennis(x, n, m):
    return [
        (x[1] + t * x[2] - mp.exp(t)) ** 2 + (x[3] + x[4] * mp.sin(t) - mp.cos(t)) ** 2
        for t in (mpf(i) / 5 for i in up_to(m))
    ]


def chebyquad(x, n, m):
    # T_i(cos a) = cos(i a), with a complex outside the interval
    def polynomial(i, t):
        return mp.re(mp.cos(i * mp.acos(2 * t - 1)))

    return [
        sum(polynomial(i, x[j]) for j in up_to(n)) / n - (0 if i % 2 else mpf(-1) / (i**2 - 1))
        for i in up_to(m)
    ]


def brown_almost_linear(x, n, m):
    return [*[x[i] + sum(x[1:]) - (n + 1) for i in range(1, n)], mp.fprod(x[1:]) - 1]


def osborne_1(x, n, m):
    return [
        OSBORNE_1[i] - (x[1] + x[2] * mp.exp(-t * x[4]) + x[3] * mp.exp(-t * x[5]))
        for i, t in ((i, mpf(10 * (i - 1))) for i in up_to(33))
    ]


def osborne_2(x, n, m):
    def model(t):
        return (
            x[1] * mp.exp(-t * x[5])
            + x[2] * mp.exp(-((t - x[9]) ** 2) * x[6])
            + x[3] * mp.exp(-((t - x[10]) ** 2) * x[7])
            + x[4] * mp.exp(-((t - x[11]) ** 2) * x[8])
        )

    return [OSBORNE_2[i] - model(mpf(i - 1) / 10) for i in up_to(65)]


def powell_badly_scaled(x, n, m):
    return [10**4 * x[1] * x[2] - 1, mp.exp(-x[1]) + mp.exp(-x[2]) - mpf("1.0001")]


def brown_badly_scaled(x, n, m):
    return [x[1] - 10**6, x[2] - mpf("2e-6"), x[1] * x[2] - 2]


def beale(x, n, m):
    return [mpf(y) - x[1] * (1 - x[2] ** i) for i, y in ((1, "1.5"), (2, "2.25"), (3, "2.625"))]


def gaussian(x, n, m):
    return [x[1] * mp.exp(-x[2] * (mpf(8 - i) / 2 - x[3]) ** 2 / 2) - GAUSSIAN[i] for i in up_to(15)]


def gulf(x, n, m):
    out = []
    for i in up_to(m):
        t = mpf(i) / 100
        y = 25 + (-50 * mp.log(t)) ** (mpf(2) / 3)
        out.append(mp.exp(-(abs(y - x[2]) ** x[3]) / x[1]) - t)
    return out


def wood(x, n, m):
    return [
        10 * (x[2] - x[1] ** 2),
        1 - x[1],
        mp.sqrt(90) * (x[4] - x[3] ** 2),
        1 - x[3],
        mp.sqrt(10) * (x[2] + x[4] - 2),
        (x[2] - x[4]) / mp.sqrt(10),
    ]


def biggs_exp6(x, n, m):
    e, out = mp.exp, []
    for i in up_to(m):
        t = mpf(i) / 10
        y = e(-t) - 5 * e(-10 * t) + 3 * e(-4 * t)
        out.append(x[3] * e(-t * x[1]) - x[4] * e(-t * x[2]) + x[6] * e(-t * x[5]) - y)
    return out


def penalty_1(x, n, m):
    return [*[mp.sqrt(mpf("1e-5")) * (x[i] - 1) for i in up_to(n)], sum(a**2 for a in x[1:]) - mpf("0.25")]


def penalty_2(x, n, m):
    a, e = mp.sqrt(mpf("1e-5")), lambda k: mp.exp(mpf(k) / 10)
    out = [x[1] - mpf("0.2")]
    out += [a * (e(x[i]) + e(x[i - 1]) - e(i) - e(i - 1)) for i in range(2, n + 1)]
    out += [a * (e(x[i - n + 1]) - e(-1)) for i in range(n + 1, 2 * n)]
    return [*out, sum((n - j + 1) * x[j] ** 2 for j in up_to(n)) - 1]


def variably_dimensioned(x, n, m):
    s = sum(j * (x[j] - 1) for j in up_to(n))
    return [*[x[i] - 1 for i in up_to(n)], s, s**2]


def trigonometric(x, n, m):
    s = sum(mp.cos(a) for a in x[1:])
    return [n - s + i * (1 - mp.cos(x[i])) - mp.sin(x[i]) for i in up_to(n)]


def discrete_boundary_value(x, n, m):
    x, h = [mpf(0), *x[1:], mpf(0)], mpf(1) / (n + 1)
    return [2 * x[i] - x[i - 1] - x[i + 1] + h**2 * (x[i] + i * h + 1) ** 3 / 2 for i in up_to(n)]


def discrete_integral_equation(x, n, m):
    h = mpf(1) / (n + 1)
    t, c = [i * h for i in range(n + 1)], [None, *[(x[j] + j * h + 1) ** 3 for j in up_to(n)]]
    return [
        x[i]
        + h
        * (
            (1 - t[i]) * sum(t[j] * c[j] for j in up_to(i))
            + t[i] * sum((1 - t[j]) * c[j] for j in range(i + 1, n + 1))
        )
        / 2
        for i in up_to(n)
    ]


def broyden_tridiagonal(x, n, m):
    x = [mpf(0), *x[1:], mpf(0)]
    return [(3 - 2 * x[i]) * x[i] - x[i - 1] - 2 * x[i + 1] + 1 for i in up_to(n)]


def broyden_banded(x, n, m):
    return [
        x[i] * (2 + 5 * x[i] ** 2)
        + 1
        - sum(x[j] * (1 + x[j]) for j in range(max(1, i - 5), min(n, i + 1) + 1) if j != i)
        for i in up_to(n)
    ]


# The function, and Σ r² at its minima with the digits that the paper, or algorithm 566, prints.
PAPER = {
    "linear_full_rank": (full_rank, "5"),
    "linear_full_rank_3_of_3": (full_rank, "0"),
    "linear_rank_one": (rank_one, "2.142857"),
    "linear_rank_one_with_zeros": (rank_one_with_zeros, "3.647059"),
    "rosenbrock": (rosenbrock, "0"),
    "helical_valley": (helical_valley, "0"),
    "powell_singular": (powell_singular, "0"),
    "freudenstein_roth": (freudenstein_roth, "0 48.9842"),
    "bard": (bard, "8.21487e-3 17.4286"),
    "kowalik_osborne": (kowalik_osborne, "3.07505e-4 1.02734e-3"),
    "meyer": (meyer, "87.9458"),
    "watson": (watson, "2.28767e-3"),
    "watson_9": (watson, "1.39976e-6"),
    "watson_12": (watson, "4.72238e-10"),
    "box_3d": (box_3d, "0"),
    "jennrich_sampson": (jennrich_sampson, "124.362"),
    "brown_dennis": (brown_dennis, "85822.2"),
    "chebyquad": (chebyquad, "3.51687e-3"),
    "chebyquad_9": (chebyquad, "0"),
    "chebyquad_10": (chebyquad, "4.77271e-3 6.50395e-3"),
    "chebyquad_3_of_5": (chebyquad, ""),
    "brown_almost_linear": (brown_almost_linear, "0 1"),
    "osborne_1": (osborne_1, "5.46489e-5"),
    "osborne_2": (osborne_2, "4.01377e-2"),
    "powell_badly_scaled": (powell_badly_scaled, "0"),
    "brown_badly_scaled": (brown_badly_scaled, "0"),
    "beale": (beale, "0"),
    "gaussian": (gaussian, "1.12793e-8"),
    "gulf": (gulf, "0"),
    "wood": (wood, "0"),
    "biggs_exp6": (biggs_exp6, "0 5.65565e-3"),
    "extended_rosenbrock": (rosenbrock, "0"),
    "extended_powell_singular": (powell_singular, "0"),
    "penalty_1": (penalty_1, "2.24997e-5"),
    "penalty_1_10": (penalty_1, "7.08765e-5"),
    "penalty_2": (penalty_2, "9.37629e-6"),
    "penalty_2_10": (penalty_2, "2.93660e-4"),
    "variably_dimensioned": (variably_dimensioned, "0"),
    "trigonometric": (trigonometric, "0 2.79506e-5"),
    "discrete_boundary_value": (discrete_boundary_value, "0"),
    "discrete_integral_equation": (discrete_integral_equation, "0"),
    "broyden_tridiagonal": (broyden_tridiagonal, "0"),
    "broyden_banded": (broyden_banded, "0"),
}


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mp.workdps(50):
        yield


def compiled(problem):
    """Residuals and Jacobian as one function of a numpy vector."""
    residual = lambda x: problem.objective.residual(x, *problem.data)  # noqa: E731
    both = jax.jit(lambda x: (residual(x), jax.jacfwd(residual)(x)))
    return lambda x: tuple(map(np.asarray, both(jnp.asarray(x))))


def exact(name, x, m):
    x = [None, *[mpf(float(a)) for a in x]]
    return PAPER[name][0](x, len(x) - 1, m)


def exact_jacobian(name, x, m):
    """By central differences in 50 digits, of which 30 are left."""
    columns = []
    for k in range(len(x)):
        sides = []
        for h in (mpf(10) ** -16, -(mpf(10) ** -16)):
            moved = [None, *[mpf(float(a)) for a in x]]
            moved[k + 1] += h
            sides.append(PAPER[name][0](moved, len(x), m))
        columns.append([float((a - b) / (2 * h)) for a, b in zip(*reversed(sides), strict=True)])
    return np.array(columns).T


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_residuals_and_jacobian_are_those_of_the_papers_formulas(name):
    problem = MAKE[name]()
    both, x0, rng = compiled(problem), np.asarray(problem.init), np.random.default_rng(1)
    points = [
        x0,
        *(x0 * rng.uniform(0.8, 1.2, x0.shape) + 0.1 * rng.uniform(0, 1, x0.shape) for _ in range(3)),
    ]
    for x in points:
        r, jacobian = both(x)
        m = r.size
        for ours, theirs in (
            (r, np.array(exact(name, x, m), float)),
            (jacobian, exact_jacobian(name, x, m)),
        ):
            size = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_minima_are_the_published_ones_and_stationary(name):
    problem = MAKE[name]()
    published = [float(f) for f in PAPER[name][1].split()]
    np.testing.assert_allclose(2 * np.array(problem.minima), published, rtol=1e-5)
    if not published:
        return
    both, x0 = compiled(problem), np.asarray(problem.init)
    r, _ = both(x0)
    m = r.size
    solution = least_squares(
        lambda x: both(x)[0], x0, jac=lambda x: both(x)[1], method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    start_value = np.sum(r**2)
    ends = [solution.x] if problem.optimum is None else [solution.x, np.asarray(problem.optimum)]
    for x in ends:
        exact_r = exact(name, x, m)
        value = float(mp.fdot(exact_r, exact_r))
        if value < 1e-12 * start_value and min(published) == 0:
            continue
        assert any(value == pytest.approx(2 * least, rel=1e-10) for least in problem.minima), value
        if problem.minima[0] > 0:
            jacobian = exact_jacobian(name, x, m)
            lengths = np.linalg.norm(jacobian, axis=0) * value**0.5
            slopes = jacobian.T @ np.array(exact_r, float)
            assert np.all(np.abs(slopes) <= 1e-6 * lengths)
    if problem.optimum is not None and problem.minima[0] == 0:
        exact_r = exact(name, problem.optimum, m)
        assert mp.fdot(exact_r, exact_r) < 1e-22


def test_the_minima_at_infinity_are_limits():
    far = mpf(10) ** 20
    constant = mpf("0.84066666666666666667")
    at_bard = bard([None, constant, -far, -far], 3, 15)
    assert float(mp.fdot(at_bard, at_bard)) == pytest.approx(2 * fits.bard().minima[1], rel=1e-12)
    alpha, beta, gamma = map(mpf, ("-0.02209593573016863", "-14.075883400603309", "0.62380134104869944"))
    at_kowalik = kowalik_osborne([None, -alpha * far, beta, -far, -gamma * far], 4, 11)
    assert float(mp.fdot(at_kowalik, at_kowalik)) == pytest.approx(
        2 * fits.kowalik_osborne().minima[1], rel=1e-12
    )


def test_the_collection_is_the_papers_35_with_the_sizes_of_its_18():
    assert len(NONLINEAR_LEAST_SQUARES) == 18
    assert len(OTHERS) == 17
    shapes = []
    for make in NONLINEAR_LEAST_SQUARES.values():
        problem = make()
        shapes.append(
            (problem.init.size, jax.eval_shape(problem.objective.residual, problem.init, *problem.data).size)
        )
    assert shapes == [
        (5, 10), (5, 10), (5, 10), (2, 2), (3, 3), (4, 4), (2, 2), (3, 15), (4, 11), (3, 16), (6, 31),
        (3, 10), (2, 10), (4, 20), (8, 8), (10, 10), (5, 33), (11, 65),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_a_second_problem_has_the_same_function_and_single_precision_stays_single(name):
    problem = MAKE[name]()
    assert MAKE[name]().objective.residual_fn is problem.objective.residual_fn
    with jax.enable_x64(False):
        problem = MAKE[name]()
        residual = jax.eval_shape(problem.objective.residual, problem.init, *problem.data)
        assert problem.init.dtype == residual.dtype == jnp.float32


def test_the_angle_of_the_helical_valley_is_smooth_on_the_left_where_it_starts():
    problem = small_systems.helical_valley()
    both = compiled(problem)
    turn = lambda x, y: -both(np.array([x, y, 0.0]))[0][0] / 100  # noqa: E731
    np.testing.assert_allclose([turn(-1.0, -1e-9), turn(-1.0, 1e-9)], 0.5, atol=1e-9)
    np.testing.assert_allclose([turn(0.0, 1.0), turn(0.0, -1.0), turn(1.0, 0.0)], [0.25, -0.25, 0.0])
    np.testing.assert_allclose(both(problem.init)[1][0], [0.0, 100 / (2 * np.pi), 10.0], rtol=1e-14)


def test_gulf_has_a_derivative_where_a_power_is_of_zero():
    problem = exponentials.gulf(100)
    r, jacobian = compiled(problem)(problem.optimum)
    assert np.abs(r).max() < 1e-13
    assert np.isfinite(jacobian).all()


def test_starts_are_multiples_except_of_the_origin():
    meyer_start = np.array([0.02, 4000.0, 250.0])
    for factor in (1.0, 10.0, 100.0):
        np.testing.assert_array_equal(start(fits.meyer(), factor), factor * meyer_start)
        np.testing.assert_array_equal(start(anyd.watson(), factor), 0.0 if factor == 1 else factor)
    traced = jax.jit(lambda factor: start(anyd.watson(), factor))
    np.testing.assert_array_equal(traced(10.0), 10.0)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (linear.linear_full_rank, (5, 4)),
        (linear.linear_rank_one, (0, 4)),
        (linear.linear_rank_one_with_zeros, (2, 4)),
        (small_systems.rosenbrock, (3,)),
        (small_systems.powell_singular, (6,)),
        (exponentials.jennrich_sampson, (1,)),
        (exponentials.gulf, (101,)),
        (exponentials.gulf, (2,)),
        (anyd.watson, (32,)),
        (anyd.chebyquad, (3, 2)),
        (anyd.brown_almost_linear, (1,)),
        (equations.broyden_banded, (0,)),
        (equations.discrete_boundary_value, (0,)),
    ],
)
def test_impossible_sizes_are_refused(make, sizes):
    with pytest.raises(ValueError, match="expected"):
        make(*sizes)
