"""A neural ODE learns a spiral: y' = A y³ with A = [[-0.1, 2], [-2, -0.1]], from (2, 0) to t = 25.

The field is a network of 2-50-2 units on y³, as in the example of torchdiffeq (R. T. Q. Chen et al. 2018).
RMSprop sees minibatches of 20 pieces of 10 times each; Levenberg-Marquardt sees one set of pieces, always.
Both are judged by the mean of half the squared error on the same pieces, which neither chose.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.tree_util import Partial

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import mlp

ROTATION = ((-0.1, 2.0), (-2.0, -0.1))
END, TIMES = 25.0, 1000
JUDGED = (100, 10)  # pieces and their times


@study.config
class Config:
    """How the network is trained."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Of RMSprop."""
    damping: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Levenberg-Marquardt's first."""
    rtol: Annotated[float, msgspec.Meta(gt=0)] = 1e-7
    """Error of a step that is tolerated, relative."""
    atol: Annotated[float, msgspec.Meta(gt=0)] = 1e-9
    """The same, absolute."""
    seed: int = 0
    """Of the network and of the pieces."""
    method: Literal["rmsprop", "levenberg_marquardt"] = study.static("rmsprop")
    """How to train."""
    damping_rule: Literal["nielsen", "radius", "delayed"] = study.static("delayed")
    """Levenberg-Marquardt's."""
    hidden: Annotated[int, msgspec.Meta(ge=1)] = study.static(50)
    """Units of the hidden layer."""
    pieces: Annotated[int, msgspec.Meta(ge=1)] = study.static(20)
    """Pieces of the spiral a step."""
    length: Annotated[int, msgspec.Meta(ge=2)] = study.static(10)
    """Times a piece."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(2000)
    """Steps to take."""
    dtype: Literal["float32", "float64"] = study.static("float32")
    """Precision of everything."""


def spiral(t: Any, y: Any, params: Any) -> Any:
    del t
    return y**3 @ params.T


def network(t: Any, y: Any, params: Any) -> Any:
    del t
    return mlp.apply(params, y**3)


def trajectory() -> Any:
    """The states to learn, shape (1000, 2)."""
    rotation = jnp.asarray(ROTATION)
    start = jnp.array([2.0, 0.0])
    ts = jnp.linspace(0.0, END, TIMES)
    return jos.solve_ode(spiral, start, ts, rotation, solver="dopri8", rtol=1e-6, atol=1e-6).ys


def pieces(states: Any, key: Any, count: int, length: int) -> Any:
    """Pieces of the trajectory, shape (length, count, 2), that begin anywhere."""
    begins = jax.random.choice(key, TIMES - length, (count,), replace=False)
    return states[begins[None, :] + jnp.arange(length)[:, None]]


def residual(params: Any, seen: Any, tolerances: Any) -> Any:
    ts = jnp.linspace(0.0, END, TIMES)[: seen.shape[0]]
    rtol, atol = tolerances
    # All pieces are one state with one step size.
    ys = jos.solve_ode(network, seen[0], ts, params, rtol=rtol, atol=atol, max_steps=256).ys
    return (ys - seen)[1:] / jnp.sqrt(float(seen.size))


def residual_of_each(params: Any, seen: Any, tolerances: Any, weights: Any) -> Any:
    """The same with an axis of pieces in front, each a solution of its own: the Jacobian is then a few
    backward passes a piece instead of 252 forward ones through all of them, fifty times faster.
    """

    def one(seen: Any, tolerances: Any, weight: Any) -> Any:
        return weight * residual(params, seen[:, None], tolerances)[:, 0]

    return jax.vmap(one)(seen, tolerances, weights)


def loss(params: Any, seen: Any, tolerances: Any) -> Any:
    return 0.5 * jnp.sum(residual(params, seen, tolerances) ** 2)


@functools.cache
def draw(count: int, length: int) -> Any:
    """A minibatch of a step: one function object for each size."""

    def draw(states: Any, tolerances: Any, step: Any, key: Any) -> Any:
        return pieces(states, jax.random.fold_in(key, step), count, length), tolerances

    return draw


class Carry(NamedTuple):
    """The training, and the pieces by which it is judged."""

    fit: jos.Carry
    judged: Any
    tolerances: Any


def init(config: Config, key: Any) -> Carry:
    weights, batches, judge = jax.random.split(key, 3)
    states = trajectory()
    judged = pieces(states, judge, *JUDGED)
    tolerances = (config.rtol, config.atol)
    params = mlp.init(weights, (2, config.hidden, 2), 0.5)
    options: dict[str, Any] = {"max_steps": config.max_steps, "trace": lambda params: params}
    if config.method == "rmsprop":
        batch = Partial(draw(config.pieces, config.length), states, tolerances)
        optimizer = jos.rmsprop(config.learning_rate, decay=0.99)
        fit = jos.start(loss, params, optimizer, batch_fn=batch, key=batches, **options)
    else:
        # Spread evenly: what the pieces leave out is not learned.
        begins = jnp.linspace(0, TIMES - config.length, config.pieces).astype(int)
        seen = states[begins[:, None] + jnp.arange(config.length)[None, :]]
        each = tuple(jnp.full(config.pieces, number, seen.dtype) for number in tolerances)
        weights = jnp.full(config.pieces, config.pieces**-0.5, seen.dtype)  # a mean over pieces
        optimizer = jos.levenberg_marquardt(damping=config.damping, damping_rule=config.damping_rule)
        objective = jos.LeastSquares(residual_of_each, pointwise=True)
        fit = jos.start(objective, params, optimizer, (seen, each, weights), **options)
    return Carry(fit, judged, tolerances)


def advance(config: Config, carry: Carry, n: Any) -> Carry:
    del config
    return carry._replace(fit=jos.advance(carry.fit, n))


def outcome(config: Config, carry: Carry) -> study.Outcome:
    result = jos.finish(carry.fit)
    every = max(1, config.max_steps // 100)
    seen = jax.tree.map(lambda leaf: leaf[::every], result.trace.observed)
    judged = jax.lax.map(lambda params: loss(params, carry.judged, carry.tolerances), seen)
    steps = jnp.arange(judged.size) * every
    judged = jnp.where(steps <= result.num_steps, judged, jnp.nan)
    ts = jnp.linspace(0.0, END, TIMES)
    drawn = jos.solve_ode(network, jnp.array([2.0, 0.0]), ts[:300], result.params, rtol=1e-5, atol=1e-6).ys
    value = loss(result.params, carry.judged, carry.tolerances)
    values = {"last_minibatch": result.value, "drawn": drawn}
    return study.Outcome(result.status, result.num_steps, value, values, {"after": steps, "loss": judged})


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for label, record in records.items():
        traces = record.outcome.traces
        part = traces["after"] / max(1, int(record.outcome.num_steps))
        left.plot(np.maximum(part * record.timing.run_seconds, 1e-3), traces["loss"], label=label)
        right.plot(*record.outcome.values["drawn"].T, lw=1, label=label)
    left.set(xscale="log", yscale="log", xlabel="seconds", ylabel="mean of half the squared error, judged")
    right.set(xlabel="y₁", ylabel="y₂", title="From (2, 0), as learned")
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.legend()
    return {"spiral": figure}
