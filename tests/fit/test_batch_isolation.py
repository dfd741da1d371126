"""One fit that is NaN, hostile or endless changes no bit of any other: with bounds and robust losses too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.result import Status

FITS = 20
T = np.linspace(0.0, 4.0, 12)
draw = np.random.default_rng(17)
RATES = draw.uniform(0.5, 1.5, FITS)
Y = 3.0 * np.exp(-RATES[:, None] * T) + 0.05 * draw.normal(size=(FITS, T.size))
A, K = np.full(FITS, 2.0), np.full(FITS, 0.4)
MOST = RATES * np.where(np.arange(FITS) % 3, np.inf, 0.8)  # a third of the fits ends at its bound
LOSSES = {"linear": {}, "cauchy": {"loss": "cauchy", "loss_scale": 0.1}}
LIMITS = {"max_steps": 30, "ftol": 0.0, "gtol": 0.0, "xtol": 1e-5}
FAILED, SLOW = {Status.NON_FINITE_START}, {Status.OUT_OF_STEPS}
# name: (y, where a starts, where k starts, how it ends)
HOSTILE = {
    "all missing": (np.nan, None, None, {Status.RANK_DEFICIENT}),
    "infinite": (np.inf, None, None, FAILED),
    # Where they do not, it may find one point to fit alone, which others are outliers to.
    "squares overflow in float32": (1e30, None, None, FAILED | SLOW | {Status.STEP_CONVERGED}),
    "starts at NaN": (None, np.nan, None, FAILED),
    "starts where the model overflows": (None, None, -1e5, FAILED),
    "endless": (np.where(T == 0, 1.0, 0.0), None, None, SLOW),  # the rate grows by a constant, for ever
}


def decay(p, t):
    return p["a"] * jnp.exp(-p["k"] * t)


@functools.cache
def fit_all(loss):
    """The program for a loss, compiled once a dtype: `curve_fit_batch`, so errors too."""

    def fit(y, a, k, most, t):
        bounds = ({"a": 0.0, "k": None}, {"a": None, "k": most})
        start = {"a": a, "k": k}
        done = jos.curve_fit_batch(decay, t, y, start, bounds=bounds, slots=5, **LIMITS, **LOSSES[loss])
        return (
            done.params,
            done.stderr,
            done.covariance,
            done.residuals,
            done.status,
            done.num_steps,
            done.at_bound,
        )

    return jax.jit(fit)


def run(loss, dtype, y=Y, a=A, k=K):
    return fit_all(loss)(*(jnp.asarray(array, dtype) for array in (y, a, k, MOST, T)))


# Of the four programs one in the quick run.
PROGRAMS = [
    pytest.param(loss, dtype, marks=() if (loss, dtype) == ("cauchy", "float64") else pytest.mark.slow)
    for loss in LOSSES
    for dtype in ("float64", "float32")
]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "precision"), PROGRAMS, indirect=["precision"])
def test_what_one_fit_does_changes_no_bit_of_another(loss, precision):
    clean = run(loss, precision)
    assert np.any(np.asarray(clean[-1]["k"]) == 1)
    for name, (data, a, k, ends) in HOSTILE.items():
        for place in (1, FITS - 1):
            y, starts, rates = np.array(Y), np.array(A), np.array(K)
            y[place] = y[place] if data is None else data
            starts[place] = starts[place] if a is None else a
            rates[place] = rates[place] if k is None else k
            dirty = run(loss, precision, y, starts, rates)
            others = np.arange(FITS) != place
            for before, after in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
                before, after = np.asarray(before)[others], np.asarray(after)[others]
                assert before.tobytes() == after.tobytes(), (name, place)
            assert int(dirty[4][place]) in ends, name


@pytest.mark.slow
def test_an_endless_fit_takes_all_its_steps_and_others_their_own(precision):
    y = np.array(Y)
    y[7] = HOSTILE["endless"][0]
    steps = np.asarray(run("linear", precision, y)[5])
    assert steps[7] == LIMITS["max_steps"]
    assert len(set(np.delete(steps, 7).tolist())) > 2
