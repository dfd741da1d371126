"""The folder of a sweep: a Parquet file a job, the tables that join them, result.json.

The format is told in docs/studies.md. Every file appears whole or not at all; a job is done when
its points are there.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study import record
from jaxopt_study.study.job_tables import column_of, concat, points_table, trace_table
from jaxopt_study.study.plan import Job, Point
from jaxopt_study.study.protocol import Outcome, StudyInputError


def job_path(folder: Path, number: int) -> Path:
    """Where the points of a job are, once it is done."""
    return folder / "jobs" / f"{number:05d}.parquet"


def done_jobs(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    """The jobs whose points are there."""
    return [job for job in jobs if job_path(folder, job.number).exists()]


def write_job(
    folder: Path,
    job: Job,
    points: Sequence[Point],
    outcomes: Sequence[Outcome],
    types: Mapping[str, Any],
    trace: int,
    extra: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Write a job's rows: traces first, since the points say that it is done.

    Args:
      folder: the sweep's.
      job: the job.
      points: its points.
      outcomes: theirs.
      types: the Arrow type of every swept key, the same in all jobs.
      trace: how many steps of each trace to keep.
      extra: further columns, one entry a point.
    """
    import pyarrow.parquet as pq

    # A search runs points of several groups in one job: each has columns and lanes of its own.
    alike: dict[Any, list[int]] = {}
    for at, outcome in enumerate(outcomes):
        alike.setdefault(_shapes(outcome), []).append(at)
    parts = [([points[at] for at in places], [outcomes[at] for at in places]) for places in alike.values()]

    def write(path: Path, tables: Sequence[Any]) -> None:
        table = concat(tables)
        record.atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))

    if trace and any(outcome.traces for outcome in outcomes):
        tables = [trace_table(*part, trace) for part in parts if part[1][0].traces]
        write(job_path(folder, job.number).with_suffix(".trace.parquet"), tables)
    columns = [
        {name: [column[at] for at in places] for name, column in (extra or {}).items()}
        for places in alike.values()
    ]
    write(
        job_path(folder, job.number),
        [points_table(job, *part, types, more) for part, more in zip(parts, columns, strict=True)],
    )


def _shapes(outcome: Outcome) -> tuple[Any, ...]:
    values = tuple((name, np.shape(array)) for name, array in outcome.values.items())
    return np.shape(outcome.status), values, tuple(outcome.traces)


def medians(path: Path) -> list[float]:
    """The value of each point of a job's record, in order; of several lanes, the median."""
    table = _read(path)
    point, value = np.asarray(table["point"]), np.asarray(table["value"], float)
    return [
        float(np.median(np.where(np.isfinite(v), v, np.inf)))
        for v in (value[point == p] for p in np.unique(point))
    ]


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        what = "delete it, and `jaxopt-study resume` runs the job again"
        raise StudyInputError(f"{path}: is no job's record ({first}); {what}") from None


def join(folder: Path) -> Any:
    """Join what jobs have written: `points.parquet`, and `trace.parquet` where there are traces.

    Returns:
      The points, an Arrow table; None where no job is done.

    Raises:
      StudyInputError: a file is not what a job writes.
    """
    import pyarrow.parquet as pq

    def read(paths: Sequence[Path], order: Sequence[str]) -> Any:
        table = concat([_read(path) for path in paths])
        return table.sort_by([(name, "ascending") for name in order])

    def write(name: str, table: Any) -> None:
        record.atomic_write(folder / name, lambda file: pq.write_table(table, file, compression="zstd"))

    paths = sorted((folder / "jobs").glob("[0-9]*.parquet"))
    points = [path for path in paths if not path.name.endswith(".trace.parquet")]
    if not points:
        return None
    there = {path.name for path in paths}
    traces = [path.with_suffix(".trace.parquet") for path in points]
    traces = [path for path in traces if path.name in there]
    if traces:
        write("trace.parquet", read(traces, ("point", "lane", "step")))
    table = read(points, ("point", "lane"))
    write("points.parquet", table)
    return table


def count_statuses(table: Any) -> dict[str, int]:
    """How many rows ended how, the most frequent first."""
    return dict(Counter(table["status"].to_pylist()).most_common())


def best_point(table: Any, keys: Sequence[str]) -> dict[str, Any] | None:
    """The row with the lowest value, or None if no value is finite."""
    values = table["value"].to_numpy(zero_copy_only=False).astype(float)
    values = np.where(np.isfinite(values), values, np.inf)
    if not len(values) or np.isinf(values.min()):
        return None
    row = table.slice(int(values.argmin()), 1).to_pylist()[0]
    config = {key: row[column_of(key)] for key in keys}
    return {"point": row["point"], "variant": row["variant"], "config": config, "value": row["value"]}


def write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write `plan.json`: the widths of the groups, and what must not change until the sweep is whole."""
    text = json.dumps(plan, indent=2) + "\n"
    record.atomic_write(folder / "plan.json", lambda file: file.write(text.encode()))


def read_plan(folder: Path) -> dict[str, Any]:
    """What `write_plan` wrote."""
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        widths = plan["widths"]
        if not isinstance(widths, list) or not all(type(width) is int and width > 0 for width in widths):
            raise ValueError("widths")
    except FileNotFoundError:
        raise StudyInputError(f"{folder}: is not a sweep's folder: no plan.json") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyInputError(f"{folder}/plan.json: cannot be read: {error}") from None
    return plan
