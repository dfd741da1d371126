"""A sweep of 1,200 trainings against one process a point, one point at a time, and all of a program at once.

3 widths of a network × 20 learning rates × 20 seeds, 1,000 Adam steps each, from a checkout of the project
(`configs/rosenbrock_network_sweep.toml`). Seconds are from the first trace to the last number, so compiling
is in them. Processes are measured on 20 of the points.
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
from jaxopt_study.bench.new_process import environment
from jaxopt_study.bench.timer import Long
from jaxopt_study.study.lanes import Stopped, trace_lanes
from jaxopt_study.study.plan import Point
from jaxopt_study.study.planned import Planned, read_planned
from jaxopt_study.study.sweep import run_sweep

CONFIG = Path(__file__).parents[3] / "configs" / "rosenbrock_network_sweep.toml"
PROCESSES = 20
PLAIN = "one at a time"
END_EARLY = (PLAIN, "all at once")
Enough = Callable[[], bool]
Work = Callable[[Enough], Sequence[float]]  # the values of all points, or of the first ones


def _case(wanted: Callable[[str], bool]) -> Case:
    """Errors are by the values of the plain loop, or of the sweep where that is left out or has none."""
    del wanted
    folder = tempfile.TemporaryDirectory()
    home, planned = Path(folder.name), read_planned(CONFIG)
    imports = "import jaxopt_study.cli, jaxopt_study.study.run"
    subprocess.run([sys.executable, "-c", imports], check=True, env=environment(home / "bytecode"))
    some = planned.points[:: len(planned.points) // PROCESSES - 1][:PROCESSES]  # of many seeds
    found: dict[str, dict[int, float]] = {}

    def contestant(name: str, work: Work, words: str, points: Sequence[Point]) -> Contestant:
        def remembered(enough: Enough) -> dict[int, float]:
            found[name] = dict(zip(_indices(points), work(enough), strict=False))  # fewer, if that is enough
            return found[name]

        def error(values: dict[int, float]) -> float:  # asked for when all is done
            return _error(found.get(PLAIN) or found[OURS], values)

        whole = functools.partial(remembered, lambda: False)
        return Contestant(Long(remembered) if name in END_EARLY else whole, error, words, len(points))

    run = f"jaxopt-study run, {PROCESSES} points, as many at a time as there are cores"
    one_by_one, together = (functools.partial(_plainly, planned, width) for width in (1, None))
    ways: dict[str, tuple[Work, str, Sequence[Point]]] = {
        OURS: (lambda _: _sweep(planned, home), "jaxopt-study sweep, its record too", planned.points),
        PLAIN: (one_by_one, "in one process, a program a width, nothing written", planned.points),
        "all at once": (together, "a vmap a width, nothing written", planned.points),
        "a process a point": (lambda _: _processes(planned, some, home, cached=False), run, some),
        "a process a point, programs kept": (
            lambda _: _processes(planned, some, home, cached=True),
            f"{run}, with the compiled programs of earlier processes",
            some,
        ),
    }
    contestants = {name: contestant(name, *way) for name, way in ways.items()}
    return Case("point", contestants, most_error=1e-3, rounds=1, cold=True, keep=folder)


def _indices(points: Sequence[Point]) -> list[int]:
    return [point.index for point in points]


def _error(reference: dict[int, float], found: dict[int, float]) -> float:
    """The relative difference to the reference's values that 95 % of the points known to both stay below.

    Not the largest: the highest rates train chaotically, and a sum in another order is then another path.
    Infinite where a point failed in one and not in the other; 0 where nothing else is known to both.
    """
    both = sorted(reference.keys() & found.keys())
    known, values = (np.array([of[index] for index in both]) for of in (reference, found))
    finite = np.isfinite(known)
    if np.any(finite != np.isfinite(values)):
        return float("inf")
    if not np.any(finite):
        return 0.0
    return float(np.quantile(np.abs(values - known)[finite] / np.abs(known)[finite], 0.95))


def _sweep(planned: Planned, home: Path) -> list[float]:
    import pyarrow.parquet as pq

    jax.clear_caches()
    report = run_sweep(planned, home, quiet=True)
    table = pq.read_table(report.folder / "points.parquet", columns=["point", "value"]).to_pydict()
    values = dict(zip(table["point"], np.array(table["value"], float).tolist(), strict=True))
    return [values[index] for index in _indices(planned.points)]


def _plainly(planned: Planned, width: int | None, enough: Enough) -> list[float]:
    """All points in one thread, `width` at a time; all of a group where that is None. Nothing is written."""
    jax.clear_caches()
    values: list[float] = []
    for group in planned.groups:
        configs = [point.config for point in group]
        lanes = trace_lanes(planned.study, configs, width or len(configs)).compile()
        try:
            values += [float(np.ravel(outcome.value)[0]) for outcome in lanes.run(configs, enough)]
        except Stopped:  # those of this group that are done are not known
            break
    return values


def _processes(planned: Planned, points: Sequence[Point], home: Path, cached: bool) -> list[float]:
    """A process a point, as many at a time as there are cores."""
    import tomli_w

    def run(point: Point) -> float:
        values = {field.name: getattr(point.config, field.name) for field in dataclasses.fields(point.config)}
        with tempfile.TemporaryDirectory(dir=home) as folder:
            path = Path(folder) / "point.toml"
            path.write_text(tomli_w.dumps({"study": str(planned.study.path), "config": values}))
            words = ["run", str(path), "--quiet", "--no-plots", "--out", folder]
            kept = environment(home / "bytecode", home / "cache" if cached else folder)
            command = [sys.executable, "-m", "jaxopt_study.cli", *words]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=kept)
            told = json.loads((Path(done.stdout.strip()) / "result.json").read_text())
            (variant,) = told["variants"].values()
            return float(np.ravel(variant["value"])[0])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(run, points))


def cases() -> tuple[PlannedCase, ...]:
    """The comparisons of this module; none where it is installed without its config."""
    if not CONFIG.is_file():
        return ()
    return (
        PlannedCase(
            "1,200 trainings",
            _case,
            claim={PLAIN: 1.0, "all at once": 1.0, "a process a point": 30.0},
        ),
    )
