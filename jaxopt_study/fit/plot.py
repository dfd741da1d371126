"""A picture of a fit: data, curve and band, with the residuals below."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

BLUE, GREY, RED = "#2166ac", "#4d4d4d", "#b2182b"


def plot(
    fit: Any,
    path: str | Path | None = None,
    *,
    level: float | None = 0.95,
    kind: str = "confidence",
    xlabel: str = "x",
    ylabel: str = "y",
    title: str | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    points: int = 400,
) -> Any:
    """Draw a fit of one-dimensional y against one-dimensional x.

    Args:
      fit: a `Fit`.
      path: also write the picture there, in the format of its suffix.
      level: of the band; None for none.
      kind: of the band, see `Fit.predict`.
      xlabel, ylabel, title: words; the title is empty if not given.
      xscale, yscale: `"linear"` or `"log"`.
      points: at how many x the curve is drawn.

    Returns:
      A `matplotlib.figure.Figure` that no window owns.

    Raises:
      ValueError: for a batch, or unless x and y are one-dimensional.
      ImportError: if matplotlib is not installed.
    """
    x, y, sigma = _data(fit)
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.0, 5.4), layout=ConstrainedLayoutEngine(h_pad=0.04, hspace=0.0))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1.0])
    fine = _fine(x, xscale, points)
    if level is None:
        curve = np.asarray(fit.predict(fine))
    else:
        curve, low, high = (np.asarray(line) for line in fit.predict(fine, level, kind=kind))
        name = f"{100 * level:g} % {kind} band"
        top.fill_between(fine, low, high, color=BLUE, alpha=0.18, linewidth=0, label=name)
    top.plot(fine, curve, color=BLUE, linewidth=1.8, label="fit")
    marks = {"fmt": "o", "color": GREY, "markersize": 5.0, "markeredgecolor": "white"}
    marks |= {"markeredgewidth": 0.6, "elinewidth": 1.0, "capsize": 0.0, "zorder": 3}
    top.errorbar(x, y, yerr=sigma, label="data", **marks)
    residuals = -np.ravel(np.asarray(fit.residuals))
    below.axhline(0.0, color=BLUE, linewidth=1.2)
    below.vlines(x, 0.0, residuals, color=GREY, linewidth=0.8, alpha=0.6)
    below.plot(x, residuals, "o", color=GREY, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6)
    largest = np.nanmax(np.abs(residuals), initial=0.0)
    if largest > 0:
        below.set_ylim(-1.25 * largest, 1.25 * largest)
    weighted = sigma is not None or fit.curve.sigma is not None or fit.curve.weights is not None
    below.set_xlabel(xlabel)
    below.set_ylabel("(data − fit) / σ" if weighted else "data − fit", fontsize=9)
    below.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    top.set(ylabel=ylabel, xscale=xscale, yscale=yscale)
    top.tick_params(bottom=False)
    for axes in (top, below):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    if title:
        top.set_title(title, loc="left", fontsize=12)
    top.legend(frameon=False, fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _data(fit: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x, y and, where there are any, the standard deviations to draw."""
    if np.ndim(fit.status):
        raise ValueError(f"plot: this is a batch of {np.size(fit.status)} fits; draw one of them, fit[i]")
    leaves = jax.tree.leaves(fit.curve.x)
    y = np.asarray(fit.curve.y)
    if len(leaves) != 1 or np.ndim(leaves[0]) != 1 or y.ndim != 1 or np.shape(leaves[0]) != y.shape:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in leaves)
        raise ValueError(
            f"plot: draws y against one x, both one-dimensional; here x is {shapes} and y {y.shape}"
        )
    sigma = fit.curve.sigma
    if sigma is not None:
        sigma = np.asarray(sigma)
        sigma = np.sqrt(np.diagonal(sigma)) if sigma.ndim == 2 else sigma
        if not fit.curve.absolute_sigma:
            sigma = sigma * np.sqrt(float(fit.dispersion))
        sigma = np.where(np.isnan(y), np.nan, sigma)
    return np.asarray(leaves[0]), y, sigma


def _fine(x: np.ndarray, xscale: str, points: int) -> np.ndarray:
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if xscale == "log":
        return np.geomspace(low, high, points).astype(x.dtype)
    return np.linspace(low, high, points).astype(x.dtype)
