"""The pages under docs/ are true: their example runs, their statuses exist."""

import re
import shlex
from pathlib import Path

import jax
import pytest

import jaxopt_study as jos
from jaxopt_study import cli

DOCS = Path(__file__).parent.parent / "docs"


def test_the_study_of_the_page_on_studies_runs_as_it_stands(tmp_path, capsys):
    found = re.findall(r"```(python|toml)\n(.*?)```", (DOCS / "studies.md").read_text(), re.DOTALL)
    blocks = dict(reversed(found))  # the first of each
    for folder, ending, text in (
        ("experiments", "py", blocks["python"]),
        ("configs", "toml", blocks["toml"]),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"bowl.{ending}").write_text(text)
    code = cli.main(["run", str(tmp_path / "configs/bowl.toml"), "--out", str(tmp_path / "runs")])
    assert code == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "runs").iterdir()
    result = (folder / "result.json").read_text()
    assert result.count('"TARGET_REACHED"') == 2
    assert (folder / "trace.parquet").is_file()


@pytest.mark.slow
def test_the_study_of_the_readme_runs_from_start_to_finish(tmp_path, monkeypatch, capsys):
    text = (DOCS.parent / "README.md").read_text()
    text = text[text.index("### A study of your own") :]
    text = text[: text.index("\n## ")]
    assert len([line for line in text.splitlines() if line.strip()]) <= 40
    blocks = dict(re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    Path("experiments/valley.py").write_text(blocks["python"])
    Path("configs").mkdir()
    Path("configs/valley.toml").write_text(re.search(r"names it: `(.*?)`", text)[1])
    for line in blocks["sh"].splitlines():
        program, *words = shlex.split(line)
        assert program == "jaxopt-study"
        words = [
            found
            for word in words
            for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        assert cli.main(words) == 0, capsys.readouterr().err
    page = Path("valley.html").read_text()
    assert "Could not be drawn" not in page
    assert {"Sweep", "Curves", "Paths"} <= set(re.findall(r"<h2>(\w+)</h2>", page))
    assert "3 rows" in capsys.readouterr().out


def test_every_status_that_does_not_converge_is_in_the_troubleshooting_page():
    rows = set(re.findall(r"^\| `([A-Z_]+)`", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE))
    failures = {
        status.name
        for status in jos.Status
        if status != jos.Status.RUNNING and not bool(jos.result.is_converged(status))
    }
    assert rows == failures


@pytest.mark.parametrize("argument", [0.0, 1.0])
def test_the_safe_square_root_of_the_troubleshooting_page_has_a_finite_gradient(argument):
    def safe(x):
        return jax.numpy.where(x > 0, jax.numpy.sqrt(jax.numpy.where(x > 0, x, 1.0)), 0.0)

    assert jax.numpy.isfinite(jax.grad(safe)(argument))
