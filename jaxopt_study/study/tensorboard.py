"""`--tensorboard DIR`: what is seen of a run, as TensorBoard's scalars, while it runs."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.seen import Seen, median


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
def tensorboard_scalars(folder: Path) -> Iterator[Callable[[Seen], None]]:
    """A function to call with what is `Seen`: a run a variant, its value (median over lanes) and speed."""
    import tensorboardX

    writers: dict[str, Any] = {}
    failed = False

    def show(seen: Seen) -> None:
        nonlocal failed
        if failed:
            return
        try:
            if seen.label not in writers:
                writers[seen.label] = tensorboardX.SummaryWriter(str(folder / seen.label))
            writer = writers[seen.label]
            if np.isfinite(median(seen.value)):
                writer.add_scalar("value", median(seen.value), seen.steps)
            if seen.seconds > 0 and seen.steps:
                writer.add_scalar("steps per second", seen.steps / seen.seconds, seen.steps)
            writer.flush()
        except OSError as error:  # who watches does not stop the run
            failed = True
            said = f"--tensorboard: {folder}: cannot be written: {error.strerror}; the run goes on"
            print(f"jaxopt-study: {said}", file=sys.stderr)

    try:
        yield show
    finally:
        for writer in writers.values():
            with contextlib.suppress(OSError):
                writer.close()
