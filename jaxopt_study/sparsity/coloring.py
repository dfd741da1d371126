"""Columns that share no row can be had in one pass: color them alike.

Curtis, Powell and Reid 1974 for Jacobians; for symmetric matrices the star coloring of Coleman and Moré
1984, which needs fewer colors, because every entry stands in two places. What colors a row or a
neighborhood holds is one integer with a bit for each, so that the work grows with the number of
places and not with its square, however long some rows are.
"""

import dataclasses
from typing import Literal

import numpy as np

from jaxopt_study.sparsity.detect import Sparsity, from_places


@dataclasses.dataclass(frozen=True, eq=False)
class Coloring:
    """Which rows or columns of a matrix are had in one pass, and where its entries then are.

    Attributes:
      sparsity: the pattern.
      by: `"columns"` (a pass is a product with a vector from the right, forward mode) or `"rows"`
        (from the left, reverse mode).
      colors: of each column or row, int32.
      passes: how many colors there are.
      color: for every place of the pattern, in which pass its entry is found, int32,
      at: and at which element of what that pass gives, int32.
    """

    sparsity: Sparsity
    by: Literal["columns", "rows"]
    colors: np.ndarray
    passes: int
    color: np.ndarray
    at: np.ndarray


def color_jacobian(sparsity: Sparsity, by: Literal["columns", "rows", "auto"] = "auto") -> Coloring:
    """Color the columns or the rows, whichever needs fewer passes; columns, if it is the same.

    >>> tridiagonal = Sparsity(*np.nonzero(np.abs(np.subtract.outer(range(9), range(9))) <= 1), (9, 9))
    >>> color_jacobian(tridiagonal).passes
    3
    """
    if by == "rows":
        return _by_rows(sparsity, _color(sparsity.transposed))
    columns = _color(sparsity)
    longest = np.bincount(sparsity.columns, minlength=1).max()  # rows need at least as many colors
    if by == "auto" and longest < columns.max(initial=-1) + 1:
        rows = _color(sparsity.transposed)
        if rows.max(initial=-1) < columns.max():
            return _by_rows(sparsity, rows)
    return Coloring(
        sparsity,
        "columns",
        columns,
        int(columns.max(initial=-1)) + 1,
        columns[sparsity.columns],
        sparsity.rows,
    )


def color_hessian(sparsity: Sparsity) -> Coloring:
    """Color the columns of a symmetric matrix, by stars where that takes fewer colors.

    >>> arrow = np.eye(9, dtype=bool); arrow[0] = arrow[:, 0] = True
    >>> color_hessian(Sparsity(*np.nonzero(arrow), (9, 9))).passes
    2
    """
    both = from_both_sides(sparsity)
    plain = color_jacobian(both, "columns")
    longest = int(np.bincount(both.rows, minlength=1).max(initial=0))
    if longest <= 2:
        return plain
    stars = _star_coloring(both)
    passes = int(stars.max(initial=-1)) + 1
    if passes >= plain.passes:
        return plain
    # An entry is found by its column's color, unless the row has another entry of that color; then
    # its mirror image is found by the row's.
    rows, columns = both.rows.astype(np.int64), both.columns
    keys = rows * passes + stars[columns]
    _, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    alone = counts[which] == 1
    color = np.where(alone, stars[columns], stars[both.rows])
    return Coloring(both, "columns", stars, passes, color, np.where(alone, both.rows, columns))


def color_diagonal(sparsity: Sparsity) -> Coloring:
    """Color the columns of a symmetric matrix so that its diagonal can be had: no two neighbors alike.

    The coloring's places are those of the diagonal.
    """
    width = sparsity.shape[0]
    both = from_both_sides(sparsity)
    off = both.rows != both.columns
    ends = np.cumsum(np.bincount(both.rows[off], minlength=width)).tolist()
    starts, neighbors_of = [0, *ends[:-1]], both.columns[off].tolist()
    bits = [0] * width
    for vertex, (start, end) in enumerate(zip(starts, ends, strict=False)):
        forbidden = 0
        for other in neighbors_of[start:end]:
            forbidden |= bits[other]
        bits[vertex] = ~forbidden & (forbidden + 1)
    colors = np.array([bit.bit_length() - 1 for bit in bits], np.int32)
    each = np.arange(width, dtype=np.int32)
    diagonal = Sparsity(each, each, sparsity.shape)
    return Coloring(diagonal, "columns", colors, int(colors.max(initial=-1)) + 1, colors, each)


def from_both_sides(sparsity: Sparsity) -> Sparsity:
    """A place and its mirror image, where one of them is there."""
    rows = np.concatenate([sparsity.rows, sparsity.columns])
    columns = np.concatenate([sparsity.columns, sparsity.rows])
    return from_places(rows, columns, sparsity.shape)


def _by_rows(sparsity: Sparsity, colors: np.ndarray) -> Coloring:
    return Coloring(
        sparsity, "rows", colors, int(colors.max(initial=-1)) + 1, colors[sparsity.rows], sparsity.columns
    )


def _color(sparsity: Sparsity) -> np.ndarray:
    """Colors of the columns: the fewest of a few ways of finding some."""
    rows, columns, width = sparsity.rows, sparsity.columns, sparsity.shape[1]
    least = int(np.bincount(rows, minlength=1).max(initial=0))
    if least <= 1:
        return np.zeros(width, np.int32)
    if _is_coloring(rows, np.arange(width)[columns] % least, least):
        return (np.arange(width) % least).astype(np.int32)  # bands and blocks
    best = _greedy(sparsity, np.arange(width))
    if best.max() + 1 > least:
        sizes = np.bincount(columns, minlength=width)
        other = _greedy(sparsity, np.argsort(-sizes, kind="stable"))
        best = other if other.max() < best.max() else best
    for colors in range(least + 1, min(int(best.max()) + 1, least + 16)):
        if _is_coloring(rows, np.arange(width)[columns] % colors, colors):
            return (np.arange(width) % colors).astype(np.int32)
    return best


def _is_coloring(rows: np.ndarray, colors: np.ndarray, number: int) -> bool:
    keys = np.sort(rows.astype(np.int64) * number + colors)
    return not (keys[1:] == keys[:-1]).any()


def _greedy(sparsity: Sparsity, order: np.ndarray) -> np.ndarray:
    height, width = sparsity.shape
    by_column = np.argsort(sparsity.columns, kind="stable")
    rows_of = sparsity.rows[by_column].tolist()
    ends = np.cumsum(np.bincount(sparsity.columns, minlength=width)).tolist()
    starts = [0, *ends[:-1]]
    taken = [0] * height  # colors that a row holds
    colors = np.zeros(width, np.int32)
    for column in order.tolist():
        rows = rows_of[starts[column] : ends[column]]
        forbidden = 0
        for row in rows:
            forbidden |= taken[row]
        bit = ~forbidden & (forbidden + 1)
        colors[column] = bit.bit_length() - 1
        for row in rows:
            taken[row] |= bit
    return colors


def _star_coloring(sparsity: Sparsity) -> np.ndarray:
    """No two neighbors alike, and no path of four vertices in two colors; vertices of many edges first.

    A vertex v, to be colored, must avoid
    - the colors of its neighbors;
    - where two neighbors have one color, the colors of these neighbors' neighbors (v would be within a path);
    - the color of x, for a path v, w, x, y in which w and y have one color (v would be its end).
    """
    width = sparsity.shape[0]
    off = sparsity.rows != sparsity.columns
    ends = np.cumsum(np.bincount(sparsity.rows[off], minlength=width)).tolist()
    starts = [0, *ends[:-1]]
    neighbors_of = sparsity.columns[off].tolist()
    color = [-1] * width
    once = [0] * width  # colors among the neighbors
    twice = [0] * width  # those that several neighbors have
    inner = [0] * width  # colors of those neighbors x that have another neighbor of this vertex's color
    sizes = np.bincount(sparsity.rows[off], minlength=width)
    for vertex in np.argsort(-sizes, kind="stable").tolist():
        around = neighbors_of[starts[vertex] : ends[vertex]]
        forbidden, several = once[vertex], twice[vertex]
        for other in around:
            if color[other] < 0:
                continue
            forbidden |= inner[other]
            if several >> color[other] & 1:
                forbidden |= once[other]
        bit = ~forbidden & (forbidden + 1)
        mine = color[vertex] = bit.bit_length() - 1
        for other in around:
            if color[other] >= 0 and several >> color[other] & 1:
                inner[other] |= bit
            if not once[other] & bit:
                once[other] |= bit
                continue
            if not twice[other] & bit and color[other] >= 0:
                twin = next(
                    v for v in neighbors_of[starts[other] : ends[other]] if v != vertex and color[v] == mine
                )
                inner[twin] |= 1 << color[other]
            twice[other] |= bit
            if color[other] >= 0:
                inner[vertex] |= 1 << color[other]
    return np.array(color, np.int32)
