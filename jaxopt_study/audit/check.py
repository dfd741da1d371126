"""`check_derivatives`: are the derivatives of a function what its values say?

The order of an audit: choose places, sample the function along lines through them, compare what forward
and reverse mode give with the differences, forward with reverse, the derivative of the gradient with
differences of the gradient, and everything under `vmap` with a loop.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.audit.compare import Found, beside_kinks, compare
from jaxopt_study.audit.differences import differentiate
from jaxopt_study.audit.flat import FlatFunction, Runner, flatten
from jaxopt_study.audit.mapped import check_vmap
from jaxopt_study.audit.modes import compare_modes
from jaxopt_study.audit.places import PROBES, choose_lines, choose_points, those
from jaxopt_study.audit.report import Report
from jaxopt_study.audit.sampling import (
    groups_of,
    largest_near,
    largest_of_group,
    projection,
    random_sums,
    sample,
    slope_noise,
)
from jaxopt_study.audit.second_order import check_second_order
from jaxopt_study.audit.ways import complex_steps, forward, reverse

ORDER = ("forward", "reverse", "second order", "vmap", "forward against reverse", "symmetry")
SEARCHED = 2**20  # entries of a Jacobian that are looked at for the one that is wrong


def check_derivatives(
    fn: Callable[..., Any], *args: Any, probe: bool = True, second_order: bool = True, seed: int = 0
) -> Report:
    """Audit the derivatives of a function: forward, reverse, second order, and under `vmap`.

    Compared are derivatives in forward and in reverse mode with differences (extrapolated, with the
    error estimated from truncation and from the noise of the values) and, where the function allows, with
    steps into the complex plane; forward with reverse mode; the derivative of the gradient with
    differences of the gradient, and with its own transpose; values and derivatives under `vmap`, of all
    arguments and of each alone, with those one by one. Arrays of up to 24 elements are checked element by
    element; larger ones in random directions, and what is wrong is then searched for.

    Args:
      fn: any function of pytrees that returns a pytree; it is differentiated by every real float
        array in `args`, what else they hold stays as it is. Its own derivatives count: custom rules,
        or those of what it is made of.
      args: where to look; numbers without special structure find most.
      probe: look at other points too: nearby, negated, 0.01, 10, 100 and 1000 times as large.
        Points where values are not finite are left out. Derivatives that are not finite there, but
        are at the point that was given, are noted and are no faults.
      second_order: check second derivatives too.
      seed: of the random directions and points.

    Returns:
      A `Report`: `.ok` says whether all is right, `print(report)` shows where what is wrong and by how
      much, `.raise_if_wrong()` is for tests. At a kink (`relu` at 0, `abs` at 0, ties of `max`) the two
      sides' derivatives differ and any between them is taken for right; it is listed in `.kinks`.

    Raises:
      TypeError: if no argument is a real float array, or one is complex.
      ValueError: if arguments or values are not finite, or there is no real float output.

    Source: Ridders, Accurate computation of F'(x) and F'(x)F''(x), 1982 (extrapolation with its error);
    Moré and Wild, Estimating derivatives of noisy simulations, 2012 (noise).

    Example:
      >>> @jax.custom_jvp
      ... def cube(x):
      ...     return x**3
      >>> @cube.defjvp
      ... def rule(primals, tangents):
      ...     return cube(*primals), 2 * primals[0] ** 2 * tangents[0]
      >>> report = check_derivatives(cube, 1.5)
      >>> report.ok
      False
      >>> print(report.faults[0].argument, f"{report.faults[0].got:.3f} {report.faults[0].expected:.3f}")
      args[0] 4.500 6.750
    """
    report = _report(fn, args, probe, second_order, seed)
    far_off = [fault for fault in report.faults if fault.point in PROBES]
    if far_off and len(far_off) == len(report.faults) and jnp.finfo(_widest(args)).eps > 1e-10:
        return _confirmed(report, fn, args, second_order, seed)
    return report


def _report(fn: Callable[..., Any], args: tuple, probe: bool, second_order: bool, seed: int) -> Report:
    draw = np.random.default_rng(seed)
    flat = flatten(fn, args)
    found = Found()
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        points = _audit(flat, found, probe, second_order, draw)
        check_vmap(flat, found.attempt, found.seen, found.faults, found.notes, second_order, draw)
    # What comes first explains what follows from it.
    faults = sorted(found.faults, key=lambda fault: (ORDER.index(fault.check), fault.point != "as given"))
    return Report(name, tuple(faults), tuple(found.kinks), tuple(found.notes), found.worst, points)


def _widest(args: tuple) -> Any:
    floats = [leaf for leaf in jax.tree.leaves(args) if _is_float(leaf)]
    return jnp.result_type(*floats)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, float) or bool(
        hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _confirmed(report: Report, fn: Callable[..., Any], args: tuple, second_order: bool, seed: int) -> Report:
    """Faults far out in low precision, where terms of 10⁹ may cancel: are they there in float64?

    A wrong rule is wrong in every precision. What is right there is noted as rounding.
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) if _is_float(leaf) else leaf, args)
        try:
            again = _report(fn, wide, True, second_order, seed)
        except Exception:  # a function that takes no float64
            return report
    if not again.ok:
        return report
    notes = tuple(f"rounding, in float64 it is right: {fault}" for fault in report.faults)
    return dataclasses.replace(report, faults=(), notes=(*report.notes, *notes))


def _audit(
    flat: FlatFunction, found: Found, probe: bool, second_order: bool, draw: np.random.Generator
) -> int:
    points, labels = choose_points(flat, probe, draw)
    number = sum(leaf.size for leaf in flat.outputs)
    weights = random_sums(number, draw)
    project = projection(weights)
    values = Runner(lambda x: project(flat(x)), flat.dtype)
    lines, directions = choose_lines(flat, points, draw)
    samples, finite = sample(values, points, directions, flat.eps)
    if not finite[0]:
        raise ValueError("fn: its value at args is not finite; there is no derivative to check")
    points, labels, directions = points[finite], those(labels, finite), directions[finite]
    groups = np.zeros(1, int) if weights is not None else groups_of(flat.outputs)
    value_size = largest_of_group(np.abs(samples.at), groups)
    truth = differentiate(samples, value_size)

    def single(index: int) -> str:
        return next(leaf for leaf in flat.outputs if leaf.start <= index < leaf.start + leaf.size).element(
            index
        )

    def summed(index: int) -> str:
        return f"(weighted sum {index} of the outputs)"

    few = weights is None
    ways = [
        forward(flat, project, single if few else summed),
        reverse(flat, project, single if few else summed),
    ]
    if weights is not None and number <= SEARCHED:
        same = projection(None)
        ways[0] = ways[0]._replace(whole=functools.cache(lambda: forward(flat, same, single)))
        if number * len(flat.x) <= SEARCHED:
            ways[1] = ways[1]._replace(whole=functools.cache(lambda: reverse(flat, same, single)))
    exact = complex_steps(flat, project, points, directions, truth)
    rounding = 1e3 * flat.eps * value_size + 10 * truth.noise
    slopes = []
    for way in ways:
        slope = found.attempt(way.name, functools.partial(way.slopes, points, directions))
        if way.name == "forward" and slope is not None:
            rounding = rounding + 30 * slope_noise(way, points, directions, flat.eps, value_size)
        slopes.append(slope)
        if slope is not None:
            rounding = np.fmax(rounding, 1e3 * flat.eps * largest_near(slope, truth, lines, directions))
            compare(way, slope, truth, exact, rounding, flat, found, points, labels, lines, directions)
    if slopes[0] is not None and slopes[1] is not None:
        compare_modes(
            ways,
            slopes,
            rounding,
            beside_kinks(slopes[0], truth, len(lines)),
            flat,
            found,
            points,
            labels,
            lines,
            directions,
        )
    if second_order and (slopes[0] is not None or slopes[1] is not None):
        size = np.abs(samples.at).reshape(len(points), -1).max(axis=1)
        check_second_order(flat, found, points, labels, lines, directions, size, slopes[1] is not None, draw)
    return len(points)
