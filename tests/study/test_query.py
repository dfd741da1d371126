"""All records in SQL, and nothing else in its reach."""

import importlib.util
import json
import statistics

import pytest

from jaxopt_study import cli
from jaxopt_study.study.query import answer

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write_run, write_sweep):
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "one")
    write_run(root / "deep" / "two", scale=4.0)
    write_sweep(root / "swept", rates=4, seeds=3)
    return root


def test_runs_have_a_row_a_variant_with_medians_over_lanes(runs):
    names, rows = answer(
        "SELECT run, variant, value, num_steps, status, compile_seconds FROM runs ORDER BY 1, 2", runs
    )
    assert names == ["run", "variant", "value", "num_steps", "status", "compile_seconds"]
    status = "2 target reached, 1 stalled"
    assert rows == [
        ("one", "adam", 1.5, 7.0, status, 1.5),
        ("one", "newton", 1.5, 7.0, status, 1.5),
        ("two", "adam", 6.0, 7.0, status, 1.5),
        ("two", "newton", 6.0, 7.0, status, 1.5),
    ]


def test_points_are_joined_and_grouped(runs):
    _, rows = answer(
        "SELECT hidden[1], count(*), max(value) FROM points WHERE NOT isnan(value) GROUP BY 1 ORDER BY 1",
        runs,
    )
    assert [row[:2] for row in rows] == [(5, 9), (10, 12), (20, 12)]
    assert rows[1][2] == pytest.approx(1e-3 + 10 * 2 + 0.02, rel=1e-12)


def test_traces_and_configs_of_runs_and_sweeps_stand_in_one_table(runs):
    _, rows = answer(
        "SELECT run, median(loss) FROM traces WHERE step = 0 AND run != 'swept' GROUP BY 1 ORDER BY 1", runs
    )
    assert rows == [("one", statistics.median([1.0] * 6)), ("two", 4.0)]
    _, rows = answer(
        "SELECT value FROM configs WHERE run = 'one' AND variant = 'newton' AND key = 'method'", runs
    )
    assert rows == [("newton",)]


def test_the_answer_is_a_table_csv_or_json(runs, capsys):
    sql = "SELECT run, variant FROM runs WHERE run = 'one' ORDER BY variant"
    assert cli.main(["query", sql, "--runs", str(runs), "--format", "csv"]) == 0
    assert capsys.readouterr().out == "run,variant\none,adam\none,newton\n"
    assert cli.main(["query", sql, "--runs", str(runs), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[1] == {"run": "one", "variant": "newton"}
    assert cli.main(["query", sql, "--runs", str(runs)]) == 0
    assert "2 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC", "syntax error"),
        ("SELECT nothing FROM runs", "nothing"),
        ("SELECT * FROM read_csv('{file}')", "disabled by configuration"),
        ("COPY runs TO '{file}'", "disabled by configuration"),
        ("SET enable_external_access = true", "configuration"),
        ("", "jaxopt-study: query: there is nothing to be done in it; write a SELECT"),
    ],
)
def test_a_query_that_is_wrong_or_reaches_out_is_one_line(runs, tmp_path, capsys, sql, message):
    assert cli.main(["query", sql.format(file=tmp_path / "file.csv"), "--runs", str(runs)]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_without_duckdb_one_line_says_what_to_install(runs, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "duckdb" else found(name))
    assert cli.main(["query", "SELECT 1", "--runs", str(runs)]) == 2
    expected = 'jaxopt-study: query: DuckDB is not installed: pip install "jaxopt_study[query]"\n'
    assert capsys.readouterr().err == expected


def test_where_there_are_no_records_one_line_says_so(tmp_path, capsys):
    assert cli.main(["query", "SELECT 1", "--runs", str(tmp_path)]) == 2
    assert "there are no records" in capsys.readouterr().err


def test_a_damaged_record_is_named_and_the_others_answer(write_run, tmp_path, capsys):
    write_run(tmp_path / "good")
    for name, text in {"cut": '{"study": ', "list": "[1]", "binary": "\0"}.items():
        (write_run(tmp_path / name) / "result.json").write_text(text)
    (write_run(tmp_path / "columns") / "trace.parquet").write_bytes(b"PAR1")
    assert (
        cli.main(["query", "SELECT DISTINCT run FROM runs", "--runs", str(tmp_path), "--format", "csv"]) == 0
    )
    out, errors = capsys.readouterr()
    assert out == "run\ngood\n"
    named = [line.split(": ")[1].replace(f"{tmp_path}/", "") for line in errors.splitlines()]
    assert named == ["binary/result.json", "columns/trace.parquet", "cut/result.json", "list/result.json"]
    assert all(line.endswith("; left out") for line in errors.splitlines())


def test_what_is_not_finite_is_strict_json_too(runs, capsys):
    assert (
        cli.main(["query", "SELECT 'nan'::DOUBLE AS a, 1.5 AS b", "--runs", str(runs), "--format", "json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out, parse_constant=None) == [{"a": "NaN", "b": 1.5}]
