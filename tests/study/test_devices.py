"""`--devices` and `--distributed`: a study divided is the same study; each run in a process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study.study import resume

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toys") / "decay.py"

# Prints how the data of the compiled study lie, and how many collectives its `advance` has.
LAYOUT = """
import jax
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.devices import laid_out, set_up
from jaxopt_study.study.program import compile_study, dtype_of
from jaxopt_study.study.checkpoint import Checkpoints
import numpy, pathlib, sys
rows = set_up(4, False)
study, configs = load_configs(read_config_file(sys.argv[1]))
for label, program in compile_study(laid_out(study, configs, rows), configs):
    x = program.carry.setup.args[0]
    with dtype_of(program.config):
        after = program.advance(program.carry, numpy.int32(1)).setup.args[0]
        saves = Checkpoints(pathlib.Path(sys.argv[1]).parent, 0, {}, 0.0)
        saves.save(program.carry, 0.0)
        loaded = saves.load(program.carry).carry.setup.args[0]
        saves.remove()
    same = after.sharding == x.sharding == loaded.sharding
    print(x.addressable_shards[0].data.shape, len(x.sharding.device_set), same)
"""


@contextlib.contextmanager
def process(*words, **environment):
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    whole.pop("XLA_FLAGS", None)
    begun = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=whole,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield begun
    finally:
        begun.kill()
        begun.communicate()


def end_of(begun):
    out, errors = begun.communicate(timeout=200)
    return begun.returncode, out, errors


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "decay.toml"
    path.write_text(f'study = "{TOY}"\n[variants.data]\n[variants.lanes]\nlanes = 8\npoints = 200\n')
    return path


def run(config, *flags):
    words = ("-m", "jaxopt_study.cli", "run", config, "--out", config.parent / "runs", "--quiet", *flags)
    with process(*words) as begun:
        code, out, errors = end_of(begun)
    assert code == 0, errors[-2000:]
    return json.loads((Path(out.strip()) / "result.json").read_text())


@pytest.mark.slow
def test_lanes_and_data_over_four_devices_give_what_one_gives(config):
    one, four = run(config), run(config, "--devices", "4")
    assert four["environment"]["device_count"] == 4
    for label in ("data", "lanes"):
        a, b = (found["variants"][label] for found in (one, four))
        assert a["num_steps"] == b["num_steps"]
        assert a["status"] == b["status"]
        for name in ("a", "k"):
            np.testing.assert_allclose(b["values"][name], a["values"][name], rtol=1e-12)


@pytest.mark.slow
def test_a_record_repeats_over_as_many_devices_to_the_same_bits(config):
    config.write_text(f'study = "{TOY}"\ndevices = 4\n')
    four = run(config)
    (folder,) = (config.parent / "runs").iterdir()
    with process("-m", "jaxopt_study.cli", "repeat", folder) as begun:
        code, out, errors = end_of(begun)
    assert four["environment"]["device_count"] == 4
    assert (code, "the same, bit by bit" in out) == (0, True), (out, errors[-2000:])


@pytest.mark.slow
def test_each_of_four_devices_holds_a_quarter_of_the_data_or_of_the_lanes(config):
    with process("-c", LAYOUT, config) as begun:
        code, out, errors = end_of(begun)
    assert code == 0, errors[-2000:]
    assert out.splitlines() == ["(2000,) 4 True", "(2, 200) 4 True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "3"], "3 devices cannot share data of decay evenly, which has data of 8000 rows"),
        (["--devices", "0"], "--devices: expected a number > 0, got 0"),
        (["--distributed"], "JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_what_cannot_be_divided_is_one_line(config, flags, message):
    with process("-m", "jaxopt_study.cli", "run", config, *flags) as begun:
        code, _, errors = end_of(begun)
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


@contextlib.contextmanager
def two_processes(*words):
    """The command, in two processes that know of each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    known = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    command = ("-m", "jaxopt_study", *words, "--distributed")
    with (
        process(*command, **known, JAX_PROCESS_ID="0") as first,
        process(*command, **known, JAX_PROCESS_ID="1") as second,
    ):
        yield first, second


@pytest.mark.slow
def test_two_processes_run_one_study_and_one_of_them_writes_it(config):
    runs = config.parent / "runs"
    with two_processes("run", config, "--out", runs, "--devices", "2") as both:
        ended = [end_of(each) for each in both]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "record:" in ended[0][1]
    assert "record:" not in ended[1][1]
    (folder,) = runs.iterdir()
    two = json.loads((folder / "result.json").read_text())
    assert two["environment"]["device_count"] == 4
    one = run(config)
    for label in ("data", "lanes"):
        for name in ("a", "k"):
            found, expected = (each["variants"][label]["values"][name] for each in (two, one))
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_two_processes_one_of_which_is_stopped_go_on_to_the_bits_of_two_that_were_not(tmp_path):
    path = tmp_path / "chaos.toml"
    path.write_text(f'study = "{TOY.with_name("chaos.py")}"\n[config]\nlanes = 4\nmax_steps = 600_000\n')

    def run_into(name, stop):
        words = ("run", path, "--out", tmp_path / name, "--devices", "2", "--quiet", "--no-plots")
        with two_processes(*words, "--checkpoint-seconds", "0.1") as both:
            while stop and not list((tmp_path / name).glob("*/checkpoints/*.npz")):
                assert both[0].poll() is None, both[0].communicate()
                time.sleep(0.01)
            if stop:
                both[1].send_signal(signal.SIGTERM)
            ended = [end_of(each) for each in both]
        assert [code for code, _, _ in ended] == ([143, 143] if stop else [0, 0]), ended
        (folder,) = (tmp_path / name).iterdir()
        return folder

    whole, folder = run_into("whole", stop=False), run_into("runs", stop=True)
    assert json.loads((folder / "result.json").read_text())["interrupted"] is True
    with process("-m", "jaxopt_study", "resume", folder) as alone:
        code, _, errors = end_of(alone)
    assert code == 2
    assert "was run by 2 processes; as many go on with it, by `resume --distributed`" in errors
    with two_processes("resume", folder, "--quiet", "--no-plots") as both:
        ended = [end_of(each) for each in both]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert not list(resume.compare(whole, folder))
    assert not (folder / "checkpoints").exists()
