"""A CSV whose first row names the columns: the columns that are asked for, as arrays.

What is wrong with a file is said in one line, with its name, the row and the column.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxopt_study.study.protocol import StudyInputError


def read_columns(
    path: Path,
    names: Sequence[str],
    missing: Sequence[str] = (),
    where: tuple[str, str] | None = None,
) -> list[np.ndarray]:
    """Columns of a CSV as arrays of float64, one number a row.

    A byte order mark, and spaces around names and cells, are not seen.

    Args:
      path: the file; its first row names the columns.
      names: the columns to read.
      missing: those in which an empty cell, or `NaN`, is a missing value.
      where: `(column, value)`, to read only the rows that have this value in that column; None for
        all. There may be none.

    Returns:
      An array for each of `names`, all of the same length.

    Raises:
      StudyInputError: the file or a column is not there, a cell is not a finite number, or the file
        has no rows.
    """
    rows: list[list[float]] = []
    empty = True
    asked = [*names, where[0]] if where else names
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            there = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = there
            for name in asked:
                if name not in there:
                    raise StudyInputError(f'{path}: no column "{name}"; there are: {", ".join(there)}')
            for row in reader:
                empty = False
                if where and (row[where[0]] or "").strip() != where[1]:
                    continue
                line = f"{path}:{reader.line_num}"
                rows.append([_cell(row[name], name, line, name in missing) for name in names])
    except FileNotFoundError:
        raise StudyInputError(f"{path}: no such file") from None
    except OSError as error:
        raise StudyInputError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyInputError(f"{path}: not a CSV: {error}") from None
    if empty:
        raise StudyInputError(f"{path}: there are no rows below the names of the columns")
    return list(np.array(rows, float).reshape(-1, len(names)).T)


def _cell(text: str | None, column: str, where: str, may_miss: bool) -> float:
    word = (text or "").strip()
    if may_miss and word.lower() in ("", "nan", "na"):
        return np.nan
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise StudyInputError(f'{where}: column "{column}": expected a number, got "{word}"')
    return value
