"""Pictures of a sweep: its value along axes, maps and contours of pairs, parallel coordinates."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxopt_study.study.picture_style import (
    COLORS,
    FAINT,
    INK,
    SHADES,
    SMALL,
    WIDE,
    Picture,
    color_bar,
    contour_levels,
    new_figure,
    plain_text,
    set_scales,
    shading,
    whole_ticks,
)
from jaxopt_study.study.read_record import Record
from jaxopt_study.study.report_data import Axis, axes_of, bands, grid, is_log, values_of

MOST_LINES = 3000  # in parallel coordinates


def of_sweep(record: Record, about: str) -> Iterator[Picture]:
    """The pictures of a sweep, if it has a finite value; `about` begins their titles."""
    axes, value = axes_of(record), values_of(record)
    if not np.isfinite(value).any() or not axes:
        return
    numeric = [axis for axis in axes if not axis.words and len(axis.levels) > 2]
    groups = [axis for axis in axes if len(axis.levels) <= len(COLORS) and not axis.is_seed]
    for axis in [axis for axis in numeric if not axis.is_seed][:4]:
        by = next((group for group in groups if group.name != axis.name), None)
        yield Picture(
            f"{record.name}-{axis.name}",
            f"{about}value along {axis.name}",
            "The median, and where the middle four fifths lie.",
            functools.partial(_along, axis, by, value),
            "Sweep",
        )
    pairs = [(x, y) for place, x in enumerate(numeric) for y in numeric[place + 1 :] if not x.is_seed]
    # A map over seeds shows how far they differ, along one axis.
    pairs = [pair for pair in pairs if not pair[1].is_seed or pair[0] is numeric[0]]
    for x, y in pairs[:3]:
        others = [axis.name for axis in axes if axis.name not in (x.name, y.name)]
        note = f"The median over {', '.join(others)}." if others else "One point a cell."
        is_grid = len(x.levels) * len(y.levels) <= 2 * len(value)
        if is_grid:
            yield Picture(
                f"{record.name}-{x.name}-{y.name}-map",
                f"{about}map of {y.name} and {x.name}",
                f"{note} Hatched: no finite value.",
                functools.partial(_map, x, y, value),
                "Sweep",
            )
        if y.is_seed:  # the next seed has nothing to do with this one: no contour leads from one to the other
            continue
        yield Picture(
            f"{record.name}-{x.name}-{y.name}-contours",
            f"{about}contours over {x.name} and {y.name}",
            note if is_grid else "Through all points, each of them a dot.",
            functools.partial(_contours, x, y, value, is_grid),
            "Sweep",
        )
    if len(axes) > 1:
        lines = "A line a point"
        if np.isfinite(value).sum() > MOST_LINES:
            lines = f"{MOST_LINES:,} points, the lowest {MOST_LINES // 2:,} among them"
        yield Picture(
            f"{record.name}-parallel",
            f"{about}the points across all axes",
            f"{lines}, colored by the rank of the value: the lowest are blue, and on top.",
            functools.partial(_parallel, axes, value),
            "Sweep",
            is_wide=True,
        )


def _along(axis: Axis, by: Axis | None, value: np.ndarray) -> Any:
    figure, ax = new_figure(SMALL)
    parts = (
        [
            (str(by.words[int(level)] if by.words else f"{level:g}"), by.numbers == level)
            for level in by.levels
        ]
        if by
        else []
    )
    for index, (label, mine) in enumerate(parts or [("", np.ones(len(value), bool))]):
        found = bands(axis, np.where(mine, value, np.nan))
        color = COLORS[index % len(COLORS)]
        ax.fill_between(axis.levels, found[:, 0], found[:, 2], color=color, alpha=0.16, lw=0)
        ax.plot(axis.levels, found[:, 1], "o-", color=color, lw=2, ms=3.5, label=plain_text(label))
    ax.set(xlabel=plain_text(axis.name), ylabel="value")
    set_scales(ax, axis.is_log, is_log(value))
    whole_ticks(ax.xaxis, axis)
    if by:
        ax.legend(title=plain_text(by.name), title_fontsize=8.5)
    return figure


def _map(x: Axis, y: Axis, value: np.ndarray) -> Any:
    figure, ax = new_figure(SMALL)
    cells = grid(x, y, value)
    norm = shading(cells)
    ax.grid(visible=False)
    ax.set_xlim(*_edges(x)[[0, -1]])
    ax.set_ylim(*_edges(y)[[0, -1]])
    set_scales(ax, x.is_log, y.is_log)
    left, bottom = _edges(x)[0], _edges(y)[0]
    width, height = _edges(x)[-1] - left, _edges(y)[-1] - bottom
    if not np.isfinite(cells).all():
        from matplotlib.patches import Rectangle

        nothing = Rectangle((left, bottom), width, height, fc="none", ec=FAINT, hatch="////", lw=0, alpha=0.6)
        ax.add_patch(nothing)
    mesh = ax.pcolormesh(
        _edges(x), _edges(y), np.ma.masked_invalid(cells), cmap=SHADES, norm=norm, lw=0.4, ec="face"
    )
    color_bar(figure, mesh, ax)
    best = np.unravel_index(np.nanargmin(cells), cells.shape)
    ax.plot(x.levels[best[1]], y.levels[best[0]], "o", ms=8, mfc="none", mec="white", mew=1.8)
    ax.set(xlabel=plain_text(x.name), ylabel=plain_text(y.name))
    whole_ticks(ax.xaxis, x)
    whole_ticks(ax.yaxis, y)
    return figure


def _contours(x: Axis, y: Axis, value: np.ndarray, is_grid: bool) -> Any:
    figure, ax = new_figure(SMALL)
    ax.grid(visible=False)
    set_scales(ax, x.is_log, y.is_log)
    if is_grid:
        cells = grid(x, y, value)
        levels, norm = contour_levels(cells)
        data: tuple[Any, ...] = (x.levels, y.levels, np.ma.masked_invalid(cells))
        fill, lines = ax.contourf, ax.contour
    else:
        good = np.isfinite(value) & np.isfinite(x.numbers) & np.isfinite(y.numbers)
        levels, norm = contour_levels(value[good])
        data = (x.numbers[good], y.numbers[good], value[good])
        fill, lines = ax.tricontourf, ax.tricontour
    try:
        shades = fill(*data, levels=levels, norm=norm, cmap=SHADES)
        lines(*data, levels=levels, colors="white", linewidths=0.6, alpha=0.7)
        color_bar(figure, shades, ax)
    except (ValueError, RuntimeError):
        ax.set_title("points on one line have no contours")
    if not is_grid:
        ax.plot(data[0], data[1], ".", color=INK, ms=3, alpha=0.5)
    ax.set(xlabel=plain_text(x.name), ylabel=plain_text(y.name))
    whole_ticks(ax.xaxis, x)
    whole_ticks(ax.yaxis, y)
    return figure


def _parallel(axes: Sequence[Axis], value: np.ndarray) -> Any:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    figure, ax = new_figure(WIDE)
    scored = Axis("value", value, is_log=is_log(value))
    columns = [*reversed(axes), scored]
    places = np.stack([_placed(axis) for axis in columns], axis=1)
    rows = np.flatnonzero(np.isfinite(places).all(axis=1))
    rank = np.empty(len(rows))
    rank[np.argsort(value[rows], kind="stable")] = np.linspace(0.0, 1.0, len(rows))
    order = np.argsort(-rank)
    if len(order) > MOST_LINES:  # more are not told apart, and are seconds of drawing
        half = MOST_LINES // 2
        others = np.linspace(0, len(order) - half - 1, half).astype(int)
        order = order[np.concatenate([others, np.arange(len(order) - half, len(order))])]
    spread = np.linspace(0.0, 1.0, 24)
    smooth = 3 * spread**2 - 2 * spread**3  # lines that bend are told apart where they cross an axis
    paths = []
    for row in rows[order]:
        y = places[row]
        xs = np.concatenate([place + spread for place in range(len(columns) - 1)])
        ys = np.concatenate([y[i] + (y[i + 1] - y[i]) * smooth for i in range(len(columns) - 1)])
        paths.append(np.stack([xs, ys], axis=1))
    # Without the ends, which are lost on black or on white.
    shades = LinearSegmentedColormap.from_list("middle", colormaps[SHADES](np.linspace(0.2, 0.92, 64)))
    shown = LineCollection(paths, cmap=shades, array=rank[order], lw=0.8, alpha=0.5, rasterized=True)
    ax.add_collection(shown)
    write = functools.partial(ax.annotate, textcoords="offset points", fontsize=8.5)
    for place, axis in enumerate(columns):
        ax.axvline(place, color=FAINT, lw=1)
        low, high = axis.levels[0], axis.levels[-1]
        names = axis.words or (f"{low:.3g}", f"{high:.3g}")
        if axis.words and len(axis.words) <= 8:
            for index, word in enumerate(axis.words):
                at = _placed(Axis("", np.array([0.0, len(axis.words) - 1.0, index])))[2]
                write(plain_text(word), (place, at), (5, 0), va="center")
        else:
            write(plain_text(names[0]), (place, 0), (0, -13), ha="center")
            write(plain_text(names[-1]), (place, 1), (0, 6), ha="center")
    ax.set(xlim=(-0.15, len(columns) - 0.85), ylim=(-0.03, 1.03), yticks=[])
    ax.set_xticks(range(len(columns)), [plain_text(axis.name) for axis in columns], color=INK)
    ax.tick_params(axis="x", pad=17)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure


def _edges(axis: Axis) -> np.ndarray:
    """Between the levels of an axis, and as far beyond the first and the last."""
    at = np.log(axis.levels) if axis.is_log else axis.levels
    middle = 0.5 * (at[1:] + at[:-1])
    whole = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(whole) if axis.is_log else whole


def _placed(axis: Axis) -> np.ndarray:
    """The numbers of an axis between 0 and 1; NaN where there is none."""
    good = np.isfinite(axis.numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.log(axis.numbers) if axis.is_log else axis.numbers.astype(float)
    low, high = at[good].min(), at[good].max()
    return np.where(good, (at - low) / ((high - low) or 1.0), np.nan)
