"""Forward against reverse mode: one linear map, taken twice, which rounding alone may keep apart."""

import numpy as np

from jaxopt_study.audit.compare import Found
from jaxopt_study.audit.differences import Floats
from jaxopt_study.audit.flat import FlatFunction
from jaxopt_study.audit.judge import tolerance
from jaxopt_study.audit.places import Line
from jaxopt_study.audit.report import Finding
from jaxopt_study.audit.sampling import Way, name_of


def compare_modes(
    ways: list[Way],
    slopes: list[Floats],
    rounding: Floats,
    kinks: np.ndarray,
    flat: FlatFunction,
    found: Found,
    points: Floats,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> None:
    """Note where they differ, the worst of every leaf. Beside `kinks` one of them may be infinite."""
    forward, reverse = slopes
    check = "forward against reverse"
    both = np.isfinite(forward) & np.isfinite(reverse)
    scale = np.fmax(np.abs(forward), np.abs(reverse))
    per_line = np.where(both, scale, 0.0).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.where(both, np.abs(forward - reverse), 0.0)
        wrong = off > tolerance(flat.eps) * scale + 1e3 * flat.eps * per_line + rounding
        relative = np.where(off == 0, 0.0, off / np.fmax(scale, flat.eps * per_line))
    one_sided = (np.isfinite(forward) != np.isfinite(reverse)) & ~kinks
    one_sided[len(lines) :] = False  # at probes something may have overflowed
    for leaf in flat.inputs:
        mine = np.flatnonzero([line.leaf is leaf for line in lines])
        rows = np.concatenate([p * len(lines) + mine for p in range(len(points))])
        found.seen(leaf.name, check, float(relative[rows].max()))
        bad = wrong[rows] | one_sided[rows]
        if not bad.any():
            continue
        at, output = np.unravel_index(
            np.argmax(np.where(bad, relative[rows] + one_sided[rows], -1.0)), bad.shape
        )
        row = rows[at]
        line = lines[row % len(lines)]
        size = 1.0 if line.element is None else directions[row // len(lines), row % len(lines), line.element]
        found.faults.append(
            Finding(
                check,
                name_of(line),
                ways[0].output(int(output)),
                labels[row // len(lines)],
                float(forward[row, output] / size),
                float(reverse[row, output] / size),
                0.0,
                float(relative[row, output]),
                "forward and reverse mode differ",
            )
        )
