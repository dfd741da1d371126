"""A sweep against its alternatives: one process a point, one point at a time, all points at once.

    python -m jaxopt_study.bench.suites.sweeps configs/rosenbrock_network_sweep.toml

All do the same trainings. Seconds are from the first trace to the last number, so compiling is in
them; the processes are measured on some of the points and extrapolated.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import tomli_w

from jaxopt_study.study import sweep_record
from jaxopt_study.study.lanes import trace_lanes
from jaxopt_study.study.plan import Job
from jaxopt_study.study.planned import Planned, read_planned
from jaxopt_study.study.sweep import run_sweep
from jaxopt_study.study.sweep_folder import join_record, start_record

WAYS = ("sweep", "one_at_a_time", "all_at_once")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Seconds of the whole sweep, by how it was run."""

    sweep: list[float]
    one_at_a_time: list[float]
    all_at_once: list[float]
    processes: float


def measure(config: Path, repeats: int, processes: int, chosen: Sequence[str] = WAYS) -> Measured:
    """Measure all ways, interleaved.

    Args:
      config: a TOML with a sweep.
      repeats: how often.
      processes: how many points to give a process of their own, as many at a time as there are
        cores; 0 to leave them out.
      chosen: which of the other ways to measure.
    """
    planned = read_planned(config)
    ways: dict[str, list[float]] = {name: [] for name in WAYS}
    works = {
        "sweep": lambda folder: run_sweep(planned, folder, quiet=True),
        "one_at_a_time": lambda folder: _plainly(planned, 1, folder),
        "all_at_once": lambda folder: _plainly(planned, None, folder),
    }
    with tempfile.TemporaryDirectory() as folder:  # what is imported and asked for once
        warm = dataclasses.replace(planned, groups=[group[:2] for group in planned.groups[:1]])
        run_sweep(warm, folder, quiet=True)
    for _ in range(repeats):
        for name, work in works.items():
            if name in chosen:
                with tempfile.TemporaryDirectory() as folder:
                    ways[name].append(_seconds(lambda work=work, folder=folder: work(folder)))
    return Measured(**ways, processes=_processes(planned, processes))


def _seconds(work: object) -> float:
    jax.clear_caches()
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - began


def _plainly(planned: Planned, width: int | None, out_root: str) -> None:
    """All points in one thread, `width` at a time, all of a group where that is None; with its record."""
    began = time.perf_counter()
    widths = [width or len(group) for group in planned.groups]
    folder = start_record(planned, Path(out_root), widths)
    jobs, groups = [], []
    for number, group in enumerate(planned.groups):
        configs = [point.config for point in group]
        lanes = trace_lanes(planned.study, configs, widths[number]).compile()
        jobs.append(Job(number, number, range(len(group))))
        outcomes = lanes.run(configs, lambda: False)
        types = sweep_record.axis_types(planned.sweep)
        sweep_record.write_job(folder, jobs[-1], group, outcomes, types, planned.sweep.trace)
        seconds = {"compile_seconds": lanes.compile_seconds, "run_seconds": 0.0}
        groups.append({"width": widths[number], "timing": seconds})
    timing = {"groups": groups, "wall_seconds": time.perf_counter() - began}
    join_record(planned, folder, jobs, timing, False)


def _processes(planned: Planned, count: int) -> float:
    """Seconds of a process a point, as many at a time as there are cores, for all points."""
    if not count:
        return float("nan")
    points = planned.points[:: max(len(planned.points) // count, 1)][:count]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores) as pool:

        def run(point: object) -> None:
            values = {
                field.name: getattr(point.config, field.name)  # type: ignore[attr-defined]
                for field in dataclasses.fields(point.config)  # type: ignore[attr-defined]
            }
            path = Path(folder) / f"{point.index}.toml"  # type: ignore[attr-defined]
            path.write_text(tomli_w.dumps({"study": str(planned.study.path), "config": values}))
            words = ["run", str(path), "--quiet", "--no-plots", "--out", str(Path(folder) / path.stem)]
            subprocess.run(
                [sys.executable, "-m", "jaxopt_study.cli", *words], check=True, capture_output=True
            )

        began = time.perf_counter()
        list(pool.map(run, points))
        return (time.perf_counter() - began) / len(points) * len(planned.points)


def main() -> None:
    """Measure, and print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    words = parser.parse_args()
    measured = measure(words.config, words.repeats, words.processes, words.ways)
    ours = statistics.median(measured.sweep or [float("nan")])
    print(f"{'':24} seconds   against the sweep")
    for name in words.ways:
        times = getattr(measured, name)
        print(
            f"{name:24} {statistics.median(times):7.2f}   {statistics.median(times) / ours:7.2f}x   {times}"
        )
    print(f"{'a process a point':24} {measured.processes:7.0f}   {measured.processes / ours:7.1f}x")


if __name__ == "__main__":
    main()
