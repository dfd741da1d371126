"""What is known of a variable of a program while index sets are carried through it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.sparsity.index_sets import IndexSets


class Known:
    """A value that no traced input has a part in, computed when somebody asks."""

    def __init__(self, compute: Callable[[], Any]):
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None

    def __call__(self) -> Any:
        """The value."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value


class Traced(NamedTuple):
    """What is known of a variable: its sets (None: depends on no input), its value (None: not known)."""

    sets: IndexSets | None = None
    value: Known | None = None


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable."""
    return tuple(atom.aval.shape)


def size_of(atom: Any) -> int:
    """How many elements a variable has."""
    return int(np.prod(shape_of(atom), dtype=int))


def value_of(item: Traced) -> np.ndarray | None:
    """The value, if it is known."""
    return None if item.value is None else np.asarray(item.value())
