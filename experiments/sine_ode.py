"""The smallest ODE: y'' = -ω² y, whose solution is a sine, by several methods.

As a system, x' = v and v' = -ω² x from (0, 1): at ω = 1 and t = ½ the state is (sin ½, cos ½). The derivative
with respect to ω comes forwards and backwards and is compared with that on paper.
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
    """A method and its tolerances."""

    frequency: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """ω."""
    end: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """The last time."""
    rtol: Annotated[float, msgspec.Meta(gt=0)] = 1e-12
    """Error of a step that is tolerated, relative; absolute too."""
    seed: int = 0
    """Not used: nothing here is random."""
    solver: Literal["bosh3", "tsit5", "dopri5", "dopri8", "kvaerno5"] = study.static("tsit5")
    """The method."""
    points: Annotated[int, msgspec.Meta(ge=2)] = study.static(41)
    """Times at which the state is written down."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def oscillator(t: Any, state: Any, frequency: Any) -> Any:
    del t
    return {"x": state["v"], "v": -(frequency**2) * state["x"]}


def run(config: Config, key: Any) -> study.Outcome:
    del key
    ts = jnp.linspace(0.0, config.end, config.points)
    begin = {"x": jnp.zeros(()), "v": jnp.ones(())}

    def solve(frequency: Any) -> Any:
        return jos.solve_ode(
            oscillator,
            begin,
            ts,
            frequency,
            solver=config.solver,
            rtol=config.rtol,
            atol=config.rtol,
            max_steps=16384,
        )

    def last(frequency: Any) -> Any:
        return solve(frequency).ys["x"][-1]

    frequency = jnp.asarray(config.frequency)
    solution = solve(frequency)
    angle = frequency * config.end
    x, v = jnp.sin(frequency * ts) / frequency, jnp.cos(frequency * ts)
    error = jnp.maximum(jnp.abs(solution.ys["x"] - x), jnp.abs(solution.ys["v"] - v))
    values = {
        "sine": solution.ys["x"][-1],
        "cosine": solution.ys["v"][-1],
        "steps": solution.stats.num_steps,
        "slope_forward": jax.jacfwd(last)(frequency),
        "slope_reverse": jax.jacrev(last)(frequency),
        "slope_on_paper": (angle * jnp.cos(angle) - jnp.sin(angle)) / frequency**2,
    }
    traces = {"t": ts, "x": solution.ys["x"], "v": solution.ys["v"], "error": error}
    return study.Outcome(solution.status, solution.stats.num_steps, jnp.max(error), values, traces)


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for label, record in records.items():
        traces = record.outcome.traces
        left.plot(traces["t"], traces["x"], lw=1.2, label=f"x, {label}")
        steps = int(record.outcome.values["steps"])
        right.plot(traces["t"], np.maximum(traces["error"], 1e-18), label=f"{label}: {steps} steps")
    left.set(xlabel="t", ylabel="x", title="x'' = -ω² x")
    right.set(xlabel="t", ylabel="largest error of x and v", yscale="log", title="Against the sine")
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.legend()
    return {"sine": figure}
