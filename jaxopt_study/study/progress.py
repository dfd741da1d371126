"""What a person sees: a bar while a run goes on (plain lines where there is no terminal), a table
at its end.

Nothing here touches a device.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study.protocol import Recorded
from jaxopt_study.study.seen import Seen, median, summarize_status
from jaxopt_study.study.tensorboard import tensorboard_scalars

SECONDS_BETWEEN_LINES = 5.0
SPARKS = "▁▂▃▄▅▆▇█"
PLAIN_SPARKS = "_.-=+*#@"  # where the terminal knows no more than ASCII
SPARKLINE = 16  # characters


@contextlib.contextmanager
def progress(quiet: bool, tensorboard: Path | None = None) -> Iterator[Callable[[Seen], None]]:
    """Show progress on stderr for as long as the context lasts.

    Args:
      quiet: show nothing.
      tensorboard: a folder for TensorBoard's files, written while the run goes on; None for none.

    Yields:
      A function to call with what is `Seen` of a variant, when it begins and after every chunk.
    """
    with contextlib.ExitStack() as stack:
        shows = []
        if not quiet:
            shows.append(stack.enter_context(_bar()) if sys.stderr.isatty() else _lines())
        if tensorboard is not None:
            shows.append(stack.enter_context(tensorboard_scalars(tensorboard)))

        def show(seen: Seen) -> None:
            for each in shows:
                each(seen)

        yield show


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Seen], None]]:
    from rich import progress as rich_progress
    from rich.console import Console

    column = rich_progress.TextColumn
    bar = rich_progress.Progress(
        column("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=16),
        column("{task.fields[text]}", markup=False),
        column("{task.fields[spark]}", markup=False, style="cyan"),
        rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}
    history = _History()

    def show(seen: Seen) -> None:
        if seen.label not in tasks:
            tasks[seen.label] = bar.add_task(seen.label, total=seen.max_steps, text="", spark="")
        done: dict[str, Any] = {"completed": seen.steps}
        if seen.ended:  # also where it converged before max_steps: the bar is full, its clock stands
            done = {"completed": max(seen.steps, 1), "total": max(seen.steps, 1)}
        spark = history.line(seen)
        bar.update(tasks[seen.label], text=_text(seen), spark=spark, refresh=True, **done)

    with bar:
        yield show


def _lines() -> Callable[[Seen], None]:
    last: dict[str, float] = {}
    history = _History()

    def show(seen: Seen) -> None:
        now = time.monotonic()
        spark = history.line(seen)
        spark = f" {spark}" if spark else ""
        if seen.label not in last:
            print(f"{seen.label}: started", file=sys.stderr, flush=True)
        elif seen.ended:
            words = f"{seen.label}: {summarize_status(seen.status)}, {_text(seen)}{spark}"
            print(words, file=sys.stderr, flush=True)
        elif now - last[seen.label] > SECONDS_BETWEEN_LINES:
            print(f"{seen.label}: {_text(seen)}{_left(seen)}{spark}", file=sys.stderr, flush=True)
        else:
            return
        last[seen.label] = now

    return show


def _text(seen: Seen) -> str:
    total = f"/{seen.max_steps:,}" if seen.max_steps and not seen.ended else ""
    rate = f", {seen.steps / seen.seconds:,.0f} steps/s" if seen.seconds > 0 and seen.steps else ""
    return f"{seen.steps:,}{total} steps, value {median(seen.value):.4g}{rate}"


def _left(seen: Seen) -> str:
    """How long it takes if it goes on at this rate to the last step that there can be."""
    if not seen.max_steps or not seen.steps or seen.ended:
        return ""
    seconds = seen.seconds * (seen.max_steps - seen.steps) / seen.steps
    minutes, rest = divmod(round(seconds), 60)
    return f", at most {minutes}:{rest:02d} left"


class _History:
    """What the value of each variant has been, to be drawn in one line."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, float]]] = {}

    def line(self, seen: Seen) -> str:
        """The line so far; nothing before there are two different steps."""
        past = self.seen.setdefault(seen.label, [])
        if not past or seen.steps > past[-1][0]:
            past.append((seen.steps, median(seen.value)))
        if len(past) < 2:
            return ""
        steps, values = (np.array(column, float) for column in zip(*past, strict=True))
        at = np.searchsorted(steps, np.linspace(steps[0], steps[-1], SPARKLINE), side="right") - 1
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        try:
            SPARKS.encode(encoding)
        except (LookupError, UnicodeEncodeError):
            return sparkline(values[at], PLAIN_SPARKS)
        return sparkline(values[at])


def sparkline(values: Sequence[float] | np.ndarray, sparks: str = SPARKS) -> str:
    """Numbers as a line of blocks, of their logarithms where all are positive; a gap where one is not finite.

    >>> sparkline([8.0, 4.0, 2.0, 1.0])
    '█▆▃▁'
    >>> sparkline([1.0, float("nan"), -1.0], "_-^")
    '^ _'
    """
    numbers = np.asarray(values, float)
    good = np.isfinite(numbers)
    if not good.any():
        return " " * len(numbers)
    if numbers[good].min() > 0:
        numbers = np.log(np.where(good, numbers, 1.0))
    low, high = numbers[good].min(), numbers[good].max()
    # Halves first: the distance between two numbers may be more than the largest number there is.
    share = (numbers / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    return "".join(
        sparks[round(float(part) * (len(sparks) - 1))] if there else " "
        for part, there in zip(share, good, strict=True)
    )


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
