"""Pictures of traces: curves by step, of one record and of several, and the ways of parameters."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxopt_study.study.picture_style import COLORS, SMALL, WIDE, Picture, new_figure, plain_text, set_scales
from jaxopt_study.study.read_record import Record
from jaxopt_study.study.report_data import (
    MANY_CURVES,
    Curves,
    curves_of,
    is_log,
    path_columns,
    trace_columns,
)

LARGEST_SET = 12  # pictures of one kind from one record


def of_traces(record: Record, about: str) -> Iterator[Picture]:
    """A picture of each trace of a record."""
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


def of_paths(record: Record, about: str) -> Iterator[Picture]:
    """The ways of parameters, two and two."""
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


def together(records: Sequence[Record]) -> Iterator[Picture]:
    """Each trace that several runs have, of all of them."""
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


def _curves(curves: Sequence[Curves], name: str, wide: bool = False) -> Any:
    figure, ax = new_figure(WIDE if wide else SMALL)
    longest = max(int(curve.steps[-1]) for curve in curves)
    shortest = min(int(curve.steps[-1]) for curve in curves)
    logs = longest > 20 * max(shortest, 1) or longest > 2000
    shift = int(logs)
    everything = np.concatenate([curve.lines[np.isfinite(curve.lines)] for curve in curves])
    for index, curve in enumerate(curves):
        color = COLORS[index % len(COLORS)]
        some = curve.lines[:: -(-len(curve.lines) // MANY_CURVES)]
        if len(some) > 1:
            ax.add_collection(_thin(curve.steps + shift, some, color))
        line = "-" if index < len(COLORS) else "--"  # the colors come again
        ax.plot(
            curve.steps + shift, _median(curve.lines), line, color=color, lw=2, label=plain_text(curve.label)
        )
    set_scales(ax, logs, is_log(everything))
    ax.set(xlabel="step + 1" if logs else "step", ylabel=plain_text(name))
    if len(curves) > 1 and wide:  # labels with the names of runs are long
        figure.legend(loc="outside right upper")
    elif len(curves) > 1:
        ax.legend(ncols=1 + (len(curves) > 6))
    return figure


def _thin(steps: np.ndarray, lines: np.ndarray, color: str) -> Any:
    """Many lines as one artist, which is drawn, and which the legend evades, as if it were one line."""
    from matplotlib.collections import LineCollection

    paths = [np.stack([steps, line], axis=1)[np.isfinite(line)] for line in lines]
    return LineCollection(
        paths, color=color, lw=0.5, alpha=max(0.06, 1 / len(lines)), rasterized=len(lines) > 8
    )


def _paths(x: str, y: str, ways: Sequence[tuple[Curves, Curves]]) -> Any:
    figure, ax = new_figure(SMALL)
    for index, (left, right) in enumerate(ways):
        color = COLORS[index % len(COLORS)]
        for lane, (a, b) in enumerate(zip(left.lines[:20], right.lines[:20], strict=True)):
            good = np.isfinite(a) & np.isfinite(b)
            if good.any():
                a, b = a[good], b[good]
                label = None if lane else plain_text(left.label)
                ax.plot(a, b, "-", color=color, lw=1.6, alpha=0.85, label=label)
                ax.plot(a[0], b[0], "o", color=color, ms=7, mfc="none", mew=1.5)
                ax.plot(a[-1], b[-1], "o", color=color, ms=5)
    ax.set(xlabel=plain_text(x), ylabel=plain_text(y))
    if len(ways) > 1:
        ax.legend()
    return figure


def _median(lines: np.ndarray) -> np.ndarray:
    good = np.isfinite(lines)
    filled = np.ma.median(np.ma.array(np.where(good, lines, 0.0), mask=~good), axis=0)
    return np.ma.filled(filled.astype(float), np.nan)
