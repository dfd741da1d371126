"""Results as one page of pictures and tables: an HTML file that needs nothing else."""

import html
import io
import re
import sys
from pathlib import Path
from typing import Any

from jaxopt_study.bench.pictures import draw
from jaxopt_study.bench.results import Results, cases
from jaxopt_study.bench.table import (
    bytes_text,
    figure_text,
    limits_text,
    machine_text,
    ratio_text,
    seconds_text,
    time_text,
)
from jaxopt_study.study.record import atomic_write, write_picture

FILE = "page.html"
STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --line: #d9dce1; --soft: #f4f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --line: #353a41; --soft: #1d2126; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; overflow-x: auto; background: #fff; border-radius: 6px; padding: .5rem; }
figure svg { max-width: 100%; height: auto; display: block; margin: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
thead th { border-bottom: 1px solid var(--line); } tr.first td { border-top: 1px solid var(--line); }
.faster { color: #2a7f62; } .slower { color: #c4553b; } td[title] { cursor: help; }
"""


def write_page(folder: Path, results: Results) -> Path:
    """Write `page.html`, and every picture as PNG beside it.

    Returns:
      The page's path.
    """
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules:  # a notebook's own backend stays as it is
        matplotlib.use("agg")
    from matplotlib import pyplot

    pictures: dict[str, str] = {}
    for name, figure in draw(results).items():
        write_picture(folder, name, figure)
        figure.set_layout_engine("none")  # all has its place, which takes as long to find as to draw it
        pictures[name] = _svg(figure)
        pyplot.close(figure)
    parts = [_head(results)]
    for suite in dict.fromkeys(row.suite for row in results.rows):
        parts.append(f"<h2>{html.escape(suite)}</h2>")
        for kind in ("ratios", "sizes"):
            if f"{kind}_{suite}" in pictures:
                parts.append(f"<figure>{pictures[f'{kind}_{suite}']}</figure>")
        parts.append(_table(suite, results))
    if "roofline" in pictures:
        parts.append(f"<h2>Roofline</h2><figure>{pictures['roofline']}</figure>")
    body = "\n".join(parts)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>jaxopt_study benchmarks</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
    path = folder / FILE
    atomic_write(path, lambda file: file.write(text.encode()))
    return path


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg")
    return re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)


def _head(results: Results) -> str:
    where, limits = machine_text(results.machine), limits_text(results.limits)
    return (
        f"<h1>Benchmarks</h1><p>{html.escape(where)}.<br>Limits measured in the same run: "
        f"{html.escape(limits)}.<br>To repeat: <code>{html.escape(results.command)}</code> "
        f"({results.seconds / 60:.0f} minutes)</p>"
    )


def _table(suite: str, results: Results) -> str:
    heads = ("case", "", "time", "spread", "time over ours", "error", "first call", "memory", "of the limit")
    rows = []
    for (_, case), some in cases(row for row in results.rows if row.suite == suite).items():
        for k, row in enumerate(some):
            mark = "" if row.ratio is None or k == 0 else ("faster" if row.ratio >= 1 else "slower")
            cells = (
                f"<td>{html.escape(case) if k == 0 else ''}</td>"
                f'<td title="{html.escape(row.settings)}">{html.escape(row.contestant)}</td>'
                f"<td>{time_text(row)} a {html.escape(row.unit)}</td><td>{row.spread:.0%}</td>"
                f'<td class="{mark}">{ratio_text(row)}</td><td>{row.error:.1e}</td>'
                f"<td>{seconds_text(row.first_seconds)}</td><td>{bytes_text(row.peak_bytes)}</td>"
                f"<td>{'' if row.limit is None else f'{row.limit:.1%}'}</td>"
            )
            rows.append(f'<tr class="{"first" if k == 0 else ""}">{cells}</tr>')
    head = "".join(f"<th>{name}</th>" for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    figures = [(row, one) for row in results.rows if row.suite == suite for one in row.figures]
    told = "".join(f"<li>{html.escape(f'{row.case}: {figure_text(one)}')}</li>" for row, one in figures)
    return f'<div class="scroll">{table}</div>' + (f"<ul>{told}</ul>" if told else "")
