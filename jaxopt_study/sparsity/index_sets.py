"""For every element of an array, the set of inputs that it depends on; all in whole-array operations.

Sets are slices of one pool, and several elements may share a slice: moving elements about moves two
numbers each, and an array all of whose elements depend on everything costs no more than one set.
Here is only the algebra of such sets; what each primitive does to them is in `propagate`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

MOST = 20_000_000  # entries that are ever written out: beyond it, sets are widened until they can be shared


@dataclasses.dataclass(frozen=True, eq=False)
class IndexSets:
    """Sets of indices below `inputs`; that of element i is `pool[start[i]:stop[i]]`, sorted.

    Elements are numbered as in the raveled array.
    """

    start: np.ndarray
    stop: np.ndarray
    pool: np.ndarray
    inputs: int

    @property
    def elements(self) -> int:
        """How many sets there are."""
        return len(self.start)

    @property
    def count(self) -> int:
        """The sizes of all sets together."""
        return int((self.stop - self.start).sum())

    def take(self, index: np.ndarray) -> "IndexSets":
        """The sets of the elements at `index`, of any shape; a negative one has the empty set."""
        index = np.ravel(index)
        if not self.elements:
            return empty(index.size, self.inputs)
        none = index < 0
        if not none.any():
            return dataclasses.replace(self, start=self.start[index], stop=self.stop[index])
        safe = np.where(none, 0, index)
        start, stop = (np.where(none, 0, bound[safe]) for bound in (self.start, self.stop))
        return dataclasses.replace(self, start=start, stop=stop)

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (element, input), element by element."""
        sizes = self.stop - self.start
        rows = np.repeat(np.arange(self.elements), sizes)
        before = np.cumsum(sizes) - sizes
        return rows, self.pool[np.arange(len(rows)) + np.repeat(self.start - before, sizes)]

    def group(self, groups: np.ndarray, number: int) -> "IndexSets":
        """The union of the sets of each group; `groups` says which one an element is in, -1 for none."""
        groups = np.ravel(groups)
        if self.count > MOST:
            return shared(number, self.columns(), self.inputs)
        rows, columns = self.entries()
        rows = groups[rows]
        kept = rows >= 0
        return from_entries(rows[kept], columns[kept], number, self.inputs)

    def columns(self) -> np.ndarray:
        """The union of all sets, or a little more: what is in the pool."""
        seen = np.zeros(self.inputs, bool)
        if self.count:
            seen[self.pool] = True
        return np.flatnonzero(seen)


def empty(elements: int, inputs: int) -> IndexSets:
    """Nothing depends on anything."""
    nothing = np.zeros(elements, np.int64)
    return IndexSets(nothing, nothing, np.zeros(0, np.int64), inputs)


def identity(inputs: int) -> IndexSets:
    """Every input depends on itself."""
    each = np.arange(inputs)
    return IndexSets(each, each + 1, each, inputs)


def shared(elements: int, columns: np.ndarray, inputs: int) -> IndexSets:
    """Every element has the same set."""
    return IndexSets(np.zeros(elements, np.int64), np.full(elements, len(columns)), columns, inputs)


def from_entries(rows: np.ndarray, columns: np.ndarray, elements: int, inputs: int) -> IndexSets:
    """Sets from pairs (element, input), in any order and as often as they come."""
    keys = rows.astype(np.int64) * inputs + columns
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        keys.sort()
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    rows, columns = np.divmod(keys, max(inputs, 1))
    stop = np.cumsum(np.bincount(rows, minlength=elements))
    return IndexSets(np.concatenate([[0], stop[:-1]])[:elements], stop, columns, inputs)


def concatenate(parts: Sequence[IndexSets]) -> IndexSets:
    """The sets of several arrays, one array after the other."""
    first = parts[0]
    if all(part.pool is first.pool for part in parts):
        pool, offsets = first.pool, [0] * len(parts)
    else:
        pool = np.concatenate([part.pool for part in parts])
        offsets = np.cumsum([0] + [len(part.pool) for part in parts])[:-1].tolist()
    start = np.concatenate([part.start + offset for part, offset in zip(parts, offsets, strict=True)])
    stop = np.concatenate([part.stop + offset for part, offset in zip(parts, offsets, strict=True)])
    return IndexSets(start, stop, pool, first.inputs)


def union(parts: Sequence[IndexSets | None]) -> IndexSets | None:
    """Element by element, the union of the sets of arrays of one size; None has empty ones."""
    different: list[IndexSets] = []
    for part in parts:
        if part is not None and not any(_same(part, other) for other in different):
            different.append(part)
    if len(different) < 2:
        return different[0] if different else None
    elements, inputs = different[0].elements, different[0].inputs
    for part in different:
        if part.elements and (part.start == 0).all() and (part.stop == inputs).all():
            return part  # everything depends on everything already
    if sum(part.count for part in different) > MOST:
        return shared(elements, np.unique(np.concatenate([part.columns() for part in different])), inputs)
    entries = [part.entries() for part in different]
    rows, columns = (np.concatenate(column) for column in zip(*entries, strict=True))
    return from_entries(rows, columns, elements, inputs)


def _same(left: IndexSets, right: IndexSets) -> bool:
    if left is right:
        return True
    return (
        left.pool is right.pool
        and np.array_equal(left.start, right.start)
        and np.array_equal(left.stop, right.stop)
    )
