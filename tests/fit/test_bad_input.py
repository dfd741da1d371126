"""Bad input is refused before anything is traced, in one line that names the argument."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

X = np.arange(5.0)
Y = 1.0 + 2.0 * X
START = {"a": 0.0, "b": 1.0}


def line(params, x):
    return params["a"] + params["b"] * x


NOT_SYMMETRIC = np.eye(5) + np.triu(np.ones((5, 5)), 1) * 0.1
CASES = {
    "model of another shape": (
        ValueError,
        r"^model_fn: returns shape \(\) where y",
        {"model_fn": lambda p, x: p["a"]},
    ),
    "model of two arrays": (TypeError, "^model_fn: expected one array", {"model_fn": lambda p, x: (x, x)}),
    "complex model": (TypeError, "^model_fn: expected real", {"model_fn": lambda p, x: p["a"] + 1j * x}),
    "x and y differ": (ValueError, r"^model_fn: returns shape \(5,\)", {"y": Y[:4]}),
    "x a list": (TypeError, "^x: a list of numbers", {"x": [0.0, 1.0]}),
    "x of objects": (TypeError, "^x: expected an array of numbers, got dtype obj", {"x": X.astype(object)}),
    "x of words": (
        TypeError,
        r"^x\['t'\]: expected an array of numbers, got dtype",
        {"x": {"t": np.array(["a"])}},
    ),
    "x masked": (TypeError, "^x: expected an array of numbers, got a masked", {"x": np.ma.masked_less(X, 1)}),
    "objects for parameters": (
        TypeError,
        r"^params\['a'\]: expected a real float array, got dtype object",
        {"params": {"a": np.array(0.0, object), "b": 1.0}},
    ),
    "complex y": (TypeError, "^y: expected real", {"y": Y + 1j}),
    "y of words": (TypeError, "^y: expected numbers, got dtype", {"y": ["a", "b"]}),
    "all missing": (ValueError, "^y: there is no value", {"y": np.full(5, np.nan)}),
    "whole parameters": (
        TypeError,
        r"^params\['a'\]: expected a real float",
        {"params": {"a": np.array(1), "b": 1.0}},
    ),
    "no parameters": (ValueError, "^params: expected .* with no leaves", {"params": {}}),
    "sigma too long": (ValueError, r"^sigma: expected standard .* \(5,\)", {"sigma": np.ones(4)}),
    "sigma zero": (
        ValueError,
        "^sigma: exp.* got 0.0",
        {"sigma": np.array([1.0, 0, 1, 1, 9])},
    ),
    "sigma NaN": (ValueError, "^sigma: expected positive .* got nan", {"sigma": np.nan}),
    "sigma infinite": (ValueError, "^sigma: expected positive .* got inf", {"sigma": np.inf}),
    "not symmetric": (ValueError, "^sigma: the covariance is not symmetric", {"sigma": NOT_SYMMETRIC}),
    "not positive": (ValueError, "^sigma: the covariance is not pos", {"sigma": np.ones((5, 5))}),
    "weights too long": (ValueError, r"^weights: shape \(4,\)", {"weights": np.ones(4)}),
    "weights below 0": (ValueError, "^weights: expected numbers >= 0", {"weights": -np.ones(5)}),
    "weights all 0": (ValueError, "^weights: no point", {"weights": 0.0}),
    "complex sigma": (TypeError, "^sigma: expected real numbers, got dtype complex", {"sigma": 1j * X}),
    "complex weights": (TypeError, "^weights: expected real numbers, got dtype", {"weights": 1j * X}),
    "y of rows of several lengths": (TypeError, "^y: expected one array", {"y": [[1.0], [1.0, 2.0]]}),
    "complex bounds": (TypeError, "^bounds: expected real numbers for the l", {"bounds": (1j, None)}),
    "bounds of words": (TypeError, "^bounds: expected real numbers for the u", {"bounds": (None, "a")}),
    "several losses": (ValueError, "^loss: expected one of", {"loss": np.array(["huber", "cauchy"])}),
    "no scale": (TypeError, "^loss_scale: expected a number > 0, got None", {"loss_scale": None}),
    "several tolerances": (ValueError, "^ftol: expected one number", {"ftol": np.ones(3)}),
    "steps of words": (TypeError, "^max_steps: expected a whole number", {"max_steps": "a"}),
    "several numbers of steps": (ValueError, "^max_steps: expected a wh", {"max_steps": np.arange(3)}),
    "half a step": (ValueError, "^max_steps: expected a whole", {"max_steps": np.float32(0.5)}),
    "sigma absolute?": (TypeError, "^absolute_sigma: expected True or", {"absolute_sigma": np.ones(5)}),
    "pointwise?": (TypeError, "^pointwise: expected True or False", {"pointwise": "no"}),
    "both": (ValueError, "^sigma, weights: give one", {"sigma": 1.0, "weights": 1.0}),
    "pointwise": (ValueError, "^pointwise: a covariance", {"sigma": np.eye(5), "pointwise": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_line(name):
    kind, says, changes = CASES[name]
    arguments = {"model_fn": line, "x": X, "y": Y, "params": START, **changes}
    with pytest.raises(kind, match=says) as caught:
        inspect.unwrap(jos.curve_fit)(**arguments)  # annotations are checked in tests alone
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_is_traced_is_not_looked_at():
    """A covariance that is none ends as a start that is not finite."""
    fit = jax.jit(lambda sigma: jos.curve_fit(line, X, Y, START, sigma=sigma))(jnp.ones((5, 5)))
    assert fit.status == jos.Status.NON_FINITE_START


@pytest.fixture(scope="module")
def fit():
    with jax.enable_x64(True):
        return jos.curve_fit(line, X, Y + 0.1 * np.cos(X), START, sigma=0.1)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5])
def test_a_level_is_a_probability(fit, level):
    for ask in (fit.profile, fit.confidence_interval, lambda level: fit.predict(X, level)):
        with pytest.raises(ValueError, match=r"^level: expected a probability"):
            ask(level)


def test_bands_that_cannot_be_had(fit):
    with pytest.raises(ValueError, match=r"^sigma: a prediction band of a weighted fit"):
        fit.predict(X, 0.95, kind="prediction")
    with pytest.raises(ValueError, match=r"^kind: expected"):
        fit.predict(X, 0.95, kind="tolerance")
    low, high = fit.predict(X, 0.95, kind="prediction", sigma=0.1)[1:]
    assert np.all(high > low)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (lambda x, a, b: a * x + b, {}, TypeError, r"model_fn: expected a function of \(params, x\)"),
        (lambda p, x: p[0] * x + p[1], {"sigma": "x"}, TypeError, "sigma: expected real numbers, got 'x'"),
        (
            lambda p, x: p[0] * x + p[1],
            {"weights": "x"},
            TypeError,
            "weights: expected real numbers, got 'x'",
        ),
        (lambda p, x: p[0] * x + p[1], {"loss": jnp.sum}, ValueError, "loss: expected an elementwise"),
        (
            lambda p, x: p[0] * x + p[1],
            {"loss": lambda z: jnp.stack([z, z, z])},
            ValueError,
            "loss: expected an elementwise",
        ),
    ],
)
def test_what_scipy_takes_and_this_does_not_is_said_in_one_line(model, options, error, message):
    x = jnp.arange(5.0)
    with pytest.raises(error, match=message) as raised:
        jos.curve_fit(model, x, 2 * x + 1, jnp.ones(2), **options)
    assert "\n" not in str(raised.value)


def test_a_level_is_one_number():
    x = jnp.arange(5.0)
    fit = jos.curve_fit(lambda p, x: p[0] * x + p[1], x, x**1.5, [1, 1])
    with pytest.raises(ValueError, match=r"level: expected one probability, got an array .* shape \(2,\)"):
        fit.confidence_interval(jnp.array([0.9, 0.95]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sigma": 1j}, TypeError, "^sigma: expected real"),
        ({"sigma": -1.0}, ValueError, "^sigma: expected standard deviations >= 0"),
        ({"sigma": np.ones(4)}, ValueError, r"^sigma: shape \(4,\) does not broadcast"),
        ({"kind": np.ones(3)}, ValueError, "^kind: expected"),
        ({"level": "most"}, TypeError, "^level: expected"),
    ],
)
def test_what_a_prediction_cannot_take_is_named(options, error, says):
    fit = jos.curve_fit(lambda p, x: p[0] * x + p[1], X, Y + 0.1 * np.cos(X), np.ones(2))
    with pytest.raises(error, match=says) as caught:
        inspect.unwrap(jos.Fit.predict)(fit, X, **{"level": 0.9, "kind": "prediction", **options})
    assert "\n" not in str(caught.value)
