"""Whole studies: a network from twenty starts against Adam, and spots against the bound of Cramér and Rao.

From a checkout of the project (`configs/`). Seconds are those that the study's record has for its steps,
after compilation; the first call is all of a run. Losses and precision are those of the study's summary.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.bench.case import OURS, Bound, Case, Contestant, Planned
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.flags import apply_flags
from jaxopt_study.study.protocol import Recorded, Study
from jaxopt_study.study.run import run_study

CONFIGS = Path(__file__).parents[3] / "configs"
# Of 100,000 spots in 10 widths these are enough, and most of a run is drawing them.
FEW_SPOTS = ("--spots", "20000", "--classes", "5")
LOSSES = "Adam's loss over ours, median of the starts"
PRECISION = "standard deviation over the bound, the largest of all widths and parameters"
Figures = Mapping[str, Callable[[Mapping[str, Any]], float]]  # from the study's summary


def _case(
    config: str,
    flags: Sequence[str],
    variants: Mapping[str, str],
    error: Callable[[Recorded], float],
    most_error: float,
    figures: Figures,
    wanted: Callable[[str], bool],
) -> Case:
    """Variants of a study, by their names as contestants, each a run of its own."""
    del wanted  # all of them are ours
    study, configs = load_configs(read_config_file(CONFIGS / config))
    configs = apply_flags(configs, flags)
    words = " ".join((config, *flags))
    contestants = {
        name: Contestant(
            functools.partial(_run, study, {label: configs[label]}), error, f"{words}: variant {label}"
        )
        for name, label in variants.items()
    }

    def of_summary(figure: Callable[[Mapping[str, Any]], float], found: Mapping[str, Recorded]) -> float:
        summary = study.summary
        return figure(summary({variants[name]: one for name, one in found.items()})) if summary else np.nan

    return Case(
        "study",
        contestants,
        most_error=most_error,
        rounds=1,
        cold=True,
        clock=lambda recorded: recorded.timing.run_seconds,
        figures={name: functools.partial(of_summary, figure) for name, figure in figures.items()},
    )


def _run(study: Study, configs: Mapping[str, Any]) -> Recorded:
    with tempfile.TemporaryDirectory() as home:
        report = run_study(study, configs, home, quiet=True, plots=False)
    if report.interrupted:  # it recorded what there was
        raise KeyboardInterrupt
    (recorded,) = report.records.values()
    return recorded


def _network(wanted: Callable[[str], bool]) -> Case:
    variants = {OURS: "levenberg_marquardt", "adam": "adam"}
    figures: Figures = {LOSSES: lambda told: told["loss_ratio_median"]}
    median = lambda recorded: float(np.median(recorded.outcome.value))  # noqa: E731
    return _case("rosenbrock_network.toml", (), variants, median, 0.1, figures, wanted)


def _spots(wanted: Callable[[str], bool]) -> Case:
    figures: Figures = {PRECISION: lambda told: 1.0 + told["maximum_likelihood_worst_excess_over_bound"]}
    missed = lambda recorded: 1.0 - float(recorded.outcome.values["converged"])  # noqa: E731
    return _case(
        "gaussian_spots.toml", FEW_SPOTS, {OURS: "maximum_likelihood"}, missed, 0.01, figures, wanted
    )


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module; none where it is installed without its configs."""
    if not CONFIGS.is_dir():
        return ()
    losses, precision = {LOSSES: Bound(at_least=8.0)}, {PRECISION: Bound(at_most=1.05)}
    return (
        Planned("rosenbrock_network, 20 starts", _network, claim={"adam": 20.0}, figures=losses),
        Planned("gaussian_spots, maximum likelihood", _spots, "float32", figures=precision),
    )
