"""One problem over eight devices, and over two processes; see `over_devices.py`, which each test runs."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy.optimize import least_squares

import jaxopt_study as jos
from jaxopt_study.layout import rows_of

SCRIPT = Path(__file__).with_name("over_devices.py")
ROOT = SCRIPT.parents[2]


@contextlib.contextmanager
def running(*words):
    devices = 4 if words[0] == "processes" else 8
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(process, seconds=300):
    out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(out.splitlines()[-1])


def found_by(*words):
    with running(*words) as process:
        return answer(process)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["answers", "more_answers"])
def test_an_answer_over_eight_devices_is_that_of_one(mode):
    found = found_by(mode)
    assert len(found) == {"answers": 6, "more_answers": 10}[mode]
    for name, fit in found.items():
        # A flat direction of the minimum magnifies rounding errors; float32 has seven digits.
        allowed = {"float32": 1e-5, "float32, odd units": 1e-5, "cauchy": 1e-9}
        assert fit["worst"] < allowed.get(name, 1e-11), name
        assert fit["steps"][0] == fit["steps"][1], name


@pytest.mark.slow
def test_a_step_is_one_all_reduce_and_a_trial_one_scalar():
    found = found_by("program")
    # JᵀJ (9), Jᵀr (3), the value, and sums of squares of the residual in two units; in float32 in three,
    # and of the columns too.
    for dtype, message in {"float64": 9 + 3 + 1 + 2, "float32": 9 + 3 + 1 + 3 + 3 * 3}.items():
        always = [each for each in found[dtype] if not each["branch"]]
        # The value at the start, what a step sends, what a trial does.
        assert sorted((each["kind"], each["elements"]) for each in always) == [
            ("all-reduce", size) for size in (1, 1, message)
        ]
        assert len({each["inside"] for each in always}) == 3, "each in a loop of its own"
        # Where Cholesky fails the triangles of a QR on each device go round, and no row of the Jacobian does;
        # where float32 lost the products they are summed once more.
        seldom = sorted((each["kind"], each["elements"]) for each in found[dtype] if each["branch"])
        again = [("all-reduce", 9 + 3)] if dtype == "float32" else []
        assert seldom == [("all-gather", 8 * 4 * 4), *again]


@pytest.mark.slow
def test_one_scalar_a_trial_is_enough_for_the_value_and_for_its_fall():
    found = found_by("values")
    one, devices = found["one"], found["devices"]
    assert devices["left"] < 1e-25
    # A difference of values would be known to one part in a million.
    assert 0 < one["fall"] / one["value"] < 1e-9
    assert devices["fall"] == pytest.approx(one["fall"], rel=3e-7)


@pytest.mark.slow
def test_ten_million_residuals_over_eight_devices():
    found = found_by("large")
    assert found["devices"] == 8
    assert found["held"] == [1 / 8, 1 / 8]
    assert found["worst"] < 1e-11
    assert found["steps"][0] == found["steps"][1]


@pytest.mark.slow
def test_two_processes_fit_their_halves_together():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running("processes", port, 0) as first, running("processes", port, 1) as second:
        found = [answer(first), answer(second)]
    assert found[0] == found[1]
    assert found[0]["devices"] == 8
    x = np.linspace(0.0, 4.0, 4000)
    noise = 0.05 * np.sin(1e4 * x) + 0.05 * np.random.default_rng(0).standard_normal(4000)
    y = 3.0 * np.exp(-0.5 * x) + 0.2 + noise
    expected = least_squares(
        lambda p: p[0] * np.exp(-p[2] * x) + p[1] - y, [1.0, 0.0, 1.0], xtol=1e-12, ftol=1e-12, gtol=1e-12
    )
    np.testing.assert_allclose([found[0]["params"][name] for name in "ack"], expected.x, rtol=1e-7)


def test_data_on_one_device_is_laid_out_nowhere():
    assert rows_of((np.zeros(8), jnp.zeros(8), None, "words")) is None


@pytest.mark.slow
def test_explicit_axes_over_one_device_are_no_obstacle():
    rows = NamedSharding(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]), PartitionSpec("data"))
    x = jax.device_put(np.linspace(0.0, 4.0, 8), rows)
    residual = lambda p, x: p[0] * jnp.exp(-p[1] * x) - 3.0 * jnp.exp(-0.5 * x)  # noqa: E731
    np.testing.assert_allclose(jos.least_squares(residual, jnp.ones(2), (x,)).params, [3.0, 0.5], rtol=1e-9)
