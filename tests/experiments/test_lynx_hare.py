"""The rates of lynx and hare: the published posterior's, and SciPy's estimates to the digits of the solvers."""

import csv
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from jaxopt_study import study
from jaxopt_study.result import is_converged

PATH = Path(__file__).parents[2] / "experiments" / "data" / "lynx_hare.csv"
# Carpenter (2018): mean and standard deviation of the posterior.
POSTERIOR = {
    "growth": (0.55, 0.06),
    "predation": (0.028, 0.004),
    "death": (0.80, 0.09),
    "conversion": (0.024, 0.004),
}


def pelts():
    with PATH.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("year", "hare", "lynx")] for row in rows]).T


def test_the_data_are_the_published_table():
    year, hare, lynx = pelts()
    np.testing.assert_array_equal(year, np.arange(1900, 1921))
    assert (hare[3], hare[17], lynx[4], lynx[0]) == (77.4, 7.6, 59.4, 4.0)
    np.testing.assert_allclose([hare.sum(), lynx.sum()], [715.7, 423.5])


@pytest.mark.slow
def test_the_published_rates_are_found_and_scipys(load, run):
    loaded, configs = load("lynx_hare")
    outcome = run(loaded, configs["lynx_hare"])
    assert is_converged(outcome.status)
    values = outcome.values
    for name, (mean, deviation) in POSTERIOR.items():
        assert abs(values[name] - mean) < deviation
        assert values[f"{name}_lower"] < mean < values[f"{name}_upper"]
    assert 0.2 < values["sigma"] < 0.3  # the posterior: 0.25

    year, hare, lynx = pelts()

    def residuals(theta):
        a, b, c, d, first_hare, first_lynx = np.exp(theta)
        solved = scipy.integrate.solve_ivp(
            lambda t, y: [(a - b * y[1]) * y[0], (d * y[0] - c) * y[1]],
            (0.0, 20.0),
            [first_hare, first_lynx],
            t_eval=year - 1900,
            rtol=1e-10,
            atol=1e-10,
            method="DOP853",
        )
        return (np.log(solved.y) - np.log([hare, lynx])).ravel()

    start = np.log([0.55, 0.028, 0.8, 0.024, 30.0, 4.0])
    oracle = scipy.optimize.least_squares(residuals, start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    names = ("growth", "predation", "death", "conversion", "first_hare", "first_lynx")
    np.testing.assert_allclose([values[name] for name in names], np.exp(oracle.x), rtol=1e-4)
    np.testing.assert_allclose(outcome.value, oracle.cost, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["1900,4,30"] * 3, "3 rows; six parameters take four or more"),
        (["1900,4,30", "1901,0,20", "1902,5,20", "1903,5,20"], "pelts have to be positive"),
    ],
)
def test_pelts_that_cannot_be_fitted_are_refused(rows, says, load, run, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("year,lynx,hare\n" + "\n".join(rows) + "\n")
    loaded, configs = load("lynx_hare", data=path)
    with pytest.raises(study.StudyInputError, match=says):
        run(loaded, configs["lynx_hare"])
