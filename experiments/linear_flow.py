"""Learn a flow: x' = W x + b, so that it takes x(0) to 2 x(0) + 1 in unit time.

100 points are drawn from a normal distribution in the plane, and their targets are disturbed by noise of 0.1.
From W = 0 and b = 0 the value, the mean over elements of half the squared error, is about 1 and falls to
that of the noise, 0.005: by gradient descent through the continuous adjoint or through the solver's own
steps, or by Gauss-Newton on the residuals. The exact answer is W = ln 2 · 1 and b = (ln 2, ln 2).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study


@study.config
class Config:
    """How the flow is learned."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """Of gradient descent."""
    noise: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    """Standard deviation of the targets' errors."""
    seed: int = 0
    """Of points and noise."""
    method: Literal["gradient_descent", "gauss_newton"] = study.static("gradient_descent")
    """How to train."""
    adjoint: Literal["auto", "checkpoint", "backsolve"] = study.static("auto")
    """Where gradients come from; Gauss-Newton needs forward mode, and so `auto`."""
    points: Annotated[int, msgspec.Meta(ge=2)] = study.static(100)
    """How many pairs."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(300)
    """Steps to take."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def field(t: Any, x: Any, params: Any) -> Any:
    del t
    return x @ params["W"].T + params["b"][None, :]


def flowed(params: Any, x: Any, adjoint: Any) -> Any:
    ts = jnp.array([0.0, 1.0], x.dtype)
    return jos.solve_ode(field, x, ts, params, rtol=1e-6, atol=1e-6, adjoint=adjoint, max_steps=256).ys[-1]


def residual(params: Any, x: Any, y: Any) -> Any:
    return (flowed(params, x, "auto") - y) / jnp.sqrt(float(y.size))


def loss_through_steps(params: Any, x: Any, y: Any) -> Any:
    return 0.5 * jnp.mean((flowed(params, x, "checkpoint") - y) ** 2)


def loss_through_adjoint(params: Any, x: Any, y: Any) -> Any:
    return 0.5 * jnp.mean((flowed(params, x, "backsolve") - y) ** 2)


def init(config: Config, key: Any) -> jos.Carry:
    if config.method == "gauss_newton" and config.adjoint != "auto":
        raise study.StudyInputError(f"config.adjoint: gauss_newton needs 'auto', got {config.adjoint!r}")
    draw, disturb = jax.random.split(key)
    x = jax.random.normal(draw, (config.points, 2))
    y = 2 * x + 1 + config.noise * jax.random.normal(disturb, x.shape)
    params = {"W": jnp.zeros((2, 2)), "b": jnp.zeros(2)}
    if config.method == "gauss_newton":
        objective: Any = jos.LeastSquares(residual)
        optimizer: Any = jos.gauss_newton()
    else:
        objective = loss_through_adjoint if config.adjoint == "backsolve" else loss_through_steps
        optimizer = jos.sgd(config.learning_rate)
    return jos.start(objective, params, optimizer, (x, y), max_steps=config.max_steps, trace=True)


def advance(config: Config, carry: jos.Carry, n: Any) -> jos.Carry:
    del config
    return jos.advance(carry, n)


def outcome(config: Config, carry: jos.Carry) -> study.Outcome:
    del config
    result = jos.finish(carry)
    error = jnp.max(jnp.abs(result.params["W"] - jnp.log(2.0) * jnp.eye(2)))
    values = {"W": result.params["W"], "b": result.params["b"], "error_of_W": error}
    return study.Outcome(result.status, result.num_steps, result.value, values, {"loss": result.trace.value})


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for label, record in records.items():
        losses = record.outcome.traces["loss"]
        ax.plot(
            np.arange(losses.size), losses, marker="." if record.outcome.num_steps < 20 else None, label=label
        )
    noise = next(iter(records.values())).config.noise
    ax.axhline(0.5 * noise**2, color="black", lw=0.8, ls=":", label="noise")
    ax.set(
        xlabel="step", ylabel="mean of half the squared error", yscale="log", title="A linear flow, learned"
    )
    ax.grid(alpha=0.3)
    ax.legend()
    return {"loss": figure}
