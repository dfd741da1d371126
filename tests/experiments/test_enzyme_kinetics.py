"""The fits of Bates and Watts (1988), and CSVs that cannot be fitted."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import study
from jaxopt_study.result import is_converged

HEAD = "concentration,rate,state\n"
ROWS = "0.1,10,a\n0.2,15,a\n0.4,20,a\n1,25,b\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "points", "vmax", "k", "residual_std"),
    [("treated", 12, 212.7, 0.0641, 10.93), ("untreated", 11, 160.3, 0.0477, 9.773)],
)
def test_the_published_estimates_are_found(label, points, vmax, k, residual_std, load, run):
    loaded, configs = load("enzyme_kinetics")
    outcome = run(loaded, configs[label])
    assert is_converged(outcome.status)
    values = outcome.values
    assert values["points"] == points
    assert f"{values['vmax']:.1f}" == str(vmax)
    assert f"{values['k']:.4f}" == str(k)
    assert f"{values['residual_std']:.4g}" == str(residual_std)


def test_the_data_are_the_published_table():
    path = Path(__file__).parents[2] / "experiments" / "data" / "puromycin.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 23
    treated = [float(row["rate"]) for row in rows if row["state"] == "treated"]
    assert treated == [76, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200]
    assert sum(float(row["rate"]) for row in rows if row["state"] == "untreated") == 1218


def test_any_csv_with_named_columns_takes_its_place(load, run, tmp_path):
    x = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    path = tmp_path / "own.csv"
    rows = [
        f'"{speed!r}", {where!r}'
        for where, speed in zip(x.tolist(), (30 * x / (2 + x)).tolist(), strict=True)
    ]
    path.write_text("speed, amount\n" + "\n".join(rows), encoding="utf-8-sig")
    loaded, configs = load(
        "enzyme_kinetics", data=path, x="amount", y="speed", group=None, only=None, start=(20.0, 1.0)
    )
    values = run(loaded, configs["treated"]).values
    np.testing.assert_allclose([values["vmax"], values["k"]], [30.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "changes", "says"),
    [
        (None, {}, r"bad\.csv: no such file"),
        ("", {}, r'bad\.csv: no column "concentration"'),
        ("x,rate,state\n" + ROWS, {}, r'bad\.csv: no column "concentration"; there are: x, rate, state'),
        (HEAD + ROWS, {"group": "strain"}, r'bad\.csv: no column "strain"'),
        (HEAD + "0.1,10,a\n0.2,fast,a\n", {}, r'bad\.csv:3: column "rate": .* number, got "fast"'),
        (HEAD + "0.1,10,a\n0.2,nan,a\n", {}, r'bad\.csv:3: column "rate": .* number, got "nan"'),
        (HEAD + "0.1,10,a\n,10,a\n", {}, r'bad\.csv:3: column "concentration": .* number, got ""'),
        ("state,concentration,rate\na,0.1\n", {}, r'bad\.csv:2: column "rate": .* number, got ""'),
        (HEAD + ROWS, {"only": "c"}, r'bad\.csv: 0 rows where column "state" is "c"'),
        (HEAD + ROWS, {"only": "b"}, r"bad\.csv: 1 rows .* three or more"),
        (HEAD + ROWS, {"only": None}, r"bad\.csv: config\.group and config\.only"),
    ],
)
def test_a_csv_that_cannot_be_fitted_is_refused_in_one_line(text, changes, says, load, run, tmp_path):
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_text(text)
    loaded, configs = load("enzyme_kinetics", **{"data": path, "only": "a", **changes})
    with pytest.raises(study.StudyInputError) as caught:
        run(loaded, configs["treated"])
    assert re.search(says, str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(load, run, tmp_path):
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff\xfe")
    loaded, configs = load("enzyme_kinetics", data=path)
    with pytest.raises(study.StudyInputError, match=r"picture\.csv: not a CSV"):
        run(loaded, configs["treated"])
    loaded, configs = load("enzyme_kinetics", data=tmp_path)
    with pytest.raises(study.StudyInputError, match="cannot be read"):
        run(loaded, configs["treated"])
