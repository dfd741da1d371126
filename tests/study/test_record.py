"""Files that appear whole or not at all, and what is in them."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxopt_study import study
from jaxopt_study.result import Status
from jaxopt_study.study import record


def recorded(status=Status.TARGET_REACHED, num_steps=1, value=0.0, **more):
    outcome = study.Outcome(np.asarray(status), np.asarray(num_steps), np.asarray(value), **more)
    return study.Recorded(SimpleNamespace(dtype="float64"), outcome, study.Timing(1.0, 2.0))


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_whole(tmp_path):
    record.atomic_write(tmp_path / "a.txt", lambda file: file.write(b"whole"))
    assert (tmp_path / "a.txt").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_dies_midway_leaves_what_was_there_and_nothing_else(tmp_path, error):
    def die(file):
        file.write(b"half")
        file.flush()
        raise error

    with pytest.raises(error):
        record.atomic_write(tmp_path / "new.txt", die)
    assert names_in(tmp_path) == []
    record.atomic_write(tmp_path / "old.txt", lambda file: file.write(b"old"))
    with pytest.raises(error):
        record.atomic_write(tmp_path / "old.txt", die)
    assert (tmp_path / "old.txt").read_bytes() == b"old"
    assert names_in(tmp_path) == ["old.txt"]


def test_two_runs_in_one_second_have_two_folders(tmp_path):
    folders = {record.new_folder(tmp_path / "runs", "bowl") for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() for folder in folders)


def test_a_root_below_a_file_is_refused_before_and_after_the_check(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(study.StudyInputError, match="cannot hold a record"):
        record.check_writable(tmp_path / "file" / "runs")
    with pytest.raises(study.StudyInputError, match="cannot hold a record"):
        record.new_folder(tmp_path / "file" / "runs", "bowl")
    record.check_writable(tmp_path / "new" / "runs")


def test_json_is_strict(tmp_path):
    values = {"nan": np.float32("nan"), "inf": [np.inf, -np.inf], "array": np.array([[1.0, np.nan]])}
    record.write_result(tmp_path, {**values, "status": Status.STALLED, "none": None, "steps": np.int32(3)})
    text = (tmp_path / "result.json").read_text()
    assert "NaN," not in text.replace('"NaN",', "")
    assert json.loads(text) == {
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "array": [[1.0, "NaN"]],
        "status": 6,
        "none": None,
        "steps": 3,
    }


def test_a_variant_is_described_per_lane():
    codes = [Status.TARGET_REACHED, Status.NON_FINITE_START]
    described = record.to_json(record.describe_variant(recorded(codes, [3, 0], [0.5, np.nan])))
    assert described["status"] == ["TARGET_REACHED", "NON_FINITE_START"]
    assert described["message"][1] == "failed: the value or its gradient at the start is not finite"
    assert (described["num_steps"], described["value"]) == ([3, 0], [0.5, "NaN"])
    assert described["timing"] == {"compile_seconds": 1.0, "run_seconds": 2.0}


def test_a_trace_is_tidy_and_ends_with_the_lane(tmp_path):
    loss = np.array([[4.0, 2.0, np.nan, np.nan], [4.0, np.nan, 1.0, np.nan]], dtype=np.float32)
    lanes = recorded([4, 4], [1, 2], [2.0, 1.0], traces={"loss": loss, "only here": 2 * loss})
    single = recorded(traces={"loss": np.array([9.0, 8.0], dtype=np.float32)})
    assert record.write_trace(tmp_path, {"lanes": lanes, "single": single, "untraced": recorded()})
    table = pq.read_table(tmp_path / "trace.parquet")
    assert table.column_names == ["variant", "lane", "step", "loss", "only here"]
    assert [str(kind) for kind in table.schema.types[1:]] == ["int32", "int32", "float", "float"]
    assert str(table.schema.types[0]).startswith("dictionary<values=string")
    rows = [tuple(row.values()) for row in table.to_pylist()]
    nan = rows[3][3]  # a step that was taken, to a loss that is not a number, is kept
    assert np.isnan(nan)
    assert [row[:4] for row in rows if row is not rows[3]] == [
        ("lanes", 0, 0, 4.0),
        ("lanes", 0, 1, 2.0),
        ("lanes", 1, 0, 4.0),
        ("lanes", 1, 2, 1.0),
        ("single", 0, 0, 9.0),
        ("single", 0, 1, 8.0),
    ]
    assert [row[4] for row in rows[-3:]] == [2.0, None, None]


def test_nothing_traced_is_no_file(tmp_path):
    assert not record.write_trace(tmp_path, {"a": recorded()})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b"])
def test_a_picture_stays_in_its_folder(tmp_path, name):
    with pytest.raises(ValueError, match="picture"):
        record.write_picture(tmp_path, name, None)


def test_seconds_per_step_are_those_of_the_longest_lane():
    assert recorded([4, 4], [1, 4], [0.0, 0.0]).seconds_per_step == 0.5
    assert np.isnan(recorded(num_steps=0).seconds_per_step)
