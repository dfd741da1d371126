"""Data and models that several tests fit."""

import csv
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.models import michaelis_menten


@pytest.fixture(scope="session")
def puromycin():
    """The treated cells of Bates and Watts (1988), table A1.3: concentrations and rates."""
    path = Path(__file__).parents[2] / "experiments" / "data" / "puromycin.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] == "treated"]
    return np.array([[float(row["concentration"]), float(row["rate"])] for row in rows]).T


def enzyme(params, x):
    return michaelis_menten.apply(params, x)


def decay(params, x):
    return params["a"] * jnp.exp(-params["k"] * x) + params["c"]


def peak(params, x):
    return params["height"] * jnp.exp(-0.5 * ((x - params["center"]) / params["width"]) ** 2)


def wave(params, x):
    return params["a"] * jnp.sin(params["w"] * x + params["p"])


# name: (model, truth, x, size of the errors)
CASES = {
    "enzyme": (enzyme, {"k": 0.06, "vmax": 210.0}, np.geomspace(0.02, 1.1, 15), 8.0),
    "decay": (decay, {"a": 5.0, "c": 1.0, "k": 1.3}, np.linspace(0.0, 4.0, 30), 0.2),
    "peak": (peak, {"center": 0.3, "height": 1e-6, "width": 0.7}, np.linspace(-3.0, 3.0, 40), 3e-8),
    "wave": (wave, {"a": 2e3, "p": 0.5, "w": 3.0}, np.linspace(0.0, 3.0, 25), 200.0),
}


# Each is compiled for every kind of errors: one of them in the quick run.
QUICK = ("enzyme",)


@pytest.fixture(
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def case(request):
    """`(model, start, x, y, scale)`, with errors of size `scale` in y."""
    model, truth, x, scale = CASES[request.param]
    draw = np.random.default_rng(len(request.param))
    y = np.asarray(model(truth, x)) + scale * draw.standard_normal(x.size)
    start = {name: jnp.asarray(1.1 * value) for name, value in truth.items()}
    return model, start, x, y, scale


@pytest.fixture
def line():
    """`(model, x, y)` of a straight line, with six points."""

    def model(params, x):
        return params["a"] + params["b"] * x

    x = np.arange(6.0)
    return model, x, 1.0 + 2.0 * x + 0.1 * np.array([1.0, -1.0, 0.5, 0.0, -0.5, 0.25])
