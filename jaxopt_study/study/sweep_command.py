"""The words of `jaxopt-study sweep`: what they add to the TOML, and the sweep that comes of both."""

import argparse
from collections.abc import Sequence

from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.flags import flags_help
from jaxopt_study.study.planned import read_planned
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.sweep import run_sweep


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
        read_planned(known.config, known, flags),
        known.out,
        width=known.side_by_side,
        checkpoint_seconds=known.checkpoint_seconds,
        quiet=known.quiet,
    )
    if known.quiet:
        print(report.folder)
    return report.exit_code
