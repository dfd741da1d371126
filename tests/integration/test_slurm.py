"""A sweep on a real Slurm of one node, brought up by `slurm.sh`; a task is cancelled in its midst."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxopt_study.study import resume
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.sweep import run_sweep

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHAOS = ROOT / "tests" / "study" / "toys" / "chaos.py"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
MISSING = [program for program in NEEDED if shutil.which(program, path=PATH) is None]
TOML = f"""
study = "{CHAOS.as_posix()}"
[config]
max_steps = 60000
[sweep.axes]
lanes = [1, 2]
growth = {{ linspace = [3.7, 3.99, 20] }}
[executor]
kind = "slurm"
tasks = 4
[executor.parameters]
timeout_min = 10
slurm_mem = "400M"
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (slurm-wlm, munge)"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="slurmd needs root"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    done = subprocess.run([HERE / "slurm.sh", "up", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT)}
    subprocess.run([HERE / "slurm.sh", "down", folder], check=True)


def ask(slurm, *words):
    return subprocess.run(words, capture_output=True, text=True, check=True, env=slurm).stdout


def test_a_task_that_is_cancelled_is_submitted_again_alone_and_no_bit_is_another(slurm, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    words = [sys.executable, "-m", "jaxopt_study.cli", "sweep", str(path), "--side-by-side", "1"]
    process = subprocess.Popen(
        [*words, "--out", str(tmp_path / "runs"), "--quiet"],
        env=slurm,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until, running, written = time.monotonic() + 120, [], {}
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        running = ask(slurm, "squeue", "--noheader", "--array", "--states=R", "--format=%F_%K").split()
        written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/jobs/0*.parquet")}
        if running and written:
            break
        time.sleep(0.05)
    assert running
    assert written
    ask(slurm, "scancel", running[0])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    folder = Path(out.strip())
    assert written.items() <= {file: file.stat().st_mtime_ns for file in written}.items()
    submissions = {file.name.partition("_")[0] for file in (folder / "submitit").glob("*_submitted.pkl")}
    assert len(submissions) >= 2, "what was cancelled was not submitted again"
    undisturbed = run_sweep(read_planned(path, here=True), tmp_path / "here", width=1, quiet=True).folder
    assert not list(resume.compare(undisturbed, folder))


def test_an_interrupted_sweep_takes_its_tasks_with_it_and_is_resumed(slurm, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    words = [sys.executable, "-m", "jaxopt_study.cli"]
    process = subprocess.Popen(
        [*words, "sweep", str(path), "--out", str(tmp_path / "runs"), "--side-by-side", "1", "--quiet"],
        env=slurm,
        text=True,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/jobs/0*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (folder,) = (tmp_path / "runs").iterdir()
    until = time.monotonic() + 60
    while ask(slurm, "squeue", "--noheader", "--array", "--format=%F_%K"):
        assert time.monotonic() < until
        time.sleep(0.2)
    done = subprocess.run(
        [*words, "resume", str(folder), "--quiet"], env=slurm, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    undisturbed = run_sweep(read_planned(path, here=True), tmp_path / "here", width=1, quiet=True).folder
    assert not list(resume.compare(undisturbed, folder))
