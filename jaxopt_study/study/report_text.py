"""Values of records as a person reads them: numbers, lists, statuses, what differs."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_study.study.read_record import finite


def differences(configs: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The keys in which Configs differ, and those in which they are the same.

    >>> differences({"a": {"n": 1, "m": 2}, "b": {"n": 1, "m": 3}})
    (['m'], ['n'])
    """
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    texts = {key: {as_text(config.get(key)) for config in configs.values()} for key in keys}
    return [key for key in keys if len(texts[key]) > 1], [key for key in keys if len(texts[key]) == 1]


def as_text(value: Any) -> str:
    """A value as a person reads it.

    >>> as_text(0.1 + 0.2), as_text([1, 2.0]), as_text(None), as_text(True)
    ('0.3', '[1, 2]', '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_rounded(value), ensure_ascii=False, default=str)
    return str(value)


def median_of(value: Any) -> float:
    """The median of the finite numbers in a list of `result.json`, or the number itself."""
    flat = np.array([finite(item) for item in _flat(value)])
    good = flat[np.isfinite(flat)]
    return float(np.median(good)) if good.size else (float(flat[0]) if flat.size else math.nan)


def counted(value: Any) -> str:
    """Statuses in words, counted where there are several.

    >>> counted("STALLED"), counted(["STALLED", "STALLED", "OUT_OF_STEPS"])
    ('stalled', '2 stalled, 1 out of steps')
    """
    names = [str(name).lower().replace("_", " ") for name in _flat(value)]
    if not isinstance(value, list):
        return names[0] if names else ""
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _flat(item)]
    return [] if value is None else [value]


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        short = float(f"{value:.6g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value
