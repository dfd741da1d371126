"""`jaxopt-study fit`, from words to exit code and record."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import cli
from jaxopt_study.study import table_file

DATA = Path(__file__).parents[2] / "experiments" / "data" / "puromycin.csv"
MODEL = "jaxopt_study.models.michaelis_menten:apply"
OWN = "def curve(params, x):\n    return params['Vm'] * x / (params['K'] + x)\n\nFACTOR = 3\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [line for line in DATA.read_text().splitlines() if "untreated" not in line]
    Path("treated.csv").write_text("\n".join(rows) + "\n")
    Path("own.py").write_text(OWN)


def words(**changes):
    flags = {"model": MODEL, "x": "concentration", "y": "rate", "start": "vmax=200,k=0.1", **changes}
    data = flags.pop("data", "treated.csv")
    pairs = [[f"--{name.replace('_', '-')}", value] for name, value in flags.items() if value is not None]
    return ["fit", data, *[word for pair in pairs for word in pair]]


@pytest.mark.slow
def test_a_fit_is_printed_and_recorded(only_record, capsys):
    assert cli.main(words()) == 0
    out = capsys.readouterr().out
    for word in ("vmax", "212.7", "6.9", "[197.2, 228.2]", "12 points", "record: runs/fit-", "fit.png"):
        assert word in out
    folder, result = only_record()
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["fit.png", "fit.toml", "result.json", "table.txt"]
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "table.txt").read_text().strip() in out
    assert result["status"] in ("VALUE_CONVERGED", "STEP_CONVERGED", "GRADIENT_CONVERGED")
    vmax = result["parameters"]["vmax"]
    assert f"{vmax['value']:.1f} {vmax['stderr']:.3f}" == "212.7 6.947"
    np.testing.assert_allclose(vmax["profile_interval"], [197.302, 229.290], rtol=1e-4)
    assert result["order"] == ["k", "vmax"]
    np.testing.assert_allclose(np.sqrt(result["covariance"][1][1]), vmax["stderr"])
    assert len(result["residuals"]) == 12
    asked = tomllib.loads((folder / "fit.toml").read_text())["fit"]
    assert asked["model"] == MODEL
    assert asked["start"] == "vmax=200,k=0.1"


@pytest.mark.slow
def test_the_record_says_how_to_repeat_it(only_record, capsys):
    import shlex

    assert cli.main([*words(level="0.9"), "--no-plots", "--quiet"]) == 0
    folder, result = only_record()
    assert capsys.readouterr().out.strip() == str(folder.relative_to(Path.cwd()))
    (line,) = [line for line in (folder / "fit.toml").read_text().splitlines() if "repeat" in line]
    command = shlex.split(line.partition(": ")[2])
    assert command[0] == "jaxopt-study"
    assert cli.main([*command[1:], "--out", "again", "--quiet", "--no-plots"]) == 0
    (again,) = Path("again").iterdir()
    other = json.loads((again / "result.json").read_text())
    assert other["parameters"] == result["parameters"]


@pytest.mark.slow
def test_a_model_in_a_file_or_in_a_module_here(only_record, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "own", raising=False)
    for model in ("own.py:curve", "own:curve"):
        out = model.partition(":")[0]
        assert (
            cli.main([*words(model=model, start="Vm=200, K=0.1"), "--out", out + "-runs", "--no-plots"]) == 0
        )
        (folder,) = Path(out + "-runs").iterdir()
        result = json.loads((folder / "result.json").read_text())
        assert f"{result['parameters']['Vm']['value']:.1f}" == "212.7"


@pytest.mark.slow
def test_sigma_missing_values_and_bounds(only_record, capsys):
    x = np.arange(1.0, 9.0)
    y = 10 * x / (2 + x) + 0.1 * np.cos(5 * x)
    cells = [f"{a},{b if a != 3 else ''},0.1" for a, b in zip(x, y, strict=True)]
    Path("own.csv").write_text("x, y, error\n" + "\n".join(cells) + "\n")
    flags = words(data="own.csv", x="x", y="y", sigma="error", start="vmax=9,k=1", bounds="k=0:1.5")
    assert cli.main([*flags, "--absolute-sigma"]) == 0
    out = capsys.readouterr().out
    assert "7 points (1 missing)" in out
    assert "at upper bound" in out
    _, result = only_record()
    assert result["parameters"]["k"] == {
        **result["parameters"]["k"],
        "value": 1.5,
        "at_bound": 1,
        "stderr": 0.0,
    }
    assert result["residuals"][2] == "NaN"


BAD = {
    "no file": ({"data": "gone.csv"}, "gone.csv: no such file"),
    "no column": ({"x": "dose"}, 'treated.csv: no column "dose"; there are: concentration, rate, state'),
    "no number": ({"y": "state"}, 'treated.csv:2: column "state": expected a number, got "treated"'),
    "not written so": ({"model": "michaelis"}, "--model: expected MODULE:FUNCTION"),
    "no module": ({"model": "no.such:f"}, "--model: no module 'no'"),
    "no submodule": ({"model": "jaxopt_study.modells:f"}, "--model: no module 'jaxopt_study.modells'"),
    "relative": ({"model": "..x:f"}, "--model: '..x' is not the name of a module"),
    "no such function": ({"model": "own.py:curves"}, "--model: own.py has no 'curves'; there are: curve"),
    "no function": ({"model": "own.py:FACTOR"}, "--model: own.py:FACTOR is not a function"),
    "no model file": ({"model": "gone.py:f"}, "--model: gone.py: no such file"),
    "start not written so": ({"start": "vmax"}, "--start: expected NAME=VALUE"),
    "start no number": ({"start": "vmax=high,k=1"}, "--start: vmax: expected a number, got 'high'"),
    "start infinite": ({"start": "vmax=inf,k=1"}, "--start: vmax: expected a finite number"),
    "start twice": ({"start": "vmax=1,vmax=2"}, "--start: 'vmax' comes twice"),
    "name missing": ({"start": "vmax=200,K=0.1"}, "asks for a parameter 'k'; --start has: vmax, K"),
    "name too much": ({"start": "vmax=200,k=0.1,n=1"}, "apply does not use 'n'"),
    "bounds of another": ({"bounds": "K=0:1"}, "--bounds: K: no such parameter in --start"),
    "bounds not written so": ({"bounds": "k=1"}, "--bounds: k: expected LOWER:UPPER, got '1'"),
    "start outside": ({"bounds": "k=1:2"}, "--bounds: k: starts at 0.1, outside of 1:2"),
    "level": ({"level": "95"}, "--level: expected a probability"),
    "sigma": ({"sigma": "concentration", "x": "rate", "data": "zero.csv"}, "sigma: expected positive"),
    "a folder": ({"data": "."}, ".: cannot be read"),
    "out": ({"out": "own.py"}, "own.py: cannot hold a record"),
    "empty": ({"data": "empty.csv"}, "empty.csv: there are no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(name, capsys):
    changes, says = BAD[name]
    Path("zero.csv").write_text("concentration,rate\n0,1\n1,2\n2,3\n")
    Path("empty.csv").write_text("concentration,rate\n")
    assert cli.main(words(**changes)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jaxopt-study: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert not Path("runs").exists()


def test_columns_may_have_a_byte_order_mark_and_spaces():
    Path("own.csv").write_text('x, "y"\n1, 2\n3, NaN\n', encoding="utf-8-sig")
    x, y = table_file.read_columns(Path("own.csv"), ["x", "y"], missing=["y"])
    np.testing.assert_array_equal(x, [1.0, 3.0])
    np.testing.assert_array_equal(y, [2.0, np.nan])


def test_rows_are_chosen_by_the_value_of_another_column():
    Path("own.csv").write_text("x, y, kind\n1, 2, a\n3, what, b\n5, 6, a \n")
    x, y = table_file.read_columns(Path("own.csv"), ["x", "y"], where=("kind", "a"))
    np.testing.assert_array_equal([x, y], [[1.0, 5.0], [2.0, 6.0]])
    assert [c.shape for c in table_file.read_columns(Path("own.csv"), ["x", "y"], where=("kind", "c"))] == [
        (0,)
    ] * 2


WORDS = {
    "required": (["fit", "treated.csv", "--x", "a", "--y", "b"], "fit: the following arguments are required"),
    "choice": ([*words(), "--loss", "square"], "fit: argument --loss: invalid choice: 'square'"),
    "number": ([*words(), "--level", "high"], "fit: argument --level: invalid float value: 'high'"),
    "no value": ([*words(), "--sigma"], "fit: argument --sigma: expected one argument"),
    "unknown": ([*words(), "--colour", "red"], "fit: unrecognized arguments: --colour red"),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_that_do_not_parse_are_one_line_too(name, capsys):
    given, says = WORDS[name]
    with pytest.raises(SystemExit) as left:
        cli.main(given)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"jaxopt-study: {says}")
    assert captured.err.count("\n") == 1
