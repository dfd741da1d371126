"""A fit in words and columns, for a terminal or a notebook."""

from collections import Counter
from typing import Any

import jax
import numpy as np

from jaxopt_study.fit.names import names_of
from jaxopt_study.result import Status

STRONG = 0.9  # correlations from here on are worth a line
MOST = 10  # of those lines


def table(fit: Any, level: float = 0.95) -> str:
    """The table that `print(fit)` shows.

    Values are rounded to two digits of their standard errors.

    Args:
      fit: a `Fit`, or a batch of them, which gets one line.
      level: of the intervals, which are `Fit.confidence_interval`'s.

    Returns:
      Lines of text; inside a trace, where there are no numbers, one that says so.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(fit)):
        return "Fit (traced: print it outside of jit, vmap and grad)"
    if np.ndim(fit.status):
        return _batch(fit)
    rows = [["parameter", "value", "stderr", "relative", f"{100 * level:g} % interval", ""]]
    rows += _rows(fit, level)
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    head, *body = _aligned(rows)
    # Rules, not empty lines: a table stays one block where it is pasted.
    rule = "─" * max(map(len, (head, *body)))
    lines = [f"{fit.message} ({int(fit.num_steps)} steps)", rule, head, rule, *body, rule]
    lines += _unknowns(fit)
    related = _correlations(fit)
    if related:
        lines += ["strong correlations", *related]
    return "\n".join([*lines, *_summary(fit)])


def _rows(fit: Any, level: float) -> list[list[str]]:
    lower, upper = fit.confidence_interval(level)
    columns = [_flat(tree) for tree in (fit.params, fit.stderr, lower, upper)]
    rows = []
    for name, flag, value, error, low, high in zip(names_of(fit.params), _flags(fit), *columns, strict=True):
        known = np.isfinite(error) and error > 0
        digits = _decimals(value, error) if known else None
        relative = 100 * error / abs(value) if value else np.inf
        rows.append(
            [
                name,
                _number(value, digits),
                _number(error, digits) if known else _unknown(error, flag),
                f"{relative:.2g} %" if known and np.isfinite(relative) else "",
                f"[{_number(low, digits)}, {_number(high, digits)}]" if known else "",
                flag,
            ]
        )
    return rows


def _unknown(error: float, flag: str) -> str:
    return "held" if flag else f"{error:g}"


def _unknowns(fit: Any) -> list[str]:
    """Why errors are infinite, or no numbers."""
    if not np.isfinite(float(fit.cost)):
        return []  # nothing is known there, as the first line says
    lines = []
    if bool(fit.rank_deficient):
        infinite = np.isinf(_flat(fit.stderr)).any()
        which = "the parameters with infinite errors" if infinite else "all parameters"
        lines.append(f"the data do not determine {which}")
    if np.isnan(float(fit.dispersion)):
        lines.append("too few points to tell the size of the errors by")
    return lines


def _flags(fit: Any) -> list[str]:
    sides = _flat(fit.at_bound)
    fixed = np.zeros(sides.shape, bool)
    if fit.curve.bounds is not None:
        lower, upper = map(_flat, fit.curve.bounds)
        fixed = lower >= upper
    words = {-1: "at lower bound", 0: "", 1: "at upper bound"}
    return ["fixed" if one else words[int(side)] for one, side in zip(fixed, sides, strict=True)]


def _summary(fit: Any) -> list[str]:
    dof, points = int(fit.dof), int(fit.num_points)
    numbers = [
        f"{points} point{'' if points == 1 else 's'}",
        f"{dof} degree{'' if dof == 1 else 's'} of freedom",
        f"reduced χ² {float(fit.reduced_chi2):.5g}",
    ]
    missing = np.size(fit.curve.y) - points
    if missing:
        numbers[0] += f" ({missing} missing)"
    qualities = [
        f"R² {float(fit.r_squared):.5g}",
        f"AIC {float(fit.aic):.5g}",
        f"BIC {float(fit.bic):.5g}",
    ]
    return [", ".join(numbers), ", ".join(qualities)]


def _correlations(fit: Any) -> list[str]:
    names, matrix = names_of(fit.params), np.asarray(fit.correlation)
    pairs = [(matrix[i, j], f"{names[i]}, {names[j]}") for i in range(len(names)) for j in range(i) if i != j]
    strong = sorted([pair for pair in pairs if abs(pair[0]) >= STRONG], key=lambda pair: -abs(pair[0]))
    lines = [f"  {value:+.3f}  {pair}" for value, pair in strong[:MOST]]
    return [*lines, f"  and {len(strong) - MOST} more"] if len(strong) > MOST else lines


def _batch(fit: Any) -> str:
    ends = Counter(Status(int(code)).name.lower().replace("_", " ") for code in np.ravel(fit.status))
    said = ", ".join(f"{count} {name}" for name, count in ends.most_common())
    return f"{np.size(fit.status)} fits {np.shape(fit.status)}: {said}; fit[i] is one of them"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, 4, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _decimals(value: float, error: float) -> int | None:
    """How many decimals show two digits of the error; None where exponents read better."""
    size = error if np.isfinite(error) and error > 0 else abs(value) * 1e-4
    largest = max(abs(value), size)
    if not np.isfinite(largest) or largest >= 1e7 or not size > 0 or largest < 1e-4:
        return None
    return max(1 - int(np.floor(np.log10(size))), 0)


def _number(value: float, decimals: int | None) -> str:
    return f"{value:.5g}" if decimals is None or decimals > 9 else f"{value:.{decimals}f}"


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in jax.tree.leaves(tree)])
