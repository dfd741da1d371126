"""The table `[executor]`: where the jobs of a sweep run, if not in this process.

submitit hands them to Slurm, or to processes of this machine; see `cluster`.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_study.study.config_file import check_keys
from jaxopt_study.study.protocol import StudyInputError

KINDS = ("local", "slurm")
MOST_TASKS = 100_000


@dataclasses.dataclass(frozen=True)
class ExecutorConfig:
    """Where jobs run.

    Attributes:
      kind: "local" (processes here) or "slurm".
      tasks: how many tasks the jobs are dealt out to, at most; 0 for one a group.
      retries: how often what failed, or was pre-empted, is submitted again.
      parameters: of submitit, such as `timeout_min`, `cpus_per_task`, `slurm_partition`.
    """

    kind: str
    tasks: int = 0
    retries: int = 2
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_toml(self) -> dict[str, Any]:
        """The table again, as `config.toml` of the record has it."""
        return dataclasses.asdict(self)


def read_executor(table: Mapping[str, Any], flag: str | None, where: str) -> ExecutorConfig | None:
    """Check the table `[executor]`, or the flag; None where jobs run in this process.

    Raises:
      StudyInputError: the kind is unknown or not here, or submitit does not know a parameter.
    """
    if not table and flag is None:
        return None
    check_keys(table, ("kind", "tasks", "retries", "parameters"), f"{where}executor.")
    kind = flag if flag is not None else table.get("kind", "local")
    if kind == "here":
        return None
    if kind not in KINDS:
        raise StudyInputError(f'{where}executor.kind: expected "here", "local" or "slurm", got {kind!r}')
    counts = {name: table.get(name, getattr(ExecutorConfig, name)) for name in ("tasks", "retries")}
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count <= MOST_TASKS:
            expected = f"expected a whole number from 0 to {MOST_TASKS:,}"
            raise StudyInputError(f"{where}executor.{name}: {expected}, got {count!r}")
    parameters = table.get("parameters", {})
    if not isinstance(parameters, dict):
        raise StudyInputError(f"{where}executor.parameters: expected a table [executor.parameters]")
    config = ExecutorConfig(kind, **counts, parameters=parameters)
    make_executor(config, Path(), where)
    return config


def make_executor(config: ExecutorConfig, folder: Path, where: str = "") -> Any:
    """submitit's executor, which writes its logs into a folder; nothing is written yet.

    Raises:
      StudyInputError: submitit is not installed, Slurm is not here, or a parameter is not known.
    """
    if importlib.util.find_spec("submitit") is None:
        raise StudyInputError('submitit is not installed: pip install "jaxopt_study[cluster]"')
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=config.kind)
    except (RuntimeError, ValueError) as error:
        raise StudyInputError(f"{where}executor.kind: {config.kind}: {error}") from None
    try:
        executor.update_parameters(**{"timeout_min": 60, **config.parameters})
    except Exception as error:  # whatever submitit makes of what it does not know
        raise StudyInputError(f"{where}executor.parameters: {error}") from None
    return executor
