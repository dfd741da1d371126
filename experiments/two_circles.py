"""A disc inside a ring, classified by a neural ODE: why it needs a dimension more.

Points are carried by `dy/dt = network(t, y)` from t = 0 to 1, and a line, or a plane, is to separate what
has come of the disc from what has come of the ring. Trajectories never cross: in the plane a circle around the
disc stays a closed curve around it, whatever the network is, and part of it is always on the disc's side
of any line. So the flow tears the ring open where no point happened to be seen, and a seam is left,
on which it is wrong. With zeros for a third coordinate it just lifts one out of the other.

Source: E. Dupont, A. Doucet and Y. W. Teh, Augmented Neural ODEs, 2019.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import mlp

Positive = Annotated[float, msgspec.Meta(gt=0)]
DISC, RING = "#c44536", "#2a6f97"
FRAMES = 15  # times at which the flow is drawn
DRAWN = 80  # points whose way is drawn
AROUND = 4096  # places along the ring at which the worst is looked for


@study.config
class Config:
    """Which points, which field, and how it is trained."""

    radii: tuple[float, float, float] = (0.5, 1.0, 1.5)
    """Of the disc, and of the inner and outer edge of the ring."""
    learning_rate: Positive = 0.01
    """Adam's."""
    rtol: Positive = 1e-3
    """Relative tolerance of the solver while training; the absolute one is a tenth of it."""
    seed: int = 0
    """Of the points and of the weights."""
    extra: Annotated[int, msgspec.Meta(ge=0)] = study.static(1)
    """Dimensions besides the plane's two."""
    width: Annotated[int, msgspec.Meta(ge=1)] = study.static(16)
    """Units in each of two hidden layers."""
    points: Annotated[int, msgspec.Meta(ge=4)] = study.static(240)
    """Half of them in the disc, half in the ring."""
    grid: Annotated[int, msgspec.Meta(ge=2)] = study.static(100)
    """The plane is drawn with so many squares a side."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(1000)
    """Of training."""
    dtype: Literal["float32", "float64"] = study.static("float32")
    """Precision of everything."""


class Carry(NamedTuple):
    """A training under way, and points that it does not see."""

    training: jos.Carry
    held_out: tuple[Any, Any]


def draw(config: Config, key: Any) -> tuple[Any, Any]:
    """Points, evenly over both areas, and 1 for those of the ring."""
    angle_key, radius_key = jax.random.split(key)
    is_ring = jnp.arange(config.points) % 2
    share = jax.random.uniform(radius_key, (config.points,), config.dtype)
    disc, inner, outer = config.radii
    radius = jnp.where(
        is_ring == 1, jnp.sqrt(inner**2 + share * (outer**2 - inner**2)), disc * jnp.sqrt(share)
    )
    angle = 2 * jnp.pi * jax.random.uniform(angle_key, (config.points,), config.dtype)
    where = radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return where.astype(config.dtype), is_ring.astype(config.dtype)


def field(t: Any, y: Any, params: Any) -> Any:
    """The velocity of every row of y; time is one more input."""
    return mlp.apply(params, jnp.concatenate([y, jnp.full((*y.shape[:-1], 1), t, y.dtype)], axis=-1))


def flow(params: Any, where: Any, extra: int, ts: Any, rtol: Any) -> Any:
    """All points at all times, `(times, points, 2 + extra)`: one solve, with steps that suit all of them."""
    y0 = jnp.concatenate([where, jnp.zeros((len(where), extra), where.dtype)], axis=1)
    return jos.solve_ode(field, y0, ts, params["field"], rtol=rtol, atol=0.1 * rtol, max_steps=256).ys


def logits(params: Any, ends: Any) -> Any:
    return ends @ params["normal"] + params["offset"]


def cross_entropy(params: Any, where: Any, is_ring: Any, rtol: Any) -> Any:
    extra = len(params["normal"]) - 2
    ends = flow(params, where, extra, jnp.array([0.0, 1.0], where.dtype), rtol)[-1]
    return jnp.mean(jax.nn.softplus(jnp.where(is_ring == 1, -1.0, 1.0) * logits(params, ends)))


def init(config: Config, key: Any) -> Carry:
    data_key, held_out_key, field_key, normal_key = jax.random.split(key, 4)
    size = 2 + config.extra
    params = {
        "field": mlp.init(field_key, (size + 1, config.width, config.width, size)),
        "normal": 0.1 * jax.random.normal(normal_key, (size,)),
        "offset": jnp.zeros(()),
    }
    training = jos.start(
        cross_entropy,
        jax.tree.map(lambda leaf: leaf.astype(config.dtype), params),
        jos.adam(config.learning_rate),
        (*draw(config, data_key), config.rtol),
        max_steps=config.max_steps,
        trace=True,
    )
    return Carry(training, draw(config, held_out_key))


def advance(config: Config, carry: Carry, n: Any) -> Carry:
    del config
    return carry._replace(training=jos.advance(carry.training, n))


def outcome(config: Config, carry: Carry) -> study.Outcome:
    result = jos.finish(carry.training)
    params, (where, is_ring) = result.params, carry.held_out
    right = (logits(params, _at_end(config, params, where)) > 0) == (is_ring == 1)
    edge = 1.15 * config.radii[2]
    line = jnp.linspace(-edge, edge, config.grid, dtype=config.dtype)
    squares = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    plane = jax.nn.sigmoid(logits(params, _at_end(config, params, squares)))
    frames = jnp.linspace(0.0, 1.0, FRAMES, dtype=config.dtype)
    ways = flow(params, where[:DRAWN], config.extra, frames, 0.01 * config.rtol)
    values = {
        "accuracy": jnp.mean(right),
        "worst_on_ring": jax.nn.sigmoid(_worst(config, params)),
        "points": where,
        "is_ring": is_ring,
        "ways": ways,
        "ends": _at_end(config, params, where),
        "plane": plane.reshape(config.grid, config.grid),
        "normal": params["normal"],
        "offset": params["offset"],
    }
    traces = {"cross_entropy": result.trace.value}
    return study.Outcome(result.status, result.num_steps, result.value, values, traces)


def _at_end(config: Config, params: Any, where: Any) -> Any:
    """Where points end, by a solve that is closer to the flow itself than those of the training."""
    ts = jnp.array([0.0, 1.0], config.dtype)
    return flow(params, where, config.extra, ts, 0.01 * config.rtol)[-1]


def _worst(config: Config, params: Any) -> Any:
    """The least logit along the middle of the ring; in the plane it is below that of the disc's center."""
    angle = jnp.linspace(0.0, 2 * jnp.pi, AROUND, dtype=config.dtype)
    radius = 0.5 * (config.radii[1] + config.radii[2])
    for width in (2 * jnp.pi / AROUND, (2 * jnp.pi / AROUND) / 50):  # a seam is narrow
        there = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        found = logits(params, _at_end(config, params, there))
        angle = angle[jnp.argmin(found)] + jnp.linspace(-width, width, 101, dtype=config.dtype)
    return jnp.min(found)


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Of every variant: unseen points on their side, and the worst place of the ring."""
    said: dict[str, float | str] = {}
    for label, record in records.items():
        for name in ("accuracy", "worst_on_ring"):
            said[f"{label}_{name}"] = float(record.outcome.values[name])
        said[f"{label}_cross_entropy"] = float(record.outcome.value)
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    return {"flow": _flows(records), "loss": _losses(records)}


def _flows(records: Mapping[str, study.Recorded]) -> Any:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11.5, 3.9 * len(records)), layout="constrained")
    rows = figure.subfigures(len(records), 1, squeeze=False)[:, 0]
    for row, (label, record) in zip(rows, records.items(), strict=True):
        values, config = record.outcome.values, record.config
        share, worst = float(values["accuracy"]), float(values["worst_on_ring"])
        row.suptitle(
            f"{label.replace('_', ' ')}: {100 * share:.1f} % of unseen points on their side; "
            f"the worst place on the ring is ring with probability {worst:.2g}",
            fontsize=11,
            x=0.02,
            ha="left",
        )
        _decision(row.add_subplot(1, 3, 1), values, config)
        for place, what in enumerate(("the way", "the end"), start=2):
            ax = row.add_subplot(1, 3, place, projection="3d" if config.extra else None)
            _ways(ax, values) if what == "the way" else _ends(ax, values)
            ax.set_title(what, fontsize=10)
    return figure


def _decision(ax: Any, values: Mapping[str, Any], config: Config) -> None:
    edge = 1.15 * config.radii[2]
    options = {"extent": (-edge, edge, -edge, edge), "origin": "lower", "interpolation": "bilinear"}
    ax.imshow(values["plane"], cmap="RdBu", vmin=-0.15, vmax=1.15, alpha=0.55, **options)
    ax.scatter(*values["points"].T, c=_colors(values), s=9, lw=0)
    ax.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.set_title("before, and what every place is taken for", fontsize=10)


def _ways(ax: Any, values: Mapping[str, Any]) -> None:
    """Lines from beginning to end, in the first two or three coordinates."""
    ways, colors = values["ways"][:, :, :3], _colors(values)
    for point in range(ways.shape[1]):
        ax.plot(*ways[:, point].T, color=colors[point], lw=0.8, alpha=0.7)
    ax.scatter(*ways[0].T, c=colors[: ways.shape[1]], s=5, lw=0)
    _frame(ax, ways.shape[-1])


def _ends(ax: Any, values: Mapping[str, Any]) -> None:
    ends = values["ends"][:, :3]
    ax.scatter(*ends.T, c=_colors(values), s=9, lw=0)
    _separator(ax, values, ends)
    _frame(ax, ends.shape[-1])


def _frame(ax: Any, dimensions: int) -> None:
    if dimensions == 3:
        ax.view_init(elev=14, azim=-62)
        ax.set_box_aspect((1, 1, 0.9), zoom=1.1)
        ax.tick_params(labelsize=7, pad=0)
    else:
        ax.set_aspect("equal", adjustable="datalim")
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.25, lw=0.6)


def _separator(ax: Any, values: Mapping[str, Any], ends: np.ndarray) -> None:
    """The line or plane between both sides, as far as the points go."""
    normal, offset = values["normal"], float(values["offset"])
    if len(normal) > 3:
        return
    low, high = ends.min(axis=0), ends.max(axis=0)
    solved = int(np.argmax(np.abs(normal)))
    others = [place for place in range(len(normal)) if place != solved]
    lines = np.meshgrid(*(np.linspace(low[place], high[place], 30) for place in others))
    at = (
        -(offset + sum(normal[place] * line for place, line in zip(others, lines, strict=True)))
        / normal[solved]
    )
    at = np.where((at >= low[solved]) & (at <= high[solved]), at, np.nan)
    parts = dict(zip(others, lines, strict=True)) | {solved: at}
    ordered = [parts[place] for place in range(len(normal))]
    if len(normal) == 3:
        ax.plot_surface(*ordered, color="0.5", alpha=0.25, lw=0)
    else:
        ax.plot(*ordered, color="0.2", lw=1.2)


def _colors(values: Mapping[str, Any]) -> np.ndarray:
    return np.where(np.asarray(values["is_ring"]) == 1, RING, DISC)


def _losses(records: Mapping[str, study.Recorded]) -> Any:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for label, record in records.items():
        ax.plot(record.outcome.traces["cross_entropy"], lw=1.6, label=label)
    ax.axhline(np.log(2), color="0.5", lw=1, ls=":", label="guessing")
    ax.set(yscale="log", xlabel="step of Adam", ylabel="cross entropy", title="A disc in a ring: training")
    ax.grid(alpha=0.25, lw=0.6)
    ax.legend(frameon=False)
    return figure
