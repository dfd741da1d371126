"""The smallest example: the gradient of a line's loss, and one step down it.

y = a x + b is fitted to points of another line. `jax.grad` differentiates with respect to the
arguments that `argnums` chooses; a step is taken by hand, and the same step with `jos.sgd`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax

import jaxopt_study as jos
from jaxopt_study import study


@study.config
class Config:
    """Where the line starts, and which of its parameters move."""

    start: tuple[float, float] = (0.5, 0.0)
    """The (a, b) to start from."""
    truth: tuple[float, float] = (2.0, 1.0)
    """The (a, b) that the points are made with."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """Length of the step, in gradients."""
    seed: int = 0
    """Not used: nothing here is random."""
    move: Annotated[tuple[Literal["a", "b"], ...], msgspec.Meta(min_length=1)] = study.static(("a", "b"))
    """The parameters to differentiate with respect to; the others stay."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def loss(a: Any, b: Any, x: Any, y: Any) -> Any:
    return jnp.mean((a * x + b - y) ** 2)


def run(config: Config, key: Any) -> study.Outcome:
    del key
    x = jnp.linspace(-1.0, 2.0, 7)
    y = config.truth[0] * x + config.truth[1]
    start = jnp.asarray(config.start)
    chosen = tuple("ab".index(name) for name in config.move)
    params = tuple(start[i] for i in chosen)

    grads = jax.grad(loss, argnums=chosen)(*start, x, y)
    by_hand = tuple(p - config.learning_rate * g for p, g in zip(params, grads, strict=True))

    optimizer = jos.sgd(config.learning_rate)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    by_sgd = optax.apply_updates(params, updates)

    end = start.at[jnp.array(chosen)].set(jnp.stack(by_hand))
    losses = jnp.stack([loss(*start, x, y), loss(*end, x, y)])
    columns = {"gradient": grads, "by_hand": by_hand, "by_sgd": by_sgd}
    values = {
        f"{name}_{column}": value
        for column, tree in columns.items()
        for name, value in zip(config.move, tree, strict=True)
    }
    status, steps = jnp.asarray(jos.Status.OUT_OF_STEPS), jnp.asarray(1)
    return study.Outcome(status, steps, losses[1], {"a": end[0], "b": end[1], **values}, {"loss": losses})


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    some = next(iter(records.values())).config
    x = np.linspace(-1.0, 2.0, 7)
    ax.plot(x, some.truth[0] * x + some.truth[1], "ko", label="points")
    ax.plot(x, some.start[0] * x + some.start[1], "k--", label="start")
    for label, record in records.items():
        values = record.outcome.values
        ax.plot(x, values["a"] * x + values["b"], label=f"after one step: {label}")
    ax.set(xlabel="x", ylabel="y = a x + b", title="One step down the gradient")
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left")
    return {"line": figure}
