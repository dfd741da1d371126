"""The pages under docs/ are true: their example runs, their statuses exist."""

import re
from pathlib import Path

import jax
import pytest

import jaxopt_study as jos
from jaxopt_study import cli

DOCS = Path(__file__).parent.parent / "docs"


def test_the_study_of_the_page_on_studies_runs_as_it_stands(tmp_path, capsys):
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", (DOCS / "studies.md").read_text(), re.DOTALL))
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
