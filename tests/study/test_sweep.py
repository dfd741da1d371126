"""Sweeps: compiled once a group, lanes that touch no other, records that join, resume and repeat."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxopt_study import cli
from jaxopt_study.study import lanes, measured_width, one_lane, resume, run, sweep_record
from jaxopt_study.study.checkpoint import Checkpoints
from jaxopt_study.study.lane_cost import choose_width
from jaxopt_study.study.plan import make_groups, make_jobs
from jaxopt_study.study.planned import plan_sweep, read_planned
from jaxopt_study.study.program import compile_study
from jaxopt_study.study.signals import Interrupts
from jaxopt_study.study.sweep import resume_sweep, run_sweep
from jaxopt_study.study.sweep_progress import print_sweep

TOYS = Path(__file__).parent / "toys"
ROOT = Path(__file__).parents[2]
AXES = (
    "[sweep.axes]\nlanes = [0, 2]\nlearning_rate = [0.01, 0.1, 0.25, 0.3, 1e300]\nseed = { range = [0, 3] }\n"
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(folder, name="points.parquet"):
    return pq.read_table(folder / name).to_pylist()


def sweep(path, *words):
    assert cli.main(["sweep", str(path), "--quiet", *words]) == 0
    return max(Path("runs").iterdir(), key=lambda folder: (folder.stat().st_mtime_ns, folder.name))


@pytest.fixture
def compiled():
    """The names of the programs that XLA compiles."""
    names = []

    def hear(event, duration, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(more.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(hear)
    yield names
    jax.monitoring.unregister_event_duration_listener(hear)


def test_every_group_is_traced_and_compiled_exactly_once(write_toml, compiled):
    path = write_toml("[config]\nnoise = 0.5\n[variants.a]\n[variants.b]\noptimizer = 'signs'\n" + AXES)
    planned = read_planned(path)
    traced = planned.study.init.__globals__["TRACED"]
    report = run_sweep(planned, "runs", quiet=True)
    assert report.result["counts"] == {
        "points": 60,
        "done": 60,
        "groups": 4,
        "jobs": 8,
        "status": report.result["counts"]["status"],
    }
    assert [name for name in compiled if "advance_points" in str(name)] == ["jit(advance_points)"] * 4
    assert dict(traced) == {"init": 4, "advance": 4, "outcome": 4}


def test_every_point_ends_as_it_does_alone(write_toml):
    path = write_toml("[config]\nnoise = 0.5\n" + AXES)
    planned = read_planned(path)
    rows = rows_of(run_sweep(planned, "runs", quiet=True, width=7).folder)
    by_point = {(row["point"], row["lane"]): row for row in rows}
    assert len(rows) == 15 + 15 * 2
    assert [(row["point"], row["lane"]) for row in rows] == sorted(by_point)
    configs = {str(point.index): point.config for point in planned.points}
    for label, program in compile_study(planned.study, configs):
        alone = run.drive(program, label, lambda seen: None, lambda: False).outcome
        for lane in range(np.size(alone.status)):
            row = by_point[int(label), lane]
            assert row["status"] == np.ravel(sweep_record.record.status_names(alone.status))[lane]
            assert row["num_steps"] == np.ravel(alone.num_steps)[lane]
            np.testing.assert_allclose(row["value"], np.ravel(alone.value)[lane], rtol=1e-12)
            np.testing.assert_allclose(row["values.x"], alone.values["x"].reshape(-1, 2)[lane], rtol=1e-12)


def test_a_point_that_diverges_gets_its_status_and_changes_no_bit_of_another(write_toml):
    def values(third):
        axis = f"noise=[0.0, 1.0, {third}, 2.0, 3.0]"
        folder = sweep(write_toml(), "--axis", axis, "--side-by-side", "5")
        return pq.read_table(folder / "points.parquet"), pq.read_table(folder / "trace.parquet")

    (calm, calm_trace), (wild, wild_trace) = values("1.5"), values("nan")
    assert (
        wild["status"].to_pylist() == ["TARGET_REACHED"] * 2 + ["NON_FINITE_START"] + ["TARGET_REACHED"] * 2
    )
    assert np.isnan(wild["value"][2].as_py())
    others = [0, 1, 3, 4]
    assert (
        calm.take(others).drop_columns("noise").to_pylist()
        == wild.take(others).drop_columns("noise").to_pylist()
    )
    keep = [np.flatnonzero(np.asarray(table["point"]) != 2) for table in (calm_trace, wild_trace)]
    assert calm_trace.take(keep[0]).to_pylist() == wild_trace.take(keep[1]).to_pylist()


@pytest.mark.slow
def test_side_by_side_or_not_the_points_are_the_same_and_padding_is_not_recorded(write_toml):
    path = write_toml("[config]\nnoise = 1.0\n[sweep.axes]\nseed = { range = [0, 11] }\n")
    tables = [
        pq.read_table(sweep(path, "--side-by-side", width) / "points.parquet").drop_columns(["job"])
        for width in ("1", "4", "11", "32")
    ]
    for table in tables:
        assert table["point"].to_pylist() == list(range(11))
        assert table["num_steps"].equals(tables[0]["num_steps"])
        np.testing.assert_allclose(table["value"], tables[0]["value"], rtol=1e-12)
    assert len(set(tables[0]["value"].to_pylist())) == 11


def test_the_record_is_what_the_documentation_says(write_toml, capsys):
    axes = "[sweep.axes]\n'start.1' = [1, 2]\noptimizer = ['signs', 'descent']\n"
    text = "[config]\nlanes = 2\n[sweep]\ntrace = 4\n" + axes
    assert cli.main(["sweep", str(write_toml(text)), "--learning-rate", "0.2"]) == 0
    (folder,) = Path("runs").iterdir()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    jobs = {f"jobs/{number:05d}{end}" for number in range(4) for end in (".parquet", ".trace.parquet")}
    assert {"config.toml", "plan.json", "result.json", "points.parquet", "trace.parquet"} <= names
    assert names - {"config.toml", "plan.json", "result.json", "points.parquet", "trace.parquet"} <= jobs
    table = pq.read_table(folder / "points.parquet")
    head = ["point", "variant", "lane", "start.1", "optimizer"]
    assert table.column_names == [*head, "status", "num_steps", "value", "values.x", "group", "job"]
    assert [str(table.schema.field(name).type) for name in ("point", "lane", "start.1", "optimizer")] == [
        "int32",
        "int32",
        "double",
        "string",
    ]
    assert table["start.1"].to_pylist() == [1.0] * 4 + [2.0] * 4
    assert table["optimizer"].to_pylist() == ["signs", "signs", "descent", "descent"] * 2
    trace = pq.read_table(folder / "trace.parquet")
    assert trace.column_names == ["point", "variant", "lane", "step", "loss", "twice"]
    steps = {}
    for row in trace.to_pylist():
        steps.setdefault((row["point"], row["lane"]), []).append(row["step"])
    for row in table.to_pylist():
        kept = steps[row["point"], row["lane"]]
        assert (kept[0], kept[-1], len(kept)) == (0, row["num_steps"], 4)
    result = json.loads((folder / "result.json").read_text())
    assert (result["kind"], result["interrupted"], result["study"]) == ("sweep", False, "bowl")
    assert result["axes"] == {"start.1": [1, 2], "optimizer": ["signs", "descent"]}
    assert result["best"]["value"] == min(table["value"].to_pylist())
    assert sum(result["counts"]["status"].values()) == 8
    assert {group["static"]["optimizer"] for group in result["groups"]} == {"signs", "descent"}
    assert min(group["timing"]["compile_seconds"] for group in result["groups"]) > 0
    captured = capsys.readouterr()
    assert "best: " in captured.out
    assert f"record: {folder}" in captured.out
    assert "4/4 points" in captured.err


@pytest.mark.slow
def test_a_record_sweeps_again_to_the_same_rows(write_toml, capsys):
    folder = sweep(write_toml("[config]\nnoise = 0.5\n" + AXES))
    again = sweep(folder / "config.toml", "--out", "runs")
    assert not [one for one in resume.compare(folder, again) if "counts.jobs" not in one.where]
    assert cli.main(["repeat", str(folder), "--out", "more"]) == 0
    assert "the same, bit by bit" in capsys.readouterr().out


def test_a_sweep_of_drawn_points_repeats_to_the_same_rows(write_toml, capsys):
    words = ["--axis", "learning_rate=loguniform(1e-3, 0.1)", "--draw", "3", "--draw-seed", "7"]
    folder = sweep(write_toml(), *words)
    assert cli.main(["repeat", str(folder), "--out", "more"]) == 0
    assert "the same, bit by bit" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_that_is_stopped_goes_on_with_what_is_not_done(write_toml, monkeypatch):
    planned = read_planned(write_toml("[config]\nnoise = 0.5\n" + AXES))
    whole = run_sweep(planned, "whole", quiet=True, width=3).folder
    write_job = sweep_record.write_job
    wrote = []

    def write_some(folder, job, *rest):
        wrote.append(job.number)
        write_job(folder, job, *rest)
        if len(wrote) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(sweep_record, "write_job", write_some)
    # A signal is heard by the main thread: raised in a worker, it is there at the next job.
    report = run_sweep(planned, "runs", quiet=True, width=3)
    assert report.exit_code == 130
    assert report.result["interrupted"] is True
    assert 3 <= report.result["counts"]["done"] // 3 < 10
    done = {path.name: path.stat().st_mtime_ns for path in (report.folder / "jobs").iterdir()}
    monkeypatch.setattr(sweep_record, "write_job", write_job)
    (report.folder / "jobs" / ".00009.parquet.1.tmp").write_text("half")
    went_on = resume_sweep(planned, report.folder, quiet=True)
    assert (went_on.exit_code, went_on.result["interrupted"]) == (0, False)
    after = {path.name: path.stat().st_mtime_ns for path in (report.folder / "jobs").iterdir()}
    assert done.items() < after.items()
    assert not list(resume.compare(whole, report.folder))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3])
def test_a_sweep_stopped_within_a_job_takes_no_step_twice(width, write_toml, monkeypatch):
    planned = read_planned(
        write_toml("[config]\nmax_steps = 300\n[sweep.axes]\nseed = [0, 1, 2]\n", study=TOYS / "chaos.py")
    )
    whole = run_sweep(planned, "whole", quiet=True, width=width).folder
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(lanes, "SECONDS_PER_CALL", 1e-9)  # every call takes one step
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda *words: (saved.append(words), save(*words)))
    taken, stop = _count_calls(monkeypatch)
    stop.after = 430 if width == 1 else 130  # alone: in the second of three points
    report = run_sweep(planned, "runs", quiet=True, width=width)
    assert (report.exit_code, len(taken), len(saved)) == (130, stop.after, 1)
    stop.after = np.inf
    assert resume_sweep(planned, report.folder, quiet=True).exit_code == 0
    assert len(taken) == (900 if width == 1 else 300)
    assert not list(resume.compare(whole, report.folder))
    assert not (report.folder / "checkpoints").exists()


def test_a_sweep_goes_on_only_on_a_device_of_its_kind(write_toml, capsys):
    folder = sweep(write_toml("[sweep.axes]\nseed = [0, 1]\n"))
    (folder / "result.json").unlink()
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "device_kind": "abacus"}))
    assert cli.main(["resume", str(folder)]) == 2
    assert "device_kind: has changed since the sweep in" in (said := capsys.readouterr().err)
    assert "(abacus then, cpu now)" in said


def _count_calls(monkeypatch):
    """A list of the calls of any sweep's program, and an interrupt that comes after some of them."""
    taken, run = [], lanes.Lanes.run

    class Stop(Interrupts):
        def __call__(self):
            return len(taken) >= self.after

    def counting(self, *words):
        program = self.program
        self.program = lambda *args: (taken.append(None), program(*args))[1]
        try:
            return run(self, *words)
        finally:
            self.program = program

    stop = Stop()
    monkeypatch.setattr(lanes.Lanes, "run", counting)
    monkeypatch.setattr("jaxopt_study.study.sweep.hear_interrupts", lambda: contextlib.nullcontext(stop))
    return taken, stop


def test_a_sweep_of_a_changed_study_is_not_gone_on_with(write_study, write_toml, capsys):
    path = write_study()
    folder = sweep(write_toml("[sweep.axes]\nseed = [0, 1]\n", study=path))
    (folder / "result.json").unlink()
    path.write_text(path.read_text() + "\n# changed\n")
    assert cli.main(["resume", str(folder)]) == 2
    assert "has changed since the sweep" in capsys.readouterr().err


def test_studies_that_cannot_be_stopped_are_swept_too_jitted_or_on_the_host(write_toml, write_study):
    folder = sweep(write_toml(study=TOYS / "closed_form.py"), "--axis", "height=linspace(0, 1, 5)")
    assert [row["value"] for row in rows_of(folder)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    text = (TOYS / "closed_form.py").read_text().replace("def run(", "@study.on_host\ndef run(")
    path = Path("hosted.py")
    path.write_text(text)
    folder = sweep(write_toml(study=path.resolve()), "--axis", "height=[1.0, 2.0]")
    assert [row["value"] for row in rows_of(folder)] == [1.0, 2.0]


def test_an_axis_given_by_a_flag_keeps_its_place_in_the_order_and_a_new_one_comes_last(write_toml):
    text = '[sweep]\norder = ["seed", "growth"]\n[sweep.axes]\ngrowth = [3.8]\nseed = [1, 2]\n'
    path = write_toml(text, study=TOYS / "chaos.py")
    words = cli._parser().parse_known_args(["sweep", str(path), "--axis", "growth=[3.9, 3.8]"])[0]
    points = [tuple(point.values.items()) for point in read_planned(path, words).points]
    assert points == [(("seed", seed), ("growth", growth)) for seed in (1, 2) for growth in (3.9, 3.8)]
    words = cli._parser().parse_known_args(["sweep", str(path), "--axis", "lanes=[1]"])[0]
    assert [tuple(point.values) for point in read_planned(path, words).points] == [
        ("seed", "growth", "lanes")
    ] * 2


def test_what_is_printed_of_an_interrupted_sweep_says_how_to_go_on(capsys):
    counts = {"done": 1, "points": 2, "status": {"CONVERGED": 1}}
    print_sweep("A toy", {"groups": [], "counts": counts, "best": None, "interrupted": True}, Path("runs/x"))
    assert "`jaxopt-study resume runs/x` goes on" in capsys.readouterr().out


def test_a_fault_in_a_study_keeps_what_is_done_and_raises(write_toml, monkeypatch):
    planned = read_planned(write_toml("[sweep.axes]\nseed = { range = [0, 20] }\n"))
    write_job = sweep_record.write_job

    def write_some(folder, job, *rest):
        if job.number == 1:
            raise RuntimeError("a fault")
        write_job(folder, job, *rest)

    monkeypatch.setattr(sweep_record, "write_job", write_some)
    with pytest.raises(RuntimeError, match="a fault"):
        run_sweep(planned, "runs", quiet=True, width=2)
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["interrupted"] is True


def bad(capsys, *words):
    assert cli.main(["sweep", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxopt-study: ")
    assert captured.err.count("\n") == 1
    assert not Path("runs").exists()
    return captured.err


def test_bad_input_is_one_line_exit_code_2_and_nothing_written(write_toml, capsys):
    assert "nothing to sweep" in bad(capsys, write_toml())
    assert "which CONFIG?" in bad(capsys)
    assert "sweep.axes.sede: unknown key" in bad(capsys, write_toml("[sweep.axes]\nsede = [1]"))
    assert "--axis: seed: expected values" in bad(capsys, write_toml(), "--axis", "seed=0:3")
    assert "--axis: expected NAME=VALUES" in bad(capsys, write_toml(), "--axis", "seed")
    assert "--seed: is swept" in bad(capsys, write_toml("[sweep.axes]\nseed = [1]"), "--seed", "3")
    assert "--sede: unknown flag" in bad(capsys, write_toml("[sweep.axes]\nseed = [1]"), "--sede", "3")
    assert "> 0.0" in bad(capsys, write_toml("[sweep.axes]\nlearning_rate = [1, -1]"))
    path = write_toml("[sweep.axes]\ndata = ['good.csv', 'refused.csv']")
    assert 'refused.csv: column "rate" is missing' in bad(capsys, path)
    Path("file").write_text("")
    assert "cannot hold a record" in bad(capsys, write_toml(), "--axis", "seed=[1]", "--out", "file/runs")


def test_help_shows_axes_and_the_study(write_toml, capsys):
    assert cli.main(["sweep", str(write_toml()), "--help"]) == 0
    out = capsys.readouterr().out
    for words in ("--axis", "logspace(1e-4, 1e-1, 20)", "--learning-rate", "exit codes"):
        assert words in out
    assert cli.main(["sweep", "--help"]) == 0


def test_run_takes_a_toml_with_a_sweep_and_runs_its_variants(write_toml, only_record):
    assert cli.main(["run", str(write_toml(AXES)), "--quiet", "--no-plots"]) == 0
    assert list(only_record()[1]["variants"]) == ["bowl"]


def test_jobs_hold_every_point_once_in_whole_calls(write_toml):
    planned = read_planned(write_toml("[sweep.axes]\nlanes = [0, 1, 2]\nseed = { range = [0, 101] }\n"))
    for widths in ([1, 1, 1], [7, 16, 101], [1, 2, 50]):
        jobs = make_jobs(planned.groups, widths)
        assert [job.number for job in jobs] == list(range(len(jobs)))
        for index, width in enumerate(widths):
            mine = [job for job in jobs if job.group == index]
            assert [member for job in mine for member in job.members] == list(range(101))
            assert all(len(job.members) % width == 0 for job in mine[:-1])


def test_points_that_differ_in_structure_are_apart(write_toml):
    planned = read_planned(write_toml(AXES))
    assert [len(group) for group in planned.groups] == [15, 15]
    assert make_groups(planned.points)[0][0].config.lanes == 0
    assert plan_sweep(planned.study, planned.configs, planned.sweep).points == planned.points


def test_the_width_is_even_and_small_lanes_are_many():
    assert lanes.even_width(128, 400, 2) == 100
    assert lanes.even_width(16, 400, 2) == 16
    assert lanes.even_width(1, 400, 2) == 1
    tiny = jax.make_jaxpr(lambda x: jax.numpy.sin(x) + 1)(jax.numpy.ones(2))
    large = jax.make_jaxpr(lambda x: x @ x)(jax.numpy.ones((300, 300)))
    assert choose_width(tiny, 100.0) == 1024
    assert choose_width(large, 100.0) <= 2
    # Side by side, both branches are computed, and this one is dear.
    branch = jax.make_jaxpr(lambda p, x: jax.lax.cond(p, lambda: x, lambda: jax.numpy.linalg.qr(x)[0]))(
        True, jax.numpy.ones((50, 50))
    )
    assert choose_width(branch, 100.0) == 1
    assert choose_width(branch, 100.0, accelerator=True) > 1000


@pytest.mark.slow
def test_the_network_of_1200_points_compiles_exactly_three_programs(compiled):
    planned = read_planned(ROOT / "configs" / "rosenbrock_network_sweep.toml")
    report = run_sweep(planned, "runs", quiet=True)
    assert report.result["counts"]["done"] == 1200
    assert [name for name in compiled if "advance_points" in str(name)] == ["jit(advance_points)"] * 3
    rows = rows_of(report.folder)
    assert len(rows) == 1200
    assert {row["num_steps"] for row in rows} == {1000}
    assert len({row["value"] for row in rows}) == 1200


@pytest.mark.slow
def test_a_width_that_is_measured_is_the_quickest_of_those_around_the_chosen_one(write_toml, monkeypatch):
    axes = "[config]\nmax_steps = 9\n[sweep.axes]\nseed = { range = [0, 40] }\n"
    planned = read_planned(write_toml(axes, study=TOYS / "chaos.py"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(one_lane.OneLane, "width", lambda self: 8)
    configs = [point.config for point in planned.points]
    quickest, paces = measured_width.measured_lanes(planned.study, configs, at_once=2)
    assert sorted(paces) == [1, 7, 20], "40 points in an even number of calls, for two workers"
    assert paces[quickest.width] == min(paces.values())
    assert all(0 < pace < 1 for pace in paces.values())
    monkeypatch.setattr(measured_width, "_seconds_per_step", lambda lanes, configs, at_once: 40 - lanes.width)
    report = run_sweep(planned, "runs", quiet=True, width="measured")
    assert json.loads((report.folder / "plan.json").read_text())["widths"] == [20]


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_at_the_same_rows(write_toml):
    axes = "lanes = [1, 2]\ngrowth = { linspace = [3.7, 3.99, 10] }\n"
    path = write_toml(f"[config]\nmax_steps = 300_000\n[sweep.axes]\n{axes}", study=TOYS / "chaos.py")
    whole = run_sweep(read_planned(path), "whole", quiet=True, width=1).folder
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words, often = [sys.executable, "-m", "jaxopt_study"], ["--checkpoint-seconds", "0.02", "--quiet"]
    process = subprocess.Popen([*words, "sweep", str(path), "--side-by-side", "1", *often], env=env)
    moments, kills = random.Random(0), []
    written = lambda: {file.name for file in Path("runs").glob("*/*/0*") if file.suffix != ".tmp"}  # noqa: E731
    while process.poll() is None and len(kills) < 8:
        before, until = written(), time.monotonic() + 60
        while process.poll() is None and written() == before and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.3))
        if process.poll() is None:
            kills.append(moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            process.send_signal(kills[-1])
        assert process.wait() in (0, -signal.SIGKILL, 143)
        (folder,) = Path("runs").iterdir()
        process = subprocess.Popen([*words, "resume", str(folder), *often], env=env)
    assert process.wait(timeout=120) == 0
    assert kills.count(signal.SIGKILL) >= 3
    assert not list(resume.compare(whole, folder))
    assert not (folder / "checkpoints").exists()
