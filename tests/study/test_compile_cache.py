import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(toml, folder, cache):
    command = [sys.executable, "-m", "jaxopt_study.cli", "run", str(toml), "--quiet", "--no-plots"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")
    }
    done = subprocess.run(
        [*command, "--out", str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"XDG_CACHE_HOME": str(cache)},
    )
    return json.loads(Path(done.stdout.strip(), "result.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_second_run_of_the_same_structure_compiles_nothing(write_toml, tmp_path):
    first = run(write_toml(), tmp_path / "runs", tmp_path / "cache")
    again = run(write_toml("[config]\nlearning_rate = 0.05\n"), tmp_path / "runs", tmp_path / "cache")
    assert first["start"]["from_cache"] < first["start"]["programs"]
    assert again["start"]["from_cache"] == again["start"]["programs"] > 0
    assert again["start"]["backend_compile_seconds"] < again["start"]["seconds"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_stops_nothing(write_toml, tmp_path):
    (tmp_path / "cache").write_text("a file, no folder")
    told = run(write_toml(), tmp_path / "runs", tmp_path / "cache")
    assert told["start"]["programs"] > 0
