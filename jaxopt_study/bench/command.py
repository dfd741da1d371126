"""The words of `jaxopt-study bench`; what they do is in `run`, imported when it is needed."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_study.bench.baseline import Comparison

_MEASURING = ("peers", "device", "rounds", "trace")  # options that say how to measure


def add_bench(commands: Any, exit_codes: str) -> None:
    """Add the subcommand to the parser of the command line."""
    bench = commands.add_parser(
        "bench",
        help="measure against other packages: jaxopt-study bench [SUITE ...]",
        description="Measure suites of benchmarks, against other packages where they are installed, print\n"
        "them, and leave a folder with the results (Parquet), a page and pictures.",
        epilog="examples:\n"
        "  jaxopt-study bench --list\n"
        "  jaxopt-study bench --claims                  # only cases of which a ratio is claimed\n"
        "  jaxopt-study bench first_order --only 'adam*' --peers optax\n"
        "  jaxopt-study bench --save baseline.json      # ratios to compare with later\n"
        "  jaxopt-study bench --compare baseline.json   # exit code 3 where one got worse\n"
        "  jaxopt-study bench --write BENCHMARKS.md --results benchmarks/cpu.parquet\n\n" + exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    bench.add_argument("suites", metavar="SUITE", nargs="*", help="(all)")
    bench.add_argument("--list", action="store_true", help="name the suites and their cases, measure nothing")
    bench.add_argument(
        "--only", metavar="CASE", action="extend", nargs="+", default=[], help="names of cases, or patterns"
    )
    bench.add_argument("--claims", action="store_true", help="only cases of which a ratio is claimed")
    bench.add_argument(
        "--peers", metavar="NAME", action="extend", nargs="+", help="packages to compare with (all); or none"
    )
    bench.add_argument("--device", choices=["cpu", "gpu", "tpu"], help="(JAX's default)")
    bench.add_argument("--rounds", type=int, metavar="N", help="how often each is timed (a case's own)")
    bench.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where folders go (runs)"
    )
    bench.add_argument("--save", type=Path, metavar="FILE", help="write the ratios as a baseline")
    bench.add_argument("--compare", type=Path, metavar="FILE", help="with a baseline; exit code 3 if worse")
    bench.add_argument(
        "--trace", type=Path, metavar="DIR", help="write a profile for TensorBoard or Perfetto"
    )
    bench.add_argument("--results", type=Path, metavar="FILE", help="measure nothing, read these")
    bench.add_argument("--write", type=Path, metavar="FILE", help="write the results as Markdown")
    bench.add_argument("--quiet", action="store_true", help="print the folder's path and nothing else")


def bench_command(known: argparse.Namespace) -> int:
    """Do what it says; the exit code."""
    from jaxopt_study.bench import run, words
    from jaxopt_study.bench.results import FILE
    from jaxopt_study.study.protocol import StudyInputError

    if known.list:
        _refuse(
            known, ("peers", "device", "rounds", "trace", "save", "compare", "results", "write"), "--list"
        )
        run.print_suites(known.suites, known.only, known.claims)
        return 0
    if known.rounds is not None and known.rounds < 1:
        raise StudyInputError(f"bench: --rounds: expected a number >= 1, got {known.rounds}")
    for flag in ("write", "save"):  # not after a quarter of an hour of measuring
        _check_file(f"bench: --{flag}", getattr(known, flag))
    if known.results is not None:
        _refuse(known, ("suites", "only", "claims", *_MEASURING), "--results")
        return _measured_before(known)
    fields = [field.name for field in dataclasses.fields(run.BenchRequest)]
    report = run.bench(run.BenchRequest(**{name: getattr(known, name) for name in fields}))
    if known.write is not None:
        words.write_benchmarks(known.write, report.results, report.folder / FILE)
    print(report.folder if known.quiet else f"results: {report.folder}")
    return _judged(known, report.comparison)


def _refuse(known: argparse.Namespace, flags: Sequence[str], measures_nothing: str) -> None:
    from jaxopt_study.study.protocol import StudyInputError

    for flag in flags:
        if getattr(known, flag) not in (None, False, []):
            name = "SUITE" if flag == "suites" else f"--{flag}"
            raise StudyInputError(f"bench: {name}: of no use with {measures_nothing}, which measures nothing")


def _check_file(flag: str, path: Path | None) -> None:
    from jaxopt_study.study.protocol import StudyInputError
    from jaxopt_study.study.record import check_writable

    if path is None:
        return
    if path.is_dir():
        raise StudyInputError(f"{flag}: expected a file, got the folder {path}")
    if not path.parent.is_dir():
        raise StudyInputError(f"{flag}: there is no folder {path.parent}")
    check_writable(path.parent)


def _measured_before(known: argparse.Namespace) -> int:
    from jaxopt_study.bench import baseline, words
    from jaxopt_study.bench.results import read_results
    from jaxopt_study.study.protocol import StudyInputError

    if not (known.write or known.save or known.compare):
        raise StudyInputError(
            "bench: --results: what to do with them? give --write FILE, --save FILE or --compare FILE"
        )
    results = read_results(known.results)
    before = baseline.load(known.compare) if known.compare else {}
    if known.write:
        words.write_benchmarks(known.write, results, known.results)
        print(known.write)
    if known.save:
        baseline.save(known.save, results.rows)
        print(known.save)
    return _judged(known, baseline.compare(before, results.rows))


def _judged(known: argparse.Namespace, found: "Comparison") -> int:
    for line in found.worse:
        print(f"worse: {line}", file=sys.stderr)
    if known.compare is not None and not known.quiet:
        left_out = f"; {found.left_out} others in it were not measured" if found.left_out else ""
        print(f"{found.compared} metrics compared with {known.compare}, {len(found.worse)} worse{left_out}")
    return 3 if found.worse else 0
