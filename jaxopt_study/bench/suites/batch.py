"""Many small fits: images of spots, 5 parameters on 15 × 15 pixels in float32.

Against others, every contestant has the loosest of its tolerances, of 1e-1, 1e-2, ... with which 99 % of the
fits are within 1e-4, relatively and in every parameter, of the minimum that SciPy finds in float64 with all
digits. Then: how the cost of a fit depends on their number, what one fit that does not end costs the others,
and the pace from 5 × 5 to 15 × 15 pixels, data on the device.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned, loosest
from jaxopt_study.bench.timer import in_a_row, one_call
from jaxopt_study.fit.slots import choose_slots
from jaxopt_study.models import gaussian_spot
from jaxopt_study.types import PyTree

ERROR = 1e-4
TOLERANCES = tuple(10.0**-k for k in range(2, 7))  # more is enough for nobody, less not to be had in float32
SHARE = 0.99
DIFFERENT = 100_000  # images, where more are fitted
JUDGED = 1000  # fits of which the minimum is known to all digits
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


def _peers_case(count: int, wanted: Callable[[str], bool]) -> Case:
    starts, images = jax.block_until_ready(spots(count, 15))
    flat = np.stack([np.asarray(starts[name], float) for name in NAMES], axis=1)
    pictures = np.asarray(images, float)
    few = min(count, 2000)  # SciPy's loop takes as long a fit for any number of them
    if peers.installed("scipy"):
        minimum = peers.scipy_leastsq_spots(pictures[:JUDGED], flat[:JUDGED], 1e-14)
    else:
        minimum = _stack(ours(0.0)(starts, (images,)).params)[:JUDGED]
    # Each: from a tolerance to the work, what of its result are parameters, how many fits it does.
    makers: dict[str, tuple[Callable[[float], Callable[[], Any]], Callable[[Any], Any], int]] = {
        OURS: (lambda tol: lambda: ours(tol)(starts, (images,)), lambda result: result.params, count)
    }
    if wanted("optimistix"):
        makers["optimistix jit(vmap)"] = (
            lambda tol: functools.partial(peers.optimistix_batch(residual, tol), starts, (images,)),
            lambda params: params,
            count,
        )
    if wanted("scipy"):
        makers["scipy leastsq, loop"] = (
            lambda tol: lambda: peers.scipy_leastsq_spots(pictures[:few], flat[:few], tol),
            lambda rows: dict(zip(NAMES, rows.T, strict=True)),
            few,
        )
    contestants = {}
    for name, (make, params_of, fits) in makers.items():
        error = functools.partial(_error_of, params_of, minimum)
        work, tolerance, first = loosest(make, TOLERANCES, functools.partial(_good_enough, error))
        words = f"tolerance {tolerance:.0e}, the loosest that is enough; {fits} fits a call"
        if name == OURS:  # is soon done
            work, fits, words = functools.partial(in_a_row, 10, work), 10 * fits, f"{words}, 10 in a row"
        contestants[name] = Contestant(work, error, words, fits, first_seconds=first)
    return Case("fit", contestants, most_error=ERROR, rounds=5)


def _error_of(params_of: Callable[[Any], PyTree], minimum: np.ndarray, found: Any) -> float:
    """The largest relative error of a fit's parameters, that 99 % of the fits do not exceed."""
    rows = _stack(params_of(found))[: len(minimum)]
    known = minimum[: len(rows)]
    return float(np.quantile(np.max(np.abs(rows - known) / np.abs(known), axis=1), SHARE))


def _good_enough(error: Callable[[Any], float], found: Any) -> bool:
    return error(found) <= ERROR


def _stack(params: PyTree) -> np.ndarray:
    return np.stack([np.asarray(params[name], float) for name in NAMES], axis=1)


def _solve_spots(solve: Callable[..., jos.Result], starts: PyTree, images: Array) -> jos.Result:
    return solve(starts, (images,))


def _missed(result: jos.Result) -> float:
    """The share of fits that did not converge."""
    return float(np.mean(~np.asarray(result.converged)))


def _many_spots(count: int) -> tuple[PyTree, Array]:
    """As many as wanted, the same ones again after `DIFFERENT`; ten thousand are drawn at a time."""
    different = min(count, DIFFERENT)
    drawn = [jax.tree.map(np.asarray, spots(10_000, 15, seed)) for seed in range(different // 10_000)]
    parts = drawn * (count // different)
    return jax.block_until_ready(jax.tree.map(lambda *some: jnp.asarray(np.concatenate(some)), *parts))


def _growth_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    contestants = {}
    for count, calls in ((10_000, 20), (1_000_000, 1)):
        solve = functools.partial(_solve_spots, ours(1e-2), *_many_spots(count))
        first, _ = one_call(solve)
        name = OURS if count == 10_000 else f"{OURS}, {count} fits"
        words = (
            f"{count} fits a call ({min(count, DIFFERENT)} images), {calls} at a time, tolerance 1e-2; "
            "error: the share that did not converge"
        )
        work = functools.partial(in_a_row, calls, solve)
        contestants[name] = Contestant(work, _missed, words, calls * count, first_seconds=first)
    return Case("fit", contestants, most_error=0.01, rounds=3, blas=False)


def _endless_case(wanted: Callable[[str], bool]) -> Case:
    del wanted
    count, solve = 10_000, ours(1e-4)
    starts, images = spots(count, 15)
    # Nothing but slope: the peak grows and moves away, and never arrives.
    slope = jnp.broadcast_to(jnp.arange(15.0, dtype=jnp.float32)[:, None] * 10.0, (15, 15))
    contestants = {}
    for name, place in {
        OURS: None,
        f"{OURS}, one endless": count // 2,
        f"{OURS}, the last endless": -1,
    }.items():
        data = images if place is None else images.at[place].set(slope)
        work = functools.partial(_solve_spots, solve, starts, jax.block_until_ready(data))
        words = f"{count} fits, max_steps=200, tolerance 1e-4; error: the share that did not converge"
        contestants[name] = Contestant(work, _missed, words, count)
    return Case("fit", contestants, most_error=0.01, rounds=15, blas=False)


def _curve_case(pixels: int, count: int, wanted: Callable[[str], bool]) -> Case:
    del wanted
    work = functools.partial(_solve_spots, ours(1e-2), *jax.block_until_ready(spots(count, pixels)))
    slots = choose_slots(pixels * pixels, 5, "float32", jax.default_backend())
    words = f"data on the device, {slots} slots, tolerance 1e-2; error: the share that did not converge"
    return Case("fit", {OURS: Contestant(work, _missed, words, count)}, rounds=5, size=count, blas=False)


def _curve() -> tuple[Planned, ...]:
    """Fits by the size of the images and their number; on a GPU up to 10⁷ of them."""
    counts = (10_000, 100_000) if jax.default_backend() == "cpu" else (10_000, 100_000, 1_000_000, 10_000_000)
    return tuple(
        Planned(
            f"{pixels} x {pixels} pixels, {count} fits",
            functools.partial(_curve_case, pixels, count),
            "float32",
        )
        for pixels in (5, 9, 15)
        for count in counts
    )


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned(
            "10000 spots, 15 x 15",
            functools.partial(_peers_case, 10_000),
            "float32",
            {"optimistix jit(vmap)": 10.0, "scipy leastsq, loop": 20.0},
        ),
        Planned(
            "10^4 and 10^6 spots",
            _growth_case,
            "float32",
            at_most={f"{OURS}, 1000000 fits": 1.05},
        ),
        Planned(
            "an endless fit among 10000",
            _endless_case,
            "float32",
            at_most={f"{OURS}, one endless": 1.05, f"{OURS}, the last endless": 1.05},
        ),
        *_curve(),
    )
