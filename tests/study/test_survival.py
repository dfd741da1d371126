"""Runs that are killed, stopped, or without room: nothing is lost, and the bits are the same."""

import errno
import itertools
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
import pytest

from jaxopt_study import cli, study
from jaxopt_study.study import checkpoint, lock, record, resume
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.sweep_folder import start_record

TOYS = Path(__file__).parent / "toys"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
IDENTITY = {"version": "1", "study_sha256": "a"}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begin(*words):
    command = [sys.executable, "-m", "jaxopt_study.cli", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def wait_for(found, process, seconds=60.0):
    until = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def result_of(folder):
    result = json.loads((folder / "result.json").read_text())
    return {label: {**one, "timing": None} for label, one in result["variants"].items()}


def carry_of(seed=0):
    with jax.enable_x64(True):
        return {
            "x": jax.numpy.linspace(0.0, 1.0, 3) + seed,
            "half": jax.numpy.ones((2, 2), jax.numpy.bfloat16) * seed,
            "key": jax.random.key(seed),
            "step": jax.numpy.int32(seed),
        }


def test_a_carry_comes_back_bit_by_bit_keys_and_narrow_floats_too(tmp_path):
    saves = checkpoint.Checkpoints(tmp_path, 0, IDENTITY, 0.0)
    assert saves.load(carry_of()) is None
    saves.save(carry_of(7), 1.5)
    with jax.enable_x64(True):
        saved = saves.load(carry_of(0))
    assert saved.run_seconds == 1.5
    for one, other in zip(jax.tree.leaves(saved.carry), jax.tree.leaves(carry_of(7)), strict=True):
        assert one.dtype == other.dtype
        if one.dtype == other.dtype and jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    said = []
    saves = checkpoint.Checkpoints(tmp_path, 0, IDENTITY, 0.0, keep=2, tell=said.append)
    for seed in range(5):
        saves.save(carry_of(seed), float(seed))
    assert [path.name for path in saves.paths()] == ["000-00000004.npz", "000-00000005.npz"]
    last = saves.paths()[-1]
    last.write_bytes(last.read_bytes()[:200])
    with jax.enable_x64(True):
        assert saves.load(carry_of()).run_seconds == 3.0
    assert "cannot be read" in said[0]


@pytest.mark.parametrize("changed", [{"version": "2"}, {"study_sha256": "b"}])
def test_a_checkpoint_of_something_else_is_refused_in_one_line(tmp_path, changed):
    checkpoint.Checkpoints(tmp_path, 0, IDENTITY, 0.0).save(carry_of(), 0.0)
    with pytest.raises(study.StudyInputError, match="differs from the run's"):
        checkpoint.Checkpoints(tmp_path, 0, {**IDENTITY, **changed}, 0.0).load(carry_of())
    with pytest.raises(study.StudyInputError, match="structure of the study's carry differs"):
        checkpoint.Checkpoints(tmp_path, 0, IDENTITY, 0.0).load({**carry_of(), "x": np.zeros(4)})


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    def no_room(path, write):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record, "atomic_write", no_room)
    said = []
    checkpoint.Checkpoints(tmp_path, 0, IDENTITY, 0.0, tell=said.append).save(carry_of(), 0.0)
    assert "No space left on device; the run goes on" in said[0]


def test_a_full_disk_is_one_line_before_anything_is_computed(write_toml, capsys, monkeypatch):
    monkeypatch.setattr("jaxopt_study.study.run.compile_study", None)

    def no_room(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    assert cli.main(["run", str(write_toml())]) == 2
    assert "runs: cannot hold a record: No space left on device" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_disk_too_small_for_the_checkpoints_is_one_line_before_the_run(write_toml, capsys, monkeypatch):
    monkeypatch.setattr(record.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert cli.main(["run", str(write_toml())]) == 2
    assert "cannot hold a record: checkpoints take" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_record_that_cannot_be_begun_leaves_no_folder(write_toml, capsys, monkeypatch):
    def no_room(*args):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(record, "write_config", no_room)
    assert cli.main(["run", str(write_toml())]) == 2
    assert "cannot hold a record: Disk quota exceeded" in capsys.readouterr().err
    assert not list(Path("runs").iterdir())


def test_a_disk_that_fills_up_during_the_run_is_one_line_and_exit_code_4(write_toml, capsys, monkeypatch):
    def no_room(folder, records):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(record, "write_trace", no_room)
    assert cli.main(["run", str(write_toml()), "--quiet"]) == 4
    assert "cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_never_share_a_folder(tmp_path):
    with lock.locked(tmp_path):
        code = "import pathlib, sys\nfrom jaxopt_study.study.lock import locked\n"
        code += "with locked(pathlib.Path(sys.argv[1])): pass"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
        assert "another process is running it" in done.stderr
    with lock.locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_run_stopped_midway_resumes_to_the_bits_of_one_that_was_not(
    write_toml, only_record, monkeypatch, tmp_path
):
    path = write_toml("[variants.a]\n[variants.b]\nseed = 5", study=TOYS / "chaos.py")
    words = ["--max-steps", "3000", "--quiet", "--no-plots"]
    assert cli.main(["run", str(path), *words, "--out", "whole"]) == 0
    (whole,) = Path("whole").iterdir()
    # Chunks of one step, and an interrupt after some of them, in the first variant and in the second.
    monkeypatch.setattr("jaxopt_study.study.run.SECONDS_PER_CHUNK", 1e-9)
    monkeypatch.setattr(checkpoint.Checkpoints, "save_if_due", _save_and_stop_after(700))
    assert cli.main(["run", str(path), *words, "--checkpoint-seconds", "0"]) == 143
    folder, result = only_record()
    assert result["interrupted"] is True
    assert result["variants"]["a"]["num_steps"] == [701] * 3
    monkeypatch.setattr(checkpoint.Checkpoints, "save_if_due", _save_and_stop_after(3500))
    assert cli.main(["resume", str(folder), "--quiet", "--no-plots"]) == 143
    assert result_of(folder)["b"]["status"] == ["RUNNING"] * 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["resume", str(folder), "--quiet", "--no-plots"]) == 0
    assert result_of(folder) == result_of(whole)
    assert not list(resume.compare(whole, folder))
    assert sorted(file.name for file in folder.iterdir()) == ["config.toml", "result.json", "trace.parquet"]
    assert cli.main(["resume", str(folder)]) == 0  # nothing is left to do


def _save_and_stop_after(count):
    """A stand-in for the clock: a checkpoint every 97 chunks, and SIGTERM during one chunk."""
    calls = itertools.count(1)

    def save(self, carry, seconds):
        now = next(calls)
        if now % 97 == 0:
            self.save(carry, seconds)
        if now == count:
            signal.raise_signal(signal.SIGTERM)

    return save


def test_a_run_repeats_to_the_same_bits_and_a_changed_study_does_not(write_study, write_toml, capsys):
    path = write_study()
    assert cli.main(["run", str(write_toml(study=path)), "--quiet", "--no-plots", "--noise", "1"]) == 0
    folder = capsys.readouterr().out.strip()
    assert cli.main(["repeat", folder]) == 0
    assert "the same, bit by bit" in capsys.readouterr().out
    path.write_text(path.read_text().replace("2 * carry.x\n", "2.0000001 * carry.x\n"))
    assert cli.main(["repeat", folder]) == 3
    out = capsys.readouterr().out
    assert "variants.other.value: " in out
    assert "(relative " in out
    assert "trace.parquet: loss[1]" in out


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: None, "no such folder"),
        (lambda: Path("run").mkdir(), "is not the folder of a run: no config.toml"),
    ],
)
@pytest.mark.parametrize("command", ["resume", "repeat"])
def test_what_is_no_run_is_one_line(command, make, says, capsys):
    make()
    assert cli.main([command, "run"]) == 2
    assert capsys.readouterr().err == f"jaxopt-study: run: {says}\n"


def test_what_was_damaged_is_written_anew_or_said_how(write_toml, capsys):
    path = write_toml("[config]\nmax_steps = 5\n[sweep.axes]\nseed = [0, 1]\n", study=TOYS / "chaos.py")
    assert cli.main(["sweep", str(path), "--quiet"]) == 0
    (folder,) = Path("runs").iterdir()
    whole = (folder / "points.parquet").read_bytes()
    (folder / "result.json").write_text("{")
    assert cli.main(["resume", str(folder), "--quiet"]) == 0
    assert json.loads((folder / "result.json").read_text())["counts"]["done"] == 2
    (folder / "result.json").unlink()
    job = folder / "jobs" / "00000.parquet"
    job.write_bytes(b"PAR1")
    capsys.readouterr()
    assert cli.main(["resume", str(folder), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{job}: is no job's record" in said
    assert "delete it, and `jaxopt-study resume` runs the job again" in said
    job.unlink()
    assert cli.main(["resume", str(folder), "--quiet"]) == 0
    assert (folder / "points.parquet").read_bytes() == whole


def test_a_run_that_has_not_ended_is_not_repeated(write_toml, capsys):
    study_, configs = load_configs(read_config_file(write_toml()))
    Path("runs/x").mkdir(parents=True)
    record.write_config(Path("runs/x"), study_, configs)
    assert cli.main(["repeat", "runs/x"]) == 2
    assert "has not ended" in capsys.readouterr().err
    assert cli.main(["resume", "runs/x", "--quiet", "--no-plots"]) == 0  # killed before its first checkpoint
    assert result_of(Path("runs/x"))["bowl"]["num_steps"] == 13


def test_a_signal_while_compiling_exits_with_its_own_code(write_toml, monkeypatch, capsys):
    def compile_study(study, configs):
        signal.raise_signal(signal.SIGTERM)
        yield "bowl", None

    monkeypatch.setattr("jaxopt_study.study.run.compile_study", compile_study)
    assert cli.main(["run", str(write_toml())]) == 143
    assert capsys.readouterr().err == "jaxopt-study: interrupted\n"
    assert not Path("runs").exists()


@pytest.mark.parametrize("tables", [None, {"sweep": {"axes": {"seed": [1, 2]}}}])
def test_going_on_in_a_folder_that_cannot_be_written_is_one_line(write_toml, monkeypatch, capsys, tables):
    if tables is None:
        study_, configs = load_configs(read_config_file(write_toml()))
        folder = Path("runs/x")
        folder.mkdir(parents=True)
        record.write_config(folder, study_, configs)
    else:
        planned = read_planned(write_toml("[sweep.axes]\nseed = [1, 2]"))
        folder = start_record(planned, Path("runs"), [2])
    refused = OSError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(record.tempfile, "TemporaryFile", _raising(refused))
    monkeypatch.setattr("jaxopt_study.study.run.compile_study", None)
    monkeypatch.setattr("jaxopt_study.study.sweep.trace_group", None)
    assert cli.main(["resume", str(folder)]) == 2
    assert f"{folder}: cannot hold a record: Permission denied" in capsys.readouterr().err


def _raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_a_sweep_killed_before_its_plan_is_written_is_not_taken_for_a_run(write_toml, monkeypatch, capsys):
    planned = read_planned(write_toml("[sweep.axes]\nseed = [1, 2]"))
    monkeypatch.setattr("jaxopt_study.study.sweep_record.write_plan", _raising(SystemExit))
    with pytest.raises(SystemExit):
        start_record(planned, Path("runs"), [2])
    (folder,) = Path("runs").iterdir()
    assert cli.main(["resume", str(folder)]) == 2
    assert "is not the folder of a run: no config.toml" in capsys.readouterr().err


# A process that kills itself at the n-th call of a function that writes: between write, fsync and rename.
DIE = """
import os, pathlib, signal, sys
where, count, *words = sys.argv[1:]
calls = [0]
def deadly(function, before):
    def call(*args, **kwargs):
        calls[0] += 1
        die = calls[0] == int(count)
        if die and before:
            os.kill(os.getpid(), signal.SIGKILL)
        out = function(*args, **kwargs)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    return call
name, moment = where.split("-")
if name == "fsync":
    os.fsync = deadly(os.fsync, moment == "before")
else:
    pathlib.Path.replace = deadly(pathlib.Path.replace, moment == "before")
from jaxopt_study import cli
sys.exit(cli.main(words))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["fsync-before", "fsync-after", "replace-before", "replace-after"])
def test_killed_between_write_fsync_and_rename_a_run_resumes_to_the_same_bits(where, write_toml):
    path = write_toml(study=TOYS / "chaos.py")
    words = ["--max-steps", "400000", "--quiet", "--no-plots"]
    assert cli.main(["run", str(path), *words, "--out", "whole"]) == 0
    (whole,) = Path("whole").iterdir()
    count = "12" if where.startswith("fsync") else "6"  # in the midst of the checkpoints
    frequent = ["--checkpoint-seconds", "0"]
    command = [sys.executable, "-c", DIE, where, count, "run", str(path), *words, *frequent]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = Path("runs").iterdir()
    assert (folder / "checkpoints").exists()
    again = [sys.executable, "-c", DIE, where, "3", "resume", str(folder), "--quiet", *frequent]
    assert subprocess.run(again, env=ENVIRONMENT, capture_output=True, check=False).returncode == -9
    assert cli.main(["resume", str(folder), "--quiet", "--no-plots"]) == 0
    assert not list(resume.compare(whole, folder))
    assert sorted(file.name for file in folder.iterdir()) == ["config.toml", "result.json", "trace.parquet"]


@pytest.mark.slow
def test_sigterm_checkpoints_and_exits_with_143(write_toml):
    path = write_toml(study=TOYS / "chaos.py")
    process = begin("run", path, "--max-steps", "2000000000")
    wait_for(lambda: list(Path().glob("runs/*/config.toml")), process)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (folder,) = Path("runs").iterdir()
    assert len(list((folder / "checkpoints").iterdir())) == 1
    assert f"jaxopt-study resume {folder}" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit_and_damage_no_record(write_toml):
    path = write_toml(study=TOYS / "chaos.py")
    words = ["--max-steps", "6000000", "--quiet", "--no-plots"]
    began = time.monotonic()
    assert cli.main(["run", str(path), *words, "--out", "whole"]) == 0
    whole_seconds = time.monotonic() - began
    (whole,) = Path("whole").iterdir()
    chance = random.Random(20240229)
    kills = 0
    for attempt in itertools.count():
        out = Path(f"runs{attempt}")
        process = begin("run", path, *words, "--checkpoint-seconds", "0.1", "--out", out)
        wait_for(lambda out=out: list(out.glob("*/config.toml")), process)
        (folder,) = out.iterdir()
        while kills < 20:
            # At any moment of a life: importing, compiling, reading a checkpoint, running, writing one.
            time.sleep(chance.uniform(0.0, 4.0 + 0.12 * whole_seconds))
            if process.poll() is not None:  # on a quick machine more than one run is killed twenty times
                break
            process.kill()
            process.communicate()
            kills += 1
            for file in (folder / "checkpoints").glob("[0-9]*.npz"):
                with np.load(file) as arrays:  # whole: every array reads back, checksums and all
                    assert all(arrays[name] is not None for name in arrays.files)
            process = begin("resume", folder, "--quiet", "--no-plots", "--checkpoint-seconds", "0.1")
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert not list(resume.compare(whole, folder))
        assert result_of(folder) == result_of(whole)
        files = ["config.toml", "result.json", "trace.parquet"]
        assert sorted(file.name for file in folder.iterdir()) == files
        if kills == 20:
            break
