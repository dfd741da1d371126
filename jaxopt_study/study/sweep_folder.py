"""The folder of a sweep from its beginning to its end: what it is begun with, and the record of all."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_study.study import record, sweep_record
from jaxopt_study.study.checkpoint import identity_of
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.plan import Job, static_fields
from jaxopt_study.study.planned import Planned
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.version import __version__


@dataclasses.dataclass(frozen=True)
class SweepReport:
    """What a sweep left behind.

    Attributes:
      folder: the record.
      result: what `result.json` holds.
      exit_code: 0, or 130 or 143 where it was interrupted.
    """

    folder: Path
    result: Mapping[str, Any]
    exit_code: int


def start_record(planned: Planned, out_root: Path, widths: Sequence[int]) -> Path:
    """Make the folder of a sweep, with all that is needed to run its jobs."""
    folder = record.new_folder(out_root, planned.study.name)
    identity = identity_of(planned.study)
    if planned.executor is not None:
        identity = {name: identity[name] for name in ("study_sha256", "version", "jax")}
    plan = {"widths": list(widths), **identity}
    tables = {"sweep": planned.sweep.to_toml()}
    if planned.search is not None:
        tables["search"] = planned.search.to_toml()
    if planned.executor is not None:
        tables["executor"] = planned.executor.to_toml()

    def write() -> None:
        (folder / "jobs").mkdir()
        sweep_record.write_plan(folder, plan)
        # Last: a folder with a config.toml and no plan would be that of a run.
        record.write_config(folder, planned.study, planned.configs, tables, "sweep")

    record.begin(folder, write)
    return folder


def check_plan(planned: Planned, folder: Path) -> list[int]:
    """The widths of a sweep's groups, if it still is the sweep that was begun."""
    plan = sweep_record.read_plan(folder)
    for name, now in identity_of(planned.study).items():
        # Of one whose tasks may run on several kinds of machines the device was not written down.
        if name in plan and plan[name] != now:
            what = {"study_sha256": str(planned.study.path), "version": "jaxopt_study"}.get(name, name)
            which = "" if name == "study_sha256" else f" ({plan[name]} then, {now} now)"
            since = f"has changed since the sweep in {folder} began{which}"
            raise StudyInputError(f"{what}: {since}: go on with what it was, or sweep anew")
    widths = plan["widths"]
    if len(widths) != max(len(planned.groups), 1):
        raise StudyInputError(f"{folder}/plan.json: {len(widths)} widths for {len(planned.groups)} groups")
    return widths


def join_record(
    planned: Planned, folder: Path, jobs: Sequence[Job], timing: Mapping[str, Any], interrupted: bool
) -> dict[str, Any]:
    """Join what is there, and write `result.json`.

    Args:
      planned: the sweep.
      folder: its folder.
      jobs: all its jobs.
      timing: "groups", seconds by group, and "wall_seconds".
      interrupted: whether it was stopped midway.

    Returns:
      What `result.json` holds.
    """
    table = sweep_record.join(folder)
    done = sweep_record.done_jobs(folder, jobs)
    keys = [axis.key for axis in planned.sweep.axes]
    groups = [
        {
            "variants": list(dict.fromkeys(point.variant for point in group)),
            "static": static_fields(group),
            "points": len(group),
            **timing["groups"][index],
        }
        for index, group in enumerate(planned.groups)
    ]
    seconds = {
        name: sum(group["timing"][name] for group in groups) for name in ("compile_seconds", "run_seconds")
    }
    result = {
        "study": planned.study.name,
        "title": planned.study.title,
        "kind": "sweep",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "version": __version__,
        "environment": describe_environment(planned.study.path),
        "axes": planned.sweep.to_toml()["axes"],
        "counts": {
            "points": sum(len(job.members) for job in jobs),
            "done": sum(len(job.members) for job in done),
            "groups": len(planned.groups),
            "jobs": len(jobs),
            "status": {} if table is None else sweep_record.count_statuses(table),
        },
        "groups": groups,
        "best": None if table is None else sweep_record.best_point(table, keys),
        "timing": {**seconds, "wall_seconds": timing["wall_seconds"]},
    }
    record.write_result(folder, result)
    return result
