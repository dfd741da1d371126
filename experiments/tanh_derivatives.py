"""The derivatives of (1 - exp(-y)) / (1 + exp(-y)), and what three ways of taking them cost.

The function is tanh(y / 2). Its derivatives up to an order are drawn; and for every order it is measured
how long nested `jax.grad`, nested `jax.jvp` and `jos.derivatives` take for all derivatives of tanh up to
it, first to trace and compile, then to run.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study

WAYS = {"grad": ("nested grad", "C3"), "jvp": ("nested jvp", "C1"), "taylor": ("Taylor mode", "C0")}


@study.config
class Config:
    """What to draw, and how far to measure."""

    at: float = 1.0
    """Where the first derivative is compared with a difference."""
    step: Annotated[float, msgspec.Meta(gt=0)] = 1e-5
    """Of the difference."""
    seed: int = 0
    """Not used: nothing here is random."""
    half_width: Annotated[float, msgspec.Meta(gt=0)] = study.static(7.0)
    """The curves are drawn from minus this to this."""
    order: Annotated[int, msgspec.Meta(ge=1, le=20)] = study.static(6)
    """The highest derivative that is drawn."""
    measured: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = study.static((*range(1, 11), 12, 16, 20))
    """The orders to measure, rising."""
    budget: Annotated[float, msgspec.Meta(ge=0)] = study.static(15.0)
    """Seconds to trace and compile; a way that took longer is not measured at higher orders."""
    points: Annotated[int, msgspec.Meta(ge=1)] = study.static(10_000)
    """Where the derivatives are taken when their run time is measured."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def function(y: Any) -> Any:
    return (1 - jnp.exp(-y)) / (1 + jnp.exp(-y))


def run(config: Config, key: Any) -> study.Outcome:
    del key
    if list(config.measured) != sorted(set(config.measured)):
        raise study.StudyInputError(f"config.measured: expected rising orders, got {config.measured}")
    y = jnp.linspace(-config.half_width, config.half_width, 561)
    rows = jos.derivatives(function, config.order)(y)
    same = jos.derivatives(lambda y: jnp.tanh(y / 2), config.order)(y)
    at = jnp.asarray(config.at)
    exact = jos.derivatives(function, 1)(at)[1]
    difference = (function(at + config.step) - function(at)) / config.step
    largest = jnp.max(jnp.abs(rows), axis=1)
    values = {
        "derivative": exact,
        "difference": difference,
        "difference_from_tanh": jnp.max(jnp.max(jnp.abs(rows - same), axis=1) / largest),
        "order": jnp.asarray(config.measured),
        **measure(config.measured, config.budget, config.points, config.dtype),
    }
    traces = {"y": y, **{f"derivative_{k}": row for k, row in enumerate(rows)}}
    return study.Outcome(jnp.asarray(jos.Status.OUT_OF_STEPS), jnp.asarray(0), exact, values, traces)


@functools.cache  # a study is traced more than once
def measure(orders: tuple[int, ...], budget: float, points: int, dtype: str) -> dict[str, np.ndarray]:
    """Seconds by way and order; NaN where it was not measured.

    It is done while the study is traced, because compiling is what is measured.
    """
    where = np.linspace(-3, 3, points).astype(dtype)
    found = {f"{name}_{what}": np.full(len(orders), np.nan) for name in WAYS for what in ("compile", "run")}
    for name, tower in (("grad", nested_grad), ("jvp", nested_jvp), ("taylor", taylor_mode)):
        for i, order in enumerate(orders):
            found[f"{name}_compile"][i], found[f"{name}_run"][i] = seconds(tower(order), where)
            if found[f"{name}_compile"][i] > budget:
                break
    return found


def seconds(tower: Callable[[Any], Any], where: np.ndarray) -> tuple[float, float]:
    """To trace and compile, and to run (the median of 25)."""
    salt = time.time()  # so that no cache of compiled programs knows this one
    began = time.perf_counter()
    compiled = jax.jit(lambda y: tower(y) + salt).lower(where).compile()
    compiling = time.perf_counter() - began
    times = []
    for _ in range(25):
        began = time.perf_counter()
        jax.block_until_ready(compiled(where))
        times.append(time.perf_counter() - began)
    return compiling, float(np.median(times))


def nested_grad(order: int) -> Callable[[Any], Any]:
    return nested(jax.grad, order)


def nested_jvp(order: int) -> Callable[[Any], Any]:
    return nested(lambda fn: lambda y: jax.jvp(fn, (y,), (jnp.ones_like(y),))[1], order)


def nested(derivative: Callable[..., Any], order: int) -> Callable[[Any], Any]:
    fns: list[Callable[..., Any]] = [jnp.tanh]
    for _ in range(order):
        fns.append(derivative(fns[-1]))
    return jax.vmap(lambda y: jnp.stack([fn(y) for fn in fns]), out_axes=1)


def taylor_mode(order: int) -> Callable[[Any], Any]:
    return jos.derivatives(lambda y: jnp.tanh(y), order)  # a new function, which is compiled anew


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """The compile times of the highest order that every way was measured at, and the growth of run time."""
    said: dict[str, float | str] = {}
    for label, record in records.items():
        values = record.outcome.values
        common = np.flatnonzero(np.isfinite(sum(values[f"{name}_compile"] for name in WAYS)))[-1]
        order = values["order"][common]
        for name in ("grad", "jvp"):
            ratio = values[f"{name}_compile"][common] / values["taylor_compile"][common]
            said[f"{label}: compile time of order {order}, nested {name} over Taylor mode"] = float(ratio)
        if len(values["order"]) > 2:
            half = len(values["order"]) // 2
            rise = np.polyfit(np.log(values["order"][half:]), np.log(values["taylor_run"][half:]), 1)[0]
            said[f"{label}: power of the order that the run time of Taylor mode grows with"] = float(rise)
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    record = next(iter(records.values()))
    return {"derivatives": draw_derivatives(record), "cost": draw_cost(record)}


def draw_derivatives(record: study.Recorded) -> Any:
    """All derivatives, each at its own scale: the sixth is not seen beside the function otherwise."""
    from matplotlib import pyplot as plt

    traces = record.outcome.traces
    figure, ax = plt.subplots(figsize=(8.5, 5), layout="constrained")
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, record.config.order + 1))
    for k, color in enumerate(colors):
        row = traces[f"derivative_{k}"]
        name = "f" + ("′" * k if k <= 3 else f"⁽{'⁰¹²³⁴⁵⁶⁷⁸⁹'[k]}⁾" if k < 10 else f"^({k})")
        ax.plot(traces["y"], row, color=color, lw=1.8, label=name)
    ax.set(xlabel="y", xlim=(traces["y"][0], traces["y"][-1]))
    ax.set_title("f = (1 − e⁻ʸ) / (1 + e⁻ʸ) and its derivatives")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", ncols=2)
    return figure


def draw_cost(record: study.Recorded) -> Any:
    """What compiling takes, and what running takes, against the order."""
    from matplotlib import pyplot as plt

    values = record.outcome.values
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    titles = {"compile": "to trace and compile", "run": f"to run, at {record.config.points:,} points"}
    for ax, (what, title) in zip(axes, titles.items(), strict=True):
        for name, (label, color) in WAYS.items():
            ax.plot(values["order"], values[f"{name}_{what}"], "o-", ms=4, color=color, label=label)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="order",
            ylabel="seconds",
            title=f"All derivatives of tanh, {title}",
        )
        low, high = values["order"][[0, -1]]
        ticks = [order for order in (1, 2, 3, 4, 6, 8, 10, 12, 16, 20) if low <= order <= high]
        ax.set_xticks(ticks, [str(order) for order in ticks])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.legend()
    return figure
