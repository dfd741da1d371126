"""Many fits in one call: each equals the single fit, and none touches another."""

import functools
import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos
from jaxopt_study.fit.raveled import raveled
from jaxopt_study.fit.slots import choose_slots
from jaxopt_study.models import gaussian_spot
from jaxopt_study.result import Status

FITS = 24
T = np.linspace(0.0, 4.0, 12)
draw = np.random.default_rng(7)
RATES = draw.uniform(0.3, 2.0, FITS)
Y = 3.0 * np.exp(-RATES[:, None] * T) + 0.5 + 0.05 * draw.normal(size=(FITS, T.size))
START = {"a": 2.0, "k": 1.0, "c": 0.0}


def decay(p, t):
    return p["a"] * jnp.exp(-p["k"] * t) + p["c"]


def residual(p, t, y):
    return decay(p, t) - y


def start(dtype=float):
    return {name: jnp.asarray(value, dtype) for name, value in START.items()}


@functools.partial(jax.jit, static_argnames="slots")
def fit_all(y, slots=5, **options):
    args = (jnp.asarray(T, y.dtype), y)
    return jos.least_squares_batch(
        residual, start(y.dtype), args, params_axes=None, args_axes=(None, 0), slots=slots, **options
    )


@jax.jit
def fit_each(y, **options):
    def one(y):
        args = (jnp.asarray(T, y.dtype), y)
        lm = jos.levenberg_marquardt()  # whose damping is that of a lane
        return jos.least_squares(residual, start(y.dtype), args, optimizer=lm, **options)

    return jax.lax.map(one, y)


@pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
def test_every_lane_ends_as_the_single_fit_does_with_its_own_count_of_steps(precision):
    y = jnp.asarray(Y, precision)
    many, each = fit_all(y), fit_each(y)
    np.testing.assert_array_equal(many.num_steps, each.num_steps)
    assert len(set(np.asarray(many.num_steps).tolist())) > 1
    if precision == "float64":  # in float32 several tests hold at once, and rounding says which is first
        np.testing.assert_array_equal(many.status, each.status)
    assert np.all(many.converged & each.converged)
    tolerance = 1e3 * float(jnp.finfo(precision).eps)
    for name in START:
        assert many.params[name].dtype == precision
        np.testing.assert_allclose(many.params[name], each.params[name], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(many.value, each.value, rtol=tolerance)


def test_minima_are_those_that_scipy_finds():
    many = fit_all(jnp.asarray(Y))
    for k in range(0, FITS, 6):

        def fn(p, k=k):
            return p[0] * np.exp(-p[2] * T) + p[1] - Y[k]

        known = scipy.optimize.least_squares(fn, [2.0, 0.0, 1.0], xtol=1e-14, ftol=1e-14, gtol=1e-14)
        found = [many.params[name][k] for name in ("a", "c", "k")]
        np.testing.assert_allclose(found, known.x, rtol=1e-6)
        np.testing.assert_allclose(many.value[k], known.cost, rtol=1e-10)


def test_a_hostile_lane_changes_no_bit_of_another_and_has_its_own_status():
    hostile = np.array(Y)
    hostile[3] = np.nan
    hostile[8] = np.inf
    hostile[11, 5] = np.nan
    hostile[15] = 1e200
    hostile[FITS - 1] = -np.inf
    clean, dirty = fit_all(jnp.asarray(Y)), fit_all(jnp.asarray(hostile))
    bad = np.array([3, 8, 11, 15, FITS - 1])
    others = np.setdiff1d(np.arange(FITS), bad)
    for before, after in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(np.asarray(before)[others], np.asarray(after)[others])
    assert [Status(int(dirty.status[k])) for k in (3, 8, 11, FITS - 1)] == [Status.NON_FINITE_START] * 4


@pytest.mark.slow
def test_an_endless_lane_takes_all_its_steps_and_changes_no_bit_of_another():
    endless = np.array(Y)
    endless[2] = 1e-3 * np.exp(T)  # the model cannot rise
    limits = {"xtol": 1e-10, "ftol": 0.0, "gtol": 0.0, "max_steps": 100}
    clean, dirty = (fit_all(jnp.asarray(data), **limits) for data in (Y, endless))
    others = np.delete(np.arange(FITS), 2)
    for before, after in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(np.asarray(before)[others], np.asarray(after)[others])
    assert dirty.num_steps[2] > 3 * np.max(clean.num_steps)


@pytest.mark.parametrize("slots", [1, pytest.param(FITS, marks=pytest.mark.slow)])
def test_the_number_of_slots_changes_no_result(slots):
    few, other = fit_all(jnp.asarray(Y)), fit_all(jnp.asarray(Y), slots=slots)
    np.testing.assert_array_equal(few.num_steps, other.num_steps)
    np.testing.assert_allclose(few.params["k"], other.params["k"], rtol=1e-9)


@pytest.mark.slow
def test_bounds_hold_in_every_lane_as_in_the_single_fit():
    bounds = ({"a": 0.0, "k": 0.6, "c": 0.1}, {"a": 10.0, "k": 1.5, "c": 0.52})
    begin = {"a": jnp.full(FITS, 2.0), "k": jnp.full(FITS, 1.0), "c": jnp.full(FITS, 0.2)}
    args = (jnp.asarray(T), jnp.asarray(Y))
    many = jos.least_squares_batch(residual, begin, args, args_axes=(None, 0), bounds=bounds)
    one = jax.jit(lambda y: jos.least_squares(residual, start() | {"c": 0.2}, (args[0], y), bounds=bounds))
    assert np.any(many.active["k"] == -1)
    assert np.any(many.active["k"] == 1)
    for k in range(FITS):
        each = one(args[1][k])
        np.testing.assert_array_equal(
            [many.active[name][k] for name in START], [each.active[n] for n in START]
        )
        for name in START:
            np.testing.assert_allclose(many.params[name][k], each.params[name], rtol=1e-6)


@pytest.mark.slow
def test_a_robust_loss_is_that_of_the_single_fit_and_leaves_outliers_out():
    spoiled = np.array(Y)
    spoiled[:, 4] += 30.0
    loss = {"loss": "cauchy", "loss_scale": 0.1}
    args = (jnp.asarray(T), jnp.asarray(spoiled))
    many = jos.least_squares_batch(
        residual, start(), args, params_axes=None, args_axes=(None, 0), **loss, ftol=1e-14
    )
    for k in range(0, FITS, 5):
        one = jos.least_squares(residual, start(), (args[0], args[1][k]), **loss, ftol=1e-14)
        np.testing.assert_allclose(many.params["k"][k], one.params["k"], rtol=1e-5)
    assert np.median(np.abs(np.asarray(many.params["k"]) - RATES) / RATES) < 0.1


@pytest.mark.slow
def test_more_parameters_than_are_written_out_go_through_lapack():
    powers = np.linspace(-1, 1, 30)[:, None] ** np.arange(11)
    wanted = draw.normal(size=(6, 11))
    args = (jnp.asarray(powers), jnp.asarray(wanted @ powers.T))
    many = jos.least_squares_batch(
        lambda p, a, y: a @ p - y, jnp.zeros((6, 11)), args, args_axes=(None, 0), gtol=0.0
    )
    np.testing.assert_allclose(many.params, wanted, atol=1e-6)


@pytest.mark.slow
def test_units_in_float32_whose_squares_overflow_are_fitted():
    with jax.enable_x64(False):
        scale = jnp.array([1e-22, 1.0, 1e22], jnp.float32)
        y = 3.0 * jnp.asarray(T, jnp.float32) + 1.0

        def fn(p, scale):
            return p["a"] * (jnp.asarray(T, jnp.float32) / scale) + p["b"] - y

        begin = {"a": scale * jnp.array([1.0, 1.0, 1.0], jnp.float32), "b": jnp.zeros(3, jnp.float32)}
        many = jos.least_squares_batch(fn, begin, (scale,))
    np.testing.assert_allclose(np.asarray(many.params["a"]) / np.asarray(scale), 3.0, rtol=1e-4)
    np.testing.assert_allclose(many.params["b"], 1.0, rtol=1e-3)


@pytest.mark.slow
def test_residuals_in_float32_whose_squares_are_lost_are_never_called_converged_where_they_are_not():
    with jax.enable_x64(False):
        t = jnp.asarray(T, jnp.float32)
        y = 3.0 * jnp.exp(-jnp.asarray([0.5, 1.0, 2.0], jnp.float32)[:, None] * t[None, :])

        def fn(p, y, unit):
            return unit * (p["a"] * jnp.exp(-p["k"] * t) - y)

        fit = functools.partial(
            jos.least_squares_batch,
            fn,
            {"a": jnp.float32(2.0), "k": jnp.float32(1.0)},
            params_axes=None,
            args_axes=(0, None),
        )
        fitted, lost = fit((y, jnp.float32(1e-18))), fit((y, jnp.float32(1e-22)))
    np.testing.assert_allclose(fitted.params["k"], [0.5, 1.0, 2.0], rtol=1e-3)
    np.testing.assert_array_equal(lost.status, [Status.STALLED] * 3)


@pytest.mark.slow
def test_a_loss_goes_into_a_least_squares_without_one_as_in_the_single_fit():
    fit = functools.partial(jos.least_squares_batch, params_axes=None, args_axes=(None, 0), slots=5)
    args = (jnp.asarray(T), jnp.asarray(Y))
    options = {"loss": "huber", "loss_scale": 0.1}
    inside = fit(jos.LeastSquares(residual, **options), start(), args)
    beside = fit(jos.LeastSquares(residual), start(), args, **options)
    np.testing.assert_array_equal(inside.params["k"], beside.params["k"])
    with pytest.raises(ValueError, match="loss: is 'tukey' here"):
        fit(jos.LeastSquares(residual, **options), start(), args, loss="tukey")


@pytest.mark.slow
def test_derivatives_of_the_solutions_are_finite_differences():
    y = jnp.asarray(Y[:3])

    def total(y):
        result = jos.least_squares_batch(
            residual,
            start(),
            (jnp.asarray(T), y),
            params_axes=None,
            args_axes=(None, 0),
            gtol=1e-13,
            ftol=0.0,
        )
        return jnp.sum(result.params["k"] ** 2)

    slope = jax.grad(total)(y)
    total = jax.jit(total)
    for place in [(0, 2), (2, 7)]:
        step = 1e-5
        difference = (total(y.at[place].add(step)) - total(y.at[place].add(-step))) / (2 * step)
        np.testing.assert_allclose(slope[place], difference, rtol=1e-5)


@pytest.mark.slow
def test_changing_numbers_compiles_nothing(count_traces):
    counted = count_traces(residual)
    args = (jnp.asarray(T), jnp.asarray(Y))
    fit = functools.partial(
        jos.least_squares_batch, counted.fn, start(), args, params_axes=None, args_axes=(None, 0)
    )
    fit(xtol=1e-6, damping=1e-3, max_steps=10)
    before = counted.count
    fit(xtol=1e-7, damping=1.0, max_steps=20)
    assert counted.count == before


@pytest.mark.parametrize("fits", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_few_fits_and_no_steps_are_a_batch_too(fits):
    many = fit_all(jnp.asarray(Y[:fits]), slots=50, max_steps=0)
    np.testing.assert_array_equal(many.status, [Status.OUT_OF_STEPS] * fits)
    np.testing.assert_array_equal(many.params["k"], [START["k"]] * fits)
    many = fit_all(jnp.asarray(Y[:fits]), slots=50, max_steps=100)
    np.testing.assert_array_equal(many.num_steps, fit_all(jnp.asarray(Y)).num_steps[:fits])


@pytest.mark.slow
def test_under_vmap_every_batch_of_batches_ends_as_alone():
    y = jnp.stack([jnp.asarray(Y), jnp.asarray(Y) + 0.05])
    both = jax.vmap(fit_all)(y)
    for k in range(2):
        alone = fit_all(y[k])
        np.testing.assert_array_equal(both.num_steps[k], alone.num_steps)
        np.testing.assert_allclose(both.params["k"][k], alone.params["k"], rtol=1e-9)


@pytest.mark.slow
def test_a_broken_promise_to_be_pointwise_is_refused_and_one_that_is_kept_changes_nothing():
    powers = np.linspace(-1, 1, 30)[:, None] ** np.arange(11)
    args = (jnp.asarray(powers), jnp.asarray(draw.normal(size=(6, 11)) @ powers.T))

    def kept(p, a, y):
        return a @ p - y

    def broken(p, a, y):
        return a @ p - y + jnp.mean(y)

    fit = functools.partial(
        jos.least_squares_batch, params=jnp.zeros((6, 11)), args=args, args_axes=(None, 0)
    )
    plain, pointwise = fit(kept), fit(jos.LeastSquares(kept, pointwise=True))
    np.testing.assert_allclose(pointwise.params, plain.params, atol=1e-6)
    with pytest.raises(ValueError, match="pointwise=True: a residual uses more than its own row"):
        fit(jos.LeastSquares(broken, pointwise=True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"params_axes": 1}, "params_axes: expected 0 or None"),
        ({"params_axes": 0}, r"params\['a'\]: a scalar has no leading axis"),
        ({"args_axes": (None, None)}, "leading axis of at least one fit"),
        ({"args_axes": (0, 0)}, "fits where"),
        ({"slots": 0}, "slots: expected a whole number"),
        ({"damping": -1.0}, "damping: expected a number > 0"),
        ({"bounds": (5.0, 6.0)}, "starts outside its bounds"),
        ({"max_steps": -1}, "max_steps: expected a whole number"),
        ({"max_steps": True}, "max_steps: expected a whole number"),
        ({"max_steps": "3"}, "max_steps: expected a whole number"),
        ({"max_trials": np.arange(3)}, r"max_trials: .* the same for all fits, got shape \(3,\)"),
        ({"damping": np.float32(-1)}, "damping: expected a number > 0"),
        ({"xtol": "small"}, "xtol: expected a number"),
        ({"gtol": float("nan")}, "gtol: expected a number"),
        (
            {"args": (jnp.asarray(T), np.array([["a"] * 12] * FITS))},
            r"args\[1\]: expected an array of numbers",
        ),
        ({"args": [jnp.asarray(T), jnp.asarray(Y)]}, "args: expected a tuple"),
        ({"args": (jnp.asarray(T), jnp.zeros((0, 12)))}, r"args\[1\]: .* at least one fit"),
        ({"loss": "hubert"}, "loss: expected one of"),
    ],
)
def test_bad_input_is_named_before_anything_is_computed(change, says):
    options = {"params_axes": None, "args_axes": (None, 0), "args": (jnp.asarray(T), jnp.asarray(Y))} | change
    with pytest.raises((ValueError, TypeError), match=says):
        # Without the checks of annotations that the tests put around it: a user has none.
        inspect.unwrap(jos.least_squares_batch)(residual, start(), options.pop("args"), **options)


def test_slots_fill_the_cache_and_no_more():
    assert choose_slots(225, 5, "float32", "cpu") * 225 * 8 * 4 <= 2**20
    assert choose_slots(10**7, 5, "float64", "cpu") == 16
    assert choose_slots(1, 1, "float32", "cpu") <= 2048
    assert choose_slots(225, 5, "float32", "gpu") > 50_000


@pytest.mark.slow
def test_work_on_vectors_gives_the_same_numbers_as_work_on_images():
    grid = gaussian_spot.pixels((4, 5))
    image = jnp.asarray(draw.normal(size=(4, 5)))

    def mixed(p, image):
        model = gaussian_spot.apply(p, grid)
        rolled = jnp.cumsum(jnp.where(image > 0, model, -model), axis=0) @ image.T
        return {
            "rolled": rolled,
            "sum": jnp.sum(jnp.log(model) * image, axis=1),
            "soft": jax.nn.softplus(image),
        }

    p = gaussian_spot.init(3.0, 1.0, 2.0, 1.5, 0.5)
    for plain, other in zip(*map(jax.tree.leaves, (mixed(p, image), raveled(mixed)(p, image))), strict=True):
        np.testing.assert_allclose(other, plain, rtol=1e-12)


ON_TWO_DEVICES = """
import jax, numpy as np, jax.numpy as jnp
import jaxopt_study as jos
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
assert len(jax.devices()) == 2
t = jnp.linspace(0.0, 4.0, 12)
y = 3.0 * jnp.exp(-jnp.linspace(0.3, 2.0, 24)[:, None] * t)
residual = lambda p, t, y: p["a"] * jnp.exp(-p["k"] * t) - y
fit = lambda y: jos.least_squares_batch(
    residual, {"a": 1.0, "k": 1.0}, (t, y), params_axes=None, args_axes=(None, 0), slots=5
)
one = fit(y)
many = fit(jax.device_put(y, NamedSharding(Mesh(np.array(jax.devices()), ("fits",)), P("fits"))))
assert len(many.params["k"].sharding.device_set) == 2
np.testing.assert_allclose(many.params["k"], one.params["k"], rtol=1e-5)
np.testing.assert_array_equal(many.num_steps, one.num_steps)

laid_out = jax.device_put(y, NamedSharding(Mesh(np.array(jax.devices()), ("fits",)), P("fits")))
most = np.where(np.arange(24) % 2, 0.4, 9.0)
curves = jos.curve_fit_batch(
    lambda p, t: p["a"] * jnp.exp(-p["k"] * t), t, laid_out, {"a": 1.0, "k": 0.1}, params_axes=None,
    bounds=({"a": 0.0, "k": None}, {"a": None, "k": most}), sigma=0.1 * np.eye(12) + 0.05,
)
assert len(curves.params["k"].sharding.device_set) == 2
np.testing.assert_array_equal(curves.at_bound["k"], (np.linspace(0.3, 2.0, 24) > 0.4) & (most < 1))

from jaxopt_study.fit import stream
used, run = set(), stream.run_program
stream.run_program = lambda *args: used.add(args[-1]) or run(*args)
done = stream.curve_fit_stream(
    lambda p, t: p["a"] * jnp.exp(-p["k"] * t), t, np.asarray(y), {"a": 1.0, "k": 1.0}, block=8
)
assert len(used) == 2
np.testing.assert_allclose(done.columns["k"], one.params["k"], rtol=1e-4)
"""


@pytest.mark.slow
def test_a_batch_laid_out_over_two_devices_and_a_stream_use_both_and_end_the_same():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
