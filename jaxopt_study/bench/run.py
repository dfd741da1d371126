"""Run suites: measure their cases one after the other, show them, leave a folder with the results.

What a suite measures is said in its own module; this file knows only which there are.
"""

import contextlib
import dataclasses
import fnmatch
import importlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from jaxopt_study.bench import baseline, peers
from jaxopt_study.bench.case import Planned, Row, measure
from jaxopt_study.bench.claims import judge_claims
from jaxopt_study.bench.results import FILE, Results, write_results
from jaxopt_study.bench.roofline import measure_limits
from jaxopt_study.bench.table import limits_text, machine_text, print_case
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.record import check_writable, new_folder

# Each from one or several modules of `bench.suites`.
SUITES: dict[str, tuple[str, ...]] = {
    "first_order": ("first_order",),
    "least_squares": ("least_squares", "small_problems", "curve_fits", "large_problems"),
    "batch": ("batch", "vmapped_fits"),
    "newton": ("newton_step", "newton_cg"),
    "root": ("roots",),
    "derivatives": ("derivatives",),
    "ode": ("ode", "ode_training"),
    "sweep": ("sweep",),
    "study": ("studies",),
    "import": ("startup",),
}
PEERS = ("jaxopt", "lmfit", "optax", "optimistix", "scipy", "torch", "torchdiffeq")


@dataclasses.dataclass(frozen=True)
class BenchRequest:
    """What is asked for on the command line.

    Attributes:
      suites: names; all if there are none.
      only: patterns of names of cases, as a shell has them; all if there are none.
      claims: only cases of which a ratio is claimed.
      peers: names of packages to compare with, where they are installed; None for all.
      device: "cpu", "gpu" or "tpu"; None for JAX's default.
      rounds: how often each contestant is timed; None for each case's own.
      out: where the folder is made.
      save: where to write a baseline.
      compare: a baseline to compare with.
      trace: a folder for a profile.
      quiet: print the folder and nothing else.
    """

    suites: Sequence[str] = ()
    only: Sequence[str] = ()
    claims: bool = False
    peers: Sequence[str] | None = None
    device: str | None = None
    rounds: int | None = None
    out: Path = Path("runs")
    save: Path | None = None
    compare: Path | None = None
    trace: Path | None = None
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """What a run of the benchmarks leaves.

    Attributes:
      folder: with the results, the pictures and the page.
      results: what was measured.
      comparison: with the baseline.
    """

    folder: Path
    results: Results
    comparison: baseline.Comparison


def planned(suite: str) -> tuple[Planned, ...]:
    """The cases of a suite."""
    modules = (importlib.import_module(f"jaxopt_study.bench.suites.{name}") for name in SUITES[suite])
    return tuple(case for module in modules for case in module.cases())


def print_suites(suites: Sequence[str] = (), only: Sequence[str] = (), claims: bool = False) -> None:
    """Name suites (all), what they are about, and their cases; those alone that are asked for.

    Raises:
      StudyInputError: an unknown suite, or no case that is asked for.
    """
    for suite, chosen in _choose(suites, only, claims).items():
        print(suite)
        for name in SUITES[suite]:
            module = importlib.import_module(f"jaxopt_study.bench.suites.{name}")
            cases = [case.name for case in module.cases() if case.name in {one.name for one in chosen}]
            if cases:
                print(f"  {(module.__doc__ or '').splitlines()[0]}")
            for case in cases:
                print(f"    {case}")


def bench(request: BenchRequest) -> BenchReport:
    """Measure, print, and write a folder.

    Raises:
      StudyInputError: an unknown suite, peer, device or case, a folder that cannot be written to.
    """
    with _in_the_calling_thread():
        return _bench(request)


def _bench(request: BenchRequest) -> BenchReport:
    chosen = _choose(request.suites, request.only, request.claims)
    wanted = _wanted(request.peers)
    before = baseline.load(request.compare) if request.compare else {}
    check_writable(request.out)
    if request.trace is not None:
        check_writable(request.trace.parent)
    with _on_device(request.device), _traced(request.trace):
        began = time.perf_counter()
        environment = describe_environment(Path(__file__))
        environment["in_the_calling_thread"] = True
        environment["peers"] = {name: version for name in PEERS if (version := peers.installed(name))}
        dtypes = sorted({case.dtype for cases in chosen.values() for case in cases})
        limits = {dtype: measure_limits(dtype) for dtype in dtypes}
        if not request.quiet:
            print(f"{machine_text(environment)}\nlimits: {limits_text(limits)}", flush=True)
        folder = new_folder(request.out, "bench")
        rows: list[Row] = []

        def so_far() -> Results:
            seconds = time.perf_counter() - began
            return Results(tuple(rows), environment, limits, _command(request), seconds)

        # A baseline is of ratios, not of what they are above.
        until_met = request.claims and not (request.save or request.compare)
        for suite, cases in chosen.items():
            for case in cases:
                started = time.perf_counter()
                known = _of(case, wanted, request)
                measured = list(
                    measure(suite, case, limits, known, request.rounds, request.claims, until_met)
                )
                rows += measured
                write_results(folder / FILE, so_far())  # what follows may fail, or be interrupted
                if not request.quiet:
                    print_case(measured, time.perf_counter() - started)
            jax.clear_caches()
        results = so_far()
    if not request.quiet:
        _print_claims(rows)
    from jaxopt_study.bench.page import write_page

    write_page(folder, results)
    if request.save is not None:
        baseline.save(request.save, rows)
    return BenchReport(folder, results, baseline.compare(before, rows))


def _of(case: Planned, wanted: Callable[[str], bool], request: BenchRequest) -> Callable[[str], bool]:
    """Whether a peer is wanted in a case; where only claims are asked for, those of whom there is one."""
    if not request.claims:
        return wanted
    return lambda name: wanted(name) and case.claims_of(name)


def _print_claims(rows: Sequence[Row]) -> None:
    for one in judge_claims(rows):
        print(f"{'met' if one.met else 'SHORT':5}  {one.name}: {one.measured}, {one.claimed} claimed")


def _choose(suites: Sequence[str], only: Sequence[str], claims: bool) -> dict[str, list[Planned]]:
    for suite in suites:
        if suite not in SUITES:
            raise StudyInputError(f"bench: no suite {suite!r}; there are: {', '.join(SUITES)}")
    chosen = {}
    for suite in suites or SUITES:
        cases = [case for case in planned(suite) if _matches(case.name, only)]
        cases = [case for case in cases if case.claims or not claims]
        if cases:
            chosen[suite] = cases
    if not chosen:
        named = f"is named {' or '.join(only)}" if only else "is there"
        claimed = " with a claim" if claims else ""
        where = f" in {' or '.join(suites)}" if suites else ""
        raise StudyInputError(f"bench: no case {named}{claimed}{where}; --list names them")
    return chosen


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) or pattern in name for pattern in patterns)


def _wanted(names: Sequence[str] | None) -> Callable[[str], bool]:
    for name in names or ():
        if name not in (*PEERS, "none"):
            raise StudyInputError(f"bench: no peer {name!r}; there are: {', '.join(PEERS)}, none")
        if name != "none" and not peers.installed(name):
            raise StudyInputError(f"bench: {name} is not installed")
    return lambda name: peers.installed(name) is not None and (names is None or name in names)


@contextlib.contextmanager
def _in_the_calling_thread() -> Iterator[None]:
    """Run programs of the CPU where they are called, if nobody asked for its device before.

    To hand one to another thread, and to be woken when it is done, takes as long as a small fit, and more on
    an idle machine than on a busy one. So it is for everybody's programs.
    """
    before = jax.config.read("jax_cpu_enable_async_dispatch")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        yield
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", before)


@contextlib.contextmanager
def _on_device(name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    try:
        device = jax.devices(name)[0]
    except RuntimeError:
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise StudyInputError(f"bench: no device {name!r} here; there are: {there}") from None
    with jax.default_device(device):
        yield


@contextlib.contextmanager
def _traced(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    with jax.profiler.trace(folder, create_perfetto_trace=True):
        yield


def _command(request: BenchRequest) -> str:
    words = ["jaxopt-study", "bench", *request.suites]
    for flag, values in (("--only", request.only), ("--peers", request.peers or ())):
        words += [flag, *values] if values else []
    words += ["--claims"] if request.claims else []
    words += ["--device", request.device] if request.device else []
    words += ["--rounds", str(request.rounds)] if request.rounds else []
    return shlex.join(words)
