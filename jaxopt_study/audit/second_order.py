"""Second derivatives: the derivative of the gradient against its differences, and against its transpose."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.compare import Found, compare, one_of
from jaxopt_study.audit.differences import Differences, Floats, differentiate
from jaxopt_study.audit.flat import FlatFunction, Runner
from jaxopt_study.audit.judge import tolerance
from jaxopt_study.audit.places import Line, element_sizes, those
from jaxopt_study.audit.report import Finding
from jaxopt_study.audit.sampling import (
    Way,
    each_line,
    largest_near,
    name_of,
    projection,
    random_sums,
    sample,
    slope_noise,
)


def check_second_order(
    flat: FlatFunction,
    found: Found,
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
    weights = random_sums(len(flat.x), draw)
    project = projection(weights)

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
    way = Way("second order", values, each_line(push), output)
    sampled = found.attempt(way.name, lambda: sample(values, points, directions, flat.eps))
    if sampled is None:
        return
    samples, finite = sampled
    points, labels, directions = points[finite], those(labels, finite), directions[finite]
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
    rounding = rounding + 30 * slope_noise(way, points, directions, flat.eps, value_size)
    wrong = compare(way, slope, truth, None, rounding, flat, found, points, labels, lines, directions)
    if weights is None:
        rounding = np.fmax(rounding, 1e3 * flat.eps * largest_near(slope, truth, lines, directions))
        _symmetry(slope, truth, wrong, rounding, flat, found, labels, lines, directions)


def _symmetry(
    slope: Floats,
    truth: Differences,
    wrong: np.ndarray,
    rounding: Floats,
    flat: FlatFunction,
    found: Found,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> None:
    """u · Hv is v · Hu."""
    count = len(lines)
    faults: list[Finding] = []
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
            i, j = (int(index) for index in np.unravel_index(np.argmax(off - allowed), off.shape))
            relative = float(off[i, j] / max(abs(table[i, j]), abs(table[j, i])))
            faults.append(
                Finding(
                    "symmetry",
                    name_of(lines[i]),
                    f"(gradient by {name_of(lines[j])})",
                    label,
                    table[i, j],
                    table[j, i],
                    0.0,
                    relative,
                    "second derivatives depend on the order",
                )
            )
    found.faults += one_of(faults)
