"""Train a small network on Rosenbrock's surface: Levenberg-Marquardt against Adam, from the same starts.

The network learns z = (a - x)² + b (y - x²)² on [-2, 2]² from random points. The value is the mean
squared residual on them; as many other points validate it. Every lane is a start of its own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.tree_util import Partial

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import mlp, rosenbrock

LOOKS = {
    "adam": ("Adam", "C1"),
    "levenberg_marquardt": ("Levenberg–Marquardt", "C4"),
    "gauss_newton": ("Gauss–Newton, undamped", "C3"),
}


@study.config
class Config:
    """A method, the network, and what it learns from."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1e-2
    """Of Adam."""
    damping: Annotated[float, msgspec.Meta(gt=0)] = 3.0
    """Of Levenberg-Marquardt at its start, relative to the squared column norms of the Jacobian."""
    surface: tuple[float, float] = (2.5, 2.5)
    """The a and b of the surface."""
    seed: int = 0
    """Of the points and of the starts."""
    method: Literal["adam", "levenberg_marquardt", "gauss_newton"] = study.static("levenberg_marquardt")
    """How to train."""
    damping_rule: Literal["nielsen", "radius", "delayed"] = study.static("delayed")
    """How Levenberg-Marquardt changes its damping; see jaxopt_study.damping."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(100)
    """Steps to take; of Levenberg-Marquardt, those that were accepted."""
    starts: Annotated[int, msgspec.Meta(ge=1)] = study.static(20)
    """How many starts, each trained by itself."""
    hidden: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = study.static((10,))
    """Widths of the hidden layers, which are tanh."""
    points: Annotated[int, msgspec.Meta(ge=1)] = study.static(500)
    """How many points to train on, and how many others to validate on."""
    validate_every: Annotated[int, msgspec.Meta(ge=1)] = study.static(1)
    """Steps from one look at the validation points to the next."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


class Carry(NamedTuple):
    """All lanes between two chunks; `fit.setup` is common to them."""

    fit: jos.Carry
    held_out: tuple[jax.Array, jax.Array]
    validation: jax.Array


def make_optimizer(config: Config) -> Any:
    match config.method:
        case "adam":
            return jos.adam(config.learning_rate)
        case "levenberg_marquardt":
            return jos.levenberg_marquardt(config.damping, damping_rule=config.damping_rule)
        case "gauss_newton":
            return jos.gauss_newton()


def sample(config: Config, key: Any) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Points (x, y) and heights z to train on, and others to validate on."""
    xy = jax.random.uniform(key, (2, config.points, 2), minval=-2.0, maxval=2.0)
    z = rosenbrock.apply(rosenbrock.init(*config.surface), xy[..., 0], xy[..., 1])
    return (xy[0], z[0]), (xy[1], z[1])


def residual(scale: float, params: Any, xy: jax.Array, z: jax.Array) -> jax.Array:
    return scale * (mlp.apply(params, xy)[..., 0] - z)


def mean_square(params: Any, xy: jax.Array, z: jax.Array) -> jax.Array:
    return jnp.mean(residual(1.0, params, xy, z) ** 2)


def init(config: Config, key: Any) -> Carry:
    data_key, start_key = jax.random.split(key)
    data, held_out = sample(config, data_key)
    # Half the sum of squares is their mean. The scale may not be taken from the shape of `xy`: with
    # `pointwise` a residual sees one row at a time.
    scale = (2.0 / config.points) ** 0.5
    # Adam has no use for that promise, which is checked before it is believed.
    objective = jos.LeastSquares(Partial(residual, scale), pointwise=config.method != "adam")
    # A race over a fixed number of steps: nothing but that number, or a dead end, is to end it. Undamped
    # Gauss-Newton has no dead end of its own, and keeps the tests that notice one.
    switched_off = 0.0 if config.method == "levenberg_marquardt" else None

    def start(key: Any) -> tuple[Any, Any]:
        carry = jos.start(
            objective,
            mlp.init(key, (2, *config.hidden, 1)),
            make_optimizer(config),
            data,
            max_steps=config.max_steps,
            ftol=switched_off,
            xtol=switched_off,
            gtol=switched_off,
            trace=True,
        )
        return carry.setup, carry.state

    keys = jax.random.split(start_key, config.starts)
    setup, state = jax.vmap(start, out_axes=(None, 0))(keys)  # one setup for all lanes
    first = jax.vmap(mean_square, in_axes=(0, None, None))(state.params, *held_out)
    validation = jnp.full((config.starts, config.max_steps + 1), jnp.nan).at[:, 0].set(first)
    return Carry(jos.Carry(setup, state), held_out, validation)


def advance(config: Config, carry: Carry, n: Any) -> Carry:
    setup = carry.fit.setup

    def train(lane: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        last = lane[0].num_steps + n

        def to_the_next_look(lane: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            state, seen = lane
            due = (state.num_steps // config.validate_every + 1) * config.validate_every
            count = jnp.minimum(due, last) - state.num_steps
            state = jos.advance(jos.Carry(setup, state), count).state
            look = (state.num_steps == due) | (state.status != jos.Status.RUNNING)
            now = jnp.where(look, mean_square(state.params, *carry.held_out), seen[state.num_steps])
            return state, seen.at[state.num_steps].set(now)

        def going(lane: tuple[Any, jax.Array]) -> jax.Array:
            return (lane[0].status == jos.Status.RUNNING) & (lane[0].num_steps < last)

        return jax.lax.while_loop(going, to_the_next_look, lane)

    # One lane after the other: under vmap every step would select among whole traces, and a lane of
    # 500 points keeps a core busy as it is.
    state, validation = jax.lax.map(train, (carry.fit.state, carry.validation))
    return Carry(jos.Carry(setup, state), carry.held_out, validation)


def outcome(config: Config, carry: Carry) -> study.Outcome:
    del config
    result = jos.finish(carry.fit)
    validation = jax.vmap(mean_square, in_axes=(0, None, None))(result.params, *carry.held_out)
    return study.Outcome(
        result.status,
        result.num_steps,
        result.value,
        values={"validation": validation, "grad_norm": result.grad_norm, "num_evals": result.num_evals},
        traces={"training": result.trace.value, "validation": carry.validation},
    )


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Adam over Levenberg-Marquardt, where both were run: losses start by start, and time."""
    by_method = {record.config.method: record for record in records.values()}
    if not {"adam", "levenberg_marquardt"} <= set(by_method):
        return {}
    adam, lm = by_method["adam"], by_method["levenberg_marquardt"]
    if adam.config.starts != lm.config.starts:
        return {}
    ratio = adam.outcome.value / lm.outcome.value
    return {
        "loss_ratio_median": float(np.median(ratio)),
        "loss_ratio_min": float(np.min(ratio)),
        "loss_ratio_max": float(np.max(ratio)),
        "time_ratio": adam.timing.run_seconds / lm.timing.run_seconds,
    }


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    longest = max(int(np.max(record.outcome.num_steps)) for record in records.values())
    scale = "log" if longest > 20 else "linear"
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharex="col", sharey=True, layout="constrained")
    for record in records.values():
        name, color = LOOKS[record.config.method]
        steps = int(np.sum(record.outcome.num_steps))
        seconds = record.timing.run_seconds / max(steps, 1)  # lanes run one after the other
        for row, kind in zip(axes, ("training", "validation"), strict=True):
            for ax, unit in zip(row, (1.0, seconds), strict=True):
                draw_lanes(ax, record.outcome.traces[kind], unit, color, name, first=int(scale == "log"))
    for row, kind in zip(axes, ("training", "validation"), strict=True):
        row[0].set_ylabel(f"mean squared residual, {kind}")
    for ax, name in zip(axes[1], ("step", "time of one start after compilation [s]"), strict=True):
        ax.set_xlabel(name)
    for ax in axes.flat:
        ax.set(xscale=scale, yscale="log")
        ax.grid(alpha=0.3)
    figure.suptitle("A network on Rosenbrock's surface: every start, and their median")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(records))
    return {"loss": figure}


def draw_lanes(ax: Any, trace: np.ndarray, unit: float, color: str, name: str, first: int) -> None:
    """Every lane as a thin line, their median as a thick one, from the first step on."""
    lanes = filled(trace)
    lanes = lanes[np.isfinite(lanes[:, 0])]  # without those that could not start
    measured = np.flatnonzero(np.isfinite(trace).any(axis=0))[first:]
    if not len(measured):
        return
    # A log axis shows no more than some hundreds of the steps.
    steps = measured[np.unique(np.geomspace(1, len(measured), 400).astype(int)) - 1]
    ax.plot(steps * unit, lanes[:, steps].T, color=color, lw=0.6, alpha=0.35)
    ax.plot(steps * unit, np.median(lanes[:, steps], axis=0), color=color, lw=2.5, label=name)


def filled(trace: np.ndarray) -> np.ndarray:
    """The trace with the last value known wherever none was measured."""
    known = np.where(np.isnan(trace), 0, np.arange(trace.shape[1]))
    return np.take_along_axis(trace, np.maximum.accumulate(known, axis=1), axis=1)
