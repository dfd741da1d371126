"""What a person sees: a bar while a run goes on (plain lines where there is no terminal), a table
at its end.

Nothing here touches a device; a file only for TensorBoard, where that was asked for.
"""

import contextlib
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.protocol import Recorded, StudyInputError
from jaxopt_study.study.record import status_names

SECONDS_BETWEEN_LINES = 5.0
SPARKS = "▁▂▃▄▅▆▇█"
PLAIN_SPARKS = "_.-=+*#@"  # where the terminal knows no more than ASCII
SPARKLINE = 16  # characters


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
            shows.append(stack.enter_context(_tensorboard(tensorboard)))

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


def check_tensorboard(folder: Path | None) -> None:
    """Raise a `StudyInputError` if TensorBoard's files cannot be written, before anything is run."""
    if folder is None:
        return
    if importlib.util.find_spec("tensorboardX") is None:
        raise StudyInputError(
            '--tensorboard: tensorboardX is not installed: pip install "jaxopt_study[tensorboard]"'
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyInputError(f"--tensorboard: {folder}: cannot be made: {error.strerror}") from None


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[Callable[[Seen], None]]:
    """What is seen, as TensorBoard's scalars: a run a variant, its value (median over lanes) and speed."""
    import tensorboardX

    writers: dict[str, Any] = {}

    def show(seen: Seen) -> None:
        if seen.label not in writers:
            writers[seen.label] = tensorboardX.SummaryWriter(str(folder / seen.label))
        writer = writers[seen.label]
        writer.add_scalar("value", median(seen.value), seen.steps)
        if seen.seconds > 0 and seen.steps:
            writer.add_scalar("steps per second", seen.steps / seen.seconds, seen.steps)
        writer.flush()

    try:
        yield show
    finally:
        for writer in writers.values():
            writer.close()


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
