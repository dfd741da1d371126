"""The judge of answers says what is so, whatever the solver says."""

import numpy as np
import pytest

from jaxopt_study.bench import peers
from jaxopt_study.bench.suites import robustness
from jaxopt_study.bench.suites.robustness import Judge, Outcome, Verdict
from jaxopt_study.problems.more_garbow_hillstrom.fits import bard, meyer
from jaxopt_study.problems.more_garbow_hillstrom.small_systems import (
    beale,
    freudenstein_roth,
    powell_singular,
    rosenbrock,
)


def test_a_minimum_counts_to_six_digits():
    judge, best = Judge(meyer()), np.asarray(meyer().optimum)
    assert judge(best)[0] is Verdict.LOWEST
    assert judge(best * [1.0, 1.0, 1.0 + 1e-9])[0] is Verdict.LOWEST
    assert judge(best * [1.0, 1.0, 1.0 + 1e-5])[0] is Verdict.FAILED


def test_another_published_minimum_is_told_from_the_lowest_and_from_none():
    judge = Judge(freudenstein_roth())
    verdict, value, cosine, curvature = judge([11.412778986902094, -0.89680525327447652])
    assert verdict is Verdict.LOCAL
    assert value == pytest.approx(48.98425367924)
    assert cosine < 1e-12
    assert curvature is None
    assert judge([11.4, -0.9])[0] is Verdict.FAILED
    assert Judge(bard())([0.84066667, -1e12, -1e12])[0] is Verdict.LOCAL


def test_a_minimum_of_zero_is_reached_where_the_value_is_a_trillionth_of_the_starts():
    judge = Judge(powell_singular())
    assert judge(np.asarray(powell_singular().init) * 1e-7)[0] is Verdict.LOWEST
    assert judge(np.asarray(powell_singular().init) * 1e-3)[0] is Verdict.FAILED


def test_stationary_points_that_nobody_has_published_are_told_by_gradient_and_curvature():
    judge = Judge(beale())
    verdict, value, cosine, curvature = judge([0.0, 1.0])
    assert (verdict, cosine) == (Verdict.STATIONARY, 0.0)
    assert value == pytest.approx(1.5**2 + 2.25**2 + 2.625**2)
    assert curvature < 0
    assert judge([0.0, 1.0 + 1e-4])[0] is Verdict.FAILED


@pytest.mark.parametrize("params", [[np.nan, 1.0], [np.inf, 1.0]])
def test_answers_that_are_not_finite_have_failed(params):
    assert Judge(rosenbrock())(params)[0] is Verdict.FAILED


def test_claims_and_their_absence_are_marked():
    def cell(verdict, claims):
        return Outcome(peers.Ended(None, 7, claims, ""), verdict, 0.0, 0.0, None).cell

    assert cell(Verdict.FAILED, True) == "x    7!"
    assert cell(Verdict.STATIONARY, True) == "s    7 "
    assert cell(Verdict.LOWEST, False) == "=    7?"


@pytest.mark.slow
def test_every_solver_solves_rosenbrock_and_the_report_says_so(capsys):
    report = {"rosenbrock": robustness.run_problem(rosenbrock(), (1.0,))}
    robustness.report(report, (1.0,))
    printed = capsys.readouterr().out
    for name, (outcome,) in report["rosenbrock"].items():
        assert outcome.verdict is Verdict.LOWEST
        assert outcome.ended.claims
        assert name in printed
    assert "FALSE CLAIM" not in printed
