"""What a person sees of a fit: names, the table, the picture."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.fit.names import names_of
from jaxopt_study.fit.plot import plot

from .conftest import decay, enzyme

START = {"a": 4.0, "c": 0.8, "k": 1.0}
X = np.linspace(0.0, 3.0, 14)
Y = 5 * np.exp(-0.9 * X) + 1 + 0.3 * np.cos(9 * np.arange(14.0))


class Peak(NamedTuple):
    center: float
    width: float


def test_names_are_those_that_a_person_would_use():
    tree = {"peaks": [Peak(1.0, 2.0), Peak(np.zeros(2), 1.0)], "noise": {0: 1.0}}
    assert names_of(tree) == [
        "noise[0]",
        "peaks[0].center",
        "peaks[0].width",
        "peaks[1].center[0]",
        "peaks[1].center[1]",
        "peaks[1].width",
    ]
    assert names_of(1.0) == ["p"]
    assert names_of((1.0, 2.0)) == ["p[0]", "p[1]"]
    assert names_of(Peak(1.0, 2.0)) == ["center", "width"]


def test_the_table_of_puromycin(puromycin):
    text = str(jos.curve_fit(enzyme, *puromycin, {"k": 0.1, "vmax": 200.0}))
    assert text.startswith("converged: ")
    _, table = text.split("\n", 1)
    rule = "─────────────────────────────────────────────────────"
    assert table.splitlines() == [
        rule,
        "parameter   value  stderr  relative  95 % interval",
        rule,
        "k          0.0641  0.0083      13 %  [0.0457, 0.0826]",
        "vmax        212.7     6.9     3.3 %  [197.2, 228.2]",
        rule,
        "12 points, 10 degrees of freedom, reduced χ² 119.54",
        "R² 0.96126, AIC 59.216, BIC 60.186",
    ]


@pytest.mark.slow
def test_the_table_tells_of_correlations_missing_points_and_what_is_not_determined():
    y = np.where(np.arange(14) == 5, np.nan, Y)
    text = str(jos.curve_fit(lambda p, x: decay(p, x) + p["d"], X, y, {**START, "d": 0.0}))
    assert "13 points (1 missing)" in text
    assert "do not determine the parameters with infinite errors" in text
    assert text.count("inf\n") == 2
    close = str(jos.curve_fit(lambda p, x: p["a"] + p["b"] * (x + 9), X, Y, {"a": 1.0, "b": 1.0}))
    assert "strong correlations\n  -0.9" in close
    assert "b, a" in close


def test_very_small_and_very_large_numbers_keep_their_digits():
    fit = jos.curve_fit(
        lambda p, x: 1e12 * p["s"] * x + 1e-12 * p["b"], X, 2 * X + 1 + 0.1 * Y, {"s": 1e-12, "b": 1e12}
    )
    text = str(fit)
    assert "e-12" in text
    assert "e+12" in text


def test_a_traced_or_batched_fit_can_be_printed(capsys):
    @jax.jit
    def traced(y):
        fit = jos.curve_fit(decay, X, y, START)
        print(fit)
        return fit

    batch = jax.vmap(traced)(np.stack([Y, Y + 1]))
    assert "traced" in capsys.readouterr().out
    assert str(batch) == "2 fits (2,): 2 value converged; fit[i] is one of them"
    assert "batch=(2,)" in repr(batch)


@pytest.mark.parametrize("sigma", [None, "some", pytest.param("matrix", marks=pytest.mark.slow)])
def test_a_picture_is_drawn_and_written(sigma, tmp_path):
    sizes = np.linspace(0.2, 0.4, X.size)
    given = {None: None, "some": sizes, "matrix": np.diag(sizes**2)}[sigma]
    y = np.where(np.arange(14) == 5, np.nan, Y)
    fit = jos.curve_fit(decay, X, y, START, sigma=given, absolute_sigma=sigma is not None)
    figure = fit.plot(tmp_path / "fit.png", title="decay", xlabel="t [s]", ylabel="level")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    top, below = figure.axes
    assert top.get_ylabel() == "level"
    assert below.get_ylabel() == ("data − fit" if sigma is None else "(data − fit) / σ")
    assert next(text.get_text() for text in top.get_legend().get_texts()) == "95 % confidence band"
    assert fit.plot(level=None).axes[0].get_legend() is not None


def filled(figure, panel=0):
    """Lower and upper ends of the band in a panel, by x."""
    (band,) = figure.axes[panel].collections[:1]
    corners = band.get_paths()[0].vertices
    return {x: (corners[corners[:, 0] == x, 1].min(), corners[corners[:, 0] == x, 1].max()) for x in X}


@pytest.mark.parametrize(
    "given", ["sigma", *(pytest.param(g, marks=pytest.mark.slow) for g in ("weights", "matrix", "none"))]
)
def test_a_prediction_band_is_as_wide_as_the_errors_of_the_data_around(given):
    errors = np.linspace(0.2, 0.8, X.size)
    options = {
        "sigma": {"sigma": errors, "absolute_sigma": True},
        "weights": {"weights": 1 / errors**2},
        "matrix": {"sigma": np.diag(errors**2), "absolute_sigma": True},
        "none": {},
    }[given]
    fit = jos.curve_fit(decay, X, Y, START, **options)
    band = filled(fit.plot(kind="prediction", points=X.size))
    sigma = None if given == "none" else errors
    _, low, high = fit.predict(X, 0.95, kind="prediction", sigma=sigma)
    np.testing.assert_allclose(list(band.values()), np.stack([low, high], 1), rtol=1e-6)


def test_a_prediction_band_may_be_for_observations_with_other_errors():
    fit = jos.curve_fit(decay, X, Y, START, sigma=0.3)
    band = filled(fit.plot(kind="prediction", sigma=0.6, points=X.size))
    _, low, high = fit.predict(X, 0.95, kind="prediction", sigma=0.6)
    np.testing.assert_allclose(list(band.values()), np.stack([low, high], 1), rtol=1e-6)


@pytest.mark.slow
def test_between_data_errors_are_interpolated_and_missing_ones_left_out():
    """Two columns with errors of their own; at the same x the mean variance counts."""
    x = np.array([0.0, 1.0, 1.0, 2.0, 3.0])
    y = np.stack([1 + 2 * x, 3 - x], 1) + 0.1 * np.cos(9 * np.arange(10.0)).reshape(5, 2)
    sigma = np.array([[0.1, 0.4], [0.3, 0.4], [0.5, 0.4], [9.0, 0.4], [0.2, 0.4]])
    y[3, 0] = np.nan
    line = lambda p, x: jnp.stack([p["a"] + p["b"] * x, p["c"] + p["d"] * x], -1)  # noqa: E731
    fit = jos.curve_fit(line, x, y, dict.fromkeys("abcd", 1.0), sigma=sigma, absolute_sigma=True)
    figure = fit.plot(kind="prediction", points=4)  # at 0, 1, 2, 3
    at_one = np.sqrt((0.3**2 + 0.5**2) / 2)
    expected = np.array([[0.1, 0.4], [at_one, 0.4], [(at_one + 0.2) / 2, 0.4], [0.2, 0.4]])
    _, low, high = fit.predict(np.arange(4.0), 0.95, kind="prediction", sigma=expected)
    for column in range(2):
        corners = figure.axes[column].collections[0].get_paths()[0].vertices
        for at in range(4):
            ends = corners[corners[:, 0] == at, 1]
            np.testing.assert_allclose(
                [ends.min(), ends.max()], [low[at, column], high[at, column]], rtol=1e-6
            )


@pytest.mark.parametrize("points", [0, 1, -3])
def test_a_curve_needs_two_points(points):
    with pytest.raises(ValueError, match=rf"^points: expected a whole number >= 2, got {points}$"):
        plot(jos.curve_fit(decay, X, Y, START), points=points)


@pytest.mark.slow
def test_the_curve_is_smooth_between_whole_numbers():
    x = np.arange(14)
    figure = jos.curve_fit(decay, x, Y, START).plot()
    drawn = figure.axes[0].get_lines()[0].get_xdata()
    assert len(np.unique(drawn)) == 400


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    fit = jos.curve_fit(decay, X, Y, START)  # X begins at 0
    drawn = fit.plot(xscale="log").axes[0].get_lines()[0].get_xdata()
    np.testing.assert_allclose(drawn[[0, -1]], X[[1, -1]], rtol=1e-6)
    with pytest.raises(ValueError, match="xscale"):
        jos.curve_fit(decay, -X, Y, {**START, "k": -1.0}).plot(xscale="log")


@pytest.mark.slow
def test_the_table_says_why_there_are_no_errors():
    def line(p, x):
        return p["a"] + p["b"] * x

    few = str(jos.curve_fit(line, X[:2], Y[:2], {"a": 0.0, "b": 0.0}))
    assert "too few points to tell the size of the errors by" in few
    assert "do not determine" not in few
    one = str(jos.curve_fit(line, X[:1], Y[:1], {"a": 0.0, "b": 0.0}))
    assert "the data do not determine all parameters" in one
    assert "\n1 point, 0 degrees of freedom" in one
    failed = str(jos.curve_fit(line, X, Y, {"a": np.nan, "b": 0.0}))
    assert "determine" not in failed
    assert "too few" not in failed


@pytest.mark.slow
def test_what_cannot_be_drawn_is_refused():
    fit = jos.curve_fit(
        lambda p, x: p["a"] * x[:, 0] + p["b"] * x[:, 1], np.stack([X, X**2], 1), Y, {"a": 1.0, "b": 1.0}
    )
    with pytest.raises(ValueError, match=r"one-dimensional; here x is \(14, 2\) and y \(14,\)"):
        fit.plot()
    batch = jax.vmap(lambda y: jos.curve_fit(decay, X, y, START))(jnp.stack([Y, Y]))
    with pytest.raises(ValueError, match="a batch of 2 fits"):
        batch.plot()
