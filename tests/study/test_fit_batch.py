"""`jaxopt-study fit --batch`: a file of data sets becomes a file of results, or one line says why not."""

import re

import jax
import numpy as np
import pyarrow.parquet as parquet
import pytest

from jaxopt_study.cli import main
from jaxopt_study.fit.stream import Pace
from jaxopt_study.models import gaussian_spot
from jaxopt_study.study.fit_batch import _printer

MODEL = "jaxopt_study.models.gaussian_spot:apply"
GUESS = "jaxopt_study.models.gaussian_spot:guess"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    draw = np.random.default_rng(0)
    i, j = np.indices((9, 9))
    x, y = draw.uniform(3.5, 4.5, (2, 7, 1, 1))
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, (10 + 300 * np.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * 1.5**2))).astype("float32"))
    return path, x.ravel()


@pytest.mark.slow
def test_images_become_a_parquet_file_of_parameters_errors_and_statuses(images, tmp_path, capsys):
    path, x = images
    out = tmp_path / "new" / "spots.parquet"
    words = ["fit", "--batch", str(path), "--model", MODEL, "--start", GUESS, "--bounds", "amplitude=0:"]
    assert main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "7 fits, 7 converged" in said.out
    assert re.search(r"^7 of 7 fits, \d+ a second$", said.err, re.MULTILINE)
    table = parquet.read_table(out)
    np.testing.assert_allclose(table["x"].to_numpy(), x, atol=1e-3)
    assert {"amplitude", "amplitude_stderr", "status", "num_steps"} <= set(table.column_names)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--start", "a=1"], "asks for a parameter"),
        (["--start", GUESS, "--sigma", "s"], "--sigma does not go with --batch"),
        (["--start", "jaxopt_study.models.gaussian_spot:none"], "has no 'none'"),
        (["--start", GUESS, "--bounds", "speed=0:"], "no such parameter"),
        (["--start", GUESS, "--x", "nowhere.npy"], "--x: nowhere.npy"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_written(images, tmp_path, capsys, words, says):
    out = tmp_path / "out.parquet"
    assert main(["fit", "--batch", str(images[0]), "--model", MODEL, *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_the_pace_and_the_time_left_at_most_every_two_seconds(capsys):
    show = _printer()
    for done in (10, 20, 40):
        show(Pace(done, total=40, seconds=done / 5))
    assert capsys.readouterr().err.splitlines() == [
        "10 of 40 fits, 5 a second, 6 s left",
        "40 of 40 fits, 5 a second",
    ]


def test_a_folder_or_the_data_in_place_of_a_file_of_results_is_one_line(images, tmp_path, capsys):
    path = str(images[0])
    for out, says in [(str(tmp_path), "is a folder"), (path, "holds the data")]:
        assert main(["fit", "--batch", path, "--model", MODEL, "--start", GUESS, "--out", out]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_a_guess_of_a_spot_is_near_it():
    with jax.enable_x64(True):
        truth = gaussian_spot.init(300.0, 4.2, 3.7, 1.5, 10.0)
        guess = gaussian_spot.guess(gaussian_spot.apply(truth, gaussian_spot.pixels((9, 9))))
    for name, within in {"amplitude": 30.0, "x": 0.3, "y": 0.3, "width": 0.3, "background": 5.0}.items():
        assert abs(float(guess[name] - truth[name])) < within
