"""Gradient descent in a bowl, by hand.

The toy that the tests of studies run: lanes, an infinite or endless run, and a count of traces.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec

from jaxopt_study import study
from jaxopt_study.result import Status

TRACED: Counter[str] = Counter()


@study.config
class Config:
    """A bowl."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    """Step length [m], not a square bracket of markup."""
    start: tuple[float, float] = (4.0, -2.0)
    """Where every lane starts, but for noise."""
    noise: float = 0.0
    target: float = 1e-6
    seed: int = 0
    lanes: Annotated[int, msgspec.Meta(ge=0)] = study.static(0)
    """How many starts; 0 is a single run without lanes."""
    optimizer: Literal["descent", "signs"] = study.static("descent")
    max_steps: int = study.static(100)
    data: Path = study.static(Path("bowl.csv"))
    """A file that only has to be a path."""
    dtype: Literal["float32", "float64"] = study.static("float64")


class Carry(NamedTuple):
    x: Any
    step: Any
    status: Any
    loss: Any


def loss(x):
    return jnp.sum(x * x, axis=-1)


def init(config, key):
    TRACED["init"] += 1
    if config.data.name == "refused.csv":
        raise study.StudyInputError(f'{config.data}: column "rate"\nis missing')
    shape = (config.lanes,) if config.lanes else ()
    x = jnp.broadcast_to(jnp.asarray(config.start), (*shape, 2))
    x = x + config.noise * jax.random.normal(key, x.shape)
    length = min(config.max_steps, 1000) + 1
    status = jnp.where(jnp.isfinite(loss(x)), Status.RUNNING, Status.NON_FINITE_START)
    trace = jnp.full((*shape, length), jnp.nan).at[..., 0].set(loss(x))
    return Carry(x, jnp.zeros(shape, jnp.int32), status, trace)


def advance(config, carry, n):
    TRACED["advance"] += 1

    def more(state):
        taken, carry = state
        return (taken < n) & jnp.any(carry.status == Status.RUNNING)

    def step(state):
        taken, carry = state
        running = carry.status == Status.RUNNING
        direction = jnp.sign(carry.x) if config.optimizer == "signs" else 2 * carry.x
        x = jnp.where(running[..., None], carry.x - config.learning_rate * direction, carry.x)
        count = carry.step + running
        ended = jnp.where(count >= config.max_steps, Status.OUT_OF_STEPS, Status.RUNNING)
        ended = jnp.where(loss(x) <= config.target, Status.TARGET_REACHED, ended)
        steps = jax.lax.broadcasted_iota(jnp.int32, carry.loss.shape, carry.loss.ndim - 1)
        here = (steps == count[..., None]) & running[..., None]
        trace = jnp.where(here, loss(x)[..., None], carry.loss)
        status = jnp.where(running, ended, carry.status)
        return taken + 1, Carry(x, count, status, trace)

    return jax.lax.while_loop(more, step, (0, carry))[1]


def outcome(config, carry):
    TRACED["outcome"] += 1
    return study.Outcome(
        carry.status, carry.step, loss(carry.x), {"x": carry.x}, {"loss": carry.loss, "twice": 2 * carry.loss}
    )


def plot(records):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    for label, record in records.items():
        axes.plot(record.outcome.traces["loss"].T, label=label)
    return {"loss": figure}


def summary(records):
    return {"best": min(float(record.outcome.value.min()) for record in records.values()), "note": "[bowl]"}
