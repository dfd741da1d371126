"""A sweep of 1,200 trainings against one process a point, one point at a time, and all points at once.

3 widths of a network × 20 learning rates × 20 seeds, 1,000 Adam steps each, from a checkout of the project
(`configs/rosenbrock_network_sweep.toml`). Seconds are from the first trace to the last number, so compiling
is in them; the processes are measured on some of the points.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from jaxopt_study.bench.case import OURS, Case, Contestant
from jaxopt_study.bench.case import Planned as PlannedCase
from jaxopt_study.study.lanes import trace_lanes
from jaxopt_study.study.plan import Point
from jaxopt_study.study.planned import Planned, read_planned
from jaxopt_study.study.sweep import run_sweep

CONFIG = Path(__file__).parents[3] / "configs" / "rosenbrock_network_sweep.toml"
PROCESSES = 20


def _case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    planned = read_planned(CONFIG)
    folder = tempfile.TemporaryDirectory()
    home = Path(folder.name)
    some = planned.points[:: len(planned.points) // PROCESSES][:PROCESSES]

    def contestant(work: Callable[[], np.ndarray], points: Sequence[Point], words: str) -> Contestant:
        return Contestant(work, functools.partial(_error, reference, points), words, len(points))

    reference: dict[int, float] = {}

    def one_at_a_time() -> np.ndarray:
        values = _plainly(planned, 1)
        reference.update(
            zip(_indices(planned.points), values, strict=True)
        )  # errors are asked for afterwards
        return values

    contestants = {
        OURS: contestant(lambda: _sweep(planned, home), planned.points, "jaxopt-study sweep, its record too"),
        "one at a time": contestant(
            one_at_a_time, planned.points, "in one process, three programs, nothing written"
        ),
        "all at once": contestant(
            lambda: _plainly(planned, None), planned.points, "one vmap a program, nothing written"
        ),
        "a process a point": contestant(
            lambda: _processes(planned, some, home, cached=False),
            some,
            f"jaxopt-study run, {PROCESSES} points, as many at a time as there are cores",
        ),
        "a process a point, programs kept": contestant(
            lambda: _processes(planned, some, home, cached=True),
            some,
            "the same, with the compiled programs of earlier processes",
        ),
    }
    return Case("point", contestants, most_error=1e-3, rounds=1, cold=True, keep=folder)


def _indices(points: Sequence[Point]) -> list[int]:
    return [point.index for point in points]


def _error(reference: dict[int, float], points: Sequence[Point], values: np.ndarray) -> float:
    """The relative difference to one point at a time that 95 % of the points stay below.

    Not the largest: the highest rates train chaotically, and a sum in another order is then another path.
    Infinite where a point failed in one and not in the other.
    """
    known = np.array([reference[index] for index in _indices(points)])
    both = np.isfinite(known) & np.isfinite(values)
    if np.any(np.isfinite(known) != np.isfinite(values)):
        return float("inf")
    return float(np.quantile(np.abs(values - known)[both] / np.abs(known)[both], 0.95))


def _sweep(planned: Planned, home: Path) -> np.ndarray:
    import pyarrow.parquet as pq

    jax.clear_caches()
    report = run_sweep(planned, home, quiet=True)
    table = pq.read_table(report.folder / "points.parquet", columns=["point", "value"]).to_pydict()
    values = dict(zip(table["point"], table["value"], strict=True))
    return np.array([values[index] for index in _indices(planned.points)], float)


def _plainly(planned: Planned, width: int | None) -> np.ndarray:
    """All points in one thread, `width` at a time; all of a group where that is None. Nothing is written."""
    jax.clear_caches()
    values = []
    for group in planned.groups:
        configs = [point.config for point in group]
        lanes = trace_lanes(planned.study, configs, width or len(configs)).compile()
        values += [np.ravel(outcome.value)[0] for outcome in lanes.run(configs, lambda: False)]
    return np.array(values, float)


def _processes(planned: Planned, points: Sequence[Point], home: Path, cached: bool) -> np.ndarray:
    """A process a point, as many at a time as there are cores."""
    import tomli_w

    def run(point: Point) -> float:
        values = {field.name: getattr(point.config, field.name) for field in dataclasses.fields(point.config)}
        with tempfile.TemporaryDirectory(dir=home) as folder:
            path = Path(folder) / "point.toml"
            path.write_text(tomli_w.dumps({"study": str(planned.study.path), "config": values}))
            words = ["run", str(path), "--quiet", "--no-plots", "--out", folder]
            kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMP")}
            kept["XDG_CACHE_HOME"] = str(home / "cache") if cached else folder
            command = [sys.executable, "-m", "jaxopt_study.cli", *words]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=kept)
            told = json.loads((Path(done.stdout.strip()) / "result.json").read_text())
            (variant,) = told["variants"].values()
            return float(np.ravel(variant["value"])[0])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return np.array(list(pool.map(run, points)))


def cases() -> tuple[PlannedCase, ...]:
    """The comparisons of this module; none where it is installed without its configs."""
    if not CONFIG.is_file():
        return ()
    claim = {"a process a point": 30.0, "one at a time": 1.0, "all at once": 1.0}
    return (PlannedCase("1,200 trainings", _case, claim=claim),)
