"""`jaxopt-study query "SELECT ..."`: all records under a folder, as tables of DuckDB.

Records are read, never written: the database is in memory, and once the tables are there, files and the
network are out of its reach.
"""

import decimal
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.read_record import Record, as_table, find_records, finite, read_record
from jaxopt_study.study.record import to_json
from jaxopt_study.study.report_text import as_text, counted, median_of


def query(sql: str, root: Path | str = "runs", form: str = "table") -> None:
    """Print the answer to a query.

    Args:
      sql: one SELECT, of the tables `runs`, `points`, `traces`, `configs`.
      root: the folder under which records are looked for.
      form: `"table"`, `"csv"` or `"json"`.

    Raises:
      StudyInputError: DuckDB is not installed, there are no records that can be read, or the query is
        wrong; the message is DuckDB's first line.
    """
    names, rows = answer(sql, root, tell=lambda line: print(line, file=sys.stderr))
    if form == "csv":
        _print_csv(names, rows)
    elif form == "json":
        strict = to_json([dict(zip(names, row, strict=True)) for row in rows])
        print(json.dumps(strict, indent=2, default=_plain_json, allow_nan=False))
    else:
        _print_table(names, rows)


def answer(
    sql: str, root: Path | str = "runs", tell: Callable[[str], None] = lambda line: None
) -> tuple[list[str], list[tuple]]:
    """The names of the columns of an answer, and its rows; see `query`.

    A record that cannot be read is left out, and `tell` called with a line that names the file: one that
    is damaged is not to hide the others.
    """
    if importlib.util.find_spec("duckdb") is None:
        raise StudyInputError('query: DuckDB is not installed: pip install "jaxopt_study[query]"')
    import duckdb

    records = _readable(find_records(root), tell)
    if not records:
        raise StudyInputError(f"{root}: there are no records that can be read")
    try:
        with duckdb.connect(":memory:") as database:
            for name, table in tables(records).items():
                database.register(f"_{name}", table)
                database.execute(f"CREATE TABLE {name} AS SELECT * FROM _{name}")
                database.unregister(f"_{name}")
            database.execute("SET enable_external_access = false")
            database.execute("SET lock_configuration = true")
            found = database.execute(sql)
            if found is None or found.description is None:
                raise StudyInputError("query: there is nothing to be done in it; write a SELECT")
            return [column[0] for column in found.description], found.fetchall()
    except StudyInputError:
        raise
    except (duckdb.Error, ValueError, RuntimeError) as error:
        raise StudyInputError(f"query: {_first_line(error)}") from None


def _readable(folders: Sequence[Path], tell: Callable[[str], None]) -> list[Record]:
    records = []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except StudyInputError as error:
            tell(f"jaxopt-study: {error}; left out")
    return records


def tables(records: Sequence[Record]) -> dict[str, Any]:
    """The tables of a query as pyarrow's, empty where no record has anything for them."""
    import pyarrow as pa

    runs = [row for record in records for row in _runs(record)]
    configs = [
        {"run": record.name, "variant": label, "key": key, "value": as_text(value)}
        for record in records
        for label, config in record.configs.items()
        for key, value in config.items()
    ]
    words = {"run": pa.string(), "variant": pa.string()}
    return {
        "runs": _from_rows(
            runs, {**words, "study": pa.string(), "status": pa.string(), "value": pa.float64()}
        ),
        "configs": _from_rows(configs, {**words, "key": pa.string(), "value": pa.string()}),
        "points": _joined(
            [(record.name, record.points) for record in records], {**words, "point": pa.int32()}
        ),
        "traces": _joined([(record.name, record.trace) for record in records], {**words, "step": pa.int32()}),
    }


def _runs(record: Record) -> list[dict[str, Any]]:
    environment = record.table("environment")
    common = {
        "run": record.name,
        "folder": str(record.folder),
        "study": as_text(record.result.get("study")),
        "created": as_text(record.result.get("created")),
        "interrupted": record.result.get("interrupted") is True,
    }
    rows = []
    for label, variant in record.table("variants").items():
        if not isinstance(variant, Mapping):
            continue
        timing = as_table(variant.get("timing"))
        values = as_table(variant.get("values"))
        rows.append(
            {
                **common,
                "variant": str(label),
                "status": counted(variant.get("status")),
                "num_steps": median_of(variant.get("num_steps")),
                "value": median_of(variant.get("value")),
                "compile_seconds": finite(timing.get("compile_seconds")),
                "run_seconds": finite(timing.get("run_seconds")),
                "dtype": as_text(variant.get("dtype")),
                **{f"values.{name}": median_of(value) for name, value in values.items()},
                "device": as_text(environment.get("device_kind")),
                "git_revision": as_text(environment.get("git_revision")),
            }
        )
    return rows


def _from_rows(rows: Sequence[Mapping[str, Any]], empty: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    if not rows:
        return pa.schema(list(empty.items())).empty_table()
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _joined(parts: Sequence[tuple[str, Any]], empty: Mapping[str, Any]) -> Any:
    """Tables one below the other, with the run's name; a column that has two types is text."""
    import pyarrow as pa

    there = [(name, _plain(table)) for name, table in parts if table is not None]
    if not there:
        return pa.schema(list(empty.items())).empty_table()
    named = [
        table.remove_column(table.column_names.index("run")).add_column(
            0, "run", pa.array([name] * len(table), pa.string())
        )
        if "run" in table.column_names
        else table.add_column(0, "run", pa.array([name] * len(table), pa.string()))
        for name, table in there
    ]
    kinds: dict[str, set[Any]] = {}
    for table in named:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    clashing = {name for name, types in kinds.items() if len(types) > 1 and not all(map(_is_number, types))}
    texts = [_as_texts(table, clashing) for table in named]
    return pa.concat_tables(texts, promote_options="permissive")


def _plain(table: Any) -> Any:
    """Dictionaries of words as words."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _as_texts(table: Any, names: set[str]) -> Any:
    import pyarrow as pa

    for name in names & set(table.column_names):
        texts = [None if value is None else as_text(value) for value in table.column(name).to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.string()))
    return table


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _plain_json(value: Any) -> Any:
    return float(value) if isinstance(value, decimal.Decimal) else str(value)


def _print_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = max(160, 24 * len(names))  # rich's 80 would wrap a line that goes into a file
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = [
        bool(rows) and isinstance(rows[0][place], int | float | np.number) for place in range(len(names))
    ]
    for name, right in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        table.add_row(*(as_text(item) for item in row))
    console.print(table)
    console.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")
