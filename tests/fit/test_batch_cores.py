"""A batch that is cut into parts, one a core, ends with the same bits as in one loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.fit import cores

T = np.linspace(0.0, 4.0, 12)
draw = np.random.default_rng(23)
RATES = draw.uniform(0.5, 1.5, 25)
Y = 3.0 * np.exp(-RATES[:, None] * T) + 0.05 * draw.normal(size=(25, T.size))
Y[4, 2] = np.nan


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(cores, "FEWEST", 8)
    monkeypatch.setattr(cores, "cores", lambda: 3)


def residual(p, t, y):
    return p["a"] * jnp.exp(-p["k"] * t) - y


def fit(y, most, t):
    start = {"a": jnp.full(len(y), 2.0, y.dtype), "k": jnp.asarray(0.3, y.dtype)}
    axes = {"params_axes": {"a": 0, "k": None}, "args_axes": (None, 0), "slots": 4}
    return jos.least_squares_batch(residual, start, (t, y), bounds=(None, {"a": None, "k": most}), **axes)


@pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
def test_parts_give_the_bits_of_one_loop_with_bounds_and_a_fit_that_fails(three_cores, precision):
    inputs = [
        jnp.asarray(array, precision) for array in (Y, RATES * np.where(np.arange(25) % 2, 0.8, 9.0), T)
    ]
    apart, together = fit(*inputs), jax.jit(fit)(*inputs)
    assert int(apart.status[4]) == jos.Status.NON_FINITE_START
    assert np.any(apart.active["k"] == 1)
    for one, other in zip(jax.tree.leaves(apart), jax.tree.leaves(together), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_parts_cover_every_fit_once_but_for_the_last_which_is_as_long_as_the_others(three_cores):
    for fits in range(24, 60):
        parts = cores.choose_parts(jnp.zeros(1), fits)
        assert len(parts) == 3
        assert len({part.fits for part in parts}) == 1
        assert sorted({k for first, length in parts for k in range(first, first + length)}) == [*range(fits)]
        assert all(part.first == k * part.fits for k, part in enumerate(parts[:-1]))


def test_what_is_traced_or_small_is_one_loop(three_cores):
    assert cores.choose_parts(jnp.zeros(1), 15) == [cores.Part(0, 15)]
    found = []
    jax.jit(lambda x: found.extend(cores.choose_parts(x, 100)) or x)(jnp.zeros(1))
    assert found == [cores.Part(0, 100)]
