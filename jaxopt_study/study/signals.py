"""Ctrl-C and SIGTERM as answers to a question, asked where stopping is safe."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal came before there was anything to record.

    Attributes:
      exit_code: 130 or 143, see `Interrupts`.
    """

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


class Interrupts:
    """Whether the process was asked to stop: call it.

    Attributes:
      signum: the signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """What a process that was asked to stop exits with: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signum or signal.SIGINT)


@contextlib.contextmanager
def hear_interrupts() -> Iterator[Interrupts]:
    """Turn the first Ctrl-C, or SIGTERM, into an answer to a question, asked where stopping is safe.

    A `KeyboardInterrupt` can be raised between any two instructions, in the middle of a file or
    of a library's bookkeeping. The second Ctrl-C raises it all the same, and the second SIGTERM
    ends the process. Off the main thread, where no signal arrives, the answer is always no.

    Yields:
      An `Interrupts`, to be called.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    again: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }

    def hear(signum: int, frame: FrameType | None) -> None:
        interrupts.signum = interrupts.signum or signum
        signal.signal(signum, again[signal.Signals(signum)])

    before = {signum: signal.signal(signum, hear) for signum in again}
    try:
        yield interrupts
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
