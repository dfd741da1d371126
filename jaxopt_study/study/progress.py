"""What a person sees: a bar while a run goes on (plain lines where there is no terminal), a table
at its end.

Nothing here touches a device or a file.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.protocol import Recorded
from jaxopt_study.study.record import status_names

SECONDS_BETWEEN_LINES = 5.0


class Seen(NamedTuple):
    """What is known of a variant between two chunks.

    Attributes:
      label: the variant.
      max_steps: how many steps there can be, or None.
      status: per lane, or None before the first chunk.
      num_steps: per lane.
      value: per lane.
      seconds: running so far.
      ended: whether no chunk follows.
    """

    label: str
    max_steps: int | None
    status: Any
    num_steps: Any
    value: Any
    seconds: float
    ended: bool

    @property
    def steps(self) -> int:
        """Steps of the lane that has taken the most."""
        return int(np.max(self.num_steps, initial=0))


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[Seen], None]]:
    """Show progress on stderr for as long as the context lasts.

    Args:
      quiet: show nothing.

    Yields:
      A function to call with what is `Seen` of a variant, when it begins and after every chunk.
    """
    if quiet:
        yield lambda seen: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Seen], None]]:
    from rich import progress as rich_progress
    from rich.console import Console

    column = rich_progress.TextColumn
    bar = rich_progress.Progress(
        column("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=16),
        column("{task.fields[text]}", markup=False),
        rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}

    def show(seen: Seen) -> None:
        if seen.label not in tasks:
            tasks[seen.label] = bar.add_task(seen.label, total=seen.max_steps, text="")
        done: dict[str, Any] = {"completed": seen.steps}
        if seen.ended:  # also where it converged before max_steps: the bar is full, its clock stands
            done = {"completed": max(seen.steps, 1), "total": max(seen.steps, 1)}
        bar.update(tasks[seen.label], text=_text(seen), refresh=True, **done)

    with bar:
        yield show


def _lines() -> Callable[[Seen], None]:
    last: dict[str, float] = {}

    def show(seen: Seen) -> None:
        now = time.monotonic()
        if seen.label not in last:
            print(f"{seen.label}: started", file=sys.stderr, flush=True)
        elif seen.ended:
            print(
                f"{seen.label}: {summarize_status(seen.status)}, {_text(seen)}", file=sys.stderr, flush=True
            )
        elif now - last[seen.label] > SECONDS_BETWEEN_LINES:
            print(f"{seen.label}: {_text(seen)}", file=sys.stderr, flush=True)
        else:
            return
        last[seen.label] = now

    return show


def _text(seen: Seen) -> str:
    total = f"/{seen.max_steps:,}" if seen.max_steps and not seen.ended else ""
    rate = f", {seen.steps / seen.seconds:,.0f} steps/s" if seen.seconds > 0 and seen.steps else ""
    return f"{seen.steps:,}{total} steps, value {median(seen.value):.4g}{rate}"


def median(value: Any) -> float:
    """The median over lanes; of the finite ones where there are any.

    >>> median(np.array([1.0, np.nan, 3.0]))
    2.0
    """
    flat = np.asarray(value, dtype=float).ravel()
    finite = flat[np.isfinite(flat)]
    if finite.size:
        return float(np.median(finite))
    return float(flat[0]) if flat.size else float("nan")


def summarize_status(status: Any) -> str:
    """A status in words, or how many lanes have which.

    >>> summarize_status(np.array([4, 4, 5]))
    '2 target reached, 1 out of steps'
    """
    names = [str(name).lower().replace("_", " ") for name in status_names(status).ravel()]
    if np.ndim(status) == 0:
        return names[0]
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def print_report(title: str, records: Mapping[str, Recorded], summary: Mapping[str, Any]) -> None:
    """Print the table of variants and the study's summary on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 120  # rich's 80 would wrap a line that goes into a file
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    many = any(np.ndim(record.outcome.status) for record in records.values())
    middle = "median " if many else ""
    table.add_column("variant")
    table.add_column("status")
    for name in (f"{middle}steps", f"{middle}value", "compile s", "run s"):
        table.add_column(name, justify="right")
    for label, record in records.items():
        outcome, timing = record.outcome, record.timing
        table.add_row(
            label,
            summarize_status(outcome.status),
            f"{median(outcome.num_steps):,.0f}",
            f"{median(outcome.value):.9g}",
            f"{timing.compile_seconds:.2f}",
            f"{timing.run_seconds:.3g}",
        )
    console.print(table)
    for name, value in summary.items():
        number = not isinstance(value, str)
        console.print(f"{name}: {float(value):.6g}" if number else f"{name}: {value}", soft_wrap=True)
