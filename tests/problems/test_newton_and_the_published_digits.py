"""`newton` with its defaults on the 35 problems, from the standard start, judged by the paper's digits."""

import math

import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS

PROBLEMS = {**NONLINEAR_LEAST_SQUARES, **OTHERS}

# Σr² as Moré, Garbow and Hillstrom 1981 print it: cut off, not rounded ("8.21487...10⁻³"). Of linear
# problems the formulas are printed. Local minima count: the paper lists them.
PRINTED = {
    "linear_full_rank": ["5.00000e+00"],
    "linear_rank_one": ["2.14285e+00"],
    "linear_rank_one_with_zeros": ["3.64705e+00"],
    "freudenstein_roth": ["4.89842e+01"],
    "bard": ["8.21487e-03", "1.74286e+01"],
    "kowalik_osborne": ["3.07505e-04", "1.02734e-03"],
    "meyer": ["8.79458e+01"],
    "watson": ["2.28767e-03"],
    "jennrich_sampson": ["1.24362e+02"],
    "brown_dennis": ["8.58222e+04"],
    "chebyquad": ["3.51687e-03"],
    "brown_almost_linear": ["1.00000e+00"],
    "osborne_1": ["5.46489e-05"],
    "osborne_2": ["4.01377e-02"],
    "gaussian": ["1.12793e-08"],
    "biggs_exp6": ["5.65565e-03"],
    "penalty_1": ["2.24997e-05"],
    "penalty_2": ["9.37629e-06"],
    "trigonometric": ["2.79505e-05"],  # printed as 2.79506...: this one is rounded
}
HAVE_A_ROOT = {"freudenstein_roth", "brown_almost_linear", "biggs_exp6", "trigonometric"}


def cut_off(value: float) -> str:
    """Six digits, the rest dropped; what is 1e-12 below a digit's edge is rounding."""
    value *= 1 + 1e-12
    exponent = math.floor(math.log10(value))
    digits = math.floor(value / 10.0**exponent * 1e5) / 1e5
    return f"{digits:.5f}e{exponent:+03d}"


def test_digits_are_cut_off_and_not_rounded():
    assert [cut_off(v) for v in (8.214877e-3, 5.0, 85822.2016)] == [
        "8.21487e-03",
        "5.00000e+00",
        "8.58222e+04",
    ]
    assert PRINTED.keys() <= PROBLEMS.keys()
    assert len(PROBLEMS) == 35


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_newton_reaches_every_printed_digit_or_zero_and_says_so(name):
    problem = PROBLEMS[name]()
    result = jos.minimize(problem.objective, problem.init, jos.newton(), problem.data)
    value = float(result.value)
    first = float(problem.objective(problem.init, *problem.data))
    np.testing.assert_allclose(
        value, problem.objective(result.params, *problem.data), rtol=1e-9, atol=1e-20 * first
    )
    zero = (name not in PRINTED or name in HAVE_A_ROOT) and value <= 1e-12 * first
    assert zero or cut_off(2 * value) in PRINTED.get(name, []), (value, result.message)
    # Meyer's curvature spans 10¹⁶: at its minimum the Hessian is singular to working precision.
    assert result.converged or (name, result.status) == ("meyer", jos.Status.RANK_DEFICIENT), result.message
