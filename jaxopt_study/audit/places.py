"""Where an audit looks: the points, and at each the lines along which it differentiates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxopt_study.audit.differences import Floats
from jaxopt_study.audit.flat import FlatFunction, Leaf

EACH = 24  # elements of a leaf that are taken one by one; of larger leaves, some, and random directions
SOME = 4
DENSE = 2

# Other points: the one that is given times the first number, moved at random by the second.
PROBES = {
    "nearby": (1.0, 0.3),
    "negated": (-1.0, 0.3),
    "times 0.01": (0.01, 0.3),
    "times 10": (10.0, 0.1),
    "times 100": (100.0, 0.1),
    "times 1000": (1000.0, 0.1),
}


class Line(NamedTuple):
    """A direction: of one element of a leaf, or a random one of a whole leaf (element None)."""

    leaf: Leaf
    element: int | None


def choose_points(
    flat: FlatFunction, probe: bool, draw: np.random.Generator
) -> tuple[Floats, tuple[str, ...]]:
    """The point that was given, and if asked others: near it, negated, small and large."""
    points, labels = [flat.x], ["as given"]
    if probe:
        size = np.concatenate([np.full(leaf.size, _typical(flat.x[leaf.slice])) for leaf in flat.inputs])
        for label, (factor, spread) in PROBES.items():
            points.append(factor * (flat.x + spread * size * draw.standard_normal(len(flat.x))))
            labels.append(label)
    rounded = np.asarray(np.stack(points), np.dtype(flat.dtype)).astype(np.float64)
    for leaf in flat.inputs:  # what every leaf can hold
        rounded[:, leaf.slice] = rounded[:, leaf.slice].astype(leaf.dtype).astype(np.float64)
    return rounded, tuple(labels)


def choose_lines(
    flat: FlatFunction, points: Floats, draw: np.random.Generator
) -> tuple[tuple[Line, ...], Floats]:
    """The lines, the same through each point, and their directions there."""
    lines: list[Line] = []
    for leaf in flat.inputs:
        elements = np.arange(leaf.size)
        if leaf.size > EACH:
            elements = np.sort(draw.choice(leaf.size, SOME, replace=False))
            lines += [Line(leaf, None)] * DENSE
        lines += [Line(leaf, leaf.start + int(element)) for element in elements]
    mixed = draw.choice([-1.0, 1.0], (len(lines), len(flat.x))) * draw.uniform(
        0.5, 1.5, (len(lines), len(flat.x))
    )
    masks = np.zeros_like(mixed)
    for row, line in zip(masks, lines, strict=True):
        if line.element is None:
            row[line.leaf.slice] = 1.0
        else:
            row[line.element] = 1.0
    mixed = np.where(masks.sum(axis=1, keepdims=True) > 1, mixed, 1.0)
    sizes = np.stack([element_sizes(flat, point) for point in points])
    return tuple(lines), sizes[:, None, :] * (mixed * masks)[None]


def element_sizes(flat: FlatFunction, point: Floats) -> Floats:
    """The size of every element, or a tenth of that of its leaf where it is smaller."""
    out = np.empty_like(point)
    for leaf in flat.inputs:
        part = point[leaf.slice]
        out[leaf.slice] = np.maximum(np.abs(part), 0.1 * _typical(part))
    return out


def _typical(part: Floats) -> float:
    root = float(np.sqrt(np.mean(part**2))) if part.size else 0.0
    return root if root > 0 else 1.0


def those(labels: tuple[str, ...], which: NDArray[np.bool_]) -> tuple[str, ...]:
    """The labels for which it is true."""
    return tuple(label for label, use in zip(labels, which, strict=True) if use)
