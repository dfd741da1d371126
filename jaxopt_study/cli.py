"""The command `jaxopt-study`: `run` a study, `list` them, `fit` data, `check` derivatives, `bench`.

Only words are parsed here; the work is in `jaxopt_study.study`, imported when it is needed, so
that `--help` is quick and the mathematics needs none of the packages of a study.
"""

import argparse
import dataclasses
import errno
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from jaxopt_study.bench.command import add_bench, bench_command
from jaxopt_study.study.read_words import add_reading
from jaxopt_study.study.sweep_words import add_checkpoint_seconds, add_resume_and_repeat, add_sweep
from jaxopt_study.types import LossName
from jaxopt_study.version import __version__

NEEDED = ("jinja2", "matplotlib", "msgspec", "pyarrow", "rich", "tomli_w", "tyro")
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT)  # a folder that is gone
EXIT_CODES = """\
exit codes:
  0    the run ended and was recorded, whatever its status
  1    a fault in the study or in jaxopt_study itself, with a traceback; jobs that failed on a cluster
  2    bad input: one line says what and where, nothing was written
  3    check: a derivative is wrong; repeat: the results differ; bench: worse than the baseline
  4    a record could not be written: the disk is full, or the folder is gone
  130  interrupted by Ctrl-C, 143 by SIGTERM: what was computed is recorded (`resume` goes on), or
       nothing had been begun; 141: what was printed is read no more, as by `| head`
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: the words after the program's name; those of the process by default.

    Returns:
      The exit code, as `jaxopt-study --help` documents it.
    """
    try:
        code = _command(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`: who reads what is printed has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


def _command(argv: Sequence[str] | None) -> int:
    parser = _parser()
    known, flags = parser.parse_known_args(argv)
    if flags and known.command not in ("run", "sweep"):
        parser.error(f"{known.command}: unrecognized arguments: {' '.join(flags)}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _fail(f'{missing[0]} is not installed: pip install "jaxopt_study[study]"')
    from jaxopt_study.study.protocol import StudyInputError

    if known.command in ("fit", "run", "sweep", "resume", "repeat"):
        from jaxopt_study.study.compile_cache import keep_compiled_programs

        keep_compiled_programs()
    try:
        if known.command == "fit":
            return _fit(known)
        if known.command == "check":
            return _check(known)
        if known.command == "bench":
            return bench_command(known)
        if known.command == "report":
            from jaxopt_study.study.report import report

            print(report(known.runs, known.out))
            return 0
        if known.command == "query":
            from jaxopt_study.study.query import query

            query(known.sql, known.runs, known.format)
            return 0
        if known.command == "sweep":
            from jaxopt_study.study.sweep_command import sweep_command

            return sweep_command(known, flags)
        if known.command in ("resume", "repeat"):
            return _go_on(known)
        return _run(known, flags) if known.command == "run" else _list(known.folder)
    except StudyInputError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno not in DISK:
            raise
        _fail(f"{error.filename or 'the record'}: cannot be written: {error.strerror}")
        return 4
    except KeyboardInterrupt as error:
        print("jaxopt-study: interrupted", file=sys.stderr)
        return getattr(error, "exit_code", 130)


class _Parser(argparse.ArgumentParser):
    """One whose errors are one line, as all others, without the usage: `--help` shows it."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix("jaxopt-study").strip()
        self.exit(_fail(f"{command}: {message}" if command else message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxopt-study",
        description="Run studies from their configuration files, fit models to data, check derivatives.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jaxopt_study {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        usage="jaxopt-study run CONFIG [--out DIR] [--no-plots] [--quiet] [--FLAG VALUE ...]",
        help="run a study and record it: jaxopt-study run CONFIG [--flag value ...]",
        description="Run a study. Every field of its Config is a flag too, and wins over the file:\n"
        "`jaxopt-study run CONFIG --help` lists them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    run.add_argument("config", metavar="CONFIG", nargs="?", type=Path, help="the study's TOML")
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where records go (runs)")
    run.add_argument("--no-plots", dest="plots", action="store_false", help="draw no pictures")
    run.add_argument("--quiet", action="store_true", help="print the record's path and nothing else")
    run.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard's files there")
    run.add_argument("--devices", type=int, metavar="N", help="divide lanes or data over N devices")
    run.add_argument(
        "--distributed", action="store_true", help="this process is one of several, see docs/devices.md"
    )
    add_checkpoint_seconds(run)
    run.add_argument("-h", "--help", action="store_true", help="show this, and the study's flags")
    run.set_defaults(parser=run)
    show = commands.add_parser("list", help="list studies: jaxopt-study list [DIR]", allow_abbrev=False)
    show.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=Path("configs"))
    add_sweep(commands, EXIT_CODES)
    add_resume_and_repeat(commands, EXIT_CODES)
    _add_fit(commands)
    _add_check(commands)
    add_bench(commands, EXIT_CODES)
    add_reading(commands, EXIT_CODES)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        "fit",
        help="fit a model to a CSV: jaxopt-study fit DATA --model MODULE:FUNCTION ...",
        description="Fit a function of (params, x) to two columns of a CSV, print the parameters with their\n"
        "uncertainties, and record them with a picture.",
        epilog="example:\n"
        "  jaxopt-study fit puromycin.csv --model jaxopt_study.models.michaelis_menten:apply \\\n"
        "      --x concentration --y rate --start 'vmax=200,k=0.1' --bounds 'k=0:'\n\n"
        "many data sets at once, from an NPY or Parquet file that need not fit in memory:\n"
        "  jaxopt-study fit --batch images.npy --model jaxopt_study.models.gaussian_spot:apply \\\n"
        "      --start jaxopt_study.models.gaussian_spot:guess --out spots.parquet\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    fit.add_argument("data", metavar="DATA", type=Path, nargs="?", help="a CSV; its first row names columns")
    fit.add_argument(
        "--batch",
        metavar="FILE",
        type=Path,
        help="an NPY file (fits, ...) or a Parquet file with lists, instead",
    )
    word = {"metavar": "COLUMN"}
    fit.add_argument("--model", required=True, metavar="MODULE:FUNCTION", help="or FILE.py:FUNCTION")
    fit.add_argument("--x", help="column of x; of a batch, an NPY file (coordinates if not given)", **word)
    fit.add_argument("--y", help="column of y; an empty cell is a missing value", **word)
    fit.add_argument(
        "--start",
        required=True,
        metavar="NAME=NUMBER,...",
        help="first guesses; or MODULE:FUNCTION of a batch",
    )
    fit.add_argument("--sigma", help="column of standard deviations of y", **word)
    fit.add_argument("--absolute-sigma", action="store_true", help="sigma is known, not up to a factor only")
    fit.add_argument("--bounds", metavar="NAME=LOWER:UPPER,...", help="a side may be empty")
    losses = get_args(LossName)
    fit.add_argument("--loss", default="linear", choices=losses, help="robust to outliers, if not linear")
    fit.add_argument("--loss-scale", type=float, default=1.0, metavar="C", help="from here on an outlier (1)")
    fit.add_argument("--level", type=float, default=0.95, help="of confidence (0.95)")
    fit.add_argument("--dtype", choices=["float32", "float64"], help="(float64; of a batch float32)")
    fit.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where records go (runs); of a batch, the file (FILE.fits.parquet)",
    )
    fit.add_argument("--no-plots", dest="plots", action="store_false", help="draw no picture")
    fit.add_argument("--quiet", action="store_true", help="print the record's path and nothing else")


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="check derivatives: jaxopt-study check MODULE:FUNCTION [ARG ...]",
        description="Check the derivatives of a function: forward and reverse mode against differences\n"
        "and each other, second order, and all under vmap. Print what is wrong, and where.",
        epilog="An ARG is JSON: a number, lists of numbers (an array), or an object (a dict). Numbers with\n"
        "a point are differentiated by. In place of an array: normal(3,2), uniform(3), zeros(2), ones().\n"
        "Without ARGs, the function example_args in the same module returns them in a tuple.\n\n"
        "examples:\n"
        "  jaxopt-study check jaxopt_study.models.polynomial:apply '[1.0, 2.0, 0.5]' 'normal(5)'\n"
        '  jaxopt-study check model.py:loss \'{"w": "normal(3,2)", "b": [0.0, 0.0]}\' \'normal(10,3)\'\n'
        "  jaxopt-study check model.py:loss        # arguments from model.example_args()\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    check.add_argument("function", metavar="MODULE:FUNCTION", help="or FILE.py:FUNCTION")
    check.add_argument("arguments", metavar="ARG", nargs="*", help="one for each argument of the function")
    check.add_argument(
        "--args-from", default="example_args", metavar="NAME", help="function that returns the arguments"
    )
    check.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    check.add_argument("--no-probe", dest="probe", action="store_false", help="look at these arguments only")
    check.add_argument(
        "--no-second-order", dest="second_order", action="store_false", help="first derivatives only"
    )
    check.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")


def _check(known: argparse.Namespace) -> int:
    from jaxopt_study.study.check_function import CheckRequest, check_function

    fields = [field.name for field in dataclasses.fields(CheckRequest)]
    report = check_function(CheckRequest(**{name: getattr(known, name) for name in fields}))
    return 0 if report.ok else 3


def _fit(known: argparse.Namespace) -> int:
    if known.batch is not None:
        return _fit_batch(known)
    from jaxopt_study.study.fit_file import FitRequest, fit_file

    for name in ("data", "x", "y"):
        if getattr(known, name) is None:
            flag = "DATA" if name == "data" else f"--{name}"
            return _fail(f"fit: the following arguments are required: {flag}")
    known.dtype = known.dtype or "float64"
    fields = [field.name for field in dataclasses.fields(FitRequest)]
    request = FitRequest(**{name: getattr(known, name) for name in fields})
    report = fit_file(request, known.out or Path("runs"), quiet=known.quiet, plots=known.plots)
    if known.quiet:
        print(report.folder)
    return 0


def _fit_batch(known: argparse.Namespace) -> int:
    from jaxopt_study.study.fit_batch import BatchRequest, fit_batch

    for name, default in (("data", None), ("sigma", None), ("absolute_sigma", False), ("level", 0.95)):
        if getattr(known, name) != default:
            flag = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            return _fail(f"fit: {flag} does not go with --batch")
    request = BatchRequest(
        data=known.batch,
        model=known.model,
        start=known.start,
        x=None if known.x is None else Path(known.x),
        y=known.y,
        bounds=known.bounds,
        loss=known.loss,
        loss_scale=known.loss_scale,
        dtype=known.dtype or "float32",
    )
    out = known.out or known.batch.with_suffix(".fits.parquet")
    done = fit_batch(request, out, quiet=known.quiet)
    if not known.quiet:
        pace = f"{done.fits / done.seconds:.0f} a second"
        print(f"{done.fits} fits, {done.converged} converged, {done.seconds:.1f} s, {pace}")
    print(out)
    return 0


def _run(known: argparse.Namespace, flags: Sequence[str]) -> int:
    from jaxopt_study.study.config_file import load_configs, read_config_file
    from jaxopt_study.study.flags import apply_flags, flags_help

    if known.config is None and not known.help:
        return _fail("run: which CONFIG? `jaxopt-study list` shows what there is")
    if known.config is None:
        known.parser.print_help()
        return 0
    file = read_config_file(known.config)
    study, configs = load_configs(file)
    if known.help:
        label, config = next(iter(configs.items()))
        known.parser.print_help()
        print(f"\n{study.title}\nflags of this study, with the values of {known.config} ({label}):\n")
        print(flags_help(config))
        return 0
    configs = apply_flags(configs, flags)
    from jaxopt_study.study.devices import laid_out, one_writer, set_up
    from jaxopt_study.study.run import run_study
    from jaxopt_study.study.tensorboard import check_tensorboard

    check_tensorboard(known.tensorboard)
    rows = set_up(file.devices if known.devices is None else known.devices, known.distributed)
    if rows is not None:
        study = laid_out(study, configs, rows)
    with one_writer(known.out) as (out, writes):
        report = run_study(
            study,
            configs,
            out,
            checkpoint_seconds=known.checkpoint_seconds,
            quiet=known.quiet or not writes,
            tensorboard=known.tensorboard if writes else None,
            plots=known.plots and writes,
        )
    if known.quiet and writes:
        print(report.folder)
    return report.exit_code


def _go_on(known: argparse.Namespace) -> int:
    from jaxopt_study.study.resume import repeat, resume

    if known.command == "resume":
        return resume(
            known.run,
            checkpoint_seconds=known.checkpoint_seconds,
            distributed=known.distributed,
            quiet=known.quiet,
            plots=known.plots,
        )
    code, folder = repeat(known.run, known.out, quiet=known.quiet)
    if known.quiet:
        print(folder)
    return code


def _list(folder: Path) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from jaxopt_study.study.config_file import read_config_file
    from jaxopt_study.study.protocol import StudyInputError

    if not folder.is_dir():
        return _fail(f"{folder}: no such folder")
    table = Table("config", "study", "variants", box=box.SIMPLE_HEAD, pad_edge=False)
    broken = []
    for path in sorted(folder.glob("*.toml")):
        try:
            file = read_config_file(path)
            table.add_row(str(path), file.title, ", ".join(file.variants))
        except StudyInputError as error:
            broken.append(str(error))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # rich's 80 would wrap a line that goes into a file
    console.print(table)
    return max([_fail(message) for message in broken], default=0)


def _fail(message: str) -> int:
    print(f"jaxopt-study: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
