"""What `curve_fit` promises beyond the numbers: transformations, missing points, dtypes, any pytree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jaxopt_study as jos

from .conftest import decay

START = {"a": jnp.array(4.0), "c": jnp.array(0.5), "k": jnp.array(1.0)}
TRUTH = {"a": 5.0, "c": 1.0, "k": 1.3}
X = np.linspace(0.0, 4.0, 12)


def many(count, seed=0, x=X):
    draw = np.random.default_rng(seed)
    return np.asarray(decay(TRUTH, x)) + 0.1 * draw.standard_normal((count, x.size))


def assert_alike(one, other, rtol=1e-7, atol=1e-9):
    """The arrays of two fits are the same; steps and evaluations may differ by rounding."""
    for field in dataclasses.fields(jos.Fit):
        if field.name not in ("num_steps", "num_evals", "status", "curve"):
            jax.tree.map(
                lambda a, b, name=field.name: np.testing.assert_allclose(
                    a, b, rtol=rtol, atol=atol, err_msg=name
                ),
                getattr(one, field.name),
                getattr(other, field.name),
            )
    assert np.all(one.converged == other.converged)


@pytest.mark.slow
def test_jit_and_vmap_are_loops():
    y = many(3)
    loop = [jos.curve_fit(decay, X, row, START) for row in y]
    jitted = jax.jit(lambda row: jos.curve_fit(decay, X, row, START))
    for one, row in zip(loop, y, strict=True):
        assert_alike(jitted(row), one)
    batch = jax.vmap(lambda row: jos.curve_fit(decay, X, row, START))(y)
    assert batch.status.shape == (3,)
    for index, one in enumerate(loop):
        assert_alike(batch[index], one)
    assert np.all(batch.message == "converged: the value no longer falls by more than the tolerance ftol")


@pytest.mark.slow
def test_what_a_batch_answers_is_what_its_fits_answer():
    y = many(3)
    loop = [jos.curve_fit(decay, X, row, START) for row in y]
    batch = jax.vmap(lambda row: jos.curve_fit(decay, X, row, START))(y)
    for ask in (
        lambda fit: fit.confidence_interval(0.9),
        lambda fit: fit.profile(0.9),
        lambda fit: fit.predict(X[:3], 0.9),
        lambda fit: fit.predict(X[:3]),
        lambda fit: (fit.correlation, fit.r_squared, fit.reduced_chi2, fit.aic, fit.bic),
    ):
        answers = ask(batch)
        for index, one in enumerate(loop):
            jax.tree.map(
                lambda a, b, i=index: np.testing.assert_allclose(a[i], b, rtol=1e-5), answers, ask(one)
            )


@pytest.mark.slow
def test_a_batch_over_x_sigma_and_starts():
    y = many(3)
    xs = np.stack([X, X + 0.1, X * 1.1])
    sigmas = np.array([0.1, 0.2, 0.3])[:, None] * np.linspace(1.0, 2.0, X.size)
    starts = jax.tree.map(lambda leaf: leaf * jnp.array([1.0, 0.9, 1.1]), START)

    def fit(x, y, sigma, start):
        return jos.curve_fit(decay, x, y, start, sigma=sigma, absolute_sigma=True)

    batch = jax.vmap(fit)(xs, y, sigmas, starts)
    for index in range(3):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], starts)
        assert_alike(batch[index], fit(xs[index], y[index], sigmas[index], one))


def test_other_data_compile_nothing(count_traces):
    model = count_traces(decay)
    y = many(3)
    for row in y:
        jos.curve_fit(model.fn, X, row, START, sigma=0.1)
        after = model.count
        jos.curve_fit(model.fn, X, row, jax.tree.map(lambda leaf: 0.9 * leaf, START), sigma=0.2)
    # Shapes are looked at without compiling: once for the model, once for the objective.
    assert model.count - after <= 2


def test_a_scale_of_the_loss_that_is_a_whole_number_compiles_nothing(count_traces):
    """BUG if it fails: 1 is an int, and another type than 1.0."""
    model = count_traces(decay)
    for scale in (1.0, 1, np.float64(1), np.int64(1)):
        before = model.count
        jos.curve_fit(model.fn, X, many(1)[0], START, loss="huber", loss_scale=scale)
    assert model.count - before <= 2  # shapes are looked at


@pytest.mark.parametrize(
    "errors",
    ["sigma", *(pytest.param(e, marks=pytest.mark.slow) for e in ("none", "covariance", "weights"))],
)
def test_missing_values_are_as_if_the_points_were_not_there(errors):
    (y,) = many(1)
    gone = np.array([2, 7, 11])
    keep = np.setdiff1d(np.arange(X.size), gone)
    holes = y.copy()
    holes[gone] = np.nan
    draw = np.random.default_rng(3)
    options, fewer = {}, {}
    if errors in ("sigma", "weights"):
        values = draw.uniform(0.5, 2.0, X.size)
        fewer[errors] = values[keep]
        values[gone[0]] = np.nan  # what is given for a missing point does not matter
        options[errors] = values
    elif errors == "covariance":
        matrix = 0.01 * 0.5 ** np.abs(np.subtract.outer(np.arange(X.size), np.arange(X.size)))
        options["sigma"], fewer["sigma"] = matrix, matrix[np.ix_(keep, keep)]
    whole = jos.curve_fit(decay, X, holes, START, **options)
    less = jos.curve_fit(decay, X[keep], y[keep], START, **fewer)
    assert (int(whole.num_points), int(whole.dof)) == (9, 6)
    assert np.all(np.isnan(whole.residuals[gone]))
    strip = lambda fit: dataclasses.replace(fit, residuals=fit.residuals[~np.isnan(fit.residuals)])  # noqa: E731
    assert_alike(strip(whole), strip(less))
    np.testing.assert_allclose([whole.r_squared, whole.aic], [less.r_squared, less.aic], rtol=1e-8)
    if errors == "covariance":
        ends = whole.profile(), less.profile()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *ends)


def test_a_weight_is_one_over_sigma_squared_and_zero_is_missing():
    (y,) = many(1)
    sigma = np.linspace(0.5, 2.0, X.size)
    assert_alike(
        jos.curve_fit(decay, X, y, START, weights=1 / sigma**2),
        jos.curve_fit(decay, X, y, START, sigma=sigma),
    )
    weights, holes = np.ones(X.size), y.copy()
    weights[4], holes[4] = 0.0, np.nan
    without = jos.curve_fit(decay, X, holes, START)
    assert_alike(jos.curve_fit(decay, X, y, START, weights=weights), without)
    assert int(without.num_points) == X.size - 1


def test_a_variance_of_the_errors_is_a_diagonal_covariance():
    (y,) = many(1)
    sigma = np.linspace(0.5, 2.0, X.size)
    assert_alike(
        jos.curve_fit(decay, X, y, START, sigma=np.diag(sigma**2)),
        jos.curve_fit(decay, X, y, START, sigma=sigma),
    )


@pytest.mark.slow
def test_both_precisions(precision):
    x = jnp.linspace(0.0, 4.0, 40)
    y = jnp.asarray(many(1, x=np.linspace(0.0, 4.0, 40))[0], precision)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, precision), START)
    fit = jos.curve_fit(decay, x, y, start, sigma=0.1)
    assert fit.converged
    for leaf in jax.tree.leaves((fit.params, fit.stderr, fit.covariance, fit.residuals, fit.cost)):
        assert leaf.dtype == precision
    for low, high, flat in zip(
        *map(jax.tree.leaves, (*fit.profile(), fit.confidence_interval())), strict=False
    ):
        assert low.dtype == high.dtype == flat.dtype == precision
    assert fit.predict(x, 0.95)[1].dtype == precision
    with jax.enable_x64(True):
        exact = jos.curve_fit(
            decay, np.asarray(x, float), np.asarray(y, float), jax.tree.map(np.float64, START), sigma=0.1
        )
        rtol = 1e-7 if precision == "float64" else 2e-3
        for name in ("params", "stderr"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol),
                getattr(fit, name),
                getattr(exact, name),
            )


@pytest.mark.slow
def test_several_outputs_and_a_pytree_of_x():
    t = np.linspace(0.0, 3.0, 8)
    group = np.array([0, 1, 2])

    def model(params, x):
        rate = params["rate"][x["group"]]
        return params["height"] * jnp.exp(-rate[None, :] * x["t"][:, None])

    truth = {"height": 2.0, "rate": np.array([0.5, 1.0, 2.0])}
    x = {"t": t, "group": group}
    y = np.asarray(model(jax.tree.map(jnp.asarray, truth), x)) + 0.01 * np.sin(np.arange(24.0)).reshape(8, 3)
    start = {"height": jnp.array(1.0), "rate": jnp.ones(3)}
    fit = jos.curve_fit(model, x, y, start, sigma=np.array([0.01, 0.01, 0.02]))
    assert fit.residuals.shape == (8, 3)
    np.testing.assert_allclose(fit.params["rate"], truth["rate"], atol=0.05)
    assert fit.covariance.shape == (4, 4)
    np.testing.assert_allclose(fit.stderr["rate"], np.sqrt(np.diagonal(fit.covariance))[1:], rtol=1e-12)
    middle, low, high = fit.predict(x, 0.95)
    assert middle.shape == low.shape == high.shape == (8, 3)
    assert int(fit.dof) == 20


def test_a_callable_pytree_is_traced_not_compiled_again(count_traces):
    (y,) = many(1)
    shifted = count_traces(lambda offset, params, x: decay(params, x) + offset)
    fits = [jos.curve_fit(Partial(shifted.fn, jnp.array(shift)), X, y, START) for shift in (0.0, 0.5)]
    before = shifted.count
    fits.append(jos.curve_fit(Partial(shifted.fn, jnp.array(1.0)), X, y, START))
    assert shifted.count - before <= 2
    offsets = [float(fit.params["c"]) for fit in fits]
    np.testing.assert_allclose(np.diff(offsets), -0.5, rtol=1e-6)


@pytest.mark.slow
def test_pointwise_is_the_same_fit():
    (y,) = many(1)
    sigma = np.linspace(0.5, 2.0, X.size)
    holes = np.where(np.arange(X.size) == 3, np.nan, y)
    assert_alike(
        jos.curve_fit(decay, X, holes, START, sigma=sigma, pointwise=True),
        jos.curve_fit(decay, X, holes, START, sigma=sigma),
    )
    fit = jos.curve_fit(decay, X, holes, START, sigma=sigma, pointwise=True)
    assert np.all(np.isfinite(jax.tree.leaves(fit.profile())))


def test_whole_numbers_for_y_and_python_numbers_for_parameters():
    x = np.arange(6.0)
    fit = jos.curve_fit(lambda p, x: p["a"] * x, x, [0, 2, 4, 7, 8, 9], {"a": 1.0})
    assert fit.residuals.dtype == np.float64
    np.testing.assert_allclose(fit.params["a"], x @ [0, 2, 4, 7, 8, 9] / (x @ x), rtol=1e-10)


def test_tied_and_fixed_parameters_are_a_function_of_the_pytree(line):
    """Two lines with one slope; the offset of the second is fixed in x."""
    _, x, y = line

    def two(params, x):
        return jnp.stack([params["a"] + params["b"] * x["t"], x["offset"] + params["b"] * x["t"]])

    data = np.stack([y, 3.0 + 2.0 * x])
    fit = jos.curve_fit(two, {"t": x, "offset": np.array(3.0)}, data, {"a": 0.0, "b": 0.0})
    design = np.block([[np.ones((6, 1)), x[:, None]], [np.zeros((6, 1)), x[:, None]]])
    expected, *_ = np.linalg.lstsq(design, np.concatenate([y, 2.0 * x]))
    np.testing.assert_allclose([fit.params["a"], fit.params["b"]], expected, rtol=1e-9)
    assert int(fit.dof) == 10


@pytest.mark.slow
def test_one_fit_is_not_a_batch(line):
    model, x, y = line
    fit = jos.curve_fit(model, x, y, {"a": 0.0, "b": 0.0})
    with pytest.raises(TypeError, match="not a batch"):
        fit[0]


@pytest.mark.slow
def test_a_point_missing_in_x_and_y_changes_nothing_not_even_reverse_derivatives():
    x, y = jnp.linspace(0.0, 4.0, 9), jnp.array([3.1, 2.4, 1.8, 1.5, 1.0, 0.9, 0.7, 0.5, 0.45])
    start = {"a": jnp.array(1.0), "k": jnp.array(1.0)}
    there = np.r_[0:3, 4:9]

    def decay(params, x):
        return params["a"] * jnp.exp(-params["k"] * x)

    def rate(x, y):
        return jos.curve_fit(decay, x, y, start).params["k"]

    with_hole = jax.value_and_grad(rate, (0, 1))(x.at[3].set(jnp.nan), y.at[3].set(jnp.nan))
    without = jax.value_and_grad(rate, (0, 1))(x[there], y[there])
    np.testing.assert_allclose(with_hole[0], without[0], rtol=1e-12)
    for filled, dropped in zip(with_hole[1], without[1], strict=True):
        np.testing.assert_allclose(filled[there], dropped, rtol=1e-9)
        assert filled[3] == 0


@pytest.mark.slow
def test_leaves_that_a_mask_freezes_are_not_fitted_and_count_as_fixed():
    x, y = jnp.linspace(0.0, 1.0, 8), jnp.array([0.1, 0.4, 0.9, 1.2, 1.4, 1.9, 2.2, 2.4])
    start = {"a": jnp.array(1.0), "b": jnp.array(0.25)}

    def line(params, x):
        return params["a"] * x + params["b"]

    masked = jos.masked(jos.levenberg_marquardt(), {"a": True, "b": False})
    frozen = jos.curve_fit(line, x, y, start, optimizer=masked)
    fixed = jos.curve_fit(lambda params, x: line(params | {"b": 0.25}, x), x, y, {"a": jnp.array(1.0)})
    assert (frozen.dof, frozen.params["b"], frozen.stderr["b"]) == (7, 0.25, 0.0)
    np.testing.assert_allclose(frozen.stderr["a"], fixed.stderr["a"], rtol=1e-10)


def test_tukeys_loss_that_leaves_no_more_points_than_parameters_knows_no_errors():
    x = jnp.arange(6.0)
    y = jnp.array([0.0, 1.0, 40.0, -70.0, 90.0, -60.0])
    fit = jos.curve_fit(lambda p, x: p[0] + p[1] * x, x, y, jnp.array([0.0, 1.0]), loss="tukey")
    assert np.all(np.isnan(fit.stderr))


def straight(params, x):
    return params["a"] + params["b"] * x


@pytest.mark.parametrize("dtype", [">f8", ">f4", np.longdouble, ">i4"])
def test_numbers_in_any_order_of_bytes_and_any_width(dtype):
    """FITS files hold big-endian numbers: handed to a program as they are, they are other numbers."""
    x, y, start = np.arange(6.0), 1.0 + 2.0 * np.arange(6.0), {"a": 0.0, "b": 1.0}
    whole = np.dtype(dtype).kind == "i"
    params = start if whole else {name: np.asarray(value, dtype) for name, value in start.items()}
    fit = jos.curve_fit(straight, x.astype(dtype), y.astype(dtype), params, sigma=np.ones(6, dtype))
    assert fit.converged
    np.testing.assert_allclose([fit.params["a"], fit.params["b"]], [1.0, 2.0], rtol=1e-5)


def test_what_is_masked_in_y_is_missing():
    x, y = np.arange(6.0), 1.0 + 2.0 * np.arange(6.0)
    y[3] = 1e6
    for kind in (float, int):
        fit = jos.curve_fit(straight, x, np.ma.masked_greater(y.astype(kind), 1e5), {"a": 0.0, "b": 1.0})
        assert fit.num_points == 5
        np.testing.assert_allclose([fit.params["a"], fit.params["b"]], [1.0, 2.0], rtol=1e-5)


def _aligned(values):
    """A copy at an address from which XLA reads without one of its own."""
    room = np.empty(values.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    out = room[begin : begin + values.nbytes].view(values.dtype)
    out[:] = values
    return out


@pytest.mark.slow
def test_the_arrays_that_a_fit_was_given_may_be_filled_anew():
    """A program reads NumPy's memory while it runs, which is after the call has returned."""
    dtype = jnp.zeros(()).dtype
    x = _aligned(np.linspace(0.0, 4.0, 20_000).astype(dtype))
    y = _aligned(np.asarray(decay(TRUTH, x), dtype))
    sigma, high = _aligned(np.ones_like(y)), _aligned(np.full(3, 9.0, dtype))
    kept = [a.copy() for a in (x, y, sigma)]

    def model(p, x):
        return decay({"a": p[0], "c": p[1], "k": p[2]}, x)

    fits = []
    for _ in range(3):
        start = _aligned(np.ones(3, dtype))
        for own, value in zip((x, y, sigma, high), (*kept, 9.0), strict=True):
            own[:] = value
        fits.append(jos.curve_fit(model, x, y, start, sigma=sigma, bounds=(0.0, high)))
        for own in (x, y, sigma, high, start):
            own[:] = 7.0
    for fit in fits:
        np.testing.assert_allclose(fit.params, [5.0, 1.0, 1.3], rtol=1e-3)
        np.testing.assert_array_equal(fit.curve.x, kept[0])
        np.testing.assert_array_equal(fit.curve.y, kept[1])
        np.testing.assert_array_equal(fit.curve.sigma, kept[2])
        assert np.all(fit.curve.bounds[1] == 9.0)
