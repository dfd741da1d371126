import json
import shutil
from pathlib import Path

import jax
import pytest

from jaxopt_study import cli
from jaxopt_study.bench import run
from jaxopt_study.bench.results import read_results
from jaxopt_study.study.protocol import StudyInputError


def bench(*flags):
    return cli.main(["bench", *map(str, flags)])


@pytest.mark.slow
def test_bench_measures_and_leaves_results_page_and_baseline(toy_suite, tmp_path, capsys):
    assert bench("--out", tmp_path / "runs", "--save", tmp_path / "b.json", "--peers", "none") == 0
    printed = capsys.readouterr().out
    assert "toy: sums" in printed
    (folder,) = (tmp_path / "runs").iterdir()
    rows = {(row.case, row.contestant): row for row in read_results(folder).rows}
    assert ("sums", "scipy") not in rows
    assert rows["sums", "jaxopt_study"].ratio == 1.0
    assert rows["sums", "wrong"].ratio is None
    assert not rows["sums", "wrong"].solved
    slow = rows["sums", "slow"]
    assert slow.ratio is None or slow.ratio > 2
    assert slow.claimed == 1.5
    assert rows["doubled, 1000", "jaxopt_study"].bytes >= 8000
    assert {path.name for path in folder.iterdir()} >= {"results.parquet", "page.html", "roofline.png"}
    names = [metric["name"] for metric in json.loads((tmp_path / "b.json").read_text())]
    assert "toy / sums / jaxopt_study / error" in names


@pytest.mark.slow
def test_worse_than_the_baseline_is_exit_code_three(toy_suite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    metric = {  # a ratio of times may be unsteady on a busy machine, and is then not compared
        "name": "toy / sums / jaxopt_study / error",
        "value": 1e-20,
        "unit": "of the case",
        "better": "lower",
        "tolerance": 9.0,
    }
    (tmp_path / "b.json").write_text(json.dumps([metric]))
    assert bench("--only", "sums", "--compare", "b.json", "--quiet") == 3
    assert "worse: toy / sums / jaxopt_study" in capsys.readouterr().err
    assert len(list(Path("runs").glob("bench-*/results.parquet"))) == 1


def test_list_names_every_case_and_measures_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert bench("--list") == 0
    printed = capsys.readouterr().out
    for name in ("first_order", "least_squares", "batch", "derivatives", "import", "adam, 1e7 parameters"):
        assert name in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nothing"], "no suite 'nothing'; there are: toy"),
        (["--only", "nothing"], "no case is named nothing"),
        (["--only", "nothing", "--only", "nowhere"], "no case is named nothing or nowhere"),
        (["--claims", "--only", "doubled"], "no case is named doubled with a claim; --list names them"),
        (["--peers", "nothing"], "no peer 'nothing'"),
        (["--rounds", "0"], "--rounds: expected a number >= 1"),
        (["--device", "tpu"], "no device 'tpu' here"),
        (["--compare", "nothing.json"], "nothing.json: no such file"),
        (["--list", "--only", "no such"], "no case is named no such; --list names them"),
        (["--results", "nothing.parquet"], "give --write FILE"),
        (["--results", "nothing.parquet", "--only", "x"], "--only: of no use with --results, which measures"),
        (["--list", "--rounds", "3"], "bench: --rounds: of no use with --list, which measures nothing"),
        (["--list", "--compare", "b.json"], "bench: --compare: of no use with --list"),
        (["toy", "--only", "nothing"], "no case is named nothing in toy; --list names them"),
        (["--results", "nothing.parquet", "--write", "x.md"], "nothing.parquet: no such file"),
        (["--out", "/proc/nothing"], "cannot hold a record"),
        (["--write", "no/such/folder/B.md"], "bench: --write: there is no folder no/such/folder"),
        (["--save", "no/such/folder/b.json"], "bench: --save: there is no folder no/such/folder"),
        (["--write", "."], "bench: --write: expected a file, got the folder ."),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(toy_suite, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert bench(*flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_claims_alone_are_measured_and_judged(toy_suite, tmp_path, capsys):
    assert bench("--claims", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "toy: sums" in printed
    assert "doubled" not in printed
    (line,) = [line for line in printed.splitlines() if "1.5x claimed" in line]
    assert line.startswith(("met ", "SHORT"))
    (folder,) = tmp_path.iterdir()
    results = read_results(folder)
    assert {row.case for row in results.rows} == {"sums"}
    # Of the others nothing is claimed.
    assert {row.contestant for row in results.rows} == {"jaxopt_study", "slow"}
    assert results.command == "jaxopt-study bench --claims"


def test_list_of_claims_names_those_cases_alone(toy_suite, capsys):
    assert bench("--list", "--claims") == 0
    printed = capsys.readouterr().out
    assert "sums" in printed
    assert "doubled" not in printed


@pytest.mark.slow
def test_benchmarks_are_written_from_a_file_of_results(toy_suite, measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(measured[0], tmp_path / "results")
    (folder / "reasons.toml").write_text('[[reason]]\ncases = "*"\nwhy = "It is a toy."\n')
    assert bench("--results", folder / "results.parquet", "--write", "BENCHMARKS.md") == 0
    text = (tmp_path / "BENCHMARKS.md").read_text()
    assert text.startswith("# Benchmarks")
    assert "doubled, 10 (float32)" in text


@pytest.mark.slow
def test_results_measured_before_make_a_baseline_and_are_compared(toy_suite, measured, tmp_path, capsys):
    folder, saved = measured
    again = ("--results", folder / "results.parquet")
    assert bench(*again, "--save", tmp_path / "b.json") == 0
    assert (tmp_path / "b.json").read_text() == saved.read_text()
    assert bench(*again, "--compare", tmp_path / "b.json") == 0
    assert "0 worse" in capsys.readouterr().out
    (metric, *_) = json.loads((tmp_path / "b.json").read_text())
    metric["value"] /= 1e9  # of our error, of which less is better
    (tmp_path / "b.json").write_text(json.dumps([metric]))
    assert bench(*again, "--compare", tmp_path / "b.json") == 3


ASYNCHRONOUS = "jax_cpu_enable_async_dispatch"


def test_programs_run_in_the_calling_thread_before_any_suite_can_ask_for_the_device(monkeypatch, tmp_path):
    settings = []
    monkeypatch.setattr(run, "planned", lambda _: settings.append(jax.config.read(ASYNCHRONOUS)) or ())
    with pytest.raises(StudyInputError):
        run.bench(run.BenchRequest(suites=("first_order",), out=tmp_path))
    assert settings == [False]
