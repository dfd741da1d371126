import math

import pytest

from jaxopt_study.bench.suites import sweep
from jaxopt_study.study.planned import read_planned


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({0: 1.0, 1: 4.0}, 0.95),  # the quantile between 0 and 1
        ({1: 3.0}, 0.5),
        ({0: math.nan}, math.inf),
        ({2: math.nan}, 0.0),
        ({2: 1.0}, math.inf),
        ({}, 0.0),
    ],
)
def test_errors_are_of_the_points_that_are_known(found, expected):
    assert sweep._error({0: 1.0, 1: 2.0, 2: math.nan}, found) == pytest.approx(expected)


@pytest.mark.slow
def test_the_plain_loop_ends_when_it_is_enough():
    planned = read_planned(sweep.CONFIG)
    asked = iter([False] * 2 + [True] * 1000)
    assert sweep._plainly(planned, 1, lambda: next(asked)) == []
