"""Time pieces of work against each other, in one process and in turns.

Machines are shared and noisy, so a single time means little: contestants take turns, and what is
reported is the median over rounds of the *ratio* within a round.
"""

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

Work = Callable[[], Any]

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")


@dataclasses.dataclass(frozen=True)
class Timed:
    """Times of one contestant.

    Attributes:
      first_seconds: the first call, compilation included.
      seconds: one warm call, per round.
      blas_threads: how many threads BLAS and LAPACK had; None for the process's own setting.
      result: what the last call returned.
    """

    first_seconds: float
    seconds: np.ndarray
    blas_threads: int | None
    result: Any

    @property
    def median(self) -> float:
        """Median of the warm seconds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half the interquartile range over the median."""
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return float((high - low) / 2 / self.median)


def take_turns(contestants: Mapping[str, Work], rounds: int = 15) -> dict[str, Timed]:
    """Time every contestant once a round.

    Each is called once to compile, then tried with one BLAS thread and with the process's own
    number of threads, and keeps the faster setting: the time of LAPACK's QR and SVD depends on it
    by a factor of up to 5 on two cores. Every call is waited for (`jax.block_until_ready`).

    Args:
      contestants: functions without arguments that do the work and return what they computed.
      rounds: how often each is timed.

    Returns:
      A `Timed` for each.
    """
    first, threads, result = {}, {}, {}
    for name, work in contestants.items():
        first[name], result[name] = _time(work)
        settings: tuple[int | None, ...] = (None, 1)
        best = {}
        for setting in settings:
            with blas_threads(setting):
                best[setting] = min(_time(work)[0] for _ in range(3))
        threads[name] = min(settings, key=lambda setting: best[setting])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            with blas_threads(threads[name]):
                took, result[name] = _time(work)
            seconds[name].append(took)
    return {
        name: Timed(first[name], np.array(seconds[name]), threads[name], result[name]) for name in contestants
    }


def ratio(slow: Timed, fast: Timed, slow_units: float = 1, fast_units: float = 1) -> float:
    """Median over rounds of the time of `slow` over that of `fast`, per unit of work of each.

    >>> slow = Timed(0.0, np.array([4.0, 8.0]), None, None)
    >>> ratio(slow, Timed(0.0, np.array([1.0, 2.0]), None, None), slow_units=2)
    2.0
    """
    return float(np.median((slow.seconds / slow_units) / (fast.seconds / fast_units)))


def _time(work: Work) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(work())
    return time.perf_counter() - began, result


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
