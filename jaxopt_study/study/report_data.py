"""What of records is drawn and listed: curves, axes of sweeps, paths; numbers without any drawing."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.study.job_tables import FIXED
from jaxopt_study.study.protocol import ROW
from jaxopt_study.study.read_record import Record, finite
from jaxopt_study.study.report_text import as_text

LARGEST_TABLE = 2000  # rows of points on the page; all are in points.parquet
FEW_GROUPS = 6  # colors in one picture of curves
MANY_CURVES = 400  # lanes or points drawn as lines of their own
GEOMETRIC = 20.0  # the largest over the smallest number of an axis that is drawn logarithmically


@dataclasses.dataclass(frozen=True)
class Curves:
    """A trace of one variant (or of one group of a sweep): a line a lane or point.

    Attributes:
      label: whose they are.
      steps: the steps, shape `(steps,)`.
      lines: shape `(lines, steps)`, NaN before the first and after the last that a line has.
    """

    label: str
    steps: np.ndarray
    lines: np.ndarray


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a sweep, a number for every row of `points.parquet`.

    Attributes:
      name: the swept key.
      numbers: shape `(rows,)`; for words, the index into `words`.
      words: the values in their order, where they are no numbers.
      is_log: whether it is drawn logarithmically.
      is_seed: whether it only repeats.
    """

    name: str
    numbers: np.ndarray
    words: tuple[str, ...] = ()
    is_log: bool = False
    is_seed: bool = False

    @property
    def levels(self) -> np.ndarray:
        """The values that occur, ascending."""
        return np.unique(self.numbers[np.isfinite(self.numbers)])


def trace_columns(record: Record) -> list[str]:
    """The traces of a record, in the file's order."""
    if record.trace is None:
        return []
    kinds = {field.name: str(field.type) for field in record.trace.schema}
    return [
        name
        for name, kind in kinds.items()
        if name not in ROW and kind in ("float", "double", "int32", "int64")
    ]


def path_columns(record: Record) -> list[str]:
    """The traces that are parameters: those that the outcome's values have by the same name."""
    names: set[str] = set()
    for variant in record.table("variants").values():
        values = variant.get("values") if isinstance(variant, Mapping) else None
        names |= set(values) if isinstance(values, Mapping) else set()
    return [name for name in trace_columns(record) if name in names]


def curves_of(record: Record, column: str) -> list[Curves]:
    """A trace by variant; that of a sweep by the axis of fewest values, if these are few."""
    table = record.trace
    variants = _words(table, "variant")
    if record.is_sweep:
        variants = _groups(record, variants)
    step, value = _numbers(table, "step"), _numbers(table, column)
    lane = _numbers(table, "point" if record.is_sweep else "lane")
    found = []
    for label in dict.fromkeys(variants):
        mine = (variants == label) & np.isfinite(value) & np.isfinite(step) & np.isfinite(lane)
        if mine.any():
            found.append(Curves(str(label), *_lines(lane[mine], step[mine], value[mine])))
    return found


def axes_of(record: Record) -> list[Axis]:
    """The axes of a sweep that vary, the ones with the most values first, and seeds last."""
    table = record.points
    swept = record.table("axes")
    names = [name for name in table.column_names if name not in FIXED and not name.startswith("values.")]
    names = [name for name in names if name in swept or name.startswith("config.") or not swept]
    axes = []
    for name in dict.fromkeys([*(["variant"] if "variant" in table.column_names else []), *names]):
        axis = _axis(name, table.column(name).to_pylist())
        if len(axis.levels) > 1:
            axes.append(axis)
    return sorted(axes, key=lambda axis: (axis.is_seed, bool(axis.words), -len(axis.levels)))


def values_of(record: Record) -> np.ndarray:
    """The value of every row of a sweep."""
    return _numbers(record.points, "value", missing=math.nan)


def grid(x: Axis, y: Axis, value: np.ndarray) -> np.ndarray:
    """The median of finite values in each cell, `(levels of y, levels of x)`; NaN where there is none."""
    cells = np.full((len(y.levels), len(x.levels)), np.nan)
    column, row = np.searchsorted(x.levels, x.numbers), np.searchsorted(y.levels, y.numbers)
    good = np.isfinite(value) & np.isfinite(x.numbers) & np.isfinite(y.numbers)
    order = np.lexsort((column[good], row[good]))
    keys = (row[good] * len(x.levels) + column[good])[order]
    for key, part in zip(*_split(keys, value[good][order]), strict=True):
        cells[divmod(int(key), len(x.levels))] = np.median(part)
    return cells


def bands(x: Axis, value: np.ndarray) -> np.ndarray:
    """The 10, 50 and 90 percent quantiles of finite values at each level of an axis, shape `(levels, 3)`."""
    found = np.full((len(x.levels), 3), np.nan)
    for index, level in enumerate(x.levels):
        here = value[(x.numbers == level) & np.isfinite(value)]
        if here.size:
            found[index] = np.quantile(here, [0.1, 0.5, 0.9])
    return found


def is_log(numbers: np.ndarray) -> bool:
    """Whether numbers are better seen as logarithms: all positive, over more than a decade.

    >>> is_log(np.array([1e-4, 1.0])), is_log(np.array([1.0, 2.0])), is_log(np.array([-1.0, 1e3]))
    (True, False, False)
    """
    finite_ones = numbers[np.isfinite(numbers)]
    if not finite_ones.size or finite_ones.min() <= 0:
        return False
    return bool(np.log(finite_ones.max()) - np.log(finite_ones.min()) > math.log(GEOMETRIC))


def _groups(record: Record, variants: np.ndarray) -> np.ndarray:
    """For every row of a sweep's trace the value of one axis at its point."""
    few = [axis for axis in axes_of(record) if not axis.is_seed and len(axis.levels) <= FEW_GROUPS]
    if not few:
        return variants
    axis = min(few, key=lambda axis: len(axis.levels))
    texts = axis.words or {level: f"{axis.name} = {level:g}" for level in axis.levels}
    names = [texts[int(n) if axis.words else n] if math.isfinite(n) else "none" for n in axis.numbers]
    by_point = dict(zip(_numbers(record.points, "point").tolist(), names, strict=True))
    points = _numbers(record.trace, "point").tolist()
    return np.array([by_point.get(point, "") for point in points], dtype=object)


def _axis(name: str, values: Sequence[Any]) -> Axis:
    # One number in a list, as the widths of a network of one layer, is a number.
    bare = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in values]
    is_seed = name.rpartition(".")[2].endswith("seed")
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in bare if item is not None):
        numbers = np.array([math.nan if item is None else float(item) for item in bare])
        return Axis(name, numbers, is_log=is_log(numbers), is_seed=is_seed)
    texts = [as_text(item) for item in values]
    words = tuple(dict.fromkeys(texts))
    index = {word: place for place, word in enumerate(words)}
    return Axis(name, np.array([float(index[text]) for text in texts]), words, is_seed=is_seed)


def _words(table: Any, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, "")
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    coded = column.combine_chunks().dictionary_encode()  # as many words as there are kinds of them
    words = np.array([str(word) for word in coded.dictionary.to_pylist()] + ["None"], dtype=object)
    return words[np.asarray(coded.indices.fill_null(len(words) - 1))]


def _numbers(table: Any, name: str, missing: float = 0.0) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, missing)
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy()
    return np.array([math.nan if item is None else finite(item) for item in column.to_pylist()])


def _lines(lane: np.ndarray, step: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    steps, column = np.unique(step, return_inverse=True)
    lanes, row = np.unique(lane, return_inverse=True)
    lines = np.full((len(lanes), len(steps)), np.nan)
    lines[row, column] = value
    # Points of a sweep that end apart keep other steps: without what lies between them, the median
    # at a step would be that of the few points which happen to have kept it.
    for line in lines:
        known = np.flatnonzero(~np.isnan(line))
        inside = slice(known[0], known[-1] + 1)
        line[inside] = np.interp(steps[inside], steps[known], line[known])
    if len(steps) > 600:  # as many as a line on the page has pixels, near each other at the start
        places = np.unique(np.r_[0, np.geomspace(1, len(steps), 600).astype(int) - 1, len(steps) - 1])
        steps, lines = steps[places], lines[:, places]
    return steps, lines


def _split(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    unique, first = np.unique(keys, return_index=True)
    return unique, np.split(values, first[1:]) if len(unique) else []
