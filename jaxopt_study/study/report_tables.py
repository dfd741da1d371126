"""The tables of a report's page: how runs and points ended, points, Configs, environments."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.read_record import Record, as_table, finite
from jaxopt_study.study.report_data import LARGEST_TABLE, values_of
from jaxopt_study.study.report_text import as_text, counted, differences, median_of

GOOD = ("converged", "target reached")
BAD = ("non finite", "stalled", "rank deficient")


class Cell(NamedTuple):
    """What stands in a table: its text, what it is sorted by (None: the text), how it looks."""

    text: str
    sort: float | None = None
    look: str = ""


class Table(NamedTuple):
    """A table of the page."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    search: bool = False


def summaries(records: Sequence[Record]) -> Iterator[Table]:
    """How runs, and the points of sweeps, ended."""
    rows = []
    for record in records:
        for label, variant in record.table("variants").items():
            if isinstance(variant, Mapping):
                rows.append(_variant_row(record, label, variant, len(records) > 1))
    if rows:
        head = ["variant", "status", "steps", "value", "compile s", "run s", "dtype"]
        yield Table(
            ["run", *head] if len(records) > 1 else head, rows, "Runs", "Medians, where there are lanes."
        )
    for record in records:
        if record.is_sweep:
            statuses = record.table("counts").get("status")
            items = statuses.items() if isinstance(statuses, Mapping) else ()
            ended = [[_status(as_text(name)), _number(finite(count))] for name, count in items]
            if ended:
                which = f" of {record.name}" if len(records) > 1 else ""
                yield Table(["status", "points"], ended, f"How the points{which} ended")


def _variant_row(record: Record, label: str, variant: Mapping[str, Any], several: bool) -> list[Cell]:
    timing = as_table(variant.get("timing"))
    row = [
        Cell(str(label), None, "key"),
        _status(counted(variant.get("status"))),
        _number(median_of(variant.get("num_steps"))),
        _number(median_of(variant.get("value"))),
        _number(finite(timing.get("compile_seconds"))),
        _number(finite(timing.get("run_seconds"))),
        Cell(as_text(variant.get("dtype"))),
    ]
    return [Cell(record.name, None, "key"), *row] if several else row


def details(records: Sequence[Record]) -> Iterator[tuple[str, list[Table]]]:
    """What stands below the pictures: a heading, and its tables."""
    for record in records:
        if record.is_sweep:
            yield ("Points" if len(records) == 1 else f"Points of {record.name}"), [_points(record)]
    yield "Configs", list(_configs(records))
    yield "Environment", [_environment(records)]


def _points(record: Record) -> Table:
    table = record.points
    value = values_of(record)
    order = np.argsort(np.where(np.isfinite(value), value, np.inf), kind="stable")[:LARGEST_TABLE]
    hidden = {"group", "job"} | {name for name in ("lane", "variant") if _is_one(table, name)}
    names = [name for name in table.column_names if name not in hidden]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [[_cell(name, columns[name][row]) for name in names] for row in order]
    note = "The lowest values first; click on a column's name to sort."
    if len(value) > LARGEST_TABLE:
        note = f"The lowest {LARGEST_TABLE:,} of {len(value):,}; points.parquet has all."
    return Table(names, rows, "", note, search=True)


def _is_one(table: Any, name: str) -> bool:
    return name in table.column_names and len(table.column(name).unique()) <= 1


def _configs(records: Sequence[Record]) -> Iterator[Table]:
    configs = {
        (label if len(records) == 1 else f"{record.name}: {label}"): config
        for record in records
        for label, config in record.configs.items()
    }
    if not configs:
        return
    differing, same = differences(configs)
    if differing:
        rows = [
            [
                Cell(key, None, "key"),
                *(Cell(as_text(config.get(key)), None, "differs") for config in configs.values()),
            ]
            for key in differing
        ]
        yield Table(["key", *configs], rows, "What differs")
    if same:
        first = next(iter(configs.values()))
        rows = [[Cell(key, None, "key"), Cell(as_text(first.get(key)))] for key in same]
        yield Table(["key", "value"], rows, "What is the same" if len(configs) > 1 else "")


def _environment(records: Sequence[Record]) -> Table:
    found = {
        record.name: {"jaxopt_study": record.result.get("version"), **record.table("environment")}
        for record in records
    }
    keys = list(dict.fromkeys(key for each in found.values() for key in each))
    rows = []
    for key in keys:
        texts = [as_text(each.get(key)) for each in found.values()]
        look = "differs" if len(set(texts)) > 1 else ""
        rows.append([Cell(key, None, "key"), *(Cell(text, None, look) for text in texts)])
    return Table(["", *found] if len(found) > 1 else ["name", "value"], rows)


def _status(text: str) -> Cell:
    words = text.lower().replace("_", " ")
    look = (
        "bad" if any(bad in words for bad in BAD) else "good" if any(good in words for good in GOOD) else ""
    )
    return Cell(words, None, look)


def _number(value: float) -> Cell:
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return Cell(f"{int(value):,}" if whole else f"{value:.6g}", value, "n")


def _cell(name: str, value: Any) -> Cell:
    if name == "status":
        return _status(as_text(value))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(as_text(value))
    return Cell(as_text(value), float(value), "n")
