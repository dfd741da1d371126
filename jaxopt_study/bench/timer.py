"""Time pieces of work against each other, in one process and in turns.

Machines are shared and noisy, so a single time means little: contestants take turns, and what is
reported is the median over rounds of the *ratio* within a round. A ratio that scatters too much
from round to round is measured for longer, and then not reported at all.
"""

import contextlib
import dataclasses
import gc
import math
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Work = Callable[[], Any]

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")
SAMPLE_SECONDS = 5e-3  # a shorter call is repeated until a sample takes as long: the clock has its own cost
STEADY = 0.1  # the most that a median ratio may be uncertain by, relatively
LONG = 0.2  # seconds of a call
LONGEST = 20.0  # seconds of samples, after which there are no more rounds than asked for
ENOUGH = 5  # rounds, from which on the scatter of a ratio says what it is above
SURELY = 1.1  # times what is asked for, after which work that can be ended early is
PATIENCE = 4  # times as many rounds as asked for, before it is given up


@dataclasses.dataclass(frozen=True)
class Long:
    """Cold work of minutes, which ends early, without some of its results, where that is enough.

    Attributes:
      run: does the work; what it is called with says, whenever it is asked, whether to end.
    """

    run: Callable[[Callable[[], bool]], Any]

    def __call__(self) -> Any:
        """All of it."""
        return self.run(lambda: False)

    def for_at_most(self, seconds: float) -> Work:
        """The work, which is asked to end after so long."""

        def work() -> Any:
            began = time.perf_counter()
            return self.run(lambda: time.perf_counter() - began > seconds)

        return work


@dataclasses.dataclass(frozen=True)
class Timed:
    """Times of one contestant.

    Attributes:
      first_seconds: the first call, compilation included.
      seconds: one warm call, per round.
      blas_threads: how many threads BLAS and LAPACK had; None for the process's own setting.
      result: what the last call returned.
      ended_early: whether a call was, see `Long`: the seconds are then what it takes at least.
    """

    first_seconds: float
    seconds: np.ndarray
    blas_threads: int | None
    result: Any
    ended_early: bool = False

    @property
    def median(self) -> float:
        """Median of the warm seconds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half the interquartile range over the median."""
        return half_range(self.seconds)


def half_range(samples: np.ndarray) -> float:
    """Half the interquartile range over the median.

    >>> half_range(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / 2 / middle)


def take_turns(
    contestants: Mapping[str, Work],
    rounds: int = 15,
    reference: str | None = None,
    *,
    cold: bool = False,
    clock: Callable[[Any], float] | None = None,
    known: Mapping[str, float] | None = None,
    blas: bool | Collection[str] = True,
    asked: Mapping[str, float] | None = None,
) -> dict[str, Timed]:
    """Time every contestant once a round.

    Each is called once to compile, then tried with one BLAS thread and with the process's own
    number of threads, and keeps the faster setting: the time of LAPACK's QR and SVD depends on it
    by a factor of up to 5 on two cores. Every call is waited for (`jax.block_until_ready`), and one that is
    over within five milliseconds is repeated for as long. Python collects no garbage meanwhile.

    Args:
      contestants: functions without arguments that do the work and return what they computed.
      rounds: how often each is timed.
      reference: one of them. If the ratio of any other to it is unsteady, there are more rounds, up to
        four times as many.
      clock: from what work returned to its seconds, where it has a clock of its own (a process).
      cold: every call is a first one (work that compiles, or starts a process): no other call is made.
      known: the seconds of first calls that were made before.
      blas: whether there may be calls of BLAS or LAPACK, or whose; else there is nothing to choose.
      asked: ratios to the reference: one that is well above need not be steady, see `at_least`, and `Long`
        work that has taken well over it is ended.

    Returns:
      A `Timed` for each.
    """
    asked = asked or {}
    first: dict[str, float] = dict(known or {})
    threads: dict[str, int | None] = {}
    calls: dict[str, int] = {}
    result: dict[str, Any] = {}
    trial: dict[str, float] = {}
    for name, work in contestants.items():
        if cold:
            threads[name], calls[name] = None, 1
            continue
        if name not in first:
            first[name], _ = one_call(work)
        may_call = blas if isinstance(blas, bool) else name in blas
        threads[name], trial[name] = _best_threads(work, (None, 1) if may_call else (None,))
        calls[name] = max(1, round(SAMPLE_SECONDS / max(trial[name], 1e-9)))
    # Where all take long, the trials are a round: one after the other, each with its best setting.
    long = bool(trial) and clock is None and min(trial.values()) >= LONG
    seconds: dict[str, list[float]] = {name: [trial[name]] if long else [] for name in contestants}
    ended: set[str] = set()
    names = list(contestants)
    longs = {
        name: work for name, work in contestants.items() if isinstance(work, Long) and cold and not clock
    }
    shuffle = np.random.default_rng(0).permutation
    for done in range(1 + long, PATIENCE * rounds + 1):
        # In another order each round: what a contestant leaves behind (spinning threads, full caches) is
        # then not always the same one's to bear. The reference, which ends others, is first: there may be one
        # round only.
        order = [names[k] for k in shuffle(len(names))]
        if longs:
            order.sort(key=lambda name: name != reference)
        for name in order:
            work, limit = contestants[name], math.inf
            if name in longs and name in asked and reference is not None:
                limit = SURELY * asked[name] * seconds[reference][-1]
                work = longs[name].for_at_most(limit)
            with blas_threads(threads[name]):
                took, result[name] = _time(work, calls[name])
            if took >= limit:
                ended.add(name)
            first.setdefault(name, took)
            seconds[name].append(took if clock is None else clock(result[name]))
        patient = sum(map(sum, seconds.values())) < LONGEST
        if done >= rounds and (reference is None or not patient or _all_known(seconds, reference, asked)):
            break
    return {
        name: Timed(
            first[name],
            np.array(taken),
            threads[name],
            result[name],
            ended_early=name in ended,
        )
        for name, taken in seconds.items()
    }


def ratio(slow: Timed, fast: Timed, slow_units: float = 1, fast_units: float = 1) -> float:
    """Median over rounds of the time of `slow` over that of `fast`, per unit of work of each.

    >>> slow = Timed(0.0, np.array([4.0, 8.0]), None, None)
    >>> ratio(slow, Timed(0.0, np.array([1.0, 2.0]), None, None), slow_units=2)
    2.0
    """
    return float(np.median((slow.seconds / slow_units) / (fast.seconds / fast_units)))


def uncertainty(slow: Timed, fast: Timed) -> float:
    """How far the median ratio may be off, relatively: about one standard error of a median.

    >>> steady = Timed(0.0, np.array([1.0, 1.0, 1.0, 1.0]), None, None)
    >>> uncertainty(steady, steady)
    0.0
    """
    return _uncertainty(slow.seconds / fast.seconds)


def _uncertainty(ratios: np.ndarray) -> float:
    # Of a normal distribution: σ = 1.35⁻¹ interquartile ranges, and 1.25 σ/√n of a median of n.
    return float(2 * half_range(ratios) / 1.35 * 1.25 / np.sqrt(len(ratios)))


def _best_threads(work: Work, settings: Sequence[int | None]) -> tuple[int | None, float]:
    """The faster setting, and the seconds of a call; of work that takes long a call of each will do."""
    best: dict[int | None, float] = {}
    for setting in settings:
        with blas_threads(setting):
            best[setting] = _time(work, 1)[0]
            if best[setting] < LONG:
                best[setting] = min(_time(work, 1)[0] for _ in range(3))
    threads = min(best, key=lambda setting: best[setting])
    return threads, best[threads]


def _all_known(seconds: Mapping[str, list[float]], reference: str, asked: Mapping[str, float]) -> bool:
    """Whether every ratio is steady, or well above what is asked for."""

    def is_known(name: str) -> bool:
        ratios = np.array(seconds[name]) / np.array(seconds[reference])
        off = _uncertainty(ratios)
        return off <= STEADY or at_least(float(np.median(ratios)), off, len(ratios)) >= asked.get(
            name, np.inf
        )

    return all(map(is_known, seconds))


def at_least(ratio: float, off: float, rounds: int) -> float:
    """What an unsteady ratio is above: three standard errors of its logarithm below it; 0 of few rounds.

    Args:
      ratio: the median.
      off: its relative uncertainty.
      rounds: measured.

    >>> print(f"{at_least(10.0, 0.2, 5):.3g}", at_least(10.0, 0.2, 4))
    5.49 0.0
    """
    return ratio * float(np.exp(-3 * off)) if rounds >= ENOUGH else 0.0


def in_a_row(calls: int, work: Work) -> Any:
    """Several calls as one piece of work: how busy a machine is changes from second to second.

    Args:
      calls: how many, each of which is waited for.
      work: what is called.

    Returns:
      What the last one returned.
    """
    for _ in range(calls):
        result = jax.block_until_ready(work())
    return result


def one_call(work: Work) -> tuple[float, Any]:
    """The seconds of a call, and what it returned; waited for."""
    return _time(work, 1)


def _time(work: Work, calls: int) -> tuple[float, Any]:
    with _no_garbage_collection():
        began = time.perf_counter()
        for _ in range(calls):
            result = jax.block_until_ready(work())
        return (time.perf_counter() - began) / calls, result


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """As in `timeit`: a collection takes the longer, the more was imported and made before."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def blas_threads(number: int | None) -> Iterator[None]:
    """Limit the threads of the BLAS libraries in this process; None leaves them as they are."""
    if number is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(number, user_api="blas"):
        yield


def machine() -> str:
    """One line on what the times were measured on."""
    device = jax.devices()[0]
    variables = ", ".join(f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ)
    return (
        f"{device.platform} {device.device_kind}, {os.cpu_count()} cores ({platform.machine()}), "
        f"jax {jax.__version__}, Python {platform.python_version()}, {variables or 'no thread variables set'}"
    )
