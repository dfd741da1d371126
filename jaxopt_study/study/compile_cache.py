"""Compiled programs are kept on the disk: a second run of the same structure has little to compile.

It is JAX's own persistent cache, switched on for the command line alone; what was compiled and what was found
is counted, for the record.
"""

import os
import time
from pathlib import Path
from typing import Any

import jax
from jax import monitoring

from jaxopt_study.study.processor import processor_name

ENABLED = "JAX_COMPILATION_CACHE_DIR"  # JAX's own: another folder; empty for none
COMPILED = "/jax/core/compile/backend_compile_duration"
FOUND = "/jax/compilation_cache/cache_hits"

_began = time.monotonic()
_counts = {"programs": 0, "from_cache": 0, "backend_compile_seconds": 0.0}
_listening: list[bool] = []


def keep_compiled_programs() -> None:
    """Use the cache in `~/.cache/jaxopt_study` (or `$XDG_CACHE_HOME`), unless JAX was given another."""
    if ENABLED not in os.environ and not getattr(jax.config, "jax_compilation_cache_dir", None):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jaxopt_study" / processor_name()))
    # JAX's defaults leave out what compiles within a second, which is most of a study.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not _listening:
        _listening.append(True)
        monitoring.register_event_duration_secs_listener(_on_duration)
        monitoring.register_event_listener(_on_event)


def describe_start() -> dict[str, Any]:
    """How long this process has been there, and what it has compiled so far.

    Returns:
      `seconds` since the process began; `backend_compile_seconds`, XLA's part of them, reading its cache
      included; `programs` compiled, and how many of these came `from_cache`. The last three are None where
      `keep_compiled_programs` was not called.
    """
    counts: dict[str, Any] = _counts if _listening else dict.fromkeys(_counts)
    return {"seconds": _seconds(), **counts}


def _seconds() -> float:
    try:  # Linux tells when a process began, in ticks since the boot
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / ticks
    except (OSError, AttributeError, ValueError):
        return time.monotonic() - _began


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event == COMPILED:
        _counts["programs"] += 1
        _counts["backend_compile_seconds"] += duration_secs


def _on_event(event: str, **_: Any) -> None:
    if event == FOUND:
        _counts["from_cache"] += 1
