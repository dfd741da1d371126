"""How the pictures of a report look: colors, sizes, scales, and the parts that several of them have.

Colors of ink are placeholders that the page replaces, so that one drawing serves light and dark.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.report_data import Axis, is_log

INK, FAINT, RULE, PAPER = "#1b2329", "#5d6871", "#d5dadf", "#fefefe"
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
    "xtick.major.pad": 6,  # in the corner the first labels of both axes meet
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": True,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 150,
}
SMALL = (4.4, 3.2)  # inches: on a phone as wide as the page, and readable
WIDE = (10.6, 4.2)


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


def plain_text(text: str) -> str:
    """Text that matplotlib neither takes for mathematics nor leaves out of a legend."""
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def new_figure(size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def set_scales(ax: Any, x_is_log: bool, y_is_log: bool) -> None:
    """Make axes logarithmic, or not."""
    if x_is_log:
        ax.set_xscale("log")
    if y_is_log:
        ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter("")


def whole_ticks(ticks: Any, axis: Axis) -> None:
    """Ticks where the values are, if these are few whole numbers; no ticks at halves of whole numbers."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    if axis.is_log or not np.all(axis.levels == np.round(axis.levels)):
        return
    ticks.set_major_locator(
        FixedLocator(axis.levels.tolist()) if len(axis.levels) <= 8 else MaxNLocator(integer=True)
    )


def shading(values: np.ndarray) -> Any:
    """From values to places in the color map."""
    from matplotlib.colors import LogNorm, Normalize

    good = values[np.isfinite(values)]
    return (LogNorm if is_log(values) else Normalize)(good.min(), max(good.max(), good.min() + 1e-300))


def contour_levels(values: np.ndarray) -> tuple[np.ndarray, Any]:
    """Where contours run, and the shading between them."""
    good = values[np.isfinite(values)]
    norm = shading(values)
    if good.min() == good.max():
        return good.min() + np.array([-0.5, 0.5]) * max(abs(good.min()), 1e-9), norm
    spread = np.geomspace if is_log(values) else np.linspace
    levels = spread(good.min(), good.max(), 14)
    levels[[0, -1]] = np.nextafter(levels[[0, -1]], [-np.inf, np.inf])
    return levels, norm


def color_bar(figure: Any, shades: Any, ax: Any) -> None:
    """Say which color is which value."""
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
