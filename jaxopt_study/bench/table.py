"""Rows as a table for a terminal, and numbers as people read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_study.bench.case import Figure, Row
from jaxopt_study.bench.roofline import Limits


def machine_text(machine: Mapping[str, Any]) -> str:
    """The processor or accelerator, in a line."""
    where = machine.get("cpu_model") if machine["platform"] == "cpu" else machine["device_kind"]
    return f"{where}, {machine['cpu_count']} cores, {machine['platform']}; jax {machine['jax']}"


def limits_text(limits: Mapping[str, Limits]) -> str:
    """What the machine was seen to do, in a line."""
    return "; ".join(
        f"{one.flops / 1e9:.0f} GFLOP/s and {one.bandwidth / 1e9:.0f} GB/s in {dtype}"
        for dtype, one in limits.items()
    )


def seconds_text(seconds: float) -> str:
    """Three digits and the unit that fits.

    >>> seconds_text(0.00001234), seconds_text(0.5), seconds_text(75.0)
    ('12.3 us', '500 ms', '75 s')
    """
    for scale, unit in ((1e-6, "ns"), (1e-3, "us"), (1.0, "ms")):
        if seconds < scale:
            return f"{seconds / scale * 1e3:.3g} {unit}"
    return f"{seconds:.3g} s"


def bytes_text(number: int | None) -> str:
    """Three digits and the unit that fits.

    >>> bytes_text(2_500_000), bytes_text(None)
    ('2.5 MB', '')
    """
    if number is None:
        return ""
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def time_text(row: Row) -> str:
    """The time of a unit, or what it is at least."""
    return ("≥ " if row.ended_early else "") + seconds_text(row.seconds)


def ratio_text(row: Row) -> str:
    """The ratio, or why there is none."""
    if not row.solved:
        return "not solved"
    if row.same_program:
        return "same program" + ("" if row.ratio is None else f" ({row.ratio:.3g}x)")
    if row.ended_early:
        return "ended early"
    if row.ratio is None:
        return f"unsteady (± {row.uncertainty:.0%})"
    return f"{row.ratio:.3g}x"


def bound_text(figure: Figure) -> str:
    """What is claimed of a figure, or nothing.

    >>> bound_text(Figure("temporary bytes over those of 1000 steps", 1.2, at_most=1.5))
    'at most 1.5'
    """
    bounds = (("at least", figure.at_least), ("at most", figure.at_most))
    return ", ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)


def figure_text(figure: Figure) -> str:
    """Its name and value, and what is claimed of it."""
    claimed = bound_text(figure)
    return f"{figure.name}: {figure.value:.3g}" + (f" ({claimed})" if claimed else "")


def print_case(rows: Sequence[Row], took: float) -> None:
    """Print the contestants of one case, and how many seconds it all took."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = rows[0]
    table = Table(
        title=f"{first.suite}: {first.case} ({first.dtype}, seconds a {first.unit}; {took:.0f} s in all)",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for name in ("time", "spread", "time over ours", "error", "first call", "memory", "of the limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.contestant,
            time_text(row),
            f"{row.spread:.0%}",
            ratio_text(row),
            f"{row.error:.1e}",
            seconds_text(row.first_seconds),
            bytes_text(row.peak_bytes),
            "" if row.limit is None else f"{row.limit:.1%}",
        )
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(table)
    for figure in (one for row in rows for one in row.figures):
        console.print(f"  {figure_text(figure)}\n")
