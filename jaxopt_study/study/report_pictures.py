"""The pictures of a report: curves, maps of sweeps, parallel coordinates, paths; matplotlib figures.

Colors of ink are placeholders that the page replaces, so that one drawing serves light and dark.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.read_record import Record
from jaxopt_study.study.report_data import (
    MANY_CURVES,
    Axis,
    Curves,
    axes_of,
    bands,
    curves_of,
    grid,
    is_log,
    path_columns,
    trace_columns,
    values_of,
)

INK, FAINT, RULE = "#1b2329", "#5d6871", "#d5dadf"
COLORS = ("#3d7fd6", "#dd7a36", "#2c9c74", "#c2548f", "#8a70cf", "#a98f14", "#3fa3b5", "#cf5850")
SHADES = "viridis"
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxopt_study",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": RULE,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(COLORS)})",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 150,
}
SMALL = (4.4, 3.2)  # inches: on a phone as wide as the page, and readable
WIDE = (10.6, 4.2)
LARGEST_SET = 12  # pictures of one kind from one record


class Picture(NamedTuple):
    """A figure and what is said of it.

    Attributes:
      name: of its files.
      title: what it shows.
      note: how to read it.
      draw: makes the matplotlib `Figure`, in `STYLE`.
      section: the heading that it stands under.
      is_wide: whether it takes the whole width.
    """

    name: str
    title: str
    note: str
    draw: Callable[[], Any]
    section: str
    is_wide: bool = False


def pictures(records: Sequence[Record]) -> Iterator[Picture]:
    """All pictures of some records.

    Args:
      records: with distinct names.
    """
    for record in records:
        about = f"{record.name}: " if len(records) > 1 else ""
        if record.is_sweep:
            yield from _of_sweep(record, about)
        yield from _of_traces(record, about)
        yield from _of_paths(record, about)
    if len(records) > 1:
        yield from _together(records)


def _of_sweep(record: Record, about: str) -> Iterator[Picture]:
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
        yield Picture(
            f"{record.name}-parallel",
            f"{about}every point, across all axes",
            "A line a point, colored by the rank of its value: the lowest are blue, and on top.",
            functools.partial(_parallel, axes, value),
            "Sweep",
            is_wide=True,
        )


def _of_traces(record: Record, about: str) -> Iterator[Picture]:
    for column in trace_columns(record)[:LARGEST_SET]:
        curves = curves_of(record, column)
        if not curves:
            continue
        many = any(len(curve.lines) > 1 for curve in curves)
        note = "Every lane thin, their median thick." if many else "After each step."
        if record.is_sweep:
            note = "Every point thin, their median thick."
        yield Picture(
            f"{record.name}-{column}",
            f"{about}{column} by step",
            note,
            functools.partial(_curves, curves, column),
            "Curves",
        )


def _of_paths(record: Record, about: str) -> Iterator[Picture]:
    names = path_columns(record)
    for x, y in list(zip(names[::2], names[1::2], strict=False))[:LARGEST_SET]:
        left = {curve.label: curve for curve in curves_of(record, x)}
        right = {curve.label: curve for curve in curves_of(record, y)}
        both = [
            label for label in left if label in right and left[label].lines.shape == right[label].lines.shape
        ]
        if both:
            figure = functools.partial(_paths, x, y, [(left[label], right[label]) for label in both])
            note = "From the ring to the dot."
            yield Picture(
                f"{record.name}-{x}-{y}-path", f"{about}the way of {x} and {y}", note, figure, "Paths"
            )


def _together(records: Sequence[Record]) -> Iterator[Picture]:
    runs = [record for record in records if not record.is_sweep]
    names = dict.fromkeys(name for record in runs for name in trace_columns(record))
    for name in names:
        having = [record for record in runs if name in trace_columns(record)]
        if len(having) < 2:
            continue
        curves = []
        for record in having:
            for curve in curves_of(record, name):
                alone = curve.label == record.result.get("study")
                label = record.name if alone else f"{record.name}: {curve.label}"
                with np.errstate(all="ignore"):
                    curves.append(Curves(label, curve.steps, _median(curve.lines)[None]))
        yield Picture(
            f"compare-{name}",
            f"{name} of all runs",
            "The median over lanes of each run and variant.",
            functools.partial(_curves, curves[:LARGEST_SET], name, wide=True),
            "Curves",
            is_wide=True,
        )


def _plain(text: str) -> str:
    """Text that matplotlib neither takes for mathematics nor leaves out of a legend."""
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def _new(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _along(axis: Axis, by: Axis | None, value: np.ndarray) -> Any:
    figure, ax = _new(SMALL)
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
        ax.plot(axis.levels, found[:, 1], "o-", color=color, lw=2, ms=3.5, label=_plain(label))
    ax.set(xlabel=_plain(axis.name), ylabel="value")
    _scales(ax, axis.is_log, is_log(value))
    _whole(ax.xaxis, axis)
    if by:
        ax.legend(title=_plain(by.name), title_fontsize=8.5)
    return figure


def _map(x: Axis, y: Axis, value: np.ndarray) -> Any:
    figure, ax = _new(SMALL)
    cells = grid(x, y, value)
    norm = _norm(cells)
    ax.grid(visible=False)
    ax.set_xlim(*_edges(x)[[0, -1]])
    ax.set_ylim(*_edges(y)[[0, -1]])
    _scales(ax, x.is_log, y.is_log)
    left, bottom = _edges(x)[0], _edges(y)[0]
    width, height = _edges(x)[-1] - left, _edges(y)[-1] - bottom
    if not np.isfinite(cells).all():
        from matplotlib.patches import Rectangle

        nothing = Rectangle((left, bottom), width, height, fc="none", ec=FAINT, hatch="////", lw=0, alpha=0.6)
        ax.add_patch(nothing)
    mesh = ax.pcolormesh(
        _edges(x), _edges(y), np.ma.masked_invalid(cells), cmap=SHADES, norm=norm, lw=0, ec="face"
    )
    _bar(figure, mesh, ax)
    best = np.unravel_index(np.nanargmin(cells), cells.shape)
    ax.plot(x.levels[best[1]], y.levels[best[0]], "o", ms=8, mfc="none", mec="white", mew=1.8)
    ax.set(xlabel=_plain(x.name), ylabel=_plain(y.name))
    _whole(ax.xaxis, x)
    _whole(ax.yaxis, y)
    return figure


def _contours(x: Axis, y: Axis, value: np.ndarray, is_grid: bool) -> Any:
    figure, ax = _new(SMALL)
    ax.grid(visible=False)
    _scales(ax, x.is_log, y.is_log)
    if is_grid:
        cells = grid(x, y, value)
        levels, norm = _levels(cells)
        data: tuple[Any, ...] = (x.levels, y.levels, np.ma.masked_invalid(cells))
        fill, lines = ax.contourf, ax.contour
    else:
        good = np.isfinite(value) & np.isfinite(x.numbers) & np.isfinite(y.numbers)
        levels, norm = _levels(value[good])
        data = (x.numbers[good], y.numbers[good], value[good])
        fill, lines = ax.tricontourf, ax.tricontour
    try:
        shades = fill(*data, levels=levels, norm=norm, cmap=SHADES)
        lines(*data, levels=levels, colors="white", linewidths=0.6, alpha=0.7)
        _bar(figure, shades, ax)
    except (ValueError, RuntimeError):
        ax.set_title("points on one line have no contours")
    if not is_grid:
        ax.plot(data[0], data[1], ".", color=INK, ms=3, alpha=0.5)
    ax.set(xlabel=_plain(x.name), ylabel=_plain(y.name))
    _whole(ax.xaxis, x)
    _whole(ax.yaxis, y)
    return figure


def _parallel(axes: Sequence[Axis], value: np.ndarray) -> Any:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    figure, ax = _new(WIDE)
    scored = Axis("value", value, is_log=is_log(value))
    columns = [*reversed(axes), scored]
    places = np.stack([_placed(axis) for axis in columns], axis=1)
    rows = np.flatnonzero(np.isfinite(places).all(axis=1))
    rank = np.empty(len(rows))
    rank[np.argsort(value[rows], kind="stable")] = np.linspace(0.0, 1.0, len(rows))
    order = np.argsort(-rank)
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
    for place, axis in enumerate(columns):
        ax.axvline(place, color=FAINT, lw=1)
        low, high = axis.levels[0], axis.levels[-1]
        names = axis.words or (f"{low:.3g}", f"{high:.3g}")
        if axis.words and len(axis.words) <= 8:
            for index, word in enumerate(axis.words):
                at = _placed(Axis("", np.array([0.0, len(axis.words) - 1.0, index])))[2]
                ax.annotate(
                    _plain(word), (place, at), (5, 0), textcoords="offset points", va="center", fontsize=8.5
                )
        else:
            ax.annotate(
                _plain(names[0]), (place, 0), (0, -13), textcoords="offset points", ha="center", fontsize=8.5
            )
            ax.annotate(
                _plain(names[-1]), (place, 1), (0, 6), textcoords="offset points", ha="center", fontsize=8.5
            )
    ax.set(xlim=(-0.15, len(columns) - 0.85), ylim=(-0.03, 1.03), yticks=[])
    ax.set_xticks(range(len(columns)), [_plain(axis.name) for axis in columns], color=INK)
    ax.tick_params(axis="x", pad=17)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure


def _curves(curves: Sequence[Curves], name: str, wide: bool = False) -> Any:
    figure, ax = _new(WIDE if wide else SMALL)
    longest = max(int(curve.steps[-1]) for curve in curves)
    shortest = min(int(curve.steps[-1]) for curve in curves)
    logs = longest > 20 * max(shortest, 1) or longest > 2000
    shift = int(logs)
    everything = np.concatenate([curve.lines[np.isfinite(curve.lines)] for curve in curves])
    for index, curve in enumerate(curves):
        color = COLORS[index % len(COLORS)]
        some = curve.lines[:: -(-len(curve.lines) // MANY_CURVES)]
        if len(some) > 1:
            ax.plot(
                curve.steps + shift,
                some.T,
                color=color,
                lw=0.5,
                alpha=max(0.06, 4 / len(some) / 4),
                rasterized=len(some) > 8,
            )
        ax.plot(curve.steps + shift, _median(curve.lines), color=color, lw=2, label=_plain(curve.label))
    _scales(ax, logs, is_log(everything))
    ax.set(xlabel="step + 1" if logs else "step", ylabel=_plain(name))
    if len(curves) > 1:
        ax.legend(ncols=1 + (len(curves) > 6))
    return figure


def _paths(x: str, y: str, ways: Sequence[tuple[Curves, Curves]]) -> Any:
    figure, ax = _new(SMALL)
    for index, (left, right) in enumerate(ways):
        color = COLORS[index % len(COLORS)]
        for lane, (a, b) in enumerate(zip(left.lines[:20], right.lines[:20], strict=True)):
            good = np.isfinite(a) & np.isfinite(b)
            if good.any():
                a, b = a[good], b[good]
                ax.plot(
                    a, b, "-", color=color, lw=1.6, alpha=0.85, label=None if lane else _plain(left.label)
                )
                ax.plot(a[0], b[0], "o", color=color, ms=7, mfc="none", mew=1.5)
                ax.plot(a[-1], b[-1], "o", color=color, ms=5)
    ax.set(xlabel=_plain(x), ylabel=_plain(y))
    if len(ways) > 1:
        ax.legend()
    return figure


def _median(lines: np.ndarray) -> np.ndarray:
    good = np.isfinite(lines)
    filled = np.ma.median(np.ma.array(np.where(good, lines, 0.0), mask=~good), axis=0)
    return np.ma.filled(filled.astype(float), np.nan)


def _scales(ax: Any, x_is_log: bool, y_is_log: bool) -> None:
    if x_is_log:
        ax.set_xscale("log")
    if y_is_log:
        ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter("")


def _whole(ticks: Any, axis: Axis) -> None:
    """Ticks where the values are, if these are few whole numbers; no ticks at halves of whole numbers."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    if axis.is_log or not np.all(axis.levels == np.round(axis.levels)):
        return
    ticks.set_major_locator(
        FixedLocator(axis.levels.tolist()) if len(axis.levels) <= 8 else MaxNLocator(integer=True)
    )


def _norm(values: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    good = values[np.isfinite(values)]
    return (LogNorm if is_log(values) else Normalize)(good.min(), max(good.max(), good.min() + 1e-300))


def _levels(values: np.ndarray) -> tuple[np.ndarray, Any]:
    good = values[np.isfinite(values)]
    norm = _norm(values)
    if good.min() == good.max():
        return good.min() + np.array([-0.5, 0.5]) * max(abs(good.min()), 1e-9), norm
    spread = np.geomspace if is_log(values) else np.linspace
    levels = spread(good.min(), good.max(), 14)
    levels[[0, -1]] = np.nextafter(levels[[0, -1]], [-np.inf, np.inf])
    return levels, norm


def _bar(figure: Any, shades: Any, ax: Any) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator

    bar = figure.colorbar(shades, ax=ax, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.set_label("value")
    if isinstance(shades.norm, LogNorm):
        bar.set_ticks(LogLocator(numticks=6))
        bar.ax.yaxis.set_major_formatter(LogFormatterMathtext())
    else:
        bar.set_ticks(MaxNLocator(6))


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
