"""The words of `jaxopt-study report` and `query`, for the command line's parser."""

import argparse
from pathlib import Path
from typing import Any


def add_reading(commands: Any, exit_codes: str) -> None:
    """Add the two commands that read records and change none."""
    report = commands.add_parser(
        "report",
        help="one page of pictures and tables: jaxopt-study report RUN [RUN ...]",
        description="Write one HTML page, which needs no network, about runs and sweeps: tables, curves,\n"
        "maps of sweeps, parallel coordinates, paths, what differs in their Configs. The same pictures\n"
        "are written as PNG and SVG into a folder beside the page. Prints the page's path.",
        epilog=exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="the folder of a run or a sweep")
    report.add_argument(
        "--out", type=Path, metavar="FILE.html", help="(RUN/report.html; of more, report.html)"
    )
    query = commands.add_parser(
        "query",
        help='ask all records: jaxopt-study query "SELECT ..."',
        description="Ask all records in SQL, by DuckDB. The tables:\n"
        "  runs     a row a variant of a run:   run, study, created, variant, status, num_steps, value, ...\n"
        "  points   a row a point of a sweep:   run, point, variant, lane, swept keys, status, value, ...\n"
        "  traces   a row a step:               run, variant, lane, step, the traces, point\n"
        "  configs  a row a field of a variant: run, variant, key, value\n",
        epilog="examples:\n"
        "  jaxopt-study query 'SELECT run, variant, value FROM runs ORDER BY value LIMIT 5'\n"
        "  jaxopt-study query 'SELECT learning_rate, median(value) FROM points GROUP BY 1 ORDER BY 1'\n\n"
        + exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    query.add_argument("sql", metavar="SQL", help="a SELECT; it cannot change anything")
    query.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where records are (runs)"
    )
    query.add_argument("--format", choices=["table", "csv", "json"], default="table", help="(table)")
