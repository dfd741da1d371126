"""Outcomes as tables: a row a point and lane, a row a kept step, in types that all jobs of a sweep share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study import record
from jaxopt_study.study.axes import Sweep
from jaxopt_study.study.plan import Job, Point
from jaxopt_study.study.protocol import Outcome

# Columns of `points.parquet` that are no axis and no value.
FIXED = ("point", "variant", "lane", "status", "num_steps", "value", "group", "job")


def column_of(key: str) -> str:
    """The column of a swept key.

    >>> column_of("learning_rate"), column_of("value")
    ('learning_rate', 'config.value')
    """
    return f"config.{key}" if key in FIXED else key


def trace_table(points: Sequence[Point], outcomes: Sequence[Outcome], trace: int) -> Any:
    """The traces of some points, of each at most `trace` steps."""
    import pyarrow as pa

    rows = [_thinned(point, outcome, trace) for point, outcome in zip(points, outcomes, strict=True)]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    columns["variant"] = pa.array(columns["variant"], pa.string()).dictionary_encode()
    return pa.table(columns)


def points_table(
    job: Job,
    points: Sequence[Point],
    outcomes: Sequence[Outcome],
    types: Mapping[str, Any],
    extra: Mapping[str, Sequence[Any]],
) -> Any:
    """Points of a job whose outcomes have the same shapes; see `sweep_record.write_job` for the arguments."""
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
