"""Both roots of x² - 6x + 4 by minimizing its square, by six methods from -10 and from 10.

The square has a minimum at either root, 3 ∓ √5, and a hill between them, at 3. Each lane is a start. What
the start and the learning rate do in general is in `quadratic_roots_map`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study

ROOTS = (3 - 5**0.5, 3 + 5**0.5)
LABELS = {
    "sgd": "gradient descent",
    "momentum": "momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "newton": "Newton",
}


@study.config
class Config:
    """A method, where it starts, and when it has arrived."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Of all methods but Newton's, which has none."""
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    """How much of the past steps momentum keeps."""
    starts: tuple[float, float] = (-10.0, 10.0)
    """Where x starts."""
    target: Annotated[float, msgspec.Meta(gt=0)] = 1e-10
    """The squared value that is good enough: six decimals of a root."""
    seed: int = 0
    """Not used: nothing here is random."""
    method: Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "newton"] = study.static("sgd")
    """How to get there."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(2000)
    """Steps after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def square(x: jax.Array) -> jax.Array:
    return (x**2 - 6 * x + 4) ** 2


def position(x: jax.Array) -> jax.Array:
    return x


def make_optimizer(config: Config) -> Any:
    match config.method:
        case "sgd":
            return jos.sgd(config.learning_rate)
        case "momentum":
            return jos.sgd(config.learning_rate, config.momentum)
        case "adagrad":
            return jos.adagrad(config.learning_rate)
        case "rmsprop":
            return jos.rmsprop(config.learning_rate)
        case "adam":
            return jos.adam(config.learning_rate)
        case "newton":
            return jos.newton()


def run(config: Config, key: Any) -> study.Outcome:
    del key
    optimizer = make_optimizer(config)

    def solve(start: jax.Array) -> jos.Result:
        return jos.minimize(
            square, start, optimizer, max_steps=config.max_steps, target=config.target, trace=position
        )

    result = jax.vmap(solve)(jnp.asarray(config.starts))
    traces = {"x": result.trace.observed, "square": result.trace.value}
    return study.Outcome(result.status, result.num_steps, result.value, {"root": result.params}, traces)


def summary(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    """The roots to four decimals, from the lower and from the upper start."""
    return {
        f"{label}_{name}": round(float(root), 4)
        for label, record in records.items()
        for name, root in zip(("from_below", "from_above"), record.outcome.values["root"], strict=True)
    }


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for i, record in enumerate(records.values()):
        for lane in range(2):
            steps = int(record.outcome.num_steps[lane])
            look = {"color": f"C{i}", "label": LABELS[record.config.method] if lane == 0 else None}
            at = np.arange(1, steps + 2)
            axes[0].plot(at, record.outcome.traces["x"][lane][: steps + 1], lw=1.6, **look)
            axes[1].plot(at, record.outcome.traces["square"][lane][: steps + 1], lw=1.6, **look)
    for root in ROOTS:
        axes[0].axhline(root, color="black", lw=0.8, ls=":")
    some = next(iter(records.values())).config
    axes[1].axhline(some.target, color="black", lw=0.8, ls=":")
    low, high = sorted(some.starts)
    pad = 0.15 * (high - low)
    axes[0].set(ylim=(low - pad, high + pad), ylabel="x", title="Where x goes; dotted: the roots")
    axes[1].set(yscale="log", ylabel="(x² - 6x + 4)²", title="What is minimized; dotted: good enough")
    for ax in axes:
        ax.set(xscale="log", xlabel="step + 1")
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(records))
    return {"paths": figure}
