"""The memory of a stream: 10⁶ fits from a memory-mapped file to a Parquet file, in a process of its own.

python -m jaxopt_study.bench.suites.batch_memory
"""

import argparse
import tempfile
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxopt_study.bench.suites.batch import spots
from jaxopt_study.bench.timer import machine
from jaxopt_study.models import gaussian_spot


def run_memory(count: int = 1_000_000, block: int = 8192) -> int:
    """Measure, print and return the anonymous memory of a stream from a memory-mapped file to Parquet."""
    from numpy.lib.format import open_memmap

    from jaxopt_study.fit.stream import curve_fit_stream

    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "images.npy", Path(folder) / "fits.parquet"
        some = np.asarray(spots(10_000, 15)[1])
        images = open_memmap(source, mode="w+", dtype=np.float32, shape=(count, 15, 15))
        for start in range(0, count, len(some)):
            images[start : start + len(some)] = some[: count - start]
        images.flush()
        del images, some
        most, ended = [_anonymous()], threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                most[0] = max(most[0], _anonymous())

        before = _anonymous()
        watcher = threading.Thread(target=watch)
        watcher.start()
        grid = gaussian_spot.pixels((15, 15), jnp.float32)
        done = curve_fit_stream(gaussian_spot.apply, grid, source, gaussian_spot.guess, out=out, block=block)
        ended.set()
        watcher.join()
        size = out.stat().st_size
    print(f"{done.fits} fits of 225 points from a memory-mapped file, {done.converged} converged")
    print(
        f"  {done.seconds:.1f} s with compiling, {done.fits / done.seconds:.0f} fits/s, errors and starts too"
    )
    print(f"  RssAnon {before / 2**20:.0f} MiB before, at most {most[0] / 2**20:.0f} MiB (to be under 1024)")
    print(f"  results: {size / 2**20:.0f} MiB")
    return most[0]


def _anonymous() -> int:
    """RssAnon of this process, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status tells no RssAnon")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="of fits")
    options = parser.parse_args()
    print(machine())
    run_memory(options.count)


if __name__ == "__main__":
    main()
