import math

import pytest

from jaxopt_study.bench.case import OURS, Bound, Case, Contestant, Planned, measure

ONE = Contestant(lambda: 3, lambda found: 0.0, "nothing")


def rows(planned):
    return list(measure("toy", planned, {}, lambda name: True))


def test_figures_are_of_all_results_and_stand_in_the_row_of_the_reference():
    case = Case(
        "sum",
        {"first": ONE, OURS: ONE},
        rounds=1,
        figures={"sum": lambda found: sum(found.values()), "names": len},
    )
    planned = Planned("sums", lambda wanted: case, figures={"sum": Bound(at_most=5.0)})
    assert planned.claims
    first, ours = rows(planned)
    assert first.figures == ()
    assert [(one.name, one.value, one.at_most) for one in ours.figures] == [
        ("sum", 6, 5.0),
        ("names", 2, None),
    ]
    assert [one.is_met for one in ours.figures] == [False, True]


def test_bounds_of_what_the_case_does_not_measure_are_refused():
    planned = Planned(
        "sums", lambda wanted: Case("sum", {OURS: ONE}), figures={"losses": Bound(at_least=math.e)}
    )
    with pytest.raises(ValueError, match="figures: the case has no 'losses'"):
        rows(planned)
