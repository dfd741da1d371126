"""Searches: successive halving in one program, and Optuna asked and told chunk by chunk."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxopt_study import cli, study
from jaxopt_study.study import resume
from jaxopt_study.study.halving import rungs_of
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.program import compile_study
from jaxopt_study.study.protocol import to_host
from jaxopt_study.study.search import read_search
from jaxopt_study.study.signals import Interrupts
from jaxopt_study.study.sweep import resume_sweep, run_sweep

TOYS = Path(__file__).parent / "toys"
HALVING = """
[config]
max_steps = 81
target = 0.0
[sweep.axes]
learning_rate = { logspace = [1e-4, 0.4, 20] }
noise = [0.0, nan]
[search]
method = "halving"
"""
OPTUNA = """
[config]
max_steps = 10
target = 0.0
[sweep.axes]
learning_rate = { loguniform = [1e-4, 0.9] }
lanes = [0, 2]
"start.0" = { integers = [1, 4] }
optimizer = ["descent", "signs"]
[search]
method = "optuna"
trials = 40
together = 8
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(folder):
    return pq.read_table(folder / "points.parquet").to_pylist()


def steps_to(program, count):
    """A point's value after so many steps, taken alone."""
    with jax.enable_x64(True):
        carry = program.advance(program.carry, np.int32(count))
        return float(to_host(program.outcome(carry)).value)


def test_halving_keeps_the_points_that_are_best_after_each_rung(write_toml):
    planned = read_planned(write_toml(HALVING))
    rows = rows_of(run_sweep(planned, "runs", quiet=True).folder)
    configs = {str(point.index): point.config for point in planned.points}
    programs = {int(label): program for label, program in compile_study(planned.study, configs)}
    left, survived, taken = list(programs), {}, {}
    sizes, first = rungs_of(40, 3), 1
    assert sizes == [40, 14, 5, 2, 1]
    for rung, size in enumerate(sizes):
        assert len(left) == size
        steps = first * 3**rung if rung < len(sizes) - 1 else 81
        for point in left:
            survived[point], taken[point] = rung, steps
        if rung < len(sizes) - 1:
            score = {point: steps_to(programs[point], steps) for point in left}
            ranked = sorted(left, key=lambda point: (not np.isfinite(score[point]), score[point], point))
            left = sorted(ranked[: sizes[rung + 1]])
    assert [row["rung"] for row in rows] == [survived[row["point"]] for row in rows]
    for row in rows:
        if np.isnan(row["noise"]):
            assert (row["status"], row["num_steps"]) == ("NON_FINITE_START", 0)
        else:
            assert row["num_steps"] == taken[row["point"]]
            assert row["status"] == ("OUT_OF_STEPS" if taken[row["point"]] == 81 else "RUNNING")
            np.testing.assert_allclose(row["value"], steps_to(programs[row["point"]], row["num_steps"]))


@pytest.mark.slow
def test_halving_is_one_program_a_group_and_repeats(write_toml, capsys):
    planned = read_planned(write_toml(HALVING + "[variants.a]\n[variants.b]\noptimizer = 'signs'"))
    traced = planned.study.init.__globals__["TRACED"]
    report = run_sweep(planned, "runs", quiet=True)
    assert dict(traced) == {"init": 2, "advance": 2, "outcome": 2}
    assert report.result["counts"]["jobs"] == 2
    assert cli.main(["repeat", str(report.folder), "--quiet"]) == 0


def test_halving_begins_with_the_steps_it_is_told(write_toml):
    path = write_toml(HALVING + "first = 9\neta = 2\n")
    rows = rows_of(run_sweep(read_planned(path), "runs", quiet=True).folder)
    steps = {row["num_steps"] for row in rows if row["noise"] == 0.0}
    assert steps == {18, 36, 72, 81}  # the first cut is of those that are not finite


@pytest.mark.slow
def test_optuna_finds_what_the_bowl_is_best_with(write_toml):
    report = run_sweep(read_planned(write_toml(OPTUNA)), "runs", quiet=True)
    rows = rows_of(report.folder)
    assert sorted({row["point"] for row in rows}) == list(range(40))
    assert {row["lanes"] for row in rows} == {0, 2}
    assert {row["optimizer"] for row in rows} == {"descent", "signs"}
    assert {row["start.0"] for row in rows} <= {1.0, 2.0, 3.0}
    best = report.result["best"]
    # 0.5 is the step to the bottom at once.
    assert best["config"]["optimizer"] == "descent"
    assert 0.3 < best["config"]["learning_rate"] < 0.7
    late = np.median([row["value"] for row in rows if row["point"] >= 30])
    assert late < np.median([row["value"] for row in rows if row["point"] < 10])


def test_integers_of_a_field_of_floats_are_floats(write_toml):
    text = (
        '[config]\nmax_steps = 3\n[search]\nmethod = "optuna"\ntrials = 3\n'
        "[sweep.axes]\nlearning_rate = { integers = [1, 9] }\n"
    )
    rows = rows_of(run_sweep(read_planned(write_toml(text)), "runs", quiet=True).folder)
    assert {type(row["learning_rate"]) for row in rows} == {float}


@pytest.mark.slow
def test_a_search_that_is_stopped_goes_on_to_the_same_points(write_toml, monkeypatch, tmp_path):
    planned = read_planned(write_toml(OPTUNA))
    whole = run_sweep(planned, "whole", quiet=True).folder
    calls = itertools.count()

    class StopsAtOnce(Interrupts):
        def __call__(self):
            return next(calls) >= 12

    stop = StopsAtOnce()
    monkeypatch.setattr("jaxopt_study.study.sweep.hear_interrupts", lambda: _given(stop))
    report = run_sweep(planned, "runs", quiet=True)
    assert report.exit_code == 130
    assert 0 < report.result["counts"]["done"] < 40
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert resume_sweep(planned, report.folder, quiet=True).exit_code == 0
    assert not list(resume.compare(whole, report.folder))


class _given:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *error):
        return None


def test_optuna_without_optuna_is_one_line(write_toml, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", _all_but_optuna)
    assert cli.main(["sweep", str(write_toml(OPTUNA))]) == 2
    assert 'optuna is not installed: pip install "jaxopt_study[search]"' in capsys.readouterr().err
    assert not Path("runs").exists()


def _all_but_optuna(name, package=None):
    return None if name == "optuna" else name


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"method": "halve"}, 'search.method: expected "halving" or "optuna", got \'halve\''),
        ({"method": ["halving"]}, "search.method: expected"),
        ({"eta": 3}, "search.method: expected"),
        ({"method": "halving", "eta": 1}, "search.eta: expected a whole number from 2 to 1,000,000, got 1"),
        ({"method": "halving", "trials": 1}, "search.trials: unknown key"),
        ({"method": "halving", "first": 0}, "search.first: expected a whole number from 1 to"),
        ({"method": "optuna", "together": 2.5}, "search.together: expected a whole number"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(table, says):
    with pytest.raises(study.StudyInputError) as caught:
        read_search(table, "x.toml: ")
    assert says in str(caught.value)


def test_what_cannot_be_searched_is_one_line_and_nothing_is_written(write_toml, write_study, capsys):
    two = write_toml(OPTUNA + "[variants.a]\n[variants.b]\nseed = 1")
    assert cli.main(["sweep", str(two)]) == 2
    assert "Optuna searches one variant, not 2" in capsys.readouterr().err
    text = "[sweep.axes]\nheight = [1.0, 2.0]\n[search]\nmethod = 'halving'\n"
    assert cli.main(["sweep", str(write_toml(text, study=TOYS / "closed_form.py"))]) == 2
    assert "halving needs init, advance and outcome, not run" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_more_points_than_the_study_has_structures_share_programs(write_toml):
    planned = read_planned(write_toml(OPTUNA))
    traced = planned.study.init.__globals__["TRACED"]
    run_sweep(planned, "runs", quiet=True)
    assert traced["advance"] == 4  # two numbers of lanes, two optimizers
