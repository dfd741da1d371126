"""A name for this kind of processor, for folders of compiled programs. Imports nothing of JAX."""

import hashlib
import platform
from pathlib import Path


def processor_name() -> str:
    """The same for processors with the same instructions: homes are shared, programs are for one kind.

    >>> processor_name() == processor_name()
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
