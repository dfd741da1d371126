"""The functions in the manner of CUTEst against their formulas in plain loops, and their known minima."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxopt_study.problems.unconstrained import ANY_DIMENSION, SMALL, any_dimension


def up_to(n):
    return range(1, n + 1)


# x[1] is the first variable, as on paper.
FORMULAS = {
    "arwhead": lambda x, n: sum((x[i] ** 2 + x[n] ** 2) ** 2 - 4 * x[i] + 3 for i in range(1, n)),
    "cosine": lambda x, n: sum(math.cos(x[i] ** 2 - x[i + 1] / 2) for i in range(1, n)),
    "dixon3dq": lambda x, n: (
        (x[1] - 1) ** 2 + sum((x[j] - x[j + 1]) ** 2 for j in range(2, n)) + (x[n] - 1) ** 2
    ),
    "engval1": lambda x, n: sum((x[i] ** 2 + x[i + 1] ** 2) ** 2 - 4 * x[i] + 3 for i in range(1, n)),
    "fletchcr": lambda x, n: sum(100 * (x[i + 1] - x[i] + 1 - x[i] ** 2) ** 2 for i in range(1, n)),
    "genrose": lambda x, n: (
        1 + sum(100 * (x[i] - x[i - 1] ** 2) ** 2 + (x[i] - 1) ** 2 for i in range(2, n + 1))
    ),
    "liarwhd": lambda x, n: sum(4 * (x[i] ** 2 - x[1]) ** 2 + (x[i] - 1) ** 2 for i in up_to(n)),
    "nondquar": lambda x, n: (
        (x[1] - x[2]) ** 2
        + (x[n - 1] + x[n]) ** 2
        + sum((x[i] + x[i + 1] + x[n]) ** 4 for i in range(1, n - 1))
    ),
    "noncvxun": lambda x, n: sum(
        y**2 + 4 * math.cos(y)
        for y in (x[i] + x[(2 * i - 1) % n + 1] + x[(3 * i - 1) % n + 1] for i in up_to(n))
    ),
    "power": lambda x, n: sum(i * x[i] ** 2 for i in up_to(n)) ** 2,
    "quartc": lambda x, n: sum((x[i] - i) ** 4 for i in up_to(n)),
    "curly10": lambda x, n: sum(
        q**4 - 20 * q**2 - 0.1 * q for q in (sum(x[i : min(i + 10, n) + 1]) for i in up_to(n))
    ),
    "sinquad": lambda x, n: (
        (x[1] - 1) ** 4
        + sum((math.sin(x[i] - x[n]) - x[1] ** 2 + x[i] ** 2) ** 2 for i in range(2, n))
        + (x[n] ** 2 - x[1] ** 2) ** 2
    ),
    "tridia": lambda x, n: (x[1] - 1) ** 2 + sum(i * (2 * x[i] - x[i - 1]) ** 2 for i in range(2, n + 1)),
    "hilberta": lambda x, n: sum(x[i] * x[j] / (i + j - 1) for i in up_to(n) for j in up_to(n)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_value_is_that_of_the_formula_in_a_loop(name):
    problem = ANY_DIMENSION[name](12)
    for x in (np.asarray(problem.init), np.random.default_rng(0).uniform(-1.5, 1.5, 12)):
        expected = FORMULAS[name]([None, *x.tolist()], 12)
        np.testing.assert_allclose(problem.objective(jnp.asarray(x), *problem.data), expected, rtol=1e-11)


# From the literature on CUTEst.
PRINTED = {
    "allinitu": 5.7443849,
    "brkmcc": 0.16904268,
    "cliff": 0.199786613,
    "expfit": 0.24051059,
    "s308": 0.77319906,
}


@pytest.mark.parametrize("name", PRINTED)
def test_scipy_finds_the_published_minimum(name):
    problem = SMALL[name]()
    both = jax.jit(jax.value_and_grad(problem.objective))
    found = minimize(lambda x: [np.asarray(v) for v in both(jnp.asarray(x))], problem.init, jac=True)
    np.testing.assert_allclose(found.fun, PRINTED[name], rtol=1e-7)


SOLUTIONS = {
    "cube": [1, 1], "denschnb": [2, -1], "denschne": [0, 0, 0], "engval2": [0, 0, 1], "hairy": [0, 0],
    "himmelbh": [1, 1], "humps": [0, 0], "loghairy": [0, 0], "sineval": [0, 0], "sisser": [0, 0],
    "snail": [0, 0], "zangwil2": [4, 9],
}  # fmt: skip


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_known_minimum_is_the_value_at_the_known_solution(name):
    problem = SMALL[name]()
    at = problem.objective(jnp.array(SOLUTIONS[name], float))
    np.testing.assert_allclose(at, problem.minima[0], atol=1e-12)


@pytest.mark.slow
def test_every_function_keeps_single_precision_and_is_one_object():
    for name, make in {**SMALL, **ANY_DIMENSION}.items():
        assert make().objective is make().objective, name
        with jax.enable_x64(False):
            problem = make()
            value = jax.eval_shape(problem.objective, problem.init, *problem.data)
            assert problem.init.dtype == value.dtype == np.float32, name


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (any_dimension.arwhead, 1),
        (any_dimension.chainwoo, 5),
        (any_dimension.woods, 6),
        (any_dimension.dixmaana, 10),
        (any_dimension.minsurf, 10),
    ],
)
def test_impossible_sizes_are_refused(make, n):
    with pytest.raises(ValueError, match="n: expected"):
        make(n)
