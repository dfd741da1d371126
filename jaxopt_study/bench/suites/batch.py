"""Many small fits: images of spots, 5 parameters on 15 × 15 pixels in float32, against other people's.

Every contestant has the loosest of its tolerances, of 1e-1, 1e-2, ... with which 99 % of the fits are
within 1e-4, relatively and in every parameter, of the minimum that SciPy finds in float64 with all digits.
Then: how the cost of a fit depends on their number, and what one fit that does not end costs the others.

Runs where JAX runs: on a GPU, `--curve` gives the fits per second from 5 × 5 to 15 × 15 pixels and from
10⁴ to 10⁷ fits, data on the device.
"""

import argparse
import functools
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.fit.batch import choose_slots
from jaxopt_study.models import gaussian_spot
from jaxopt_study.types import PyTree

ERROR = 1e-4
TOLERANCES = tuple(10.0**-k for k in range(1, 7))  # less than 1e-6 is not to be had in float32
SHARE = 0.99
JUDGED = 1000  # fits of which the minimum is known to all digits
OURS = "jaxopt_study"
NAMES = ("amplitude", "background", "width", "x", "y")  # in the order of a raveled dict


def residual(params: PyTree, image: Array) -> Array:
    """Model minus image."""
    rows, columns = image.shape
    return (
        jnp.asarray(gaussian_spot.apply(params, gaussian_spot.pixels((rows, columns), image.dtype))) - image
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def spots(count: int, pixels: int, seed: int = 0) -> tuple[PyTree, Array]:
    """Photon-limited images, and starts within 10 % of the truth (as Gpufit's own benchmark has them)."""
    keys = jax.random.split(jax.random.key(seed), 6)
    middle = (pixels - 1) / 2
    low = {"amplitude": 400.0, "background": 8.0, "width": 1.0, "x": middle - 1, "y": middle - 1}
    high = {"amplitude": 600.0, "background": 12.0, "width": 2.0, "x": middle + 1, "y": middle + 1}
    draw = functools.partial(jax.random.uniform, shape=(count,), dtype=jnp.float32)
    truth = {n: draw(k, minval=low[n], maxval=high[n]) for n, k in zip(NAMES, keys[:5], strict=True)}
    grid = gaussian_spot.pixels((pixels, pixels), jnp.float32)
    light = jnp.asarray(jax.vmap(lambda p: gaussian_spot.apply(p, grid))(truth))
    noise_key, start_key = jax.random.split(keys[5])
    images = light + jnp.sqrt(light) * jax.random.normal(noise_key, light.shape, jnp.float32)
    start_keys = dict(zip(NAMES, jax.random.split(start_key, 5), strict=True))
    starts = {n: truth[n] * draw(start_keys[n], minval=0.9, maxval=1.1) for n in NAMES}
    return starts, images


def ours(tolerance: float, max_steps: int = 200, slots: Any = "auto") -> Callable[..., jos.Result]:
    """`least_squares_batch` with one test of convergence."""
    return functools.partial(
        jos.least_squares_batch,
        residual,
        xtol=tolerance,
        ftol=0.0,
        gtol=0.0,
        max_steps=max_steps,
        slots=slots,
    )


def run_peers(count: int = 10_000, rounds: int = 7) -> None:
    """Measure and print the fits per second."""
    starts, images = jax.block_until_ready(spots(count, 15))
    flat = np.stack([np.asarray(starts[name], float) for name in NAMES], axis=1)
    pictures = np.asarray(images, float)
    minimum = peers.scipy_leastsq_spots(pictures[:JUDGED], flat[:JUDGED], 1e-14)
    few = min(count, 1000)  # SciPy's loop takes as long a fit for any number of them
    # Each: from a tolerance to the work, what of its result are parameters, how many fits it does.
    makers: dict[str, tuple[Callable[[float], Callable[[], Any]], Callable[[Any], Any], int]] = {
        OURS: (lambda tol: lambda: ours(tol)(starts, (images,)), lambda result: result.params, count)
    }
    if peers.installed("optimistix"):
        makers["optimistix jit(vmap)"] = (
            lambda tol: functools.partial(peers.optimistix_batch(residual, tol), starts, (images,)),
            lambda params: params,
            count,
        )
    makers["scipy leastsq, loop"] = (
        lambda tol: lambda: peers.scipy_leastsq_spots(pictures[:few], flat[:few], tol),
        lambda rows: dict(zip(NAMES, rows.T, strict=True)),
        few,
    )
    work, errors, tolerances, sizes = {}, {}, {}, {}
    for name, (make, params_of, fits) in makers.items():
        for tolerance in TOLERANCES:
            contestant = make(tolerance)
            error = _error(params_of(contestant()), minimum)
            if error <= ERROR:
                break
        work[name], errors[name], tolerances[name], sizes[name] = contestant, error, tolerance, fits
    timed = take_turns(work, rounds)
    print(f"{count} fits, 15 x 15 pixels, float32, {rounds} rounds in turns")
    row = "{:<22}{:>10}{:>14}{:>12}{:>9}{:>12}{:>8}"
    print(row.format("", "tolerance", "error (99%)", "fits/s", "spread", "first s", "ours is"))
    for name, one in timed.items():
        times = ratio(one, timed[OURS], sizes[name], sizes[OURS])
        cells = (f"{tolerances[name]:.0e}", f"{errors[name]:.1e}", f"{sizes[name] / one.median:.0f}")
        print(row.format(name, *cells, f"{one.spread:.0%}", f"{one.first_seconds:.1f}", f"{times:.1f}x"))


def _error(params: PyTree, minimum: np.ndarray) -> float:
    """The largest relative error of a fit's parameters, that 99 % of the fits do not exceed."""
    found = np.stack([np.asarray(params[name], float)[: len(minimum)] for name in NAMES], axis=1)
    known = minimum[: len(found)]
    worst = np.max(np.abs(found - known) / np.abs(known), axis=1)
    return float(np.quantile(worst, SHARE))


def run_growth(counts: list[int], tolerance: float = 1e-2, rounds: int = 5) -> None:
    """Measure and print the cost of a fit for several numbers of them."""
    solve = ours(tolerance)
    work = {str(count): functools.partial(_solve_spots, solve, *spots(count, 15)) for count in counts}
    timed = take_turns(work, rounds)
    first = str(counts[0])
    print("the cost of a fit and the number of them")
    for count in counts:
        one = timed[str(count)]
        share = ratio(one, timed[first], count, counts[0])
        print(f"  {count:>9} fits: {one.median / count * 1e6:7.2f} us each, {share:.2f} of that of {first}")


def _solve_spots(solve: Callable[..., jos.Result], starts: PyTree, images: Array) -> jos.Result:
    return solve(starts, (images,))


def run_endless(count: int = 10_000, tolerance: float = 1e-4, rounds: int = 15) -> None:
    """Measure and print what one fit that does not end in 200 steps costs the others."""
    starts, images = spots(count, 15)
    # Nothing but slope: the peak grows and moves away, and never arrives.
    slope = jnp.broadcast_to(jnp.arange(15.0, dtype=jnp.float32)[:, None] * 10.0, (15, 15))
    solve = ours(tolerance)
    places = {"none": None, "first": 0, "in the middle": count // 2, "last": count - 1}
    work = {}
    for name, place in places.items():
        data = images if place is None else images.at[place].set(slope)
        work[name] = functools.partial(_solve_spots, solve, starts, jax.block_until_ready(data))
    timed = take_turns(work, rounds)
    print("one endless fit of", count)
    for name, place in places.items():
        result = timed[name].result
        steps = "" if place is None else f", {int(result.num_steps[place])} steps"
        extra = ratio(timed[name], timed["none"]) - 1
        print(f"  {name:<14}{timed[name].median * 1e3:8.1f} ms, {extra:+.1%}{steps}")


def run_memory(count: int = 1_000_000, block: int = 8192) -> None:
    """Measure and print the anonymous memory of a stream from a memory-mapped file to a Parquet file."""
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


def _anonymous() -> int:
    """RssAnon of this process, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status tells no RssAnon")


def run_curve(sizes: list[int], counts: list[int], tolerance: float = 1e-2, rounds: int = 5) -> None:
    """Measure and print fits per second by the size of the images and the number of fits."""
    platform = jax.default_backend()
    print(f"fits per second on {platform}, data on the device")
    print(f"{'pixels':<10}" + "".join(f"{count:>14}" for count in counts))
    for size in sizes:
        cells = []
        for count in counts:
            solve = ours(tolerance)
            starts, images = jax.block_until_ready(spots(count, size))
            timed = take_turns({"": functools.partial(_solve_spots, solve, starts, images)}, rounds)
            cells.append(f"{count / timed[''].median:14.3e}")
            del starts, images
        slots = choose_slots(size * size, 5, "float32", platform)
        print(f"{f'{size} x {size}':<10}" + "".join(cells) + f"   ({slots} slots)", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("peers", "growth", "endless", "memory"), help="all if not given")
    parser.add_argument("--curve", action="store_true", help="fits per second by size and number instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 7, 9, 11, 13, 15], help="for --curve")
    parser.add_argument("--counts", type=int, nargs="+", help="of fits, for --curve and growth")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed")
    options = parser.parse_args()
    print(machine())
    if options.curve:
        on_cpu = jax.default_backend() == "cpu"
        default = [10_000, 100_000] if on_cpu else [10_000, 100_000, 1_000_000, 10_000_000]
        run_curve(options.sizes, options.counts or default, rounds=options.rounds)
        return
    if options.only in (None, "peers"):
        run_peers(rounds=options.rounds)
    if options.only in (None, "endless"):
        run_endless(rounds=options.rounds)
    if options.only in (None, "growth"):
        run_growth(options.counts or [10_000, 100_000, 1_000_000], rounds=min(options.rounds, 5))
    if options.only in (None, "memory"):
        run_memory()


if __name__ == "__main__":
    main()
