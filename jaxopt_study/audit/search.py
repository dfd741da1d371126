"""Which element is wrong, among many that moved together."""

from typing import Any

import numpy as np

from jaxopt_study.audit.differences import Differences, Floats, differentiate
from jaxopt_study.audit.flat import FlatFunction
from jaxopt_study.audit.judge import judge
from jaxopt_study.audit.places import Line
from jaxopt_study.audit.sampling import Way, largest_near, sample

EXCLUDED = 16  # kinks among the elements of a large array that are put aside while a fault is looked for


def search(way: Way, flat: FlatFunction, point: Floats, direction: Floats, line: Line) -> Any:
    """Halve the set of elements that move until one is left whose derivative is wrong."""
    active = np.arange(line.leaf.start, line.leaf.start + line.leaf.size)
    for _ in range(EXCLUDED):
        elements = active
        while len(elements) > 1:
            half = elements[: len(elements) // 2]
            elements = half if along(way, flat, point, direction, half)[0].any() else elements[len(half) :]
        wrong, slope, truth = along(way, flat, point, direction, elements)
        if wrong.any():
            return Line(line.leaf, int(elements[0])), *worst_output(wrong, slope, truth)
        active = np.setdiff1d(active, elements)
        if not len(active) or not along(way, flat, point, direction, active)[0].any():
            return None
    return None


def along(way: Way, flat: FlatFunction, point: Floats, direction: Floats, elements: np.ndarray) -> Any:
    """Which outputs are wrong if these elements move, the derivatives and the differences."""
    part = np.zeros_like(direction)
    part[elements] = direction[elements]
    samples, _ = sample(way.values, point[None], part[None, None], flat.eps)
    truth = differentiate(samples)
    slope = way.slopes(point[None], part[None, None])
    line = Line(flat.inputs[0], None)
    largest = largest_near(slope, truth, (line,), part[None, None])
    noise = np.fmax(truth.noise, flat.eps * np.abs(samples.at))
    verdict = judge(slope, truth, flat.eps, largest, 1e3 * flat.eps * largest + 10 * noise)
    return verdict.wrong[0], slope[0], truth._replace(value=truth.value[0], error=truth.error[0])


def worst_output(wrong: np.ndarray, slope: Floats, truth: Differences) -> tuple[int, float, float, float]:
    """The output that is farthest off: its number, the derivative, the difference and its error."""
    off = np.where(wrong, np.nan_to_num(np.abs(slope - truth.value), nan=np.inf), -1.0)
    output = int(np.argmax(off))
    return output, slope[output], truth.value[output], truth.error[output]
