"""`check_derivatives`: are the derivatives of a function what its values say?

The order of an audit: choose places, sample the function along lines through them, compare what forward
and reverse mode give with the differences, forward with reverse, the derivative of the gradient with
differences of the gradient, and everything under `vmap` with a loop.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import Differences, Floats, Samples, differentiate, scatter
from jaxopt_study.audit.flat import FlatFunction, Leaf, Runner, flatten
from jaxopt_study.audit.judge import Verdict, judge, tolerance
from jaxopt_study.audit.mapped import check_vmap
from jaxopt_study.audit.places import Line, choose_lines, choose_points, element_sizes
from jaxopt_study.audit.report import Finding, Report

OUTPUTS = 256  # that are looked at one by one; of more, weighted sums
SUMS = 8
SHORT_STEPS = 6  # for the noise
NEAR = 2.0**10  # their length, in rounding errors
BEYOND = 0.4  # and longer ones, as a power of the rounding error: their cube is still below it
SEARCHED = 2**20  # entries of a Jacobian that are looked at for the one that is wrong
EXCLUDED = 16  # kinks among the elements of a large array that are put aside while a fault is looked for
ORDER = ("forward", "reverse", "second order", "vmap", "forward against reverse", "symmetry")
UNAVAILABLE = ("forward-mode", "reverse-mode", "not implemented", "not support")


class _Way(NamedTuple):
    """A way of differentiating: the derivative along lines, and the function that it is one of.

    Attributes:
      name: as in the report.
      values: the function, at many points.
      slopes: `(points, directions)` of shapes `(p, n)` and `(p, lines, n)` to `(p · lines, outputs)`.
      output: the name of an output by its number.
      whole: where outputs are weighted sums, makes the same of the single outputs.
    """

    name: str
    values: Runner
    slopes: Callable[[Floats, Floats], Floats]
    output: Callable[[int], str]
    whole: "Callable[[], _Way] | None" = None


class _Found:
    """What is found, as it is found."""

    def __init__(self) -> None:
        self.faults: list[Finding] = []
        self.kinks: list[Finding] = []
        self.notes: list[str] = []
        self.worst: dict[str, dict[str, float]] = {}

    def seen(self, argument: str, check: str, relative: float) -> None:
        row = self.worst.setdefault(argument, {})
        row[check] = max(row.get(check, 0.0), relative)

    def attempt(self, check: str, work: Callable[[], Any]) -> Any:
        """The result of some work, or None where JAX has no such derivative or the function raises."""
        try:
            return work()
        except Exception as error:  # whatever a rule raises is a finding
            message = str(error).strip().split("\n")[0]
            if isinstance(error, TypeError | ValueError | NotImplementedError) and any(
                word in message.lower() for word in UNAVAILABLE
            ):
                self.notes.append(f"{check}: {message}")
            else:
                why = f"raises {type(error).__name__}: {message}"
                self.faults.append(Finding(check, "", "", "as given", np.nan, np.nan, np.inf, np.nan, why))
            return None


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
    draw = np.random.default_rng(seed)
    flat = flatten(fn, args)
    found = _Found()
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        places = _audit(flat, found, probe, second_order, draw)
        check_vmap(flat, found.attempt, found.seen, found.faults, found.notes, second_order, draw)
    # What comes first explains what follows from it.
    faults = sorted(found.faults, key=lambda fault: (ORDER.index(fault.check), fault.point != "as given"))
    return Report(name, tuple(faults), tuple(found.kinks), tuple(found.notes), found.worst, places)


def _audit(
    flat: FlatFunction, found: _Found, probe: bool, second_order: bool, draw: np.random.Generator
) -> int:
    points, labels = choose_points(flat, probe, draw)
    number = sum(leaf.size for leaf in flat.outputs)
    weights = _weights(number, draw)
    project = _projection(weights)
    values = Runner(lambda x: project(flat(x)), flat.dtype)
    lines, directions = choose_lines(flat, points, draw)
    samples, finite = _sample(values, points, directions, flat.eps)
    if not finite[0]:
        raise ValueError("fn: its value at args is not finite; there is no derivative to check")
    points, labels, directions = points[finite], tuple(np.array(labels)[finite]), directions[finite]
    groups = np.zeros(1, int) if weights is not None else _groups(flat.outputs)
    value_size = _by_group(np.abs(samples.at), groups)
    truth = differentiate(samples, value_size)

    def single(index: int) -> str:
        return next(leaf for leaf in flat.outputs if leaf.start <= index < leaf.start + leaf.size).element(
            index
        )

    def summed(index: int) -> str:
        return f"(weighted sum {index} of the outputs)"

    few = weights is None
    ways = [
        _forward(flat, project, single if few else summed),
        _reverse(flat, project, single if few else summed),
    ]
    if weights is not None and number <= SEARCHED:
        same = _projection(None)
        ways[0] = ways[0]._replace(whole=functools.cache(lambda: _forward(flat, same, single)))
        if number * len(flat.x) <= SEARCHED:
            ways[1] = ways[1]._replace(whole=functools.cache(lambda: _reverse(flat, same, single)))
    exact = _complex_steps(flat, project, points, directions, truth)
    rounding = 1e3 * flat.eps * value_size + 10 * truth.noise
    slopes = []
    for way in ways:
        slope = found.attempt(way.name, lambda way=way: way.slopes(points, directions))
        if way.name == "forward" and slope is not None:
            rounding = rounding + 30 * _slope_noise(way, points, directions, flat.eps, value_size)
        slopes.append(slope)
        if slope is not None:
            rounding = np.fmax(rounding, 1e3 * flat.eps * _largest(slope, truth, lines, directions))
            _compare(way, slope, truth, exact, rounding, flat, found, points, labels, lines, directions)
    if slopes[0] is not None and slopes[1] is not None:
        _compare_ways(ways, slopes, rounding, flat, found, points, labels, lines, directions)
    if second_order and (slopes[0] is not None or slopes[1] is not None):
        size = np.abs(samples.at).reshape(len(points), -1).max(axis=1)
        _second_order(flat, found, points, labels, lines, directions, size, slopes[1] is not None, draw)
    return len(points)


def _forward(flat: FlatFunction, project: Callable[[Array], Array], output: Callable[[int], str]) -> _Way:
    def push(x: Array, v: Array) -> Array:
        return project(jax.jvp(flat, (x,), (v,))[1])

    return _Way(
        "forward",
        Runner(lambda x: project(flat(x)), flat.dtype),
        _each_line(Runner(push, flat.dtype)),
        output,
    )


def _reverse(flat: FlatFunction, project: Callable[[Array], Array], output: Callable[[int], str]) -> _Way:
    def rows(x: Array) -> Array:
        # Row by row, and not by vmap, which is checked by itself.
        out, pull = jax.vjp(lambda x: project(flat(x)), x)
        return jnp.ravel(jax.lax.map(lambda w: pull(w)[0], jnp.eye(out.size, dtype=out.dtype)))

    run = Runner(rows, flat.dtype)

    def slopes(points: Floats, directions: Floats) -> Floats:
        matrix = run(points).reshape(len(points), -1, points.shape[1])
        with np.errstate(invalid="ignore"):
            # Not zero times what is not finite: an element that does not move has no part in the sum.
            along = directions[:, :, None, :]
            return (
                np.where(along == 0, 0.0, matrix[:, None] * along).sum(axis=-1).reshape(-1, matrix.shape[1])
            )

    return _Way("reverse", Runner(lambda x: project(flat(x)), flat.dtype), slopes, output)


def _second_order(
    flat: FlatFunction,
    found: _Found,
    points: Floats,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
    value_size: Floats,
    reverse: bool,
    draw: np.random.Generator,
) -> None:
    """The gradient of a weighted sum of the outputs: its derivative against its differences."""
    mix = draw.choice([-1.0, 1.0], sum(leaf.size for leaf in flat.outputs)) * draw.uniform(
        0.5, 1.5, sum(leaf.size for leaf in flat.outputs)
    )
    weights = _weights(len(flat.x), draw)
    project = _projection(weights)

    def total(x: Array) -> Array:
        out = flat(x)
        return jnp.sum(jnp.asarray(mix, out.dtype) * out)

    def gradient(x: Array) -> Array:
        if reverse:
            return project(jax.grad(total)(x))
        basis = jnp.eye(x.size, dtype=x.dtype)
        return project(jax.lax.map(lambda v: jax.jvp(total, (x,), (v,))[1], basis).astype(x.dtype))

    def output(index: int) -> str:
        if weights is not None:
            return f"(weighted sum {index} of the gradient)"
        leaf = next(leaf for leaf in flat.inputs if leaf.start <= index < leaf.start + leaf.size)
        return f"(gradient by {leaf.element(index)})"

    values = Runner(gradient, flat.dtype)
    push = Runner(lambda x, v: jax.jvp(gradient, (x,), (v,))[1], flat.dtype)
    way = _Way("second order", values, _each_line(push), output)
    sampled = found.attempt(way.name, lambda: _sample(values, points, directions, flat.eps))
    if sampled is None:
        return
    samples, finite = sampled
    points, labels, directions = points[finite], tuple(np.array(labels)[finite]), directions[finite]
    if not len(points):
        return
    slope = found.attempt(way.name, lambda: way.slopes(points, directions))
    if slope is None:
        return
    # A gradient is as inexact as values are, for steps as large as what moves.
    value_size = value_size[finite, None] / np.stack([element_sizes(flat, point) for point in points])
    if weights is not None:
        value_size = value_size @ np.abs(weights.T)
    value_size = np.repeat(value_size, len(lines), axis=0)
    truth = differentiate(samples, value_size)
    rounding = 1e3 * flat.eps * value_size + 10 * truth.noise
    rounding = rounding + 30 * _slope_noise(way, points, directions, flat.eps, value_size)
    wrong = _compare(way, slope, truth, None, rounding, flat, found, points, labels, lines, directions)
    if weights is None:
        rounding = np.fmax(rounding, 1e3 * flat.eps * _largest(slope, truth, lines, directions))
        _symmetry(slope, truth, wrong, rounding, flat, found, labels, lines, directions)


def _symmetry(
    slope: Floats,
    truth: Differences,
    wrong: np.ndarray,
    rounding: Floats,
    flat: FlatFunction,
    found: _Found,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> None:
    """u · Hv is v · Hu."""
    count = len(lines)
    for p, label in enumerate(labels):
        block = slice(p * count, (p + 1) * count)
        if not np.isfinite(slope[block]).all() or truth.kink[block].any() or wrong[block].any():
            continue
        table = slope[block] @ directions[p].T
        size = np.abs(slope[block]) @ np.abs(directions[p].T)
        size = np.fmax(size, size.T)
        allowed = rounding[block] @ np.abs(directions[p].T)
        allowed = tolerance(flat.eps) * size + allowed + allowed.T
        off = np.abs(table - table.T)
        for i, line in enumerate(lines):
            found.seen(line.leaf.name, "symmetry", float(np.max(off[i] / np.fmax(size.max(), 1e-300))))
        if (off > allowed).any():
            i, j = np.unravel_index(np.argmax(off - allowed), off.shape)
            relative = float(off[i, j] / max(abs(table[i, j]), abs(table[j, i])))
            found.faults.append(
                Finding(
                    "symmetry",
                    _name(lines[i]),
                    f"(gradient by {_name(lines[j])})",
                    label,
                    table[i, j],
                    table[j, i],
                    0.0,
                    relative,
                    "second derivatives depend on the order",
                )
            )


def _compare(
    way: _Way,
    slope: Floats,
    truth: Differences,
    exact: Floats | None,
    rounding: Floats,
    flat: FlatFunction,
    found: _Found,
    points: Floats,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> np.ndarray:
    """Judge, and note what is wrong, the worst of every leaf at every point; which entries are wrong."""
    count = len(lines)
    largest = _largest(slope, truth, lines, directions)
    floor = 1e3 * flat.eps * largest + rounding
    verdict = judge(slope, truth, flat.eps, largest, floor)
    if exact is not None:
        verdict = _sharper(verdict, slope, exact, truth, flat.eps, floor)
    for leaf in flat.inputs:
        mine = np.flatnonzero([line.leaf is leaf for line in lines])
        faults: list[Finding] = []
        for p, label in enumerate(labels):
            rows = p * count + mine
            if np.isfinite(verdict.relative[rows]).any():
                found.seen(leaf.name, way.name, float(np.nanmax(verdict.relative[rows])))
            if p == 0:
                _note_kinks(way, verdict, slope, truth, found, rows, lines, label, directions[0], flat.eps)
                if verdict.unknown[rows].all():
                    found.notes.append(f"{way.name}: {leaf.name}: the differences are too inaccurate to tell")
            wrong = verdict.wrong[rows]
            if not wrong.any():
                continue
            if p > 0 and not np.isfinite(slope[rows][wrong]).all():
                found.notes.append(
                    f"{way.name}: {leaf.name}: the derivative is not finite at the point {label}"
                )
                wrong = wrong & np.isfinite(slope[rows])
                if not wrong.any():
                    continue
            fault = _worst_fault(
                way, slope, truth, exact, flat, rows, wrong, lines, label, points[p], directions[p]
            )
            if fault is not None:
                faults.append(fault)
        found.faults += _one_of(faults)
    return verdict.wrong


def _one_of(faults: list[Finding]) -> list[Finding]:
    """One fault seen at several points: at the first of them."""
    if len(faults) < 2:
        return faults
    others = ", ".join(fault.point for fault in faults[1:])
    why = "; ".join(word for word in (faults[0].why, f"also wrong {others}") if word)
    return [dataclasses.replace(faults[0], why=why)]


def _worst_fault(
    way: _Way,
    slope: Floats,
    truth: Differences,
    exact: Floats | None,
    flat: FlatFunction,
    rows: np.ndarray,
    wrong: np.ndarray,
    lines: tuple[Line, ...],
    label: str,
    point: Floats,
    directions: Floats,
) -> Finding | None:
    count = len(lines)
    expected = truth.value if exact is None else np.where(np.isfinite(exact), exact, truth.value)
    error = truth.error if exact is None else np.where(np.isfinite(exact), 0.0, truth.error)
    off = np.abs(slope[rows] - expected[rows])
    off = np.where(wrong, np.where(np.isfinite(off), off, np.inf), -1.0)
    alone = np.array([lines[row % count].element is not None for row in rows])
    if (off[alone] >= 0).any():  # an element is known to be wrong: no need to search
        off[~alone] = -1.0
    at, output = np.unravel_index(np.argmax(off), off.shape)
    row = rows[at]
    line, direction = lines[row % count], directions[row % count]
    got, want, its_error = slope[row, output], expected[row, output], error[row, output]
    if line.element is None:
        place = _search(way, flat, point, direction, line)
        if place is None:
            return None  # kinks alone
        line, output, got, want, its_error = place
    name = way.output(int(output))
    if way.whole is not None and line.element is not None:  # which of the outputs is it?
        whole = way.whole()
        wrong, slopes, truths = _along(whole, flat, point, direction, np.array([line.element]))
        if wrong.any():
            output, got, want, its_error = _worst_output(wrong, slopes, truths)
            name = whole.output(output)
    size = 1.0 if line.element is None else direction[line.element]
    relative = abs(got - want) / max(abs(got), abs(want)) if np.isfinite(got) else np.inf
    why = "" if np.isfinite(got) else "the derivative is not finite"
    return Finding(
        way.name,
        _name(line),
        name,
        label,
        float(got / size),
        float(want / size),
        float(its_error / abs(size)),
        float(relative),
        why,
    )


def _search(way: _Way, flat: FlatFunction, point: Floats, direction: Floats, line: Line) -> Any:
    """Halve the set of elements that move until one is left whose derivative is wrong."""
    active = np.arange(line.leaf.start, line.leaf.start + line.leaf.size)
    for _ in range(EXCLUDED):
        elements = active
        while len(elements) > 1:
            half = elements[: len(elements) // 2]
            elements = half if _along(way, flat, point, direction, half)[0].any() else elements[len(half) :]
        wrong, slope, truth = _along(way, flat, point, direction, elements)
        if wrong.any():
            return Line(line.leaf, int(elements[0])), *_worst_output(wrong, slope, truth)
        active = np.setdiff1d(active, elements)
        if not len(active) or not _along(way, flat, point, direction, active)[0].any():
            return None
    return None


def _along(way: _Way, flat: FlatFunction, point: Floats, direction: Floats, elements: np.ndarray) -> Any:
    """Which outputs are wrong if these elements move, the derivatives and the differences."""
    part = np.zeros_like(direction)
    part[elements] = direction[elements]
    samples, _ = _sample(way.values, point[None], part[None, None], flat.eps)
    truth = differentiate(samples)
    slope = way.slopes(point[None], part[None, None])
    line = Line(flat.inputs[0], None)
    largest = _largest(slope, truth, (line,), part[None, None])
    noise = np.fmax(truth.noise, flat.eps * np.abs(samples.at))
    verdict = judge(slope, truth, flat.eps, largest, 1e3 * flat.eps * largest + 10 * noise)
    return verdict.wrong[0], slope[0], Differences(*(field[..., 0, :] for field in truth))


def _worst_output(wrong: np.ndarray, slope: Floats, truth: Differences) -> tuple[int, float, float, float]:
    off = np.where(wrong, np.nan_to_num(np.abs(slope - truth.value), nan=np.inf), -1.0)
    output = int(np.argmax(off))
    return output, slope[output], truth.value[output], truth.error[output]


def _note_kinks(
    way: _Way,
    verdict: Verdict,
    slope: Floats,
    truth: Differences,
    found: _Found,
    rows: np.ndarray,
    lines: tuple[Line, ...],
    label: str,
    directions: Floats,
    eps: float,
) -> None:
    for row in rows:
        for output in np.flatnonzero(verdict.kink[row])[:1]:
            line = lines[row % len(lines)]
            sides = truth.left[row, output], truth.right[row, output]
            small = abs(sides[0] - sides[1]) < 10 * tolerance(eps) * max(map(abs, sides))
            if small or any(kink.argument == _name(line) for kink in found.kinks):
                continue
            size = 1.0 if line.element is None else directions[row % len(lines), line.element]
            left, right = np.sort([truth.left[row, output] / size, truth.right[row, output] / size])
            why = (
                f"kink: {left:.3g} from one side, {right:.3g} from the other"
                if np.isfinite(left + right)
                else "kink"
            )
            got = float(slope[row, output] / size)
            found.kinks.append(
                Finding(
                    way.name, _name(line), way.output(int(output)), label, got, np.nan, np.inf, np.nan, why
                )
            )


def _compare_ways(
    ways: list[_Way],
    slopes: list[Floats],
    rounding: Floats,
    flat: FlatFunction,
    found: _Found,
    points: Floats,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> None:
    """Forward against reverse mode, which rounding alone may keep apart."""
    forward, reverse = slopes
    check = "forward against reverse"
    both = np.isfinite(forward) & np.isfinite(reverse)
    scale = np.fmax(np.abs(forward), np.abs(reverse))
    per_line = np.where(both, scale, 0.0).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.where(both, np.abs(forward - reverse), 0.0)
        wrong = off > tolerance(flat.eps) * scale + 1e3 * flat.eps * per_line + rounding
        relative = np.where(off == 0, 0.0, off / np.fmax(scale, flat.eps * per_line))
    one_sided = np.isfinite(forward) != np.isfinite(reverse)
    one_sided[len(lines) :] = False  # at probes something may have overflowed
    for leaf in flat.inputs:
        mine = np.flatnonzero([line.leaf is leaf for line in lines])
        rows = np.concatenate([p * len(lines) + mine for p in range(len(points))])
        found.seen(leaf.name, check, float(relative[rows].max()))
        bad = wrong[rows] | one_sided[rows]
        if not bad.any():
            continue
        at, output = np.unravel_index(
            np.argmax(np.where(bad, relative[rows] + one_sided[rows], -1.0)), bad.shape
        )
        row = rows[at]
        line = lines[row % len(lines)]
        size = 1.0 if line.element is None else directions[row // len(lines), row % len(lines), line.element]
        found.faults.append(
            Finding(
                check,
                _name(line),
                ways[0].output(int(output)),
                labels[row // len(lines)],
                float(forward[row, output] / size),
                float(reverse[row, output] / size),
                0.0,
                float(relative[row, output]),
                "forward and reverse mode differ",
            )
        )


def _complex_steps(
    flat: FlatFunction,
    project: Callable[[Array], Array],
    points: Floats,
    directions: Floats,
    truth: Differences,
) -> Floats | None:
    """Derivatives by complex steps, NaN at points where they are not what differences say.

    That is so for what is not analytic (`abs`, comparisons); and what has no complex version raises.
    """
    run = Runner(lambda x, v: project(flat.complex_step(x, v)), flat.dtype)
    lines = directions.shape[1]
    try:
        value = _each_line(run)(points, directions)
    except Exception:  # whatever a function makes of complex numbers: it does not allow them
        return None
    with np.errstate(invalid="ignore"):
        near = np.abs(value - truth.value) <= 10 * truth.error + tolerance(flat.eps) * np.abs(truth.value)
        near |= ~np.isfinite(truth.error)
    for p in range(len(points)):
        block = slice(p * lines, (p + 1) * lines)
        if not near[block].all():
            value[block] = np.nan
    return value


def _sharper(
    verdict: Verdict, slope: Floats, exact: Floats, truth: Differences, eps: float, floor: Floats
) -> Verdict:
    """What a complex step shows beyond the differences: it has no error of truncation."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(exact) & np.isfinite(slope) & ~truth.kink
        scale = np.fmax(np.abs(slope), np.abs(exact))
        off = np.abs(slope - exact)
        wrong = known & (off > 0.03 * tolerance(eps) * scale + floor)
        relative = np.where(known & (scale > 0), off / np.fmax(scale, floor), verdict.relative)
        relative = np.where(np.isnan(verdict.relative), verdict.relative, relative)
    return verdict._replace(wrong=verdict.wrong | wrong, unknown=verdict.unknown & ~known, relative=relative)


def _largest(slope: Floats, truth: Differences, lines: tuple[Line, ...], directions: Floats) -> Floats:
    """For every line, the largest derivative by its leaf anywhere, output by output, for a step of its length.

    Rounding errors of a derivative that vanishes far out (that of tanh) are those of its larger terms.
    """
    moving = directions.reshape(-1, directions.shape[-1])
    length = np.sqrt((moving**2).sum(axis=1) / np.maximum((moving != 0).sum(axis=1), 1))[:, None]
    length = np.where(length > 0, length, 1.0)
    size = np.fmax(
        np.where(np.isfinite(slope), np.abs(slope), 0), np.nan_to_num(np.abs(truth.value), posinf=0)
    )
    size = np.where(truth.error < 0.5 * size, size, 0.0) / length
    out = np.zeros_like(size)
    leaves = np.tile([line.leaf.start for line in lines], len(size) // len(lines))
    for leaf in np.unique(leaves):
        out[leaves == leaf] = size[leaves == leaf].max(axis=0)
    return out * length


def _sample(values: Runner, points: Floats, directions: Floats, eps: float) -> tuple[Samples, np.ndarray]:
    """Values at steps along the lines through the points at which they are finite; and which those are."""
    number = 8 + int(-0.31 * np.log2(eps))
    steps = 0.5 ** np.arange(1, number + 1)
    short = np.arange(1, SHORT_STEPS + 1)
    along = np.concatenate([steps, -steps, NEAR * eps * short, eps**BEYOND * short])
    count, lines, inputs = directions.shape
    moved = points[:, None] + along[:, None, None, None] * directions  # steps, points, lines, inputs
    out = values(np.concatenate([points, moved.reshape(-1, inputs)]))
    finite = np.isfinite(out[:count]).all(axis=1)
    at = np.repeat(out[:count][finite], lines, axis=0)
    rest = out[count:].reshape(len(along), count, lines, -1)[:, finite].reshape(len(along), len(at), -1)
    ahead, behind, near, beyond = np.split(rest, [number, 2 * number, 2 * number + SHORT_STEPS])
    return Samples(at, ahead, behind, near, beyond, steps, eps), finite


def _slope_noise(
    way: _Way, points: Floats, directions: Floats, eps: float, value_size: Floats
) -> Floats:
    """Size of the rounding errors of derivatives, as of values: from short equal steps along their lines."""
    count, lines, inputs = directions.shape
    short = eps**BEYOND * np.arange(SHORT_STEPS)
    moved = points[:, None] + short[:, None, None, None] * directions
    along = np.broadcast_to(directions, moved.shape)
    slopes = way.slopes(moved.reshape(-1, inputs), along.reshape(-1, 1, inputs))
    slopes = slopes.reshape(SHORT_STEPS, count * lines, -1)
    # No more than rounding can be: a derivative that varies quickly scatters too.
    return np.fmin(scatter(slopes), 1e3 * eps * np.fmax(np.nan_to_num(np.abs(slopes[0])), value_size))


def _groups(leaves: tuple[Leaf, ...]) -> np.ndarray:
    return np.concatenate([np.full(leaf.size, number) for number, leaf in enumerate(leaves)])


def _by_group(size: Floats, groups: np.ndarray) -> Floats:
    """The largest of each group of columns, in all of its columns."""
    out = np.empty_like(size)
    for group in np.unique(groups):
        mine = np.broadcast_to(groups == group, size.shape[1])
        out[:, mine] = size[:, mine].max(axis=1, keepdims=True)
    return out


def _each_line(run: Runner) -> Callable[[Floats, Floats], Floats]:
    def slopes(points: Floats, directions: Floats) -> Floats:
        lines = directions.shape[1]
        return run(np.repeat(points, lines, axis=0), directions.reshape(-1, points.shape[1]))

    return slopes


def _weights(number: int, draw: np.random.Generator) -> Floats | None:
    if number <= OUTPUTS:
        return None
    return draw.choice([-1.0, 1.0], (SUMS, number)) * draw.uniform(0.5, 1.5, (SUMS, number))


def _projection(weights: Floats | None) -> Callable[[Array], Array]:
    if weights is None:
        return lambda out: out
    return lambda out: jnp.asarray(weights, out.dtype) @ out


def _name(line: Line) -> str:
    return line.leaf.name if line.element is None else line.leaf.element(line.element)
