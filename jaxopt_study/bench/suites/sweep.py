"""A sweep of 1,200 trainings against one process a point, one point at a time, and all of a program at once.

3 widths of a network × 20 learning rates × 20 seeds, 1,000 Adam steps each, from a checkout of the project
(`configs/rosenbrock_network_sweep.toml`). Seconds are from the first trace to the last number, so compiling
is in them. Processes are measured on 20 of the points. The three ways in one process are also compared on 200
points of one width, in a sixth of the time: what is claimed of them is claimed there.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
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
WIDTH, SEEDS = [10], 10


def _whole_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    folder = tempfile.TemporaryDirectory()
    home, planned = Path(folder.name), read_planned(CONFIG)
    some = planned.points[:: len(planned.points) // PROCESSES - 1][:PROCESSES]  # of many seeds
    words = f"jaxopt-study run, {PROCESSES} points, as many at a time as there are cores"
    contestants, contestant = _in_one_process(planned, home)
    contestants["a process a point"] = contestant(
        lambda: _processes(planned, some, home, cached=False), words, some
    )
    contestants["a process a point, programs kept"] = contestant(
        lambda: _processes(planned, some, home, cached=True),
        "the same, with the compiled programs of earlier processes",
        some,
    )
    return Case("point", contestants, most_error=1e-3, rounds=1, cold=True, keep=folder)


def _part_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    import tomli_w

    folder = tempfile.TemporaryDirectory()
    home = Path(folder.name)
    table = tomllib.loads(CONFIG.read_text())
    table["study"] = str((CONFIG.parent / table["study"]).resolve())
    table["sweep"]["axes"] |= {"hidden": [WIDTH], "seed": {"range": [0, SEEDS]}}
    (home / "one_width.toml").write_text(tomli_w.dumps(table))
    contestants, _ = _in_one_process(read_planned(home / "one_width.toml"), home)
    return Case("point", contestants, most_error=1e-3, rounds=1, cold=True, keep=folder)


def _in_one_process(planned: Planned, home: Path) -> tuple[dict[str, Contestant], Callable[..., Contestant]]:
    """Three ways through all points, and what makes a contestant of another.

    Errors are those by the plain loop's values, or, where it is left out, by the sweep's.
    """
    found: dict[str, dict[int, float]] = {}

    def remembered(name: str, work: Callable[[], np.ndarray]) -> np.ndarray:
        values = work()
        found[name] = dict(zip(_indices(planned.points), values, strict=True))
        return values

    def error(points: Sequence[Point], values: np.ndarray) -> float:  # asked for when all is done
        return _error(found.get("one at a time") or found[OURS], points, values)

    def contestant(work: Callable[[], np.ndarray], words: str, points: Sequence[Point]) -> Contestant:
        return Contestant(work, functools.partial(error, points), words, len(points))

    ways: dict[str, tuple[Callable[[], np.ndarray], str]] = {
        OURS: (lambda: _sweep(planned, home), "jaxopt-study sweep, its record too"),
        "one at a time": (lambda: _plainly(planned, 1), "in one process, a program a width, nothing written"),
        "all at once": (lambda: _plainly(planned, None), "a vmap a width, nothing written"),
    }
    made = {
        name: contestant(functools.partial(remembered, name, work), words, planned.points)
        for name, (work, words) in ways.items()
    }
    return made, contestant


def _indices(points: Sequence[Point]) -> list[int]:
    return [point.index for point in points]


def _error(reference: dict[int, float], points: Sequence[Point], values: np.ndarray) -> float:
    """The relative difference to the reference's values that 95 % of the points stay below.

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
    """The comparisons of this module; none where it is installed without its config."""
    if not CONFIG.is_file():
        return ()
    return (
        PlannedCase("1,200 trainings", _whole_case, claim={"a process a point": 30.0}),
        PlannedCase(
            "200 trainings of one program", _part_case, claim={"one at a time": 1.0, "all at once": 1.0}
        ),
    )
