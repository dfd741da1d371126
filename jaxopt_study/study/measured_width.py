"""How many points of a sweep to run side by side, by trying: `--side-by-side measured`.

Each width that is tried is a program to compile, which takes longer than it can win where points are quick;
`lane_cost` chooses without. In a sweep of hours it is worth the minute.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxopt_study.study.lanes import LARGEST_CALL, LARGEST_GROWTH, Lanes, even_width, trace_lanes
from jaxopt_study.study.program import dtype_of
from jaxopt_study.study.protocol import Study

SECONDS = 0.2  # that the last, timed call of a program takes
FACTOR = 4  # from one width to the next


def measured_lanes(study: Study, configs: Sequence[Any], at_once: int) -> tuple[Lanes, dict[int, float]]:
    """The quickest of some programs, and seconds a step of a point of each by width.

    Args:
      study: the study.
      configs: of every point of a group.
      at_once: how many calls will be made at the same time, and are while measuring.

    Returns:
      The `Lanes`, compiled, and what was measured; nothing of a study that gives `run` alone.
    """
    chosen = trace_lanes(study, configs, None, at_once)
    if study.run is not None:
        return chosen, {}
    base = chosen.width
    near = (max(base // FACTOR, 1), base * FACTOR)
    widths = {even_width(width, len(configs), at_once) for width in near}
    tried = {base: chosen}
    for width in sorted({1, *widths} - {base}):
        tried[width] = trace_lanes(study, configs, width)
    paces = {width: _seconds_per_step(lanes.compile(), configs, at_once) for width, lanes in tried.items()}
    return tried[min(paces, key=lambda width: paces[width])], dict(sorted(paces.items()))


def _seconds_per_step(lanes: Lanes, configs: Sequence[Any], at_once: int) -> float:
    spread = np.linspace(0, len(configs) - 1, lanes.width).astype(int)  # some end sooner than others
    some = [configs[place] for place in spread]
    with ThreadPoolExecutor(at_once) as pool:
        return float(np.mean(list(pool.map(lambda _: _pace(lanes, some), range(at_once)))))


def _pace(lanes: Lanes, configs: Sequence[Any]) -> float:
    with dtype_of(lanes.config):
        leaves, carry, n, pace = lanes.leaves(configs), lanes.blank, 1, np.inf
        carry, seen = jax.block_until_ready(lanes.program(leaves, carry, np.bool_(True), np.int32(n)))
        while True:
            before, began = np.sum(seen.num_steps), time.perf_counter()
            carry, seen = jax.block_until_ready(lanes.program(leaves, carry, np.bool_(False), np.int32(n)))
            took = time.perf_counter() - began
            steps = int(np.sum(seen.num_steps) - before)
            if not steps:  # all have ended
                return pace
            pace = took / steps
            if took > SECONDS / 2 or n >= LARGEST_CALL:
                return pace
            n = min(max(int(n * min(SECONDS / max(took, 1e-9), LARGEST_GROWTH)), n + 1), LARGEST_CALL)
