"""The words of `jaxopt-study sweep`: what they add to the TOML, and the sweep that comes of both."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxopt_study.study.axes import read_axis_flag, read_sweep, typed_axes
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.flags import apply_flags, flags_help
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.sweep import Planned, plan_sweep, run_sweep


def sweep_command(known: argparse.Namespace, flags: Sequence[str]) -> int:
    """Run `jaxopt-study sweep`; the exit code."""
    if known.config is None:
        if known.help:
            known.parser.print_help()
            return 0
        raise StudyInputError("sweep: which CONFIG? `jaxopt-study list` shows what there is")
    if known.help:
        study, configs = load_configs(read_config_file(known.config))
        known.parser.print_help()
        label, config = next(iter(configs.items()))
        print(f"\n{study.title}\nflags of this study, with the values of {known.config} ({label}):\n")
        print(flags_help(config))
        return 0
    report = run_sweep(
        read_planned(known.config, known, flags), known.out, width=known.side_by_side, quiet=known.quiet
    )
    if known.quiet:
        print(report.folder)
    return report.exit_code


def read_planned(path: Path, known: argparse.Namespace | None = None, flags: Sequence[str] = ()) -> Planned:
    """The sweep that a TOML describes, changed by the command line's words.

    Raises:
      StudyInputError: anything that is written there is wrong.
    """
    file = read_config_file(path)
    where, table = f"{path}: ", dict(file.sweep)
    if known is not None and _add_words(table, known):
        where = "" if not file.sweep else where
    if not table.get("axes"):
        raise StudyInputError(
            f"{path}: sweep.axes: nothing to sweep; write [sweep.axes], or --axis NAME=VALUES"
        )
    sweep = read_sweep(table, where)
    study, configs = load_configs(file)
    _check_twice(flags, [axis.key for axis in sweep.axes])
    configs = apply_flags(configs, flags)
    return plan_sweep(study, configs, typed_axes(sweep, study.Config, where, path.parent), where)


def _add_words(table: dict[str, Any], known: argparse.Namespace) -> bool:
    changed = False
    axes = dict(table.get("axes") or {}) if isinstance(table.get("axes", {}), dict) else {}
    for text in known.axis or ():
        key, spec = read_axis_flag(text)
        axes[key] = spec
        changed = True
    if changed:
        table["axes"] = axes
        table.pop("order", None)
    if known.zip_axes:
        table["zip"] = [words.split(",") for words in known.zip_axes]
    flags = {"draw": "samples", "draw_by": "sampler", "draw_seed": "sample_seed", "keep_trace": "trace"}
    for flag, name in flags.items():
        if getattr(known, flag) is not None:
            table[name] = getattr(known, flag)
    return changed


def _check_twice(flags: Sequence[str], keys: Sequence[str]) -> None:
    """A flag for what is swept would be without effect."""
    given = {
        flag.removeprefix("--").partition("=")[0].replace("-", "_") for flag in flags if flag[:2] == "--"
    }
    for key in keys:
        if key in given:
            flag = key.replace("_", "-")
            raise StudyInputError(f"--{flag}: is swept; give --axis {key}=[...] instead, or leave one out")
