import gc
import time

import numpy as np
import pytest

from jaxopt_study.bench import timer
from jaxopt_study.bench.timer import Timed, ratio, take_turns, uncertainty


def timed(seconds):
    return Timed(0.0, np.asarray(seconds, float), None, None)


def test_ratio_is_of_the_same_round():
    # The machine is three times slower in half of the rounds: the ratio does not see it.
    slow, fast = timed([2.0, 6.0, 2.0, 6.0]), timed([1.0, 3.0, 1.0, 3.0])
    assert ratio(slow, fast) == 2.0
    assert ratio(slow, fast, slow_units=4, fast_units=1) == 0.5


def test_uncertainty_is_the_standard_error_of_a_median():
    draw = np.random.default_rng(0)
    medians = [np.median(draw.normal(1.0, 0.05, 40)) for _ in range(500)]
    told = np.mean([uncertainty(timed(draw.normal(1.0, 0.05, 40)), timed(np.ones(40))) for _ in range(100)])
    assert told == pytest.approx(np.std(medians), rel=0.15)


def test_unsteady_ratio_is_measured_longer_a_steady_one_is_not_nor_what_takes_too_long(monkeypatch):
    clock = iter(np.random.default_rng(0).lognormal(0.0, 3.0, 10_000))
    monkeypatch.setattr(timer, "_best_threads", lambda work, settings: (None, 0.1))
    monkeypatch.setattr(timer, "_time", lambda work, calls: (work(), None))
    monkeypatch.setattr(timer, "LONGEST", np.inf)
    noisy = take_turns({"a": lambda: 1.0, "b": lambda: next(clock)}, 5, reference="a")
    assert len(noisy["a"].seconds) == 5 * timer.PATIENCE
    monkeypatch.setattr(timer, "LONGEST", 0.0)
    impatient = take_turns({"a": lambda: 1.0, "b": lambda: next(clock)}, 5, reference="a")
    assert len(impatient["a"].seconds) == 5
    monkeypatch.setattr(timer, "LONGEST", np.inf)
    quiet = take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 5, reference="a")
    assert len(quiet["a"].seconds) == 5


def test_settings_of_threads_are_tried_by_those_alone_who_may_call_a_library():
    calls = {"may": 0, "may not": 0}

    def work(name):
        calls[name] += 1
        time.sleep(0.25)  # too long to be tried more than once

    take_turns({name: lambda name=name: work(name) for name in calls}, 2, blas=("may",))
    assert calls == {"may": 4, "may not": 3}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what `pass_by` says: a work of so many parts, a second each."""
    now = [0.0]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def pass_by(parts, enough=lambda: False):
        done = 0
        while done < parts and not enough():
            now[0] += 1.0
            done += 1
        return done

    return pass_by


@pytest.mark.parametrize(("asked", "parts"), [({}, 10), ({"slow": 1.0}, 4), ({"slow": 100.0}, 10)])
def test_long_work_is_ended_once_it_takes_surely_longer_than_asked(clock, asked, parts):
    contestants = {"slow": timer.Long(lambda enough: clock(10, enough)), "ours": lambda: clock(3)}
    timed = take_turns(contestants, 1, reference="ours", cold=True, asked=asked)
    slow = timed["slow"]
    assert (slow.result, slow.seconds[-1], slow.ended_early) == (parts, parts, parts < 10)
    assert not timed["ours"].ended_early


def test_long_work_that_was_ended_in_one_round_was_ended(clock):
    wants = iter([10, 10, 3])
    contestants = {"ours": lambda: clock(3), "slow": timer.Long(lambda enough: clock(next(wants), enough))}
    slow = take_turns(contestants, 3, reference="ours", cold=True, asked={"slow": 1.0})["slow"]
    assert (list(slow.seconds), slow.ended_early) == ([4, 4, 3], True)


def test_warm_work_is_not_ended(clock):
    contestants = {"ours": lambda: clock(3), "slow": timer.Long(lambda enough: clock(10, enough))}
    slow = take_turns(contestants, 2, reference="ours", blas=False, asked={"slow": 1.0})["slow"]
    assert (set(slow.seconds), slow.ended_early) == ({10}, False)


def test_a_ratio_that_is_well_above_what_is_asked_need_not_be_steady(monkeypatch):
    monkeypatch.setattr(timer, "_best_threads", lambda work, settings: (None, 0.1))
    monkeypatch.setattr(timer, "_time", lambda work, calls: (work(), None))
    monkeypatch.setattr(timer, "LONGEST", np.inf)

    def rounds(asked, rounds=5):
        clock = iter(100 * np.random.default_rng(0).lognormal(0.0, 0.7, 100))
        done = take_turns(
            {"a": lambda: 1.0, "b": lambda: next(clock)}, rounds, reference="a", asked={"b": asked}
        )
        assert uncertainty(done["b"], done["a"]) > timer.STEADY
        return len(done["b"].seconds)

    assert rounds(10.0) == 5
    assert rounds(10.0, rounds=2) == timer.ENOUGH  # of fewer the scatter says too little
    assert rounds(90.0) == 5 * timer.PATIENCE


def test_trials_of_what_takes_long_are_a_round(monkeypatch):
    monkeypatch.setattr(timer, "LONG", 0.005)
    calls = {"a": 0, "b": 0}

    def work(name, seconds):
        calls[name] += 1
        time.sleep(seconds)

    done = take_turns({name: lambda name=name: work(name, 0.01) for name in calls}, 3, blas=False)
    assert [len(done[name].seconds) for name in calls] == [3, 3]
    assert calls == {"a": 1 + 3, "b": 1 + 3}  # the first call, the trial, two more
    take_turns({"a": lambda: work("a", 0.01), "b": lambda: None}, 3, blas=False)
    assert calls["a"] == 4 + 1 + 1 + 3


def test_first_calls_that_are_known_are_not_made_again():
    calls = []
    done = take_turns({"a": lambda: calls.append(time.sleep(0.3))}, 2, known={"a": 5.0}, blas=False)
    assert done["a"].first_seconds == 5.0
    assert len(calls) == len(done["a"].seconds) == 2


def test_no_garbage_is_collected_while_something_is_timed():
    seen = []
    take_turns({"a": lambda: seen.append(gc.isenabled())}, 1, cold=True)
    assert seen == [False]
    assert gc.isenabled()


def test_short_call_is_repeated_until_the_clock_can_see_it():
    calls = []
    done = take_turns({"short": lambda: calls.append(None)}, 3)
    assert len(calls) > 100
    assert done["short"].median < 1e-4


def test_cold_work_is_called_once_a_round():
    calls = []
    done = take_turns({"cold": lambda: calls.append(time.sleep(0.01))}, 3, cold=True)
    assert len(calls) == 3
    assert done["cold"].first_seconds == done["cold"].seconds[0]


def test_what_has_a_clock_of_its_own_still_took_a_first_call():
    done = take_turns({"a": lambda: time.sleep(0.05) or 1e-3}, 2, cold=True, clock=lambda told: told)
    assert done["a"].median == 1e-3
    assert done["a"].first_seconds >= 0.05


def test_calls_in_a_row_are_as_many_as_asked_for():
    calls = []
    assert timer.in_a_row(3, lambda: calls.append(None) or len(calls)) == 3


def test_contestants_take_turns_in_another_order_each_round():
    order = []
    take_turns({name: lambda name=name: order.append(name) for name in "abc"}, 12, cold=True)
    rounds = ["".join(order[k : k + 3]) for k in range(0, 36, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
