"""What the start and the learning rate decide: 400 x 400 searches for the roots of x² - 6x + 4.

Each run minimizes (x² - 6x + 4)², which has a minimum at either root, 3 ∓ √5, and a hill between them. A
lane is a learning rate; in the trace, `step` counts starts: `steps` is how many steps a run took (NaN: it did
not arrive), `root` which root it reached (-1 the lower, 1 the upper, 0 none).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study

LABELS = {
    "sgd": "gradient descent",
    "momentum": "momentum 0.9",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "newton": "Newton",
}
HILL = 3.0


@study.config
class Config:
    """A method, and the range of starts and learning rates."""

    starts: tuple[float, float] = (-10.0, 16.0)
    """The lowest and the highest start."""
    learning_rates: tuple[float, float] = (1e-6, 1e2)
    """The lowest and the highest learning rate, between which they are spaced evenly on a logarithmic scale;
    of Newton's method, the damping at the start."""
    target: Annotated[float, msgspec.Meta(gt=0)] = 1e-10
    """The squared value that is good enough: six decimals of a root."""
    seed: int = 0
    """Not used: nothing here is random."""
    method: Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "newton"] = study.static("sgd")
    """How to get there."""
    size: Annotated[int, msgspec.Meta(ge=2)] = study.static(400)
    """How many starts, and how many learning rates."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(1000)
    """Steps after which a run has not arrived in a sensible number."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def square(x: jax.Array) -> jax.Array:
    return (x**2 - 6 * x + 4) ** 2


def make_optimizer(method: str, rate: jax.Array) -> Any:
    match method:
        case "sgd":
            return jos.sgd(rate)
        case "momentum":
            return jos.sgd(rate, 0.9)
        case "adagrad":
            return jos.adagrad(rate)
        case "rmsprop":
            return jos.rmsprop(rate)
        case "adam":
            return jos.adam(rate)
        case "newton":
            return jos.newton(rate)


def run(config: Config, key: Any) -> study.Outcome:
    del key
    starts = jnp.linspace(*config.starts, config.size)
    low, high = config.learning_rates
    rates = jnp.exp(jnp.linspace(jnp.log(low), jnp.log(high), config.size))

    def solve(start: jax.Array, rate: jax.Array) -> tuple[jax.Array, ...]:
        optimizer = make_optimizer(config.method, rate)
        result = jos.minimize(square, start, optimizer, max_steps=config.max_steps, target=config.target)
        return result.status, result.num_steps, result.value, result.params

    # One learning rate after the other: starts alike end together, and a row fits the cache.
    def row(rate: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vmap(solve, in_axes=(0, None))(starts, rate)

    status, steps, value, x = jax.lax.map(row, rates)
    arrived = status == jos.Status.TARGET_REACHED
    root = jnp.where(arrived, jnp.where(x < HILL, -1, 1), 0).astype(jnp.int8)
    shown = jnp.where(arrived, steps, jnp.nan)
    # A learning rate is as good as its worst start.
    worst = jnp.where(jnp.isfinite(value), value, jnp.inf).max(axis=1)
    return study.Outcome(
        status.max(axis=1).astype(jnp.int32), steps.max(axis=1), worst, {}, {"steps": shown, "root": root}
    )


def summary(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    """Answers: does it always arrive, does the start matter, how is a root found, what does the rate do."""
    said: dict[str, Any] = {}
    for label, record in records.items():
        steps, root = record.outcome.traces["steps"], record.outcome.traces["root"]
        starts, rates = axes_of(record.config)
        arrived = root != 0
        own_side = np.where(starts < HILL, -1, 1)[None, :]
        all_arrive = arrived.all(axis=1)
        said[f"{label}_arrives_percent"] = round(100 * float(arrived.mean()), 1)
        said[f"{label}_rates_good_from_every_start"] = span(rates, all_arrive)
        said[f"{label}_median_steps_there"] = middle(steps[all_arrive])
        best = int(np.argmin(np.where(all_arrive, rate_cost(steps), np.inf)))
        said[f"{label}_best_rate"] = float(f"{rates[best]:.2g}") if all_arrive.any() else "none"
        ends_elsewhere = arrived & (root != own_side)
        said[f"{label}_ends_across_the_hill_percent"] = round(
            100 * float(ends_elsewhere.sum() / max(arrived.sum(), 1)), 1
        )
        safe = all_arrive & ~ends_elsewhere.any(axis=1)
        said[f"{label}_rates_that_keep_to_their_side"] = span(rates, safe)
    return said


def rate_cost(steps: np.ndarray) -> np.ndarray:
    """The mean number of steps of each learning rate; infinite where a start did not arrive."""
    return np.where(np.isnan(steps).any(axis=1), np.inf, np.nan_to_num(steps).mean(axis=1))


def span(rates: np.ndarray, good: np.ndarray) -> str:
    """The longest stretch of learning rates without a bad one in it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
    if not edges.size:
        return "none"
    first, after = max(edges.reshape(-1, 2), key=lambda ends: ends[1] - ends[0])
    return f"{rates[first]:.1e} to {rates[after - 1]:.1e}"


def middle(steps: np.ndarray) -> Any:
    return int(np.median(steps)) if steps.size else "none"


def axes_of(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Starts and learning rates, as in `run`."""
    return np.linspace(*config.starts, config.size), np.geomspace(*config.learning_rates, config.size)


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    return {"maps": draw_maps(records), "answers": draw_answers(records)}


def draw_maps(records: Mapping[str, study.Recorded]) -> Any:
    """One map a method: the color says which root, its depth in how many steps; black never."""
    from matplotlib import pyplot as plt

    columns = min(3, len(records))
    rows = -(-len(records) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.4 * columns + 1.2, 3.9 * rows), layout="constrained", squeeze=False
    )
    images: dict[int, Any] = {}
    for ax, record in zip(axes.flat, records.values(), strict=False):
        config, outcome = record.config, record.outcome
        starts, rates = axes_of(config)
        steps, root = np.maximum(outcome.traces["steps"], 1), outcome.traces["root"]
        ax.set_facecolor("black")
        for side, colors in ((-1, "Blues_r"), (1, "Oranges_r")):
            shown = np.ma.masked_where(root != side, steps)
            # The palest shades would be hard to tell from each other.
            shades = plt.get_cmap(colors)(np.linspace(0.95, 0.15, 256))
            images[side] = ax.pcolormesh(
                starts,
                rates,
                shown,
                norm=plt.matplotlib.colors.LogNorm(1, config.max_steps),
                cmap=plt.matplotlib.colors.ListedColormap(shades),
                rasterized=True,
            )
        for root_at in (3 - 5**0.5, 3 + 5**0.5):
            ax.axvline(root_at, color="black", lw=0.8, ls=":")
        newton = config.method == "newton"
        ax.set(yscale="log", xlabel="start", ylabel="damping at the start" if newton else "learning rate")
        ax.set_title(f"{LABELS[config.method]}: {100 * (root != 0).mean():.0f} % arrive")
    for ax in axes.flat[len(records) :]:
        ax.set_visible(False)
    for side, name in ((-1, "0.7639"), (1, "5.2361")):
        bar = figure.colorbar(images[side], ax=axes, shrink=0.8, pad=0.01)
        bar.set_label(f"steps to the root {name} (black: not in {config.max_steps})")
    return figure


def draw_answers(records: Mapping[str, study.Recorded]) -> Any:
    """Against the learning rate: the share of starts that arrive, the steps it takes, who crosses over."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14.5, 4.4), layout="constrained")
    for record in records.values():
        if record.config.method == "newton":
            continue  # it has no learning rate
        starts, rates = axes_of(record.config)
        steps, root = record.outcome.traces["steps"], record.outcome.traces["root"]
        arrived = root != 0
        crossed = arrived & (root != np.where(starts < HILL, -1, 1)[None, :])
        enough = arrived.mean(axis=1) > 0.05
        typical = np.array(
            [np.nanmedian(row) if ok else np.nan for row, ok in zip(steps, enough, strict=True)]
        )
        share = crossed.sum(axis=1) / np.maximum(arrived.sum(axis=1), 1)
        look = {"label": LABELS[record.config.method], "lw": 1.6}
        axes[0].plot(rates, 100 * arrived.mean(axis=1), **look)
        axes[1].plot(rates, typical, **look)
        axes[2].plot(rates, np.where(enough, 100 * share, np.nan), **look)
    axes[0].set(title="Does it arrive?", ylabel="starts that arrive, %")
    axes[1].set(title="In how many steps?", ylabel="median steps of those", yscale="log")
    axes[2].set(title="Is it the root on the start's side?", ylabel="of those, ended across the hill, %")
    for ax in axes:
        ax.set(xscale="log", xlabel="learning rate")
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
