"""One process a folder: a lock that the system lets go of when its owner dies, however it dies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxopt_study.study.protocol import StudyInputError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; nothing is written into it.

    Raises:
      StudyInputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two runs still never make the same folder
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StudyInputError(f"{folder}: another process is running it") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(handle)
