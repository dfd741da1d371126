"""Which root of z³ - 1 Newton's method reaches from every point of a square, and what a trust region does.

Plain Newton steps make the basins a fractal; steps that must lower |z³ - 1| make most of it go away. A lane
is a row of the picture (an imaginary part); in the trace, `step` counts real parts, `root` is 0, 1 or 2, -1
for none, and `steps` how many were taken.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study

ROOTS = ((1.0, 0.0), (-0.5, 0.75**0.5), (-0.5, -(0.75**0.5)))
NEAR = 1e-4


@study.config
class Config:
    """The square, and the method."""

    center: tuple[float, float] = (0.0, 0.0)
    """Of the square, real and imaginary part."""
    width: Annotated[float, msgspec.Meta(gt=0)] = 3.0
    """Of the square."""
    radius: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    """Of the trust region at the start, relative to |z|; the plain method has none."""
    seed: int = 0
    """Not used: nothing here is random."""
    method: Literal["plain", "trust_region"] = study.static("plain")
    """Newton's formula as it is, or jos.find_root."""
    size: Annotated[int, msgspec.Meta(ge=2)] = study.static(400)
    """Points along each side."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(60)
    """Steps after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def cube(p: jax.Array) -> jax.Array:
    """z³ - 1 as two real equations in two real unknowns."""
    x, y = p
    return jnp.stack([x**3 - 3 * x * y**2 - 1, 3 * x**2 * y - y**3])


def plain(start: jax.Array, max_steps: int) -> tuple[jax.Array, jax.Array]:
    """Newton's formula, until it stands still."""

    def step(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        p, _, steps = carry
        x, y = p
        # f'(z) = 3z² is [[a, -b], [b, a]] as a real matrix.
        a, b = 3 * (x**2 - y**2), 6 * x * y
        u, v = cube(p)
        move = jnp.stack([a * u + b * v, a * v - b * u]) / (a**2 + b**2)
        return p - move, jnp.max(jnp.abs(move)), steps + 1

    def going(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return (carry[1] > 1e-8) & (carry[2] < max_steps)

    p, _, steps = jax.lax.while_loop(going, step, (start, jnp.ones((), start.dtype), jnp.asarray(0)))
    return p, steps


def run(config: Config, key: Any) -> study.Outcome:
    del key
    along = jnp.linspace(-0.5, 0.5, config.size) * config.width
    real, imaginary = config.center[0] + along, config.center[1] + along

    def solve(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = jnp.stack([x, y])
        if config.method == "plain":
            return plain(start, config.max_steps)
        result = jos.find_root(cube, start, max_steps=config.max_steps, radius=config.radius)
        return result.params, result.num_steps

    points, steps = jax.lax.map(lambda y: jax.vmap(solve, in_axes=(0, None))(real, y), imaginary)
    away = jnp.max(jnp.abs(points[:, :, None] - jnp.asarray(ROOTS)[None, None]), axis=-1)
    reached = jnp.min(away, axis=-1) < NEAR
    root = jnp.where(reached, jnp.argmin(away, axis=-1), -1).astype(jnp.int8)
    status = jnp.where(reached.all(axis=1), jos.Status.STEP_CONVERGED, jos.Status.OUT_OF_STEPS)
    farthest = jnp.where(jnp.isfinite(away).all(-1), away.min(-1), jnp.inf).max(axis=1)
    traces = {"steps": steps.astype(away.dtype), "root": root}
    return study.Outcome(status.astype(jnp.int32), steps.max(axis=1).astype(jnp.int32), farthest, {}, traces)


def summary(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    """How many points reach a root, in how many steps; how ragged the borders of the basins are."""
    said = {}
    for label, record in records.items():
        root, steps = record.outcome.traces["root"], record.outcome.traces["steps"]
        border = (root[1:, 1:] != root[:-1, 1:]) | (root[1:, 1:] != root[1:, :-1])
        said[f"{label}_reach_a_root_percent"] = round(100 * float((root >= 0).mean()), 3)
        said[f"{label}_mean_steps"] = round(float(steps.mean()), 2)
        said[f"{label}_on_a_border_percent"] = round(100 * float(border.mean()), 2)
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt
    from matplotlib.colors import hsv_to_rgb

    count = len(records)
    figure, axes = plt.subplots(1, count, figsize=(5.4 * count, 5.6), layout="constrained", squeeze=False)
    for ax, (label, record) in zip(axes.flat, records.items(), strict=True):
        config = record.config
        root, steps = record.outcome.traces["root"], record.outcome.traces["steps"]
        depth = np.clip(np.log(np.maximum(steps, 3) / 3) / np.log(12), 0, 1)
        hue = np.array([0.58, 0.09, 0.36])[np.maximum(root, 0)]
        value = np.where(root >= 0, 1 - 0.8 * depth, 0.0)
        half = config.width / 2
        (x, y) = config.center
        ax.imshow(
            hsv_to_rgb(np.stack([hue, 0.35 + 0.5 * depth, value], axis=-1)),
            origin="lower",
            extent=(x - half, x + half, y - half, y + half),
            interpolation="nearest",
        )
        for at in ROOTS:
            ax.plot(*at, "o", ms=5, mfc="white", mec="black")
        ax.set(xlabel="real part", title=f"{label.replace('_', ' ')}: {steps.mean():.1f} steps a point")
        ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
    axes[0, 0].set_ylabel("imaginary part")
    figure.suptitle("Which root of z³ - 1, by color; the darker, the more steps; black: none")
    return {"basins": figure}
