"""The program of a stream: compiled once, kept for later calls, without the data that went through it."""

import gc
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as parquet
import pytest

import jaxopt_study as jos
from jaxopt_study.fit.stream import curve_fit_stream
from jaxopt_study.fit.stream_program import _fit_block

T = np.linspace(0.0, 1.0, 6)
draw = np.random.default_rng(2)
Y = draw.uniform(1, 2, (23, 1)) + draw.uniform(1, 2, (23, 1)) * T + 0.01 * draw.normal(size=(23, 6))
START = {"a": 0.0, "b": 1.0}


def line(p, x):
    return p["a"] + p["b"] * x


@pytest.mark.slow
def test_a_second_call_compiles_nothing_and_numbers_are_no_part_of_the_program(count_traces):
    counted = count_traces(line)

    def run(y=Y, params=START, **options):
        given = {
            "loss": "huber",
            "loss_scale": 1.0,
            "sigma": 0.1,
            "xtol": 1e-6,
            "bounds": (-9, {"a": 9, "b": 9}),
        }
        done = curve_fit_stream(counted.fn, T, y, params, block=8, **{**given, **options})
        assert done.converged == done.fits
        return done

    run()
    traced, programs = counted.count, _fit_block._cache_size()
    run()
    run(y=Y[:5], params={"a": 1.0, "b": 2})
    run(xtol=0, loss_scale=2, sigma=np.full(6, 0.3), max_steps=50, damping=1)
    run(bounds=({"a": -8.0, "b": None}, np.inf))
    run(y=[Y[:3], Y[3:]])
    assert (counted.count, _fit_block._cache_size()) == (traced, programs)
    # What is structure is compiled for.
    run(loss="cauchy")
    assert _fit_block._cache_size() == programs + 1


@pytest.mark.slow
def test_neither_x_nor_the_data_are_kept_after_the_call():
    x, y = jnp.asarray(T), np.array(Y)
    gone = [weakref.ref(x), weakref.ref(y)]
    curve_fit_stream(line, x, y, START, block=8)
    del x, y
    gc.collect()
    assert [one() for one in gone] == [None, None]


@pytest.mark.slow
def test_a_covariance_of_the_points_is_that_of_the_single_fit_missing_points_too():
    sigma = 0.01**2 * np.exp(-np.abs(T[:, None] - T[None, :]))
    missing = np.array(Y)
    missing[20, 3] = np.nan
    done = curve_fit_stream(line, T, missing, START, block=8, sigma=sigma, absolute_sigma=True)
    for k in (2, 20):
        one = jos.curve_fit(line, T, missing[k], START, sigma=sigma, absolute_sigma=True)
        np.testing.assert_allclose(done.columns["b"][k], one.params["b"], rtol=1e-8)
        np.testing.assert_allclose(done.columns["b_stderr"][k], one.stderr["b"], rtol=1e-6)


@pytest.mark.slow
def test_half_precision_and_whole_numbers_are_fitted_in_full_precision():
    known = curve_fit_stream(line, T, Y, START, block=8).columns["b"]
    for y, scale in [(Y.astype(np.float16), 1), (np.round(1000 * Y).astype(np.int32), 1000)]:
        done = curve_fit_stream(line, T, y, START, block=8)
        assert done.columns["b"].dtype == np.float64
        np.testing.assert_allclose(done.columns["b"] / scale, known, rtol=5e-3)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_a_hundred_thousand_images_from_a_memory_mapped_file_need_less_than_one_gibibyte():
    code = "from jaxopt_study.bench.suites.batch_memory import run_memory; print(run_memory(100_000))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0].startswith("100000 fits of 225 points from a memory-mapped file, 100000 converged")
    assert 0 < int(said[-1]) < 2**30


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sigma": -1.0}, ValueError, "sigma: expected positive"),
        ({"bounds": (5.0, 6.0)}, ValueError, "starts outside its bounds"),
        ({"xtol": "small"}, TypeError, "xtol: expected a number"),
        ({"max_steps": -1}, ValueError, "max_steps: expected a whole number"),
        ({"loss": "hubert"}, ValueError, "loss: expected one of"),
        ({"x_axes": 0}, TypeError, "x_axes: curve_fit_stream takes no such option"),
        ({"speed": 1}, TypeError, "speed: curve_fit_stream takes no such option"),
        ({"dtype": np.float16}, TypeError, "dtype: expected float32 or float64"),
        ({"workers": 0}, ValueError, "workers: expected a whole number"),
    ],
)
def test_bad_options_are_named_before_anything_is_fitted(tmp_path, options, error, says):
    out = tmp_path / "fits.parquet"
    with pytest.raises(error, match=says):
        curve_fit_stream(line, T, Y, START, block=8, out=out, progress=pytest.fail, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_from_the_keyboard_leaves_no_file_or_the_one_before(tmp_path):
    out = tmp_path / "fits.parquet"

    def interrupt(pace):
        if pace.done > 8:
            raise KeyboardInterrupt

    for before in (None, b"results of yesterday"):
        if before is not None:
            out.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            curve_fit_stream(line, T, Y, START, block=8, out=out, progress=interrupt)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


ENDLESS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background
import numpy as np
from jaxopt_study.fit.stream import curve_fit_stream
def blocks():
    while True:
        yield np.random.default_rng(0).normal(size=(8, 6))
        time.sleep(0.01)
told = lambda pace: print(pace.done, flush=True)
line = lambda p, x: p["a"] + p["b"] * x
start = {"a": 0.0, "b": 1.0}
curve_fit_stream(line, np.arange(6.0), blocks(), start, block=8, out=sys.argv[1], progress=told)
"""


@pytest.mark.slow
def test_killed_while_it_writes_it_leaves_the_results_of_before(tmp_path):
    out = tmp_path / "fits.parquet"
    curve_fit_stream(line, T, Y, START, block=8, out=out)
    for how in (signal.SIGKILL, signal.SIGINT):
        command = [sys.executable, "-c", ENDLESS, str(out)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as running:
            while int(running.stdout.readline()) < 80:
                pass
            assert len(list(tmp_path.iterdir())) >= 2  # it is being written
            running.send_signal(how)
            running.wait(60)
        assert parquet.read_table(out).num_rows == 23
    # What SIGINT interrupts is cleared away; after SIGKILL nobody can.
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
