"""Read what `record`, `sweep_record` and `fit` wrote, for reports and queries.

A record may have been cut short, written by another version, or edited by hand: what is not there is
empty, and what cannot be read is one line that names the file.
"""

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_study.study.protocol import StudyInputError


@dataclasses.dataclass(frozen=True)
class Record:
    """A folder of `run`, `sweep` or `fit`, as it was found.

    Attributes:
      folder: where it is.
      result: `result.json`; numbers that are not finite are floats again.
      configs: the fields of each variant, by label, from `config.toml`.
      points: a pyarrow table, a row a point of a sweep; None where there is none.
      trace: a pyarrow table, a row a step; None where nothing was traced.
      pictures: the study's own PNG files.
    """

    folder: Path
    result: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]
    points: Any = None
    trace: Any = None
    pictures: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def is_sweep(self) -> bool:
        """Whether it has points."""
        return self.points is not None

    @property
    def title(self) -> str:
        """What the study calls itself."""
        return str(self.result.get("title") or self.result.get("study") or self.name)

    def table(self, key: str) -> dict[str, Any]:
        """A table of `result.json`, empty where there is none."""
        return as_table(self.result.get(key))


def read_record(folder: Path | str) -> Record:
    """Read a record.

    Args:
      folder: the folder of a run or a sweep.

    Raises:
      StudyInputError: it is no record, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StudyInputError(f"{folder}: no such folder; a record is the folder that a run or a sweep wrote")
    path = folder / "result.json"
    if not path.is_file():
        raise StudyInputError(
            f"{folder}: is no record, or of a run that has not ended: it has no result.json"
        )
    result = _read_json(path)
    return Record(
        folder,
        result,
        _read_configs(folder / "config.toml"),
        _read_table(folder / "points.parquet"),
        _read_table(folder / "trace.parquet"),
        tuple(sorted(folder.glob("*.png"))),
    )


def as_table(value: Any) -> dict[str, Any]:
    """A table of a record, empty for anything else.

    >>> as_table({"a": 1}), as_table(3)
    ({'a': 1}, {})
    """
    return dict(value) if isinstance(value, Mapping) else {}


def find_records(root: Path | str) -> list[Path]:
    """The folders of all records under a folder, that one included, by name."""
    root = Path(root)
    if not root.is_dir():
        raise StudyInputError(f"{root}: no such folder")
    return sorted(path.parent for path in root.rglob("result.json") if path.is_file())


def finite(value: Any) -> float:
    """A number of `result.json`, NaN for what is none.

    >>> finite("-Infinity"), finite(2), finite("fast"), finite(True)
    (-inf, 2.0, nan, nan)
    """
    if isinstance(value, bool):
        return math.nan
    words = {"Infinity": math.inf, "-Infinity": -math.inf}
    try:
        return words[value] if isinstance(value, str) and value in words else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyInputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StudyInputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise StudyInputError(f"{path}: expected an object, got a {type(value).__name__}")
    return value


def _read_configs(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyInputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StudyInputError(f"{path}: not valid TOML: {error}") from None
    variants = table.get("variants")
    if not isinstance(variants, dict):
        return {}
    return {label: value for label, value in variants.items() if isinstance(value, dict)}


def _read_table(path: Path) -> Any:
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except OSError as error:
        raise StudyInputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    except pa.ArrowException as error:
        raise StudyInputError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None
