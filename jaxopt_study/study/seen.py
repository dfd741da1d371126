"""What is known of a run between two chunks, and how it is put in a word or a number."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.record import status_names


class Seen(NamedTuple):
    """What is known of a variant between two chunks.

    Attributes:
      label: the variant.
      max_steps: how many steps there can be, or None.
      status: per lane, or None before the first chunk.
      num_steps: per lane.
      value: per lane.
      seconds: running so far.
      ended: whether no chunk follows.
    """

    label: str
    max_steps: int | None
    status: Any
    num_steps: Any
    value: Any
    seconds: float
    ended: bool

    @property
    def steps(self) -> int:
        """Steps of the lane that has taken the most."""
        return int(np.max(self.num_steps, initial=0))


def median(value: Any) -> float:
    """The median over lanes; of the finite ones where there are any.

    >>> median(np.array([1.0, np.nan, 3.0]))
    2.0
    """
    flat = np.asarray(value, dtype=float).ravel()
    finite = flat[np.isfinite(flat)]
    if finite.size:
        return float(np.median(finite))
    return float(flat[0]) if flat.size else float("nan")


def summarize_status(status: Any) -> str:
    """A status in words, or how many lanes have which.

    >>> summarize_status(np.array([4, 4, 5]))
    '2 target reached, 1 out of steps'
    """
    names = [str(name).lower().replace("_", " ") for name in status_names(status).ravel()]
    if np.ndim(status) == 0:
        return names[0]
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())
