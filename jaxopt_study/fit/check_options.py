"""The options of a batch's iteration, checked before anything is traced; numbers that are traced pass."""

from typing import Any

import numpy as np

from jaxopt_study.fit.check_input import is_concrete

STEPS = ("max_steps", "max_trials")


def check_options(*, slots: Any, **numbers: Any) -> None:
    """Check the number of slots, and the numbers that all fits have in common.

    Args:
      slots: a whole number of at least 1, or `"auto"`.
      numbers: `max_steps`, `max_trials`, `damping` and tolerances; None for a tolerance's default.

    Raises:
      TypeError: for what is no number.
      ValueError: for several, or one that is out of its range.
    """
    whole = isinstance(slots, int | np.integer) and not isinstance(slots, bool)
    if slots != "auto" and (not whole or slots < 1):
        raise ValueError(f'slots: expected a whole number >= 1 or "auto", got {slots!r}')
    for name, value in numbers.items():
        if value is None and name not in (*STEPS, "damping"):
            continue
        kind = "a whole number >= 0" if name in STEPS else "a number > 0" if name == "damping" else "a number"
        if not is_concrete(value):
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name}: expected {kind}, got {value!r}")
        if array.ndim:
            raise ValueError(f"{name}: expected {kind}, the same for all fits, got shape {array.shape}")
        wrong = array.dtype.kind == "f" or array < 0 if name in STEPS else name == "damping" and not array > 0
        if wrong or np.isnan(array):
            raise ValueError(f"{name}: expected {kind}, got {value}")
