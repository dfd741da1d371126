"""Studies: one module of pure functions, one TOML, one recorded folder per run.

A study's module says `from jaxopt_study import study` and uses the names below; what writes
records (`record`), runs them (`run`) or shows them (`progress`) is imported by the command line
alone, because it needs packages that a study's own mathematics does not.
"""

from jaxopt_study.study.config import config, static
from jaxopt_study.study.protocol import (
    Outcome,
    Recorded,
    Study,
    StudyInputError,
    Timing,
    load_study,
    on_host,
)

__all__ = [
    "Outcome",
    "Recorded",
    "Study",
    "StudyInputError",
    "Timing",
    "config",
    "load_study",
    "on_host",
    "static",
]
