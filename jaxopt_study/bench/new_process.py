"""The environment of a new Python whose start is timed, or that is timed from its start."""

import os
from pathlib import Path


def environment(bytecode: Path | str, cache: Path | str | None = None) -> dict[str, str]:
    """Variables of this process, but for where things are kept.

    Args:
      bytecode: a folder. A package that was installed has its bytecode; a process that may not write any
        compiles a hundred modules at every start.
      cache: a folder for compiled programs of JAX; None leaves them where they are.

    >>> environment("b", "c")["PYTHONPYCACHEPREFIX"], "PYTHONDONTWRITEBYTECODE" in environment("b")
    ('b', False)
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept["PYTHONPYCACHEPREFIX"] = str(bytecode)
    if cache is not None:
        kept = {name: value for name, value in kept.items() if not name.startswith("JAX_COMP")}
        kept["XDG_CACHE_HOME"] = str(cache)
    return kept
