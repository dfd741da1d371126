"""How soon Levenberg-Marquardt has learned the spiral as well as RMSprop has after 2,000 steps.

RMSprop sees another minibatch of 20 pieces of 10 times a step, as in the example of torchdiffeq; ours fits
the same 100 pieces of two times in every step. Both are judged by the mean of half the squared error on 100
pieces of 10 times that neither chose, and both start at the same network. The judging is not timed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.bench.suites.ode_spiral import (
    ATOL,
    LENGTH,
    PIECES,
    RMSPROP_STEPS,
    RTOL,
    TIMES,
    first_network,
    first_training,
    network,
    rmsprop_training,
    spiral,
)

MOST_STEPS = 100
PAIRS, JUDGED = 100, 100


def judge(params: Any, ts: Any, seen: Any) -> Any:
    """Mean of half the squared error."""
    ys = jos.solve_ode(network, seen[0], ts, params, rtol=RTOL, atol=ATOL, max_steps=256).ys
    return 0.5 * jnp.mean((ys - seen) ** 2)


def residual(params: Any, pairs: Any, ts: Any) -> Any:
    """Where each piece ends and where it should, every one a solution of its own."""

    def one(pair: Any, ts: Any) -> Any:
        ys = jos.solve_ode(network, pair[:1], ts, params, rtol=RTOL, atol=ATOL, max_steps=64).ys
        return (ys[1, 0] - pair[1]) / jnp.sqrt(2.0 * PAIRS)

    return jax.vmap(one)(pairs, ts)


def _case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    exact = spiral()
    ts, states = jnp.asarray(exact[0][:LENGTH], jnp.float32), jnp.asarray(exact[1], jnp.float32)
    begins = np.random.default_rng(1).choice(TIMES - LENGTH, JUDGED, replace=False)
    judged = jax.jit(judge)
    test = (ts, states[begins[None, :] + np.arange(LENGTH)[:, None]])
    first, learned = first_training()
    reached = float(judged(learned.params, *test))

    firsts = np.linspace(0, TIMES - 2, PAIRS).astype(int)
    pairs = states[firsts[:, None] + np.arange(2)[None, :]]
    objective = jos.LeastSquares(residual, pointwise=True)
    args = (pairs, jnp.broadcast_to(ts[:2], (PAIRS, 2)))
    optimizer = jos.levenberg_marquardt(damping=1.0, damping_rule="delayed")
    begin = functools.partial(
        jos.start, objective, first_network(), optimizer, args,
        max_steps=MOST_STEPS, ftol=0.0, xtol=0.0, gtol=0.0,
    )  # fmt: skip
    carry, steps = begin(), 0
    while steps < MOST_STEPS and not float(judged(carry.state.params, *test)) <= reached:
        carry, steps = jos.advance(carry, 1), steps + 1

    def ours() -> Any:
        return jos.finish(jos.advance(begin(), steps))

    def error(result: Any) -> float:
        return float(judged(result.params, *test))

    most = reached * (1 + 1e-3)  # the judging has rounding errors
    contestants = {
        OURS: Contestant(ours, error, f"levenberg_marquardt, {PAIRS} pairs of states, {steps} steps"),
        "rmsprop": Contestant(
            rmsprop_training(),
            error,
            f"ours, 1e-3, {PIECES} pieces a step, {RMSPROP_STEPS} steps",
            first_seconds=first,
        ),
    }
    return Case("training", contestants, most_error=most, rounds=2, blas=False)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (Planned("spiral, learned as well as RMSprop learns it", _case, "float32", {"rmsprop": 10.0}),)
