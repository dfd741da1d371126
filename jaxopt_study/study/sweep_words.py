"""The words of the commands around sweeps, for the parser; nothing here needs more than argparse."""

import argparse
from pathlib import Path
from typing import Any


def add_sweep(commands: Any, epilog: str) -> None:
    """Add the command `sweep` to the parser."""
    sweep = commands.add_parser(
        "sweep",
        usage="jaxopt-study sweep CONFIG [--axis NAME=VALUES ...] [--out DIR] [--quiet] [--FLAG VALUE ...]",
        help="run a study at many points: jaxopt-study sweep CONFIG [--axis name=values ...]",
        description="Run a study at every point of the axes in [sweep.axes] of its TOML, or given here.\n"
        "Points that differ in numbers alone are compiled once and run side by side.",
        epilog="an axis:\n"
        "  --axis 'seed=range(0, 20)'            --axis 'learning_rate=logspace(1e-4, 1e-1, 20)'\n"
        "  --axis 'hidden=[[5], [10]]'           --axis 'noise=linspace(0, 1, 5)'\n"
        "  --axis 'damping=loguniform(0.1, 10)'  drawn: uniform, loguniform, integers\n\n" + epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    sweep.add_argument("config", metavar="CONFIG", nargs="?", type=Path, help="the study's TOML")
    sweep.add_argument("--axis", action="append", metavar="NAME=VALUES", help="an axis; wins over the file's")
    sweep.add_argument("--zip-axes", action="append", metavar="NAME,NAME", help="axes that move together")
    sweep.add_argument("--draw", type=int, metavar="N", help="points drawn from the axes that are drawn (64)")
    sweep.add_argument("--draw-by", metavar="sobol|random", help="how (sobol)")
    sweep.add_argument("--draw-seed", type=int, metavar="N", help="of what is drawn (0)")
    sweep.add_argument("--keep-trace", type=int, metavar="N", help="steps of each trace to keep (100)")
    sweep.add_argument(
        "--side-by-side",
        type=_width,
        metavar="N",
        help="points side by side (chosen by their cost); `measured`: try some, for long sweeps",
    )
    sweep.add_argument(
        "--executor",
        metavar="here|local|slurm",
        help="where jobs run: in this process, or through submitit, with [executor.parameters]",
    )
    sweep.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where records go (runs)"
    )
    add_checkpoint_seconds(sweep)
    sweep.add_argument("--quiet", action="store_true", help="print the record's path and nothing else")
    sweep.add_argument("-h", "--help", action="store_true", help="show this, and the study's flags")
    sweep.set_defaults(parser=sweep)


def add_resume_and_repeat(commands: Any, epilog: str) -> None:
    """Add the commands `resume` and `repeat` to the parser."""
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, "epilog": epilog}
    resume = commands.add_parser(
        "resume",
        help="go on with a run or a sweep that was interrupted or killed: jaxopt-study resume RUN",
        description="Go on with a run from its last checkpoint, with a sweep from the jobs that are done.\n"
        "The results are the same, to the last bit, as if nothing had happened.",
        **raw,
    )
    resume.add_argument("run", metavar="RUN", type=Path, help="the folder of the run")
    add_checkpoint_seconds(resume)
    resume.add_argument(
        "--distributed", action="store_true", help="of a run over several processes: this is one of them"
    )
    resume.add_argument("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    resume.add_argument("--quiet", action="store_true", help="print nothing")
    repeat = commands.add_parser(
        "repeat",
        help="run again what a record tells of, and compare: jaxopt-study repeat RUN",
        description="Run again what a record tells of, into a new folder, and compare bit by bit.",
        **raw,
    )
    repeat.add_argument("run", metavar="RUN", type=Path, help="the folder of the run")
    repeat.add_argument(
        "--out", type=Path, metavar="DIR", help="where the new record goes (beside the old one)"
    )
    repeat.add_argument("--quiet", action="store_true", help="print the new record's path and nothing else")


def add_checkpoint_seconds(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--checkpoint-seconds`."""
    parser.add_argument(
        "--checkpoint-seconds",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="from one checkpoint to the next (60)",
    )


def _seconds(text: str) -> float:
    number = _number(text, float, "seconds >= 0")
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds >= 0, got {text}")
    return number


def _width(text: str) -> int | str:
    return text if text == "measured" else _positive(text)


def _positive(text: str) -> int:
    number = _number(text, int, "a whole number >= 1")
    if not 1 <= number <= 2**20:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {2**20:,}, got {text}")
    return number


def _number(text: str, kind: Any, expected: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text}") from None
