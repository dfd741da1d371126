"""The command line, from words to exit code and record."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxopt_study import cli
from jaxopt_study.version import __version__

TOYS = Path(__file__).parent / "toys"
ROOT = Path(__file__).parents[2]
TWO = "[config]\nnoise = 0.5\n[variants.lanes]\nlanes = 3\n[variants.signs]\noptimizer = 'signs'\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fail(capsys, *words):
    """Run what must fail as bad input; the one line that it says."""
    assert cli.main(["run", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxopt-study: ")
    assert captured.err.count("\n") == 1
    assert not Path("runs").exists()
    return captured.err


def without_times(result):
    variants = {label: {**one, "timing": None} for label, one in result["variants"].items()}
    return {**result, "variants": variants, "created": None, "start": None}


@pytest.mark.slow
def test_a_run_is_recorded_whole_and_shown(write_toml, only_record, capsys):
    assert cli.main(["run", str(write_toml(TWO))]) == 0
    folder, result = only_record()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.toml",
        "loss.png",
        "result.json",
        "trace.parquet",
    ]
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (result["study"], result["title"]) == ("bowl", "Gradient descent in a bowl, by hand.")
    assert (result["version"], result["interrupted"]) == (__version__, False)
    lanes, signs = result["variants"].values()
    assert lanes["status"] == ["TARGET_REACHED"] * 3
    assert (signs["status"], signs["num_steps"]) == ("OUT_OF_STEPS", 100)
    assert signs["message"] == "not converged: max_steps were taken"
    assert result["summary"] == {"best": min(lanes["value"]), "note": "[bowl]"}
    environment = result["environment"]
    assert {"jax", "numpy", "cpu_count", "device_kind", "git_revision"} <= set(environment)
    table = pq.read_table(folder / "trace.parquet")
    assert len(table) == sum(lanes["num_steps"]) + 3 + 101
    last = table.to_pylist()[-1]
    assert (last["variant"], last["step"], last["loss"]) == ("signs", 100, signs["value"])
    captured = capsys.readouterr()
    for words in ("3 target reached", "out of steps", "note: [bowl]", "record: runs/bowl-", "loss.png"):
        assert words in captured.out
    assert "signs: started" in captured.err
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.slow
def test_a_record_runs_again_to_the_same_values(write_toml, only_record, capsys):
    assert cli.main(["run", str(write_toml(TWO)), "--quiet", "--seed", "7", "--start", "-1", "5"]) == 0
    first, result = only_record()
    assert Path(capsys.readouterr().out.strip()) == first.relative_to(Path.cwd())
    assert cli.main(["run", str(first / "config.toml"), "--quiet", "--out", "again"]) == 0
    (second,) = Path("again").iterdir()
    again = json.loads((second / "result.json").read_text())
    assert without_times(again) == without_times(result)
    assert pq.read_table(first / "trace.parquet").equals(pq.read_table(second / "trace.parquet"))
    assert result["variants"]["signs"]["num_steps"] == 100


@pytest.mark.slow
def test_a_record_beside_its_study_holds_relative_paths_and_can_be_moved(write_study, write_toml, tmp_path):
    house = tmp_path / "house"
    house.mkdir()
    path = write_study()
    path.rename(house / path.name)
    toml = write_toml(study=house / path.name)
    assert cli.main(["run", str(toml), "--quiet", "--out", str(house / "runs")]) == 0
    (folder,) = (house / "runs").iterdir()
    text = (folder / "config.toml").read_text()
    assert 'study = "../../other.py"' in text
    assert 'data = "../../bowl.csv"' in text
    house.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "runs" / folder.name / "config.toml"
    assert cli.main(["run", str(moved), "--quiet"]) == 0


def test_no_plots_draws_nothing(write_toml, only_record):
    assert cli.main(["run", str(write_toml()), "--quiet", "--no-plots"]) == 0
    assert not list(only_record()[0].glob("*.png"))


def test_a_start_that_is_not_finite_is_recorded_as_such(write_toml, only_record, capsys):
    assert cli.main(["run", str(write_toml()), "--start", "nan", "0"]) == 0
    folder, result = only_record()
    one = result["variants"]["bowl"]
    assert "bowl: non finite start, 0 steps" in capsys.readouterr().err
    assert (one["status"], one["num_steps"], one["value"]) == ("NON_FINITE_START", 0, "NaN")
    (row,) = pq.read_table(folder / "trace.parquet").to_pylist()
    assert np.isnan(row["loss"])


def test_bad_input_is_one_line_exit_code_2_and_nothing_written(write_toml, write_study, capsys):
    assert "config.sede: unknown key" in fail(capsys, write_toml("[config]\nsede = 1"))
    assert 'got the str "x"' in fail(capsys, write_toml('[config]\nnoise = "x"'))
    assert 'expected one of "descent", "signs"' in fail(capsys, write_toml('[config]\noptimizer = "adm"'))
    assert "not valid TOML" in fail(capsys, write_toml("[config"))
    assert "no such file" in fail(capsys, "no.toml")
    assert "no such file" in fail(capsys, write_toml(study=Path("gone.py")))
    assert "lacks the function advance" in fail(
        capsys, write_toml(study=write_study([("def advance(", "def advances(")]))
    )
    assert "--sede: unknown flag" in fail(capsys, write_toml(), "--sede", "1")
    assert "'--optimizer'" in fail(capsys, write_toml(), "--optimizer", "adm")
    assert "--noise: could not convert" in fail(capsys, write_toml(), "--noise", "loud")
    assert "which CONFIG?" in fail(capsys)


def test_input_that_a_study_refuses_is_one_line_and_nothing_written(write_toml, capsys):
    path = write_toml("[variants.good]\n[variants.bad]\ndata = 'refused.csv'\n")
    assert 'refused.csv: column "rate" is missing' in fail(capsys, path)


def test_an_unwritable_folder_is_refused_before_anything_is_computed(write_toml, capsys, monkeypatch):
    Path("file").write_text("")
    monkeypatch.setattr("jaxopt_study.study.run.compile_study", None)
    assert "file/runs: cannot hold a record" in fail(capsys, write_toml(), "--out", "file/runs")


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cli, "NEEDED", ("no_such_package",))
    assert cli.main(["list"]) == 2
    assert 'pip install "jaxopt_study[study]"' in capsys.readouterr().err


def test_help_shows_the_command_the_exit_codes_and_the_study(write_toml, capsys):
    assert cli.main(["run", str(write_toml()), "--help"]) == 0
    out = capsys.readouterr().out
    for words in (
        "--no-plots",
        "130  interrupted by Ctrl-C",
        "--learning-rate",
        "Step length [m]",
        "static options",
    ):
        assert words in out
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    assert "exit codes" in capsys.readouterr().out


def test_list_shows_every_config_and_says_which_is_broken(write_toml, capsys):
    write_toml(TWO)
    assert cli.main(["list", "configs"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "bowl.toml" in line]
    assert "Gradient descent in a bowl, by hand." in row
    assert "lanes, signs" in row
    Path("configs/broken.toml").write_text("[config")
    assert cli.main(["list"]) == 2
    captured = capsys.readouterr()
    assert "bowl.toml" in captured.out
    assert captured.err.startswith("jaxopt-study: configs/broken.toml: not valid TOML")
    assert cli.main(["list", "nowhere"]) == 2


def test_a_word_too_much_for_list_is_an_error(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["list", "configs", "--noise"])
    assert left.value.code == 2


@pytest.mark.slow
def test_ctrl_c_records_what_there_is_and_exits_with_130(write_toml, only_record, tmp_path):
    endless = ["--max-steps", "1000000000", "--target", "0", "--learning-rate", "1e-9"]
    path = write_toml("[config]\nlanes = 2\n[variants.first]\n[variants.second]\nnoise = 1.0")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "jaxopt_study.cli", "run", str(path), *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr.readline() == "first: started\n"
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    folder, result = only_record()
    names = ["checkpoints", "config.toml", "result.json", "trace.parquet"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert result["interrupted"] is True
    assert list(result["variants"]) == ["first"]
    assert result["variants"]["first"]["status"] == ["RUNNING"] * 2
    assert min(result["variants"]["first"]["num_steps"]) > 100
    assert len(pq.read_table(folder / "trace.parquet")) == 2 * 1001
    assert f"record: {folder.relative_to(tmp_path)} (interrupted" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_study_imports_nothing_that_only_a_run_needs():
    code = "import sys, jaxopt_study.cli; from jaxopt_study import study; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert not {"tyro", "rich", "pyarrow", "matplotlib", "msgspec", "tomli_w"} & set(done.stdout.split())


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_ends_the_command_without_a_traceback():
    command = [sys.executable, "-m", "jaxopt_study", "bench", "--list"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.slow
def test_the_package_is_the_command_too():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jaxopt_study", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.startswith("jaxopt_study ")


def test_ctrl_c_before_the_run_begins_writes_nothing(write_study, write_toml, capsys):
    press = "    import signal; signal.raise_signal(signal.SIGINT)\n"
    path = write_study([("def init(config, key):\n", f"def init(config, key):\n{press}")])
    assert cli.main(["run", str(write_toml(study=path))]) == 130
    assert capsys.readouterr().err == "jaxopt-study: interrupted\n"
    assert not Path("runs").exists()


def test_the_bar_of_a_terminal_shows_every_variant(write_toml, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["run", str(write_toml(TWO)), "--no-plots"]) == 0
    bar = capsys.readouterr().err
    assert "lanes" in bar
    assert "signs" in bar
    assert "100 steps" in bar


MODEL = """
import jax, jax.numpy as jnp
@jax.custom_vjp
def loss(w, x):
    return jnp.sum((x @ w) ** 2)
loss.defvjp(lambda w, x: (loss(w, x), (w, x)), lambda s, g: (2 * g * s[1].T @ (s[1] @ s[0]), 0 * s[1]))
def right(w, count):
    return jnp.sum(w["a"] ** 2) * count
def example_args():
    return jnp.array([1.0, 2.0]), jnp.eye(2)
"""


def check(*words):
    return cli.main(["check", *words, "--no-probe", "--no-second-order"])


def test_check_finds_a_wrong_rule_at_the_example_arguments_and_its_code_is_three(capsys):
    Path("model.py").write_text(MODEL)
    assert check("model.py:loss") == 3
    out = capsys.readouterr().out
    assert "reverse: d output / d args[1][1, 1] is 0, expected 8" in out


def test_check_reads_arguments_as_json_and_passes_what_is_right(capsys):
    Path("model.py").write_text(MODEL)
    assert check("model.py:right", '{"a": "normal(3)"}', "4") == 0
    out = capsys.readouterr().out
    assert "no fault found (1 points)" in out
    assert "args[0]['a']" in out
    assert "args[1]" not in out  # an integer


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.py:right"], "FUNCTION_HAS_ARGS"),
        (["model.py:nothing", "1.0"], "FUNCTION: model.py has no 'nothing'"),
        (["model.py:right", "abc"], "argument 'abc': expected JSON"),
        (["model.py:right", "3", "4"], "model.py:right: "),
        (["model", "1.0"], "FUNCTION: expected MODULE:FUNCTION"),
    ],
)
def test_bad_words_of_check_are_one_line(words, message, capsys):
    Path("model.py").write_text(MODEL.replace("example_args", "other_args"))
    assert check(*words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    expected = "no function 'example_args' that returns them" if message == "FUNCTION_HAS_ARGS" else message
    assert expected in err
