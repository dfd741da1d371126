"""One comparison: the same work done in several ways, and what came of it.

A suite is a module whose `cases()` are `Planned`; building one makes its `Case`, measuring that its `Row`s. A
row has no time without its error, and a contestant whose error is above what the case asks for has no ratio.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import jax

from jaxopt_study.bench import roofline
from jaxopt_study.bench.instructions import instructions
from jaxopt_study.bench.timer import STEADY, at_least, one_call, ratio, take_turns, uncertainty

OURS = "jaxopt_study"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Attributes:
      work: does it, and returns what it computed.
      error: of that, against a reference; 0 where the result is exact, NaN where there is none.
      settings: what it was told, and why.
      units: how many units of work one call does; a function of the result where that depends.
      evaluations: of the objective in one call, if they are counted.
      program: one unit of work, compiled, for XLA's own counts; None where the work is not one program.
      loops: whether the program is the whole work, loops and all: then only its memory is told, for XLA
        counts the body of a loop once.
      first_seconds: of its first call, compilation included, if that was made and timed before.
    """

    work: Callable[[], Any]
    error: Callable[[Any], float]
    settings: str
    units: float | Callable[[Any], float] = 1.0
    evaluations: Callable[[Any], int] | None = None
    program: Callable[[], Any] | None = None
    loops: bool = False
    first_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a number is to be: at least, or at most, so much."""

    at_least: float | None = None
    at_most: float | None = None


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of a case that is no time: a share of memory, a ratio of losses.

    Attributes:
      name: what it is.
      value: measured.
      at_least, at_most: its `Bound`, where something is claimed of it.
    """

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it is as claimed. NaN is not.

        >>> Figure("losses", 9.0, at_least=8.0).is_met, Figure("losses", math.nan, at_least=8.0).is_met
        (True, False)
        """
        least, most = self.at_least, self.at_most
        return (least is None or self.value >= least) and (most is None or self.value <= most)


@dataclasses.dataclass(frozen=True)
class Case:
    """The contestants at one piece of work.

    Attributes:
      unit: what a unit of work is, "step" for one.
      contestants: by name; ours is called "jaxopt_study", or begins with it.
      most_error: what solves it.
      rounds: how often each is timed; fewer where a call takes seconds.
      reference: whose time the others are divided by.
      cold: every call of the work is a first one, see `take_turns`.
      keep: what has to last as long as the case, a temporary folder for one.
      blas: whether there may be calls of BLAS or LAPACK, whose threads are to be chosen; or the contestants
        who may make some.
      clock: from what work returned to its seconds, where these are not what the call takes.
      size: of the problem, for pictures of how times grow; None where there is one size only.
      figures: other numbers than times, by name, from what the work of all contestants returned.
    """

    unit: str
    contestants: Mapping[str, Contestant]
    most_error: float = math.inf
    rounds: int = 15
    reference: str = OURS
    cold: bool = False
    clock: Callable[[Any], float] | None = None
    keep: Any = None
    blas: bool | Collection[str] = True
    size: int | None = None
    figures: Mapping[str, Callable[[Mapping[str, Any]], float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases of which something is claimed together.

    Attributes:
      name: of them all.
      size: how many they are.
      claim: the geometric means of their ratios that are to be reached, by peer.
    """

    name: str
    size: int
    claim: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Planned:
    """A case that is not built yet: building compiles and computes references.

    Attributes:
      name: unique in its suite.
      build: makes the case, called with x64 as `dtype` says. Takes the function that says which peers are
        wanted and installed.
      dtype: "float32" or "float64".
      claim: the ratios that are to be reached, by peer.
      at_most: ratios that are not to be exceeded, by contestant: where that is a part of our work, to tell
        what it costs, or ours with more to do.
      group: the cases that this is one of, of which something is claimed together.
      figures: what the case's figures are to be, by name.
    """

    name: str
    build: Callable[[Callable[[str], bool]], Case]
    dtype: str = "float64"
    claim: Mapping[str, float] = dataclasses.field(default_factory=dict)
    at_most: Mapping[str, float] = dataclasses.field(default_factory=dict)
    group: Group | None = None
    figures: Mapping[str, Bound] = dataclasses.field(default_factory=dict)

    @property
    def claims(self) -> bool:
        """Whether anything is claimed of it."""
        return bool(self.claim or self.at_most or self.group or self.figures)

    @property
    def claimed_of(self) -> frozenset[str]:
        """The contestants of whom something is claimed."""
        return frozenset((*self.claim, *self.at_most, *(self.group.claim if self.group else ())))

    def claims_of(self, peer: str) -> bool:
        """Whether something is claimed of a package, whose contestants' names begin with its own."""
        return any(name.split()[0].rstrip(",") == peer for name in self.claimed_of)


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one contestant. Seconds, evaluations and demands are those of one unit.

    Attributes:
      suite, case, contestant, settings, dtype, unit, size: what it is.
      first_seconds: the first call, compilation included.
      seconds: a warm unit, the median.
      spread: half the interquartile range of these, over the median.
      ratio: the time over the reference's, the median over rounds; None where it is not steady or the
        contestant does not solve the case.
      uncertainty: of the ratio, relative.
      claimed: the ratio that is claimed.
      at_most: the ratio that is not to be exceeded.
      group, group_size, claimed_together: the `Group`, and its claim.
      error: reached.
      solved: whether that is what the case asks for.
      evaluations: of the objective in a call.
      peak_bytes: of arguments, results and temporaries.
      flops, bytes: of one unit, as XLA counts.
      limit: the share of the machine's limit.
      blas_threads: 0 for the process's own.
      rounds: timed.
      at_least: what the ratio is above where it is not steady, see `timer.at_least`, or not known.
      ended_early: whether the work was, because enough was known, see `timer.Long`.
      same_program: whether XLA made the same instructions of it as of the reference: then the ratio is noise.
      figures: of the case; the reference's row has them.
    """

    suite: str
    case: str
    contestant: str
    settings: str
    dtype: str
    unit: str
    size: int | None
    first_seconds: float
    seconds: float
    spread: float
    ratio: float | None
    uncertainty: float
    claimed: float | None
    error: float
    solved: bool
    evaluations: int | None
    peak_bytes: int | None
    flops: float | None
    bytes: float | None
    limit: float | None
    blas_threads: int
    rounds: int
    same_program: bool = False
    at_most: float | None = None
    group: str | None = None
    group_size: int | None = None
    claimed_together: float | None = None
    at_least: float | None = None
    ended_early: bool = False
    figures: tuple[Figure, ...] = ()

    @property
    def key(self) -> str:
        """Its name, unique in a run: suite / case / contestant."""
        return f"{self.suite} / {self.case} / {self.contestant}"


def measure(
    suite: str,
    planned: Planned,
    limits: Mapping[str, roofline.Limits],
    wanted: Callable[[str], bool],
    rounds: int | None = None,
    only_claims: bool = False,
    until_met: bool = False,
) -> Iterator[Row]:
    """Build a case and time its contestants in turns.

    Args:
      suite: its name.
      planned: the case.
      limits: of the machine, by dtype.
      wanted: whether a peer is wanted and installed.
      rounds: instead of the case's own.
      only_claims: leave out who is neither the reference nor claimed of.
      until_met: a ratio that is well above its claim need not be steady.

    Raises:
      ValueError: `at_most` names who is none of the contestants, or `figures` what is none of the case's.
    """
    with jax.enable_x64(planned.dtype == "float64"):
        case = planned.build(wanted)
        unknown = set(planned.at_most) - set(case.contestants)
        if unknown:
            raise ValueError(f"{suite}: {planned.name}: at_most: no contestant {min(unknown)!r}")
        unknown = set(planned.figures) - set(case.figures)
        if unknown:
            raise ValueError(f"{suite}: {planned.name}: figures: the case has no {min(unknown)!r}")
        if only_claims:
            named = {case.reference, *planned.claimed_of}
            contestants = {name: one for name, one in case.contestants.items() if name in named}
            case = dataclasses.replace(case, contestants=contestants)
        work = {name: one.work for name, one in case.contestants.items()}
        first = {} if case.cold else {name: _first_call(one) for name, one in case.contestants.items()}
        programs = {name: one.program() if one.program else None for name, one in case.contestants.items()}
        same = _same_program(case, programs)
        different = len(same) < len(work) - 1  # a ratio that is noise need not be steady
        fixed = {name: one.units for name, one in case.contestants.items() if not callable(one.units)}
        timed = take_turns(
            work,
            rounds or case.rounds,
            case.reference if different else None,
            cold=case.cold,
            clock=case.clock,
            known=first,
            blas=case.blas,
            asked=_asked(planned, case.reference, fixed) if until_met else None,
        )
        figures = _figures(case, planned.figures, {name: clock.result for name, clock in timed.items()})
        units = {}
        for name, one in case.contestants.items():
            units[name] = one.units(timed[name].result) if callable(one.units) else one.units
        for name, one in case.contestants.items():
            clock = timed[name]
            error = float(one.error(clock.result))
            solved = error <= case.most_error or math.isinf(case.most_error)
            base = timed[case.reference]
            off = uncertainty(clock, base)
            times = ratio(clock, base, units[name], units[case.reference])
            asked = roofline.demands(programs[name]) if programs[name] is not None else None
            seconds = clock.median / units[name]
            counted = asked is not None and not one.loops
            above = times if clock.ended_early else at_least(times, off, len(clock.seconds))
            known = off <= STEADY and not clock.ended_early
            yield Row(
                suite=suite,
                case=planned.name,
                contestant=name,
                settings=one.settings,
                dtype=planned.dtype,
                unit=case.unit,
                size=case.size,
                first_seconds=clock.first_seconds,
                seconds=seconds,
                spread=clock.spread,
                ratio=times if solved and known else None,
                uncertainty=off,
                claimed=planned.claim.get(name),
                error=error,
                solved=solved,
                evaluations=one.evaluations(clock.result) if one.evaluations else None,
                peak_bytes=asked.peak if asked else None,
                flops=asked.flops if asked and counted else None,
                bytes=asked.accessed if asked and counted else None,
                limit=roofline.share_of_limit(asked, seconds, limits[planned.dtype])
                if asked and counted
                else None,
                blas_threads=clock.blas_threads or 0,
                rounds=len(clock.seconds),
                same_program=name in same,
                at_most=planned.at_most.get(name),
                group=planned.group.name if planned.group else None,
                group_size=planned.group.size if planned.group else None,
                claimed_together=planned.group.claim.get(name) if planned.group else None,
                at_least=above if solved and not known else None,
                ended_early=clock.ended_early,
                figures=figures if name == case.reference else (),
            )


def _figures(case: Case, bounds: Mapping[str, Bound], results: Mapping[str, Any]) -> tuple[Figure, ...]:
    return tuple(
        Figure(name, float(measured(results)), **dataclasses.asdict(bounds.get(name, Bound())))
        for name, measured in case.figures.items()
    )


def _first_call(one: Contestant) -> float:
    return one_call(one.work)[0] if one.first_seconds is None else one.first_seconds


def _asked(planned: Planned, reference: str, units: Mapping[str, float]) -> dict[str, float]:
    """The ratios that are claimed, of calls: those whose units are known before."""
    if reference not in units:
        return {}
    both = [name for name in planned.claim if name in units]
    return {name: planned.claim[name] * units[name] / units[reference] for name in both}


def _same_program(case: Case, programs: Mapping[str, Any]) -> set[str]:
    """Who runs the same instructions as the reference, itself left out."""
    told = {name: instructions(program) for name, program in programs.items() if program is not None}
    reference = told.pop(case.reference, None)
    return {name for name, text in told.items() if text is not None and text == reference}


def loosest(
    make: Callable[[float], Callable[[], Any]], tolerances: Iterable[float], solved: Callable[[Any], bool]
) -> tuple[Callable[[], Any], float, float]:
    """The work with the loosest tolerance that is tight enough, or with the last one if none is.

    So that nobody pays for digits that others leave out.

    Args:
      make: from a tolerance to the work, made anew each time, so that its first call compiles (where a
        tolerance is traced, all of them are one program, and only the loosest one's does).
      tolerances: the loosest first.
      solved: whether what the work returns is good enough.

    Returns:
      The work, its tolerance, and the seconds of its first call.

    Example:
      >>> work, tolerance, _ = loosest(lambda t: lambda: 5 * t, (1e-2, 1e-4), lambda error: error < 1e-3)
      >>> print(tolerance)
      0.0001
    """
    for tolerance in tolerances:
        work = make(tolerance)
        seconds, found = one_call(work)
        if solved(found):
            break
    return work, tolerance, seconds
