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
from jaxopt_study.study.axes import Sweep
from jaxopt_study.study.plan import Job, Point
from jaxopt_study.study.protocol import Outcome, StudyInputError

# Columns of `points.parquet` that are no axis and no value.
FIXED = ("point", "variant", "lane", "status", "num_steps", "value", "group", "job")


def column_of(key: str) -> str:
    """The column of a swept key.

    >>> column_of("learning_rate"), column_of("value")
    ('learning_rate', 'config.value')
    """
    return f"config.{key}" if key in FIXED else key


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
        tables = [_trace_table(*part, trace) for part in parts if part[1][0].traces]
        write(job_path(folder, job.number).with_suffix(".trace.parquet"), tables)
    columns = [
        {name: [column[at] for at in places] for name, column in (extra or {}).items()}
        for places in alike.values()
    ]
    write(
        job_path(folder, job.number),
        [_points_table(job, *part, types, more) for part, more in zip(parts, columns, strict=True)],
    )


def _shapes(outcome: Outcome) -> tuple[Any, ...]:
    values = tuple((name, np.shape(array)) for name, array in outcome.values.items())
    return np.shape(outcome.status), values, tuple(outcome.traces)


def _trace_table(points: Sequence[Point], outcomes: Sequence[Outcome], trace: int) -> Any:
    import pyarrow as pa

    rows = [_thinned(point, outcome, trace) for point, outcome in zip(points, outcomes, strict=True)]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    columns["variant"] = pa.array(columns["variant"], pa.string()).dictionary_encode()
    return pa.table(columns)


def _points_table(
    job: Job,
    points: Sequence[Point],
    outcomes: Sequence[Outcome],
    types: Mapping[str, Any],
    extra: Mapping[str, Sequence[Any]],
) -> Any:
    import pyarrow as pa

    lanes = int(np.prod(outcomes[0].status.shape, dtype=int))

    def per_point(values: Sequence[Any], kind: Any = None) -> Any:
        return pa.array([value for value in values for _ in range(lanes)], kind)

    table = {
        "point": per_point([point.index for point in points], pa.int32()),
        "variant": per_point([point.variant for point in points], pa.string()).dictionary_encode(),
        "lane": pa.array(np.tile(np.arange(lanes, dtype=np.int32), len(points))),
    }
    for key, kind in types.items():
        values = [_plain(point.values[key]) for point in points]
        if kind == pa.string():  # of an axis whose values have no type in common, too
            values = [value if value is None else str(value) for value in values]
        table[column_of(key)] = per_point(values, kind)
    status = np.stack([record.status_names(outcome.status).reshape(lanes) for outcome in outcomes])
    table["status"] = pa.array(status.ravel().tolist(), pa.string()).dictionary_encode()
    table["num_steps"] = pa.array(np.ravel([outcome.num_steps for outcome in outcomes]).astype(np.int32))
    table["value"] = pa.array(np.ravel([outcome.value for outcome in outcomes]))
    for name in outcomes[0].values:
        arrays = [np.asarray(outcome.values[name]) for outcome in outcomes]
        table[f"values.{name}"] = _value_column(arrays, outcomes[0].status.shape)
    table["group"] = pa.array(np.full(len(table["point"]), job.group, np.int32))
    table["job"] = pa.array(np.full(len(table["point"]), job.number, np.int32))
    for name, column in extra.items():
        table[name] = per_point(column)
    return pa.table(table)


def concat(tables: Sequence[Any]) -> Any:
    """Tables below each other; a value that has a shape in one and none in another is a list in both."""
    import pyarrow as pa

    kinds: dict[str, set[bool]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(pa.types.is_list(field.type))
    mixed = [name for name, seen in kinds.items() if len(seen) > 1]
    alike = []
    for table in tables:
        for name in mixed:
            at = table.schema.get_field_index(name)
            if at >= 0 and not pa.types.is_list(table.schema.field(at).type):
                column = table[name].combine_chunks()
                lists = pa.ListArray.from_arrays(np.arange(len(column) + 1, dtype=np.int32), column)
                table = table.set_column(at, name, lists)
        alike.append(table)
    if len(alike) == 1:
        return alike[0]
    return pa.concat_tables(alike, promote_options="permissive").unify_dictionaries()


def axis_types(sweep: Sweep) -> dict[str, Any]:
    """The Arrow type of every swept key, from all values of its axis."""
    import pyarrow as pa

    types = {}
    for axis in sweep.axes:
        try:
            types[axis.key] = pa.array([_plain(value) for value in axis.values or ()]).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            types[axis.key] = pa.string()
    return types


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
        raise StudyInputError(f"{path}: is no job's record: {error}") from None


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


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _value_column(arrays: Sequence[np.ndarray], lanes: tuple[int, ...]) -> Any:
    """A value of every lane, or, where it has none, of every point, repeated; lists of what has a shape."""
    import pyarrow as pa

    shape, count = arrays[0].shape, int(np.prod(lanes, dtype=int))
    if shape[: len(lanes)] == lanes:
        rows = np.stack(arrays).reshape(len(arrays) * count, -1)
        scalar = shape == lanes
    else:
        rows = np.repeat(np.stack(arrays).reshape(len(arrays), -1), count, axis=0)
        scalar = shape == ()
    return pa.array(rows[:, 0]) if scalar else pa.array(list(rows))


def _thinned(point: Point, outcome: Outcome, count: int) -> dict[str, np.ndarray]:
    """Rows of a point's traces: of each, at most `count` of the steps at which it was taken."""
    traces = {name: np.asarray(array) for name, array in outcome.traces.items()}
    traces = {name: array.reshape(-1, array.shape[-1]) for name, array in traces.items()}
    num_steps = np.ravel(outcome.num_steps)
    lanes, steps = [], []
    for lane, last in enumerate(num_steps):
        kept: set[int] = set()
        for array in traces.values():
            known = np.ones(array.shape[1], bool)
            if np.issubdtype(array.dtype, np.floating):
                known = ~np.isnan(array[lane])
            known &= np.arange(len(known)) <= max(int(last), 0)
            there = np.flatnonzero(known)
            if int(last) < len(known):
                there = np.union1d(there, [int(last)])  # a value that is not a number ended it
            picks = np.unique(np.linspace(0, len(there) - 1, min(count, len(there))).round().astype(int))
            kept |= set(there[picks].tolist()) if len(there) else set()
        lanes += [lane] * len(kept)
        steps += sorted(kept)
    lane_index, step_index = np.array(lanes, np.int32), np.array(steps, np.int32)
    return {
        "point": np.full(len(lane_index), point.index, np.int32),
        "variant": np.full(len(lane_index), point.variant, object),
        "lane": lane_index,
        "step": step_index,
        **{name: array[lane_index, step_index] for name, array in traces.items()},
    }
