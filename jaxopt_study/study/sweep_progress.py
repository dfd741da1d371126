"""What a person sees of a sweep: how many points are done, how they end, the best, the pace."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.record import status_names

SECONDS_BETWEEN_LINES = 5.0


class SweepSeen(NamedTuple):
    """What is known of a sweep between two jobs.

    Attributes:
      total: points.
      done: of them.
      here: done by this process.
      best: the lowest finite value it saw.
      statuses: how many lanes ended how.
    """

    total: int
    done: int
    here: int = 0
    best: float = float("inf")
    statuses: Mapping[str, int] = {}

    def after(self, outcomes: Sequence[Any]) -> "SweepSeen":
        """With the outcomes of another job."""
        statuses = Counter(self.statuses)
        best = self.best
        for outcome in outcomes:
            statuses.update(np.ravel(status_names(outcome.status)).tolist())
            value = np.asarray(outcome.value, float)
            best = min([best, *value[np.isfinite(value)].ravel().tolist()])
        return SweepSeen(self.total, self.done + len(outcomes), self.here + len(outcomes), best, statuses)

    def text(self, seconds: float) -> str:
        """All of it in a line."""
        pace = f", {self.here / seconds:,.1f} points/s" if self.here and seconds > 0 else ""
        best = f", best {self.best:.4g}" if np.isfinite(self.best) else ""
        return f"{self.done:,}/{self.total:,} points{best}{pace}"


@contextlib.contextmanager
def sweep_progress(quiet: bool) -> Iterator[Callable[[SweepSeen], None]]:
    """Show progress on stderr for as long as the context lasts: a bar, or lines where it is no terminal."""
    began = time.monotonic()
    if quiet:
        yield lambda seen: None
    elif sys.stderr.isatty():
        from rich import progress as rich_progress
        from rich.console import Console

        column = rich_progress.TextColumn
        clock = rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        bar = rich_progress.Progress(
            rich_progress.BarColumn(bar_width=24),
            column("{task.fields[text]}", markup=False),
            clock,
            console=Console(stderr=True),
        )
        task = bar.add_task("sweep", text="")
        with bar:
            yield lambda seen: bar.update(
                task, completed=seen.done, total=seen.total, text=seen.text(time.monotonic() - began)
            )
    else:
        last = [-np.inf, -1]

        def show(seen: SweepSeen) -> None:
            now = time.monotonic()
            due = now - last[0] > SECONDS_BETWEEN_LINES and seen.done != last[1]
            if due or (seen.done == seen.total and last[1] != seen.done):
                print(f"sweep: {seen.text(now - began)}", file=sys.stderr, flush=True)
                last[:] = now, seen.done

        yield show


def print_sweep(title: str, result: Mapping[str, Any], folder: Path) -> None:
    """Print how a sweep ended on stdout: groups, statuses, the best point, the record's path."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 120
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    for name in ("points", "side by side", "compile s", "run s"):
        table.add_column(name, justify="right")
    for group in result["groups"]:
        static = ", ".join(f"{key} {_shown(value)}" for key, value in group["static"].items())
        name = static or ", ".join(group["variants"])
        timing = group["timing"]
        numbers = (f"{timing['compile_seconds']:.2f}", f"{timing['run_seconds']:.3g}")
        table.add_row(name, f"{group['points']:,}", str(group["width"]), *numbers)
    console.print(table)
    counts, best = result["counts"], result["best"]
    statuses = ", ".join(
        f"{count:,} {name.lower().replace('_', ' ')}" for name, count in counts["status"].items()
    )
    console.print(f"{counts['done']:,} of {counts['points']:,} points: {statuses or 'none'}", soft_wrap=True)
    if best is not None:
        where = ", ".join(f"{key} {_shown(value)}" for key, value in best["config"].items())
        console.print(
            f"best: {best['value']:.6g} at point {best['point']} ({best['variant']}): {where}", soft_wrap=True
        )
    note = f" (interrupted: `jaxopt-study resume {folder}` goes on)" if result["interrupted"] else ""
    print(f"record: {folder}{note}", flush=True)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
