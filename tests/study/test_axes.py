"""Axes of a sweep: what may be written, and which points come of it."""

import contextlib
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_study import study
from jaxopt_study.study.axes import points_of, read_sweep, typed_axes, with_values
from jaxopt_study.study.axis import read_axis_flag


@study.config
class Config:
    rate: float = 0.1
    start: tuple[float, float] = (1.0, 2.0)
    seed: int = 0
    kind: Literal["a", "b"] = study.static("a")
    hidden: tuple[int, ...] = study.static((10,))
    data: Path = study.static(Path("x.csv"))
    dtype: Literal["float32", "float64"] = study.static("float64")


def points(axes, **more):
    sweep = typed_axes(read_sweep({"axes": axes, **more}, "x.toml: "), Config, "x.toml: ", Path("/data"))
    return list(points_of(sweep))


def column(axes, key, **more):
    return [point[key] for point in points(axes, **more)]


def test_points_are_the_product_of_the_axes_the_last_one_fastest():
    made = points({"kind": ["a", "b"], "rate": [1, 2.5], "seed": {"range": [3, 5]}})
    assert [tuple(point.values()) for point in made] == [
        (kind, rate, seed) for kind in "ab" for rate in (1.0, 2.5) for seed in (3, 4)
    ]
    assert all(type(point["rate"]) is float for point in made)


def test_grids_are_numpys_with_both_ends():
    np.testing.assert_array_equal(column({"rate": {"linspace": [0, 1, 5]}}, "rate"), np.linspace(0, 1, 5))
    logspace = column({"rate": {"logspace": [1e-4, 1e-1, 20]}}, "rate")
    np.testing.assert_allclose(logspace, 10 ** np.linspace(-4, -1, 20), rtol=1e-14)
    assert (logspace[0], logspace[-1]) == (1e-4, 1e-1)
    assert column({"seed": {"range": [10, 0, -4]}}, "seed") == [10, 6, 2]


def test_zipped_axes_move_together_and_multiply_the_others():
    made = points({"rate": [1, 2], "seed": [0, 1], "kind": ["a", "b"]}, zip=[["rate", "kind"]])
    assert [(p["rate"], p["kind"], p["seed"]) for p in made] == [
        (1, "a", 0),
        (1, "a", 1),
        (2, "b", 0),
        (2, "b", 1),
    ]
    assert list(made[0]) == ["rate", "seed", "kind"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_drawn_axes_are_drawn_together_within_their_ranges_and_again_the_same(sampler):
    axes = {"rate": {"loguniform": [1e-4, 1]}, "seed": {"integers": [0, 10]}, "start.1": {"uniform": [-1, 3]}}
    made = points(axes, samples=256, sampler=sampler)
    assert len(made) == 256
    rate, seed, start = (np.array([point[key] for point in made]) for key in axes)
    assert ((rate >= 1e-4) & (rate <= 1)).all()
    assert sorted(set(seed)) == list(range(10))
    assert ((start >= -1) & (start <= 3)).all()
    assert abs(np.log10(rate).mean() + 2) < 0.3
    assert made == points(axes, samples=256, sampler=sampler)
    assert made != points(axes, samples=256, sampler=sampler, sample_seed=1)


def test_sobols_points_fill_every_cell_of_a_grid_once():
    made = points({"rate": {"uniform": [0, 16]}, "start.0": {"uniform": [0, 16]}}, samples=256)
    cells = {(int(point["rate"]), int(point["start.0"])) for point in made}
    assert len(cells) == 256


def test_values_go_into_the_config_elements_of_tuples_too():
    config = with_values(Config(), {"start.1": 7.0, "start.0": 6.0, "hidden": (3, 4), "rate": 2.0}, "")
    assert (config.start, config.hidden, config.rate, config.seed) == ((6.0, 7.0), (3, 4), 2.0, 0)


def test_paths_are_relative_to_the_file():
    assert column({"data": ["a.csv", "/b.csv"]}, "data") == [Path("/data/a.csv"), Path("/b.csv")]


def test_a_record_reads_back_to_the_same_points_in_the_same_order():
    table = {"axes": {"rate": {"logspace": [1e-3, 1, 4]}, "seed": [1, 2]}, "zip": [["rate"]], "trace": 3}
    sweep = read_sweep(table, "")
    again = read_sweep({**sweep.to_toml(), "axes": dict(reversed(sweep.to_toml()["axes"].items()))}, "")
    assert again == sweep


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_a_record_of_drawn_axes_draws_the_same_points_again(sampler):
    axes = {"rate": {"loguniform": [1e-3, 1]}, "seed": {"integers": [0, 100]}, "start.0": [1.0, 2.0]}
    table = {"axes": axes, "samples": 5, "sampler": sampler, "sample_seed": 3}
    first = typed_axes(read_sweep(table, ""), Config, "", Path("/data"))
    again = typed_axes(read_sweep(first.to_toml(), ""), Config, "", Path("/elsewhere"))
    assert list(points_of(again)) == list(points_of(first))
    assert len(list(points_of(first))) == 10


def test_a_record_has_the_paths_that_were_swept():
    first = typed_axes(read_sweep({"axes": {"data": ["a.csv"]}}, ""), Config, "", Path("/data"))
    again = typed_axes(
        read_sweep(msgspec.to_builtins(first.to_toml(), enc_hook=str), ""), Config, "", Path("/runs/x")
    )
    assert list(points_of(again)) == [{"data": Path("/data/a.csv")}]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("rate=[1, 2.5]", [1, 2.5]),
        ("rate = logspace(1e-4, 1, 20)", {"logspace": [1e-4, 1, 20]}),
        ("hidden=[[5], [10, 10]]", [[5], [10, 10]]),
        ('kind=["a"]', ["a"]),
    ],
)
def test_a_flag_is_an_axis(text, spec):
    assert read_axis_flag(text)[1] == spec


@pytest.mark.parametrize(
    ("axes", "more", "says"),
    [
        ({}, {}, "sweep.axes: expected a table of axes"),
        ({"rte": [1]}, {}, 'sweep.axes.rte: unknown key (did you mean "rate"?)'),
        ({"rate": []}, {}, "sweep.axes.rate: has no values"),
        ({"rate": 3}, {}, "sweep.axes.rate: expected a list, or one of linspace"),
        ({"rate": ["fast"]}, {}, 'sweep.axes.rate: expected a float, got the str "fast"'),
        ({"rate": {"linspac": [0, 1, 2]}}, {}, 'linspac: unknown (did you mean "linspace"?)'),
        ({"rate": {"linspace": [0, 1]}}, {}, "linspace: expected 3 numbers, got [0, 1]"),
        ({"rate": {"linspace": [0, 1, 2.5]}}, {}, "linspace: expected a whole number, got 2.5"),
        ({"rate": {"linspace": [0, float("inf"), 3]}}, {}, "linspace: expected a finite number, got inf"),
        ({"rate": {"linspace": [0, 1, 10**9]}}, {}, "linspace: expected 1 to 1,000,000 values, got"),
        ({"rate": {"logspace": [0, 1, 3]}}, {}, "logspace: expected numbers > 0, got 0 and 1"),
        ({"seed": {"range": [0, 10**12]}}, {}, "range: 1,000,000,000,000 values"),
        ({"seed": {"range": [-(2**62), 2**62, 3]}}, {}, "range: 3,074,457,345,618,258,603 values"),
        ({"seed": {"range": [5, 0]}}, {}, "range: 0 values"),
        ({"seed": {"range": [0, 5, 0]}}, {}, "range: the step is 0"),
        ({"rate": {"uniform": [1, 1]}}, {}, "uniform: expected low < high"),
        ({"seed": {"uniform": [0, 5]}}, {}, "sweep.axes.seed: expected an int, got the float"),
        ({"start.0": [1], "start": [[1, 2]]}, {}, "sweep.axes.start.0: start is swept as a whole"),
        ({"start.00": [1]}, {}, "'00' not the index of an element"),
        ({"start.2": [1]}, {}, "sweep.axes.start.2: start has 2 elements"),
        ({"rate.0": [1]}, {}, "sweep.axes.rate.0: rate is not a tuple"),
        ({"start.x": [1]}, {}, "not the index of an element"),
        ({"rate": [1]}, {"mode": 1}, "sweep.mode: unknown key"),
        ({"rate": [1]}, {"samples": 0}, "sweep.samples: expected a whole number from 1 to 1,000,000, got 0"),
        ({"rate": [1]}, {"sampler": "halton"}, 'sweep.sampler: expected "sobol" or "random"'),
        ({"rate": [1]}, {"zip": 3}, "sweep.zip: expected lists of axes"),
        ({"rate": [1]}, {"zip": [["rate", "seed"]]}, "sweep.zip: seed: no axis with values"),
        ({"rate": [1], "seed": [1, 2]}, {"zip": ["rate", "seed"]}, "axes of different lengths: rate has 1"),
        ({"rate": [1]}, {"zip": [["rate"], ["rate"]]}, "sweep.zip: rate: comes twice"),
        ({"rate": [1]}, {"order": ["seed"]}, "sweep.order: expected every axis once"),
        ({"rate": {"range": [0, 10**4]}, "seed": {"range": [0, 10**4]}}, {}, "more than 1,000,000 points"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(axes, more, says):
    with pytest.raises(study.StudyInputError) as caught:
        points(axes, **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["linspace", "logspace", "range", "uniform", "loguniform", "integers", "x"])
specs = trees | st.dictionaries(
    kinds, st.lists(st.integers(-5, 30) | scalars, max_size=4), min_size=1, max_size=1
)
keys = st.sampled_from(
    ["rate", "seed", "kind", "hidden", "start", "start.0", "start.9", "data", "dtype", "no"]
)


@pytest.mark.slow
@given(
    st.dictionaries(keys, specs, max_size=3) | trees,
    st.dictionaries(st.sampled_from(["zip", "samples", "sampler", "sample_seed", "trace", "order"]), trees),
)
def test_no_table_whatever_ends_otherwise_than_in_points_or_one_line(axes, more):
    if isinstance(more.get("samples"), int):
        more["samples"] = more["samples"] % 100
    with contextlib.suppress(study.StudyInputError):
        for point in points(axes, **more)[:50]:
            with_values(Config(), point, "")


@given(st.text(max_size=40) | st.builds("rate={}".format, st.text(max_size=30)))
def test_no_flag_whatever_ends_otherwise_than_in_an_axis_or_one_line(text):
    with contextlib.suppress(study.StudyInputError):
        key, _ = read_axis_flag(text)
        assert key
