"""A picture of a fit: data, curve and band, with the residuals below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

BLUE, GREY, RED = "#2166ac", "#4d4d4d", "#b2182b"
COLORS = (BLUE, RED, "#1b7837", "#b8860b", "#762a83", "#01665e")  # of several series, in turn
PANELS = 6  # more are no picture


def plot(
    fit: Any,
    path: str | Path | None = None,
    *,
    level: float | None = 0.95,
    kind: str = "confidence",
    xlabel: str = "x",
    ylabel: str | Sequence[str] = "y",
    title: str | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    points: int = 400,
    sigma: ArrayLike | None = None,
) -> Any:
    """Draw a fit of y against one-dimensional x, with the residuals below.

    A panel for each column where y has the shape `(points, columns)`; a color for each series where x has the
    shape `(series, points)`, as fits of several time series have.

    Args:
      fit: a `Fit`.
      path: also write the picture there, in the format of its suffix.
      level: of the band; None for none.
      kind: of the band, see `Fit.predict`.
      xlabel, ylabel, title: words; the title is empty if not given. `ylabel` may have one for each column.
      xscale, yscale: `"linear"` or `"log"`, which leaves out what is not positive.
      points: at how many x the curve is drawn, at least 2.
      sigma: standard deviations of new observations, for a prediction band, as in `Fit.predict`; None for
        those of the data, interpolated in x.

    Returns:
      A `matplotlib.figure.Figure` that no window owns.

    Raises:
      ValueError: for a batch, unless x and y have the shapes above, with six columns at most, for fewer than
        2 points, another kind, or where a logarithmic axis has no x to show.
      ImportError: if matplotlib is not installed.
    """
    if not isinstance(points, int | np.integer) or points < 2:
        raise ValueError(f"points: expected a whole number >= 2, got {points!r}")
    data = _data(fit)
    count = data.y.shape[-1]
    names = [ylabel] * count if isinstance(ylabel, str) else list(ylabel)
    if len(names) != count:
        raise ValueError(f"ylabel: {len(names)} words for {count} columns of y")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (7.0 if count == 1 else min(4.8 * count, 16.0), 5.4)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.04, hspace=0.0))
    panels = figure.subplots(2, count, sharex=True, height_ratios=[3.2, 1.0], squeeze=False)
    fine, lines = _curves(fit, data, level, kind, sigma, xscale, points)
    name = None if level is None else f"{100 * level:g} % {kind} band"
    for column, (top, below) in enumerate(panels.T):
        for series in range(len(data.x)):
            color = COLORS[series % len(COLORS)]
            said = (name, "fit", "data") if series == 0 else (None, None, None)
            _draw(top, below, data, (series, column), fine, lines[:, series, :, column], color, said)
        _finish(top, below, data, column)
        top.set(ylabel=names[column], xscale=xscale, yscale=yscale)
        below.set_xlabel(xlabel)
    panels[1, 0].set_ylabel("(data − fit) / σ" if data.weighted else "data − fit", fontsize=9)
    figure.align_ylabels()
    if title:
        panels[0, 0].set_title(title, loc="left", fontsize=12)
    panels[0, 0].legend(frameon=False, fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


class _Data(NamedTuple):
    """What is drawn, with axes for one series and one column: `(series, points[, columns])`."""

    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray | None  # standard deviations, where there are any
    own: np.ndarray | None  # these in the meaning of the fit's sigma; of weights too
    residuals: np.ndarray
    weighted: bool
    plain: bool  # whether x has no axis of series


def _data(fit: Any) -> _Data:
    if np.ndim(fit.status):
        raise ValueError(f"plot: this is a batch of {np.size(fit.status)} fits; draw one of them, fit[i]")
    leaves = jax.tree.leaves(fit.curve.x)
    y = np.asarray(fit.curve.y)
    x = np.asarray(leaves[0]) if len(leaves) == 1 else np.empty(0)
    if x.ndim not in (1, 2) or y.shape[: x.ndim] != x.shape or y.ndim > x.ndim + 1 or not x.size:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in leaves)
        raise ValueError(
            "plot: draws y, which may have columns, against one x, both with or without an axis of series in "
            f"front, and else one-dimensional; here x is {shapes} and y {y.shape}"
        )
    form = (*(x.shape if x.ndim == 2 else (1, *x.shape)), -1)
    if y.reshape(form).shape[-1] > PANELS:
        raise ValueError(f"plot: draws up to {PANELS} columns of y, got {y.shape[-1]}")
    own = _own_sigma(fit.curve, y)
    own = None if own is None else own.reshape(form)
    unit = 1.0 if fit.curve.absolute_sigma else np.sqrt(float(fit.dispersion))
    sigma = None if own is None or fit.curve.sigma is None else own * unit
    residuals = -np.asarray(fit.residuals).reshape(form)
    return _Data(x.reshape(form[:2]), y.reshape(form), sigma, own, residuals, own is not None, x.ndim == 1)


def _own_sigma(curve: Any, y: np.ndarray) -> np.ndarray | None:
    """The standard deviation of every point, NaN where it is missing; None where all are alike."""
    if curve.sigma is not None:
        sigma = np.asarray(curve.sigma)
        sigma = sigma if sigma.shape == y.shape else np.sqrt(np.diagonal(sigma)).reshape(y.shape)
    elif curve.weights is not None:
        weights = np.asarray(curve.weights)
        sigma = np.divide(1.0, np.sqrt(weights), out=np.full_like(weights, np.nan), where=weights > 0)
    else:
        return None
    return np.where(np.isnan(y), np.nan, sigma)


def _between(x: np.ndarray, own: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """The errors of new observations along the curves: those of the data, `(series, points, columns)`."""
    out = np.full((len(x), len(fine), own.shape[-1]), np.nan)
    for series, column in np.ndindex(len(x), own.shape[-1]):
        sigma = own[series, :, column]
        there = np.isfinite(x[series]) & np.isfinite(sigma)
        if there.any():
            at, which = np.unique(x[series, there], return_inverse=True)
            variance = np.bincount(which, sigma[there] ** 2) / np.bincount(which)
            out[series, :, column] = np.interp(fine, at, np.sqrt(variance))
    return out


def _curves(
    fit: Any, data: _Data, level: float | None, kind: str, sigma: Any, xscale: str, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where curves are drawn; the curve, its lower and its upper end, `(3, series, points, columns)`."""
    shown = data.x[data.x > 0] if xscale == "log" else data.x
    if not shown.size:
        raise ValueError('xscale: "log" shows positive x alone, and here there is none')
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    space = np.geomspace if xscale == "log" else np.linspace
    fine = space(low, high, points)
    if np.issubdtype(data.x.dtype, np.floating):  # between whole numbers there is a curve too
        fine = fine.astype(data.x.dtype)
    x = fine if data.plain else np.broadcast_to(fine, (len(data.x), points))
    if kind == "prediction" and sigma is None and data.own is not None:
        sigma = _between(data.x, data.own, fine).reshape(*x.shape, *np.shape(fit.curve.y)[x.ndim :])
    found = (fit.predict(x),) * 3 if level is None else fit.predict(x, level, kind=kind, sigma=sigma)
    lines = np.stack([np.asarray(line).reshape(len(data.x), points, -1) for line in found])
    return fine, lines


def _draw(
    top: Any,
    below: Any,
    data: _Data,
    place: tuple[int, int],
    fine: np.ndarray,
    lines: np.ndarray,
    color: str,
    said: tuple[str | None, str | None, str | None],
) -> None:
    """One series in one panel."""
    series, column = place
    alone = len(data.x) == 1
    ink = GREY if alone else color
    x, y = data.x[series], data.y[series, :, column]
    sigma = None if data.sigma is None else data.sigma[series, :, column]
    curve, low, high = lines
    if said[0] or not np.array_equal(low, high, equal_nan=True):
        top.fill_between(fine, low, high, color=color, alpha=0.18, linewidth=0, label=said[0])
    top.plot(fine, curve, color=color, linewidth=1.8, label=said[1])
    marks = {"fmt": "o", "color": ink, "markersize": 5.0, "markeredgecolor": "white"}
    marks |= {"markeredgewidth": 0.6, "elinewidth": 1.0, "capsize": 0.0, "zorder": 3}
    top.errorbar(x, y, yerr=sigma, label=said[2], **marks)
    rest = data.residuals[series, :, column]
    below.vlines(x, 0.0, rest, color=ink, linewidth=0.8, alpha=0.6)
    below.plot(x, rest, "o", color=ink, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6)


def _finish(top: Any, below: Any, data: _Data, column: int) -> None:
    from matplotlib.ticker import MaxNLocator

    below.axhline(0.0, color=BLUE if len(data.x) == 1 else GREY, linewidth=1.2)
    largest = np.nanmax(np.abs(data.residuals[..., column]), initial=0.0)
    if largest > 0:
        below.set_ylim(-1.25 * largest, 1.25 * largest)
    below.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    top.tick_params(bottom=False)
    for axes in (top, below):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
