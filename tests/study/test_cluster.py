"""Jobs of a sweep as tasks of submitit: dealt out, run once, submitted again where they failed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from jaxopt_study import cli, study
from jaxopt_study.study import cluster, executor, resume, sweep_record
from jaxopt_study.study.executor import read_executor
from jaxopt_study.study.plan import Job
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.sweep import run_sweep

TOYS = Path(__file__).parent / "toys"
ROOT = Path(__file__).parents[2]
AXES = "[sweep.axes]\nlanes = [1, 2]\ngrowth = { linspace = [3.7, 3.99, 24] }\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class InProcess:
    """submitit's part, played in this process: tasks run at once, and some fail."""

    def __init__(self, folder, fails=()):
        self.folder, self.fails, self.submitted = folder, set(fails), []

    def map_array(self, task, folders, numbers):
        return [self._submit(task, *words) for words in zip(folders, numbers, strict=True)]

    def _submit(self, task, folder, numbers):
        at = len(self.submitted)
        self.submitted.append(list(numbers))
        result = self.folder / f"{at}.pkl"
        self.folder.mkdir(exist_ok=True)
        if at in self.fails:  # after half of what it was to do
            task(folder, numbers[: len(numbers) // 2])
        else:
            seconds = task(folder, numbers)
            result.write_text("done")
        paths = SimpleNamespace(result_pickle=result, stderr=self.folder / f"{at}.err")
        return SimpleNamespace(
            paths=paths, done=lambda: True, result=lambda: seconds, cancel=lambda check: None, job_id=str(at)
        )


@pytest.fixture
def play(monkeypatch):
    played = []

    def make(fails):
        def make_executor(config, folder, where=""):
            played.append(InProcess(folder, fails))
            return played[-1]

        monkeypatch.setattr(cluster, "make_executor", make_executor)
        monkeypatch.setattr(executor, "make_executor", lambda *words: None)
        return played

    return make


def sweep_of(write_toml, tables=""):
    path = write_toml("[config]\nmax_steps = 200\n" + AXES + tables, study=TOYS / "chaos.py")
    return read_planned(path)


@pytest.mark.slow
def test_only_what_failed_is_submitted_again_and_the_rows_are_the_same(write_toml, play):
    played = play(fails=[1, 4])
    planned = sweep_of(write_toml, "[executor]\ntasks = 4\n")
    report = run_sweep(planned, "runs", quiet=True, width=3)
    assert (report.exit_code, report.result["counts"]["done"]) == (0, 48)
    first, again = played[0].submitted[:4], played[0].submitted[4:]
    assert sorted(number for numbers in first for number in numbers) == list(range(16))
    left = first[1][len(first[1]) // 2 :]
    assert again == [[number] for number in left] + [left[:1]]  # task 4 fails as well
    assert all(group["timing"]["run_seconds"] > 0 for group in report.result["groups"])
    here = run_sweep(read_planned(report.folder / "config.toml", here=True), "here", quiet=True, width=3)
    assert not list(resume.compare(here.folder, report.folder))


@pytest.mark.slow
def test_what_fails_always_is_told_and_the_rest_is_joined_and_resumed(write_toml, play, capsys):
    play(fails=range(100))
    planned = sweep_of(write_toml, "[executor]\ntasks = 2\nretries = 1\n")
    report = run_sweep(planned, "runs", quiet=True, width=3)
    assert report.exit_code == 1
    assert report.result["interrupted"] is True
    rows = pq.read_table(report.folder / "points.parquet")
    assert len(set(rows["point"].to_pylist())) == report.result["counts"]["done"] < 48
    assert "of 16 jobs failed 2 times; the last log: " in capsys.readouterr().err
    play(fails=[])
    assert cli.main(["resume", str(report.folder), "--quiet"]) == 0
    assert json.loads((report.folder / "result.json").read_text())["counts"]["done"] == 48


@pytest.mark.slow
def test_a_slurm_that_takes_no_jobs_is_one_line_and_the_sweep_can_be_resumed(write_toml, play, capsys):
    play(fails=[])
    planned = sweep_of(write_toml, "[executor]\ntasks = 2\n")

    class Away:
        def map_array(self, *words):
            raise RuntimeError("sbatch: error: no controller\nsbatch: fatal: giving up")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "make_executor", lambda *words: Away())
        report = run_sweep(planned, "runs", quiet=True, width=3)
    assert (report.exit_code, report.result["counts"]["done"]) == (1, 0)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "jobs cannot be submitted: sbatch: error: no controller sbatch: fatal: giving up" in said
    assert cli.main(["resume", str(report.folder), "--quiet"]) == 0
    assert json.loads((report.folder / "result.json").read_text())["counts"]["done"] == 48


def test_jobs_are_dealt_out_by_group():
    jobs = [Job(number, number // 6, range(1)) for number in range(12)]
    for tasks, sizes in ((0, [6, 6]), (2, [6, 6]), (4, [3] * 4), (100, [1] * 12)):
        dealt = cluster.deal_out(jobs, tasks)
        assert [len(task) for task in dealt] == sizes
        assert [job for task in dealt for job in task] == jobs
    assert cluster.deal_out([], 4) == []


@pytest.mark.parametrize(
    ("table", "flag", "says"),
    [
        ({"kind": "pbs"}, None, 'executor.kind: expected "here", "local" or "slurm", got \'pbs\''),
        ({}, "pbs", 'executor.kind: expected "here"'),
        ({"tasks": -1}, None, "executor.tasks: expected a whole number from 0 to 100,000, got -1"),
        ({"retries": "x"}, None, "executor.retries: expected a whole number"),
        ({"parameters": 3}, None, "executor.parameters: expected a table"),
        ({"parameters": {"timeout_mn": 3}}, "local", "executor.parameters: "),
        ({"task": 3}, None, "executor.task: unknown key"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(table, flag, says):
    with pytest.raises(study.StudyInputError) as caught:
        read_executor(table, flag, "")
    assert says in str(caught.value)


def test_the_flag_wins_over_the_table_and_here_is_this_process():
    assert read_executor({}, None, "") is None
    assert read_executor({"kind": "local"}, "here", "") is None
    assert read_executor({"tasks": 3}, None, "").kind == "local"


def test_a_machine_without_slurm_or_submitit_is_one_line_and_nothing_is_written(
    write_toml, capsys, monkeypatch
):
    path = write_toml(AXES, study=TOYS / "chaos.py")
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["sweep", str(path), "--executor", "slurm"]) == 2
    assert "executor.kind: slurm: " in capsys.readouterr().err
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, package=None: None if name == "submitit" else 1
    )
    assert cli.main(["sweep", str(path), "--executor", "local"]) == 2
    assert 'pip install "jaxopt_study[cluster]"' in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_processes_of_this_machine_write_the_same_rows(write_toml):
    planned = sweep_of(write_toml, "[executor]\nkind = 'local'\ntasks = 2\n")
    report = run_sweep(planned, "runs", quiet=True)
    here = run_sweep(read_planned(report.folder / "config.toml", here=True), "here", quiet=True)
    assert report.exit_code == 0
    assert not list(resume.compare(here.folder, report.folder))
    assert len(list((report.folder / "submitit").glob("*_result.pkl"))) == 2
    assert sweep_record.job_path(report.folder, 0).stat().st_size > 0
