"""What a person sees while a run goes on."""

import errno
import importlib.util
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_study.result import Status
from jaxopt_study.study import progress as module
from jaxopt_study.study.progress import SPARKS, progress, sparkline
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.seen import Seen
from jaxopt_study.study.tensorboard import check_tensorboard


def seen(steps, value, seconds, ended=False):
    status = Status.OUT_OF_STEPS if ended else Status.RUNNING
    lanes = (np.array([status] * 2), np.array([steps, 0]), np.array([value] * 2))
    return Seen("bowl", 100, *lanes, seconds, ended)


def shown(monkeypatch, events, encoding="utf-8"):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", -1.0)
    with progress(quiet=False) as show:
        for event in events:
            show(event)
    return raw.getvalue().decode(encoding).splitlines()


EVENTS = [seen(0, 8.0, 0.0), seen(25, 4.0, 1.0), seen(50, 2.0, 2.0), seen(100, 1.0, 4.0, ended=True)]


def test_lines_say_steps_value_rate_time_left_and_how_it_went(monkeypatch):
    lines = shown(monkeypatch, EVENTS)
    assert lines[0] == "bowl: started"
    assert lines[1].startswith("bowl: 25/100 steps, value 4, 25 steps/s, at most 0:03 left █")
    assert lines[2].startswith("bowl: 50/100 steps, value 2, 25 steps/s, at most 0:02 left █")
    assert lines[3].startswith("bowl: 2 out of steps, 100 steps, value 1, 25 steps/s █")
    assert lines[3].endswith("▁")


def test_a_terminal_of_ascii_is_given_ascii(monkeypatch):
    lines = shown(monkeypatch, EVENTS, encoding="ascii")
    assert lines[3].endswith("_")
    assert lines[3].isascii()


@given(st.lists(st.floats(), max_size=30))
def test_any_numbers_are_a_line_of_as_many_blocks(values):
    line = sparkline(values)
    assert len(line) == len(values)
    assert set(line) <= {*SPARKS, " "}
    assert [block == " " for block in line] == [not math.isfinite(value) for value in values]


def test_the_largest_number_is_the_highest_block_and_the_least_the_lowest():
    line = sparkline([3.0, -1.0, 7.0, 7.0, 0.0])
    assert line[1] == SPARKS[0]
    assert line[2] == line[3] == SPARKS[-1]


def test_quiet_is_silent(capsys):
    with progress(quiet=True) as show:
        for event in EVENTS:
            show(event)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_tensorboard_reads_the_values_that_were_seen(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    with progress(quiet=True, tensorboard=tmp_path) as show:
        for event in EVENTS:
            show(event)
    (path,) = (tmp_path / "bowl").iterdir()
    content, events = path.read_bytes(), []
    while content:  # a record: its length (8 bytes), a checksum (4), the event, a checksum (4)
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    scalars = [(event.step, each.tag, each.simple_value) for event in events for each in event.summary.value]
    values = {step: value for step, tag, value in scalars if tag == "value"}
    assert values == {0: 8.0, 25: 4.0, 50: 2.0, 100: 1.0}
    assert {value for _, tag, value in scalars if tag != "value"} == {25.0}


@pytest.mark.slow
def test_a_disk_without_room_for_tensorboard_is_told_once_and_stops_nothing(tmp_path, monkeypatch, capsys):
    tensorboard = pytest.importorskip("tensorboardX")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", full)
    with progress(quiet=True, tensorboard=tmp_path) as show:
        for event in EVENTS:
            show(event)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--tensorboard" in said
    assert "No space left on device; the run goes on" in said


def test_without_tensorboardx_one_line_says_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name: None if name == "tensorboardX" else found(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(StudyInputError, match=r"tensorboardX is not installed: pip install"):
        check_tensorboard(tmp_path)
