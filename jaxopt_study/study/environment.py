"""Where a run took place: versions, device, processor, threads, git revision; for `result.json`.

Nothing here decides anything; what cannot be found out is None.
"""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "optax", "numpy")
# What changes the speed of BLAS and XLA without being visible anywhere else.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")


def describe_device() -> dict[str, str]:
    """What the last bits of a result depend on: the compiler, and what it compiles for."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    return {**versions, "platform": device.platform, "device_kind": device.device_kind}


def describe_environment(study_path: Path) -> dict[str, Any]:
    """What a reader must know to trust a time or to repeat a value.

    Args:
      study_path: the study's file; git is asked about the repository that holds it.

    Returns:
      Numbers, strings and None, ready for JSON.
    """
    revision, dirty = _git(study_path.parent)
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "system": platform.platform(),
        **describe_device(),
        "device_count": jax.device_count(),
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        **{name: os.environ[name] for name in THREADS if name in os.environ},
        "git_revision": revision,
        "git_dirty": dirty,
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or None)


def _git(folder: Path) -> tuple[str | None, bool | None]:
    """The revision checked out in a folder's repository, and whether files differ from it."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet
        return None, None
