"""Results as pictures: ratios as bars, the roofline, and how times grow with the size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench.case import OURS, Row
from jaxopt_study.bench.claims import keeps_limit, meets_claim
from jaxopt_study.bench.results import Results

FASTER, ALMOST, SLOWER, GREY = "#2a7f62", "#a3cdbc", "#c4553b", "#8a8f98"


def draw(results: Results) -> dict[str, Any]:
    """All pictures that the rows allow, matplotlib figures by name."""
    figures: dict[str, Any] = {}
    for suite in dict.fromkeys(row.suite for row in results.rows):
        rows = [row for row in results.rows if row.suite == suite]
        peers = [row for row in rows if row.ratio is not None and row.contestant != OURS]
        if peers:
            figures[f"ratios_{suite}"] = _ratios(suite, peers)
        if len({row.size for row in rows if row.size is not None}) > 1:
            figures[f"sizes_{suite}"] = _sizes(suite, rows)
    if any(row.flops and row.bytes for row in results.rows):
        figures["roofline"] = _roofline(results)
    return figures


def _ratios(suite: str, rows: Sequence[Row]) -> Any:
    """A bar for each contestant, in groups for each case: its time over ours; beyond 1 we are faster."""
    import matplotlib.pyplot as plt

    begins = [k == 0 or row.case != rows[k - 1].case for k, row in enumerate(rows)]
    labels = [
        f"{row.case}  ·  {row.contestant}" if first else row.contestant
        for first, row in zip(begins, rows, strict=True)
    ]
    ratios = np.array([float(row.ratio or 1.0) for row in rows])
    places = np.arange(len(rows)) + 0.45 * (np.cumsum(begins) - 1)
    height = 0.75 + 0.2 * (places[-1] + 1)
    figure, axis = plt.subplots(figsize=(8.5, height), layout="constrained")
    axis.barh(places, np.log10(ratios), color=[_color(row) for row in rows], height=0.78)
    for place, one, row in zip(places, ratios, rows, strict=True):
        side = 1 if one >= 1 else -1
        claim = f"  (claimed {row.claimed:g})" if row.claimed else ""
        claim += f"  (at most {row.at_most:g})" if row.at_most else ""
        missed = not meets_claim(row) or not keeps_limit(row)
        axis.annotate(
            f"{one:#.3g}".rstrip(".") + claim,
            (np.log10(one), place),
            xytext=(4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=7.5,
            color=SLOWER if missed else "black",
        )
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(places, labels, fontsize=7.5)
    axis.invert_yaxis()
    axis.margins(x=0.18, y=0.01)
    low, high = axis.get_xlim()
    decades = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    ticks = np.outer(decades, [1.0, 2.0, 5.0] if high - low < 2 else [1.0]).ravel()
    axis.set_xticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    axis.set_xlim(low, high)
    axis.set_xlabel(
        "time over ours: right of 1 jaxopt_study is faster; pale: as claimed, or the same program",
        fontsize=9,
    )
    axis.set_title(suite, loc="left", fontweight="bold")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def _color(row: Row) -> str:
    if row.contestant.startswith(OURS) or row.contestant.endswith(" alone"):
        return GREY  # a variant of ours, or a part of the work: nobody wins
    ratio = float(row.ratio or 1.0)
    if ratio < 1 and (row.same_program or (row.claimed is not None and ratio >= row.claimed)):
        return ALMOST
    return FASTER if ratio >= 1 else SLOWER


def _sizes(suite: str, rows: Sequence[Row]) -> Any:
    """Seconds of a unit over the size of the problem, a panel for each kind of case."""
    import matplotlib.pyplot as plt

    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.size is not None:
            kinds.setdefault(row.case.split(",")[0], []).append(row)
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    size = (5.2, 3.6) if len(kinds) == 1 else (3.2 * columns, 2.6 * lines)
    figure, axes = plt.subplots(
        lines, columns, figsize=size, layout="constrained", sharex=True, squeeze=False
    )
    names = list(dict.fromkeys(row.contestant for row in rows if row.size is not None))
    colors = {name: f"C{k}" for k, name in enumerate(names)}
    sizes = sorted({row.size for row in rows if row.size is not None})
    for axis, (kind, some) in zip(axes.flat, kinds.items(), strict=False):
        for name in names:
            points = sorted((row.size or 0, row.seconds) for row in some if row.contestant == name)
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", ms=3, lw=1.2, color=colors[name], label=name)
        axis.set_title(kind, fontsize=9)
        axis.grid(alpha=0.25, lw=0.6)
        _few_labels(axis, sizes)
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(kinds) - columns) : len(kinds)]:
        axis.set_xlabel("size", fontsize=9)  # of the figure, it would lie on the legend
        axis.tick_params(labelbottom=True)
    units = dict.fromkeys(row.unit for row in rows if row.size is not None)
    figure.supylabel(f"seconds a {' or '.join(units)}", fontsize=9)
    drawn: dict[str, Any] = {}
    for axis in axes.flat:  # a contestant need not be in the first panel
        drawn |= {line.get_label(): line for line in axis.get_lines()}
    figure.legend(
        list(drawn.values()),
        list(drawn),
        loc="outside lower center",
        ncols=min(columns + 1, len(drawn)),
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(suite, fontweight="bold", fontsize=10)
    return figure


def _few_labels(axis: Any, sizes: Sequence[int]) -> None:
    """A decade of seconds at least, or noise looks like growth; and numbers at some ticks only, all small."""
    low, high = axis.get_ylim()
    if high < 10 * low:
        middle = np.sqrt(low * high)
        axis.set_ylim(middle / np.sqrt(10), middle * np.sqrt(10))
    if sizes[-1] < 30 * sizes[0]:
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()  # several hundred in all, which take longer to place than all else to draw
    axis.tick_params(labelsize=7.5)


def _roofline(results: Results) -> Any:
    """Operations a second over operations a byte, under the machine's own limits."""
    import matplotlib.pyplot as plt

    rows = [row for row in results.rows if row.flops and row.bytes]
    figure, axis = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    at = np.array([float(row.flops or 1) / float(row.bytes or 1) for row in rows])
    span = np.array([min(at.min(), 0.05) / 2, max(at.max(), 100.0) * 2])
    for k, limits in enumerate(results.limits.values()):
        intensity = np.geomspace(span[0], span[1], 200)
        roof = np.minimum(limits.flops, limits.bandwidth * intensity)
        axis.loglog(
            intensity, roof, color="black", lw=1.3, ls="-" if k == 0 else "--", label=f"limit, {limits.dtype}"
        )
    for row, intensity in zip(rows, at, strict=True):
        ours = row.contestant.startswith(OURS)
        pace = float(row.flops or 1) / row.seconds
        axis.plot(intensity, pace, "o" if ours else "x", ms=4.5, color=FASTER if ours else GREY, alpha=0.8)
    axis.plot([], [], "o", ms=4.5, color=FASTER, label="jaxopt_study")
    axis.plot([], [], "x", ms=4.5, color=GREY, label="others")
    axis.set_xlabel("floating-point operations a byte moved, as XLA counts")
    axis.set_ylabel("operations a second")
    axis.set_title("Roofline", loc="left", fontweight="bold")
    axis.grid(alpha=0.25, lw=0.6)
    axis.legend(frameon=False, fontsize=8)
    return figure
