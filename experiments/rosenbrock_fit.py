"""Fit the two constants of Rosenbrock's surface from nine of its points, by five methods.

The heights z = (a - x)² + b (y - x²)² are given at x, y in {-2, 0, 2}; a and b are wanted. The
value is the mean of the squared residuals, and it is minimized until it reaches a target.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.problems import rosenbrock

# One look a method in every picture; Gauss-Newton and Levenberg-Marquardt all but coincide here, so
# that the second is dashed and small over the first.
LOOKS: dict[str, dict[str, Any]] = {
    "sgd": {"label": "gradient descent", "color": "C0"},
    "adam": {"label": "Adam", "color": "C1"},
    "newton": {"label": "Newton", "color": "C2", "marker": "^", "ms": 6},
    "gauss_newton": {"label": "Gauss–Newton", "color": "C3", "marker": "o", "ms": 8, "lw": 3, "alpha": 0.6},
    "levenberg_marquardt": {
        "label": "Levenberg–Marquardt",
        "color": "C4",
        "marker": "s",
        "ms": 3.5,
        "ls": "--",
    },
}


@study.config
class Config:
    """A method, where it starts, and when it has arrived."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 5e-4
    """Of gradient descent and Adam; the others have none."""
    damping: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Of Levenberg-Marquardt at its start, relative to the squared column norms of the Jacobian."""
    start: tuple[float, float] = (5.0, 5.0)
    """Where (a, b) starts."""
    truth: tuple[float, float] = (2.5, 2.5)
    """The (a, b) that the heights are made with."""
    target: Annotated[float, msgspec.Meta(ge=0)] = 1e-10
    """The mean squared residual that is good enough."""
    seed: int = 0
    """Not used: nothing here is random."""
    method: Literal["sgd", "adam", "newton", "gauss_newton", "levenberg_marquardt"] = study.static("sgd")
    """How to get there."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(40_000)
    """Steps after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def make_optimizer(config: Config) -> Any:
    match config.method:
        case "sgd":
            return jos.sgd(config.learning_rate)
        case "adam":
            return jos.adam(config.learning_rate)
        case "newton":
            return jos.newton(damping=None)
        case "gauss_newton":
            return jos.gauss_newton()
        case "levenberg_marquardt":
            return jos.levenberg_marquardt(config.damping)


def path(params: dict[str, Any]) -> dict[str, Any]:
    return params


def init(config: Config, key: Any) -> jos.Carry:
    del key
    problem = rosenbrock.surface_fit(*config.truth, start=config.start)
    return jos.start(
        problem.objective,
        problem.init,
        make_optimizer(config),
        problem.data,
        max_steps=config.max_steps,
        target=config.target,
        trace=path,
    )


def advance(config: Config, carry: jos.Carry, n: Any) -> jos.Carry:
    del config
    return jos.advance(carry, n)


def outcome(config: Config, carry: jos.Carry) -> study.Outcome:
    del config
    result = jos.finish(carry)
    return study.Outcome(
        result.status,
        result.num_steps,
        result.value,
        values=result.params,
        traces={"loss": result.trace.value, **result.trace.observed},
    )


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    return {"paths": draw_paths(records), "loss": draw_loss(records)}


def draw_paths(records: Mapping[str, study.Recorded]) -> Any:
    """Where each method went, on the contours of the loss: all of it, and near the end."""
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogFormatterMathtext, LogLocator

    some = next(iter(records.values())).config
    paths = {label: trimmed(record, "a", "b") for label, record in records.items()}
    goal, start = np.array(some.truth), np.array(some.start)
    near = 1.4 * distance(start[:, None], goal)
    reach = max(near, *(1.1 * distance(points, goal) for points in paths.values()))
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.4), layout="constrained")
    for ax, half, title in zip(axes, (reach, near), ("All of each path", "Near the solution"), strict=True):
        a, b = (np.linspace(center - half, center + half, 300) for center in goal)
        height = loss(a[None, :], b[:, None], some.truth)
        top = np.log10(height.max())
        levels = 10 ** np.arange(np.floor(top) - 5, np.ceil(top) + 0.25, 0.5)
        shades = ax.contourf(
            a, b, np.maximum(height, levels[0]), levels, norm=LogNorm(), cmap="bone", alpha=0.5
        )
        ax.contour(a, b, height, levels, colors="white", linewidths=0.6)
        bar = figure.colorbar(shades, ax=ax, ticks=LogLocator(), format=LogFormatterMathtext())
        bar.set_label("mean squared residual")
        for label, points in paths.items():
            ax.plot(*points, **LOOKS[records[label].config.method])
        ax.plot(*start, "ks", ms=7, label="start", ls="none")
        ax.plot(*goal, "k*", ms=12, label="solution", ls="none", mfc="white")
        ax.set(xlabel="a", ylabel="b", title=title, xlim=(a[0], a[-1]), ylim=(b[0], b[-1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(paths) + 2)
    return figure


def draw_loss(records: Mapping[str, study.Recorded]) -> Any:
    """The loss after each step; both axes are logarithmic, so that step 0 stands at 1."""
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(9.5, 5), layout="constrained")
    for record in records.values():
        (values,) = trimmed(record, "loss")
        look = LOOKS[record.config.method]
        label = f"{look['label']}\n({record.outcome.num_steps:,} steps)"
        ax.plot(np.arange(1, len(values) + 1), values, **{**look, "label": label})
    target = next(iter(records.values())).config.target
    ax.axhline(target, color="black", lw=0.8, ls=":", label="target")
    ax.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="mean squared residual")
    ax.set_title("Fit of Rosenbrock's surface")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    return figure


def trimmed(record: study.Recorded, *names: str) -> np.ndarray:
    """Columns of a trace up to the last step that was taken."""
    return np.stack([record.outcome.traces[name][: record.outcome.num_steps + 1] for name in names])


def distance(points: np.ndarray, goal: np.ndarray) -> float:
    """The farthest coordinate from the goal; 1 where there is none, as at a start that is not finite."""
    away = np.abs(points - goal[:, None])
    return float(np.max(away, where=np.isfinite(away), initial=0.0)) or 1.0


def loss(a: np.ndarray, b: np.ndarray, truth: tuple[float, float]) -> np.ndarray:
    """The loss in NumPy, for whole grids of (a, b) at once."""
    x, y = (grid.ravel() for grid in np.meshgrid([-2.0, 0.0, 2.0], [-2.0, 0.0, 2.0]))
    wanted = (truth[0] - x) ** 2 + truth[1] * (y - x**2) ** 2
    found = (a[..., None] - x) ** 2 + b[..., None] * (y - x**2) ** 2
    return np.mean((found - wanted) ** 2, axis=-1)
