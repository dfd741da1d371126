"""Batches from files and iterators: the same results as in memory, a file whole or not at all."""

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import jaxopt_study as jos
from jaxopt_study.fit.blocks import read_blocks
from jaxopt_study.fit.stream import Pace, curve_fit_stream

FITS = 23
T = np.linspace(0.0, 1.0, 6)
draw = np.random.default_rng(1)
Y = draw.uniform(1, 2, (FITS, 1)) + draw.uniform(1, 2, (FITS, 1)) * T + 0.01 * draw.normal(size=(FITS, 6))
START = {"a": 0.0, "b": 1.0}


def line(p, x):
    return p["a"] + p["b"] * x


@pytest.fixture(scope="module")
def known():
    with jax.enable_x64(True):
        return jos.curve_fit_batch(line, T, Y, START, params_axes=None)


def sources(folder):
    np.save(folder / "y.npy", Y)
    parquet.write_table(pa.table({"curve": list(Y)}), folder / "y.parquet", row_group_size=5)
    return {
        "array": Y,
        "memory-mapped": np.load(folder / "y.npy", mmap_mode="r"),
        "npy": folder / "y.npy",
        "parquet": str(folder / "y.parquet"),
        "iterator": iter([Y[:3], Y[3:20], Y[20:]]),
    }


@pytest.mark.slow
def test_every_source_gives_the_results_of_the_batch_in_its_order(tmp_path, known):
    for name, source in sources(tmp_path).items():
        done = curve_fit_stream(line, T, source, START, block=8)
        assert (done.fits, done.converged) == (FITS, FITS), name
        np.testing.assert_allclose(done.columns["b"], known.params["b"], rtol=1e-9)
        np.testing.assert_allclose(done.columns["b_stderr"], known.stderr["b"], rtol=1e-6)
        np.testing.assert_array_equal(done.columns["status"], known.status)


@pytest.mark.slow
def test_results_go_to_a_file_whole_or_not_at_all_and_progress_is_told(tmp_path, known):
    out, told = tmp_path / "fits.parquet", []
    done = curve_fit_stream(line, T, Y, START, out=out, block=8, workers=1, progress=told.append)
    assert done.columns is None
    table = parquet.read_table(out)
    names = ["a", "a_stderr", "b", "b_stderr", "cost", "reduced_chi2", "status", "num_steps"]
    assert table.column_names == names
    np.testing.assert_allclose(table["a"].to_numpy(), known.params["a"], rtol=1e-9)
    assert [pace.done for pace in told] == [8, 16, 23]
    assert told[-1].seconds_left == 0
    before = out.read_bytes()

    def breaks():
        yield Y
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        curve_fit_stream(line, T, breaks(), START, out=out, block=8)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fits.parquet"]


@pytest.mark.slow
def test_blocks_may_come_in_one_buffer_that_is_filled_again_and_again(known):
    def camera():
        buffer = np.empty((3, 6))
        for first in range(0, 21, 3):
            buffer[:] = Y[first : first + 3]
            yield buffer

    for block in (3, 8):
        done = curve_fit_stream(line, T, camera(), START, block=block, workers=2)
        np.testing.assert_allclose(done.columns["b"], known.params["b"][:21], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_fn": lambda p, x: p["cost"] + x, "params": {"cost": 0.0}}, "would be called 'cost'"),
        (
            {"model_fn": lambda p, x: p["a"] + p["a_stderr"] * x, "params": {"a": 0.0, "a_stderr": 1.0}},
            "would be called 'a_stderr'",
        ),
        ({"sigma": np.ones((8, 6))}, "sigma: expected those of one data set"),
        ({"weights": np.ones((1, 6))}, "weights: expected those of one data set"),
    ],
)
def test_what_would_mix_up_columns_or_blocks_is_refused(change, says):
    given = {"model_fn": line, "params": START} | change
    with pytest.raises(ValueError, match=says):
        curve_fit_stream(given.pop("model_fn"), T, Y, given.pop("params"), block=8, **given)


def test_a_file_that_cannot_be_written_or_holds_the_data_is_named_before_anything_is_fitted(tmp_path):
    data = tmp_path / "y.npy"
    np.save(data, Y)
    before = data.read_bytes()
    for out, error, says in [
        (tmp_path, IsADirectoryError, "is a folder"),
        (tmp_path / "none" / "out.parquet", FileNotFoundError, "no such folder"),
        (data, ValueError, "holds the data"),
    ]:
        with pytest.raises(error, match=says):
            curve_fit_stream(line, T, data, START, out=out, progress=lambda _: pytest.fail("fitted"))
    assert data.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


@pytest.mark.slow
def test_starts_may_be_found_from_the_data():
    done = curve_fit_stream(line, T, Y, lambda y: {"a": y[:, 0], "b": y[:, -1] - y[:, 0]}, block=32)
    assert done.converged == FITS


@pytest.mark.slow
def test_float32_data_are_fitted_in_float32_without_x64(known):
    with jax.enable_x64(False):
        done = curve_fit_stream(line, T.astype("float32"), Y.astype("float32"), START, block=8)
    assert done.columns["b"].dtype == np.float32
    np.testing.assert_allclose(done.columns["b"], known.params["b"], rtol=1e-4)


def test_pace_tells_the_time_left():
    pace = Pace(done=10, total=40, seconds=2.0)
    assert (pace.fits_per_second, pace.seconds_left) == (5.0, 6.0)
    assert np.isnan(Pace(10, None, 2.0).seconds_left)


def test_blocks_are_regrouped_and_only_the_last_is_shorter():
    blocks, total = read_blocks(iter([Y[:1], Y[1:12], Y[12:]]), 5)
    sizes = [len(block) for block in blocks]
    assert (sizes, total) == ([5, 5, 5, 5, 3], None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("y", "error", "says"),
    [
        ("nowhere.npy", FileNotFoundError, "no such file"),
        (np.zeros(3), ValueError, r"expected shape \(fits"),
        (np.zeros((2, 3), "<U3"), TypeError, "expected real numbers"),
        (iter([]), ValueError, "no data sets"),
        (iter([np.zeros((2, 6)), np.zeros((2, 5))]), ValueError, "where others have"),
        (3.0, TypeError, "expected an array"),
    ],
)
def test_bad_data_are_named(y, error, says):
    with pytest.raises(error, match=says):
        curve_fit_stream(line, T, y, START, block=8)
