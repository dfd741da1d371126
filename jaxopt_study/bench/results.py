"""What a run of the benchmarks leaves: a Parquet file of rows, with the machine in its metadata.

Pictures, the page and BENCHMARKS.md are made from such a file alone, at any time.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxopt_study.bench.case import Figure, Row
from jaxopt_study.bench.roofline import Limits
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.record import atomic_write

FILE = "results.parquet"


@dataclasses.dataclass(frozen=True)
class Results:
    """Rows, and where and how they were measured.

    Attributes:
      rows: in the order in which they were measured.
      machine: what `study.environment` tells, and versions of the peers.
      limits: of the machine, by dtype.
      command: that repeats it.
      seconds: that it took.
    """

    rows: tuple[Row, ...]
    machine: dict[str, Any]
    limits: dict[str, Limits]
    command: str
    seconds: float


def write_results(path: Path, results: Results) -> None:
    """Write a Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}

    def columns(record: type[Row] | type[Figure]) -> list[Any]:
        of_type = {
            field.name: str(getattr(field.type, "__name__", field.type)).split(" ")[0]
            for field in dataclasses.fields(record)
        }
        return [pa.field(name, kinds[kind]) for name, kind in of_type.items() if name != "figures"]

    fields = [*columns(Row), pa.field("figures", pa.list_(pa.struct(columns(Figure))))]
    about = {
        "machine": results.machine,
        "limits": {dtype: dataclasses.asdict(one) for dtype, one in results.limits.items()},
        "command": results.command,
        "seconds": results.seconds,
    }
    schema = pa.schema(fields, metadata={"bench": json.dumps(about)})
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in results.rows], schema=schema)
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote; `path` is the file or its folder.

    Raises:
      StudyInputError: there is no such file, or it is not one of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path / FILE if path.is_dir() else path
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"bench"])
        rows = tuple(_row(**columns) for columns in table.to_pylist())
        limits = {dtype: Limits(**one) for dtype, one in about["limits"].items()}
        return Results(rows, about["machine"], limits, about["command"], about["seconds"])
    except FileNotFoundError:
        raise StudyInputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        raise StudyInputError(f"{path}: not a result of jaxopt-study bench") from None


def _row(figures: Sequence[dict[str, Any]] = (), **columns: Any) -> Row:
    return Row(**columns, figures=tuple(Figure(**one) for one in figures))


def cases(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by suite and case, in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.suite, row.case), []).append(row)
    return found
