"""Fit a cubic to a sine, by gradients from everywhere: by hand, by `jax.grad`, by a rule of one's own.

y = a + b x + c x² + d x³ is fitted to sin x at points of [-π, π]; the loss is the sum of squares. Gradient
descent comes three ways that must agree step by step: with derivatives by hand in NumPy, with `jax.grad` of
the polynomial, and with `jax.grad` of a linear model of the features x, x², x³. RMSprop has a rate that is
constant first (where it ends in a step to and fro across the minimum) and then falls. One Gauss-Newton step
is exact. Last a + b P₃(c + d x), Legendre's polynomial with a derivative written by hand.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import legendre, polynomial

Method = Literal["by_hand", "grad", "linear_model", "rmsprop", "gauss_newton", "legendre_vjp", "legendre_jvp"]
SAME = ("by_hand", "grad", "linear_model")
LOOKS: dict[str, dict[str, Any]] = {
    "by_hand": {"color": "C0", "label": "derivatives by hand", "lw": 5, "alpha": 0.35},
    "grad": {"color": "C0", "label": "jax.grad", "lw": 2},
    "linear_model": {"color": "black", "label": "linear model", "lw": 1, "ls": "--"},
    "rmsprop": {"color": "C3", "label": "RMSprop"},
    "gauss_newton": {"color": "C2", "label": "one Gauss–Newton step", "marker": "o"},
    "legendre_vjp": {"color": "C4", "label": "a + b P₃(c + d x), custom_vjp", "lw": 4, "alpha": 0.4},
    "legendre_jvp": {"color": "C4", "label": "a + b P₃(c + d x), custom_jvp", "lw": 1.2},
}


@study.config
class Config:
    """A method, and where it starts."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1e-6
    """Of gradient descent, and of RMSprop before its rate falls."""
    fall: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.4
    """The part of RMSprop's steps, the last ones, in which the rate falls to a millionth."""
    seed: int = 0
    """Of the start."""
    method: Method = study.static("grad")
    """Where the derivatives come from, and what is done with them."""
    points: Annotated[int, msgspec.Meta(ge=4)] = study.static(2000)
    """How many points of the sine."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(2000)
    """Steps to take."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def data(config: Config) -> tuple[Any, Any]:
    x = jnp.linspace(-jnp.pi, jnp.pi, config.points)
    return x, jnp.sin(x)


def residual(coefficients: Any, x: Any, y: Any) -> Any:
    return polynomial.apply(coefficients, x) - y


def loss(coefficients: Any, x: Any, y: Any) -> Any:
    return jnp.sum(residual(coefficients, x, y) ** 2)


def linear_loss(params: Any, x: Any, y: Any) -> Any:
    features = jnp.stack([x, x**2, x**3], axis=1)
    return jnp.sum((features @ params["weights"] + params["bias"] - y) ** 2)


def legendre_loss(backward_rule: bool) -> Callable[..., Any]:
    def loss(params: Any, x: Any, y: Any) -> Any:
        return jnp.sum((legendre.apply(params, x, backward_rule) - y) ** 2)

    return loss


def run(config: Config, key: Any) -> study.Outcome:
    x, y = data(config)
    start = polynomial.init(key, 3)
    rate = config.learning_rate
    match config.method:
        case "by_hand":
            return of_path(*in_numpy(start, rate, x, y, config.max_steps))
        case "grad":
            return descend(config, loss, start, jos.sgd(rate), (x, y), lambda c: c)
        case "linear_model":
            params = {"bias": start[0], "weights": start[1:]}
            join = lambda p: jnp.concatenate([p["bias"][None], p["weights"]])  # noqa: E731
            return descend(config, linear_loss, params, jos.sgd(rate), (x, y), join)
        case "rmsprop":
            schedule = falling_rate(rate, config.fall, config.max_steps)
            return descend(config, loss, start, jos.rmsprop(schedule), (x, y), lambda c: c)
        case "gauss_newton":
            squares = jos.LeastSquares(residual)
            result = jos.minimize(squares, start, jos.gauss_newton(), (x, y), max_steps=1, trace=True)
            path = jnp.stack([start, result.params])
            return of_path(2 * result.trace.value, path, result.status)
        case _:
            backward_rule = config.method == "legendre_vjp"
            join = lambda p: jnp.stack([p[name] for name in "abcd"])  # noqa: E731
            return descend(config, legendre_loss(backward_rule), legendre.init(), jos.sgd(rate), (x, y), join)


def falling_rate(rate: Any, part: Any, steps: int) -> Callable[[Any], Any]:
    """Constant at first; in the last part of the steps it falls to a millionth of itself."""

    def schedule(step: Any) -> Any:
        begun = (step / steps - (1 - part)) / jnp.maximum(part, 1e-9)
        return rate * 10 ** (-6 * jnp.clip(begun, 0, 1))

    return schedule


def descend(
    config: Config,
    loss: Callable[..., Any],
    params: Any,
    optimizer: Any,
    args: tuple,
    join: Callable[..., Any],
) -> study.Outcome:
    result = jos.minimize(loss, params, optimizer, args, max_steps=config.max_steps, trace=join)
    return of_path(result.trace.value, result.trace.observed, result.status)


def in_numpy(start: Any, rate: Any, x: Any, y: Any, steps: int) -> tuple[Any, Any]:
    """Losses and coefficients of every step, computed by NumPy on the host."""
    dtype = x.dtype

    def bits(array: Any) -> Any:
        # JAX calls back from another thread, where it would make float32 of float64; bytes stay as they are.
        return jax.lax.bitcast_convert_type(jnp.asarray(array, dtype), jnp.uint8)

    def by_hand(*operands: Any) -> Any:
        start, rate, x, y = (np.array(operand).view(dtype)[..., 0] for operand in operands)
        losses, path = descend_by_hand(start, rate, x, y, steps)
        return np.column_stack([losses, path]).astype(dtype)[..., None].view(np.uint8)

    shape = jax.ShapeDtypeStruct((steps + 1, 5, dtype.itemsize), jnp.uint8)
    table = jax.pure_callback(by_hand, shape, *map(bits, (start, rate, x, y)))
    table = jax.lax.bitcast_convert_type(table, dtype)
    return table[:, 0], table[:, 1:]


def descend_by_hand(start: Any, rate: Any, x: Any, y: Any, steps: int) -> tuple[Any, Any]:
    a, b, c, d = start
    losses, path = [], []
    for _ in range(steps + 1):
        off = a + b * x + c * x**2 + d * x**3 - y
        losses.append(np.sum(off**2))
        path.append((a, b, c, d))
        slope = 2 * off
        a = a - rate * np.sum(slope)
        b = b - rate * np.sum(slope * x)
        c = c - rate * np.sum(slope * x**2)
        d = d - rate * np.sum(slope * x**3)
    return np.array(losses), np.array(path)


def of_path(losses: Any, path: Any, status: Any = None) -> study.Outcome:
    status = jnp.asarray(jos.Status.OUT_OF_STEPS) if status is None else status
    columns = dict(zip("abcd", path.T, strict=True))
    values = {name: column[-1] for name, column in columns.items()}
    steps = jnp.asarray(losses.shape[0] - 1)
    return study.Outcome(status, steps, losses[-1], values, {"loss": losses, **columns})


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """How far the three ways are apart at any step, relatively; and every loss above the exact one."""
    by_method = {record.config.method: record.outcome for record in records.values()}
    said: dict[str, float | str] = {}
    same = [by_method[method].traces["loss"] for method in SAME if method in by_method]
    if len(same) > 1 and len({len(losses) for losses in same}) == 1:
        apart = max(np.max(np.abs(losses / same[0] - 1)) for losses in same[1:])
        said["largest relative difference of the three ways at any step"] = float(apart)
    if "gauss_newton" in by_method:
        exact = float(by_method["gauss_newton"].value)
        said["exact loss"] = exact
        for method, outcome in by_method.items():
            said[f"{method}: loss over the exact one, minus 1"] = float(outcome.value) / exact - 1
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    return {"loss": draw_loss(records), "curves": draw_curves(records)}


def draw_loss(records: Mapping[str, study.Recorded]) -> Any:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(9.5, 5), layout="constrained")
    for record in records.values():
        losses = record.outcome.traces["loss"]
        ax.plot(np.arange(1, len(losses) + 1), losses, **LOOKS[record.config.method])
    for record in records.values():
        if record.config.method == "gauss_newton":
            exact = float(record.outcome.value)
            ax.axhline(exact, color="black", lw=0.8, ls=":", label=f"exact: {exact:.4f}")
    ax.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="sum of squares")
    ax.set_title("A cubic fitted to a sine")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    return figure


def draw_curves(records: Mapping[str, study.Recorded]) -> Any:
    """The cubics, and what is between each of them and the sine: side by side they look all the same."""
    from matplotlib import pyplot as plt

    figure, (ax, off) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    x = np.linspace(-np.pi, np.pi, 300)
    ax.plot(x, np.sin(x), color="black", lw=5, alpha=0.2, label="sin x")
    for record in records.values():
        a, b, c, d = (float(record.outcome.values[name]) for name in "abcd")
        method = record.config.method
        u = c + d * x
        p3 = (5 * u**3 - 3 * u) / 2
        y = a + b * p3 if method.startswith("legendre") else a + b * x + c * x**2 + d * x**3
        look = {**LOOKS[method], "marker": None}
        ax.plot(x, y, **look)
        off.plot(x, y - np.sin(x), **{**look, "label": None})
    ax.set(xlabel="x", ylabel="y", title="A sine and cubics fitted to it")
    off.set(xlabel="x", ylabel="y − sin x", title="Their differences")
    for each in (ax, off):
        each.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    return figure
