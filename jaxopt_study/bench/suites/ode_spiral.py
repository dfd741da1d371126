"""The spiral of the benchmarks of ODEs: 20 pieces of 10 times, a 2-50-2 tanh network on y³.

As in the example of torchdiffeq. Float32, rtol 1e-7 and atol 1e-9, which is below float32's epsilon.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench.timer import one_call
from jaxopt_study.models import mlp

ROTATION = np.array([[-0.1, 2.0], [-2.0, -0.1]])
RTOL, ATOL = 1e-7, 1e-9
PIECES, LENGTH, TIMES, END = 20, 10, 1000, 25.0
RMSPROP_STEPS = 2000


def network(t: Any, y: Any, params: Any) -> Any:
    """The field that is learned."""
    del t
    return mlp.apply(params, y**3)


def loss(params: Any, ts: Any, seen: Any, **options: Any) -> Any:
    """Mean absolute error of the pieces, all of them one state with one step size."""
    options = {"rtol": RTOL, "atol": ATOL, "max_steps": 64} | options
    return jnp.mean(jnp.abs(jos.solve_ode(network, seen[0], ts, params, **options).ys - seen))


@functools.cache
def spiral() -> tuple[np.ndarray, np.ndarray]:
    """The times and states of the whole trajectory, in float64."""
    ts = np.linspace(0.0, END, TIMES)
    field = lambda t, y, a: y**3 @ a.T  # noqa: E731
    with jax.enable_x64(True):
        made = jos.solve_ode(
            field, jnp.array([2.0, 0.0]), ts, jnp.asarray(ROTATION), solver="dopri8", rtol=1e-10, atol=1e-12
        )
    return ts, np.asarray(made.ys)


def some_pieces(states: Any, step: Any, key: Any) -> Any:
    """The pieces that a step of training sees, others every time."""
    starts = jax.random.choice(jax.random.fold_in(key, step), TIMES - LENGTH, (PIECES,), replace=False)
    return states[starts[None, :] + jnp.arange(LENGTH)[:, None]]


@functools.cache
def rmsprop_training() -> Callable[[], jos.Result]:
    """2000 steps of RMSprop in float32, as in the example of torchdiffeq; to be called in float32."""
    with jax.enable_x64(False):
        ts, states = (jnp.asarray(part) for part in spiral())
        params, optimizer = first_network(), jos.rmsprop(1e-3, decay=0.99)
    batch = lambda step, key: (ts[:LENGTH], some_pieces(states, step, key))  # noqa: E731
    return functools.partial(jos.minimize, loss, params, optimizer, batch_fn=batch, max_steps=RMSPROP_STEPS)


@functools.cache
def first_training() -> tuple[float, jos.Result]:
    """What the training takes when it is first called, and where it ends."""
    with jax.enable_x64(False):
        return one_call(rmsprop_training())


def first_network() -> Any:
    """The network as it is drawn, in another draw where x64 is on."""
    return mlp.init(jax.random.key(0), (2, 50, 2), 0.5)


def problem(trained: bool) -> tuple[Any, Any, Any]:
    """Parameters, times and pieces: a network as it is drawn, in float64, or after the training."""
    ts, states = spiral()
    begins = np.random.default_rng(0).choice(TIMES - LENGTH, PIECES, replace=False)
    seen = jnp.asarray(states[begins[None, :] + np.arange(LENGTH)[:, None]])
    params = first_training()[1].params if trained else first_network()
    return params, jnp.asarray(ts[:LENGTH]), seen


def draws(trained: bool, params: Any, ts: Any, seen: Any, count: int) -> list[Any]:
    """The problem and others like it, in float32: an error of one alone is luck.

    Pieces anew; and the network drawn again, or, trained, with weights that are 2 % off.
    """
    states = spiral()[1]
    out = [(params, ts, seen)]
    for seed in range(1, count):
        rng = np.random.default_rng(seed)
        begins = rng.choice(TIMES - LENGTH, PIECES, replace=False)
        other: Any = mlp.init(jax.random.key(seed), (2, 50, 2), 0.5)
        if trained:
            other = jax.tree.map(lambda w: w * (1 + 0.02 * rng.normal(size=w.shape)), params)  # noqa: B023
        out.append((other, ts, states[begins[None, :] + np.arange(LENGTH)[:, None]]))
    return [jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), problem) for problem in out]
