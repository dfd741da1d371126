"""Ways of differentiating, and what is evaluated of them: values along lines, and their rounding errors."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import Differences, Floats, Samples, scatter
from jaxopt_study.audit.flat import Leaf, Runner
from jaxopt_study.audit.places import Line

OUTPUTS = 256  # that are looked at one by one; of more, weighted sums
SUMS = 8
ORDINARY = 2  # points: the one that is given, and the one nearby
SHORT_STEPS = 6  # for the noise
NEAR = 2.0**10  # their length, in rounding errors
BEYOND = 0.4  # and longer ones, as a power of the rounding error: their cube is still below it


class Way(NamedTuple):
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
    whole: "Callable[[], Way] | None" = None


def sample(values: Runner, points: Floats, directions: Floats, eps: float) -> tuple[Samples, np.ndarray]:
    """Values at steps along the lines through the points at which they are finite; and which those are."""
    number = 8 + int(-0.31 * np.log2(eps))
    steps = np.asarray(0.5 ** np.arange(1, number + 1), np.float64)
    short = np.arange(1, SHORT_STEPS + 1)
    along = np.concatenate([steps, -steps, NEAR * eps * short, eps**BEYOND * short])
    count, lines, inputs = directions.shape
    moved = points[:, None] + along[:, None, None, None] * directions  # steps, points, lines, inputs
    out = values(np.concatenate([points, moved.reshape(-1, inputs)]))
    finite = np.asarray(np.isfinite(out[:count]).all(axis=1))
    at = np.repeat(out[:count][finite], lines, axis=0)
    rest = out[count:].reshape(len(along), count, lines, out.shape[1])[:, finite]
    rest = rest.reshape(len(along), len(at), out.shape[1])
    ahead, behind, near, beyond = np.split(rest, [number, 2 * number, 2 * number + SHORT_STEPS])
    return Samples(at, ahead, behind, near, beyond, steps, eps), finite


def slope_noise(way: Way, points: Floats, directions: Floats, eps: float, value_size: Floats) -> Floats:
    """Size of the rounding errors of derivatives, as of values: from short equal steps along their lines."""
    count, lines, inputs = directions.shape
    short = eps**BEYOND * np.arange(SHORT_STEPS)
    moved = points[:, None] + short[:, None, None, None] * directions
    along = np.broadcast_to(directions, moved.shape)
    slopes = way.slopes(moved.reshape(-1, inputs), along.reshape(-1, 1, inputs))
    slopes = slopes.reshape(SHORT_STEPS, count * lines, -1)
    # No more than rounding can be: a derivative that varies quickly scatters too.
    return np.fmin(scatter(slopes), 1e3 * eps * np.fmax(np.nan_to_num(np.abs(slopes[0])), value_size))


def largest_near(slope: Floats, truth: Differences, lines: tuple[Line, ...], directions: Floats) -> Floats:
    """For every line and output, the largest derivative by its leaf, here or at ordinary points.

    It is that for a step of the line's length.

    Rounding errors of a derivative that vanishes far out (that of tanh) are those of its larger terms.
    """
    moving = directions.reshape(-1, directions.shape[-1])
    length = np.sqrt((moving**2).sum(axis=1) / np.maximum((moving != 0).sum(axis=1), 1))[:, None]
    length = np.where(length > 0, length, 1.0)
    size = np.fmax(
        np.where(np.isfinite(slope), np.abs(slope), 0), np.nan_to_num(np.abs(truth.value), posinf=0)
    )
    size = np.where(truth.error < 0.5 * size, size, 0.0) / length
    by_point = size.reshape(-1, len(lines), size.shape[1])
    out = np.zeros_like(by_point)
    leaves = np.array([line.leaf.start for line in lines])
    for leaf in np.unique(leaves):
        of_leaf = by_point[:, leaves == leaf].max(axis=1, keepdims=True)
        out[:, leaves == leaf] = np.fmax(of_leaf, of_leaf[:ORDINARY].max(axis=0))
    return out.reshape(size.shape) * length


def each_line(run: Runner) -> Callable[[Floats, Floats], Floats]:
    """Derivatives along every line by a runner of `(point, direction)`."""

    def slopes(points: Floats, directions: Floats) -> Floats:
        lines = directions.shape[1]
        return run(np.repeat(points, lines, axis=0), directions.reshape(-1, points.shape[1]))

    return slopes


def random_sums(number: int, draw: np.random.Generator) -> Floats | None:
    """Weights of a few sums of the outputs, or None where there are few outputs."""
    if number <= OUTPUTS:
        return None
    return draw.choice([-1.0, 1.0], (SUMS, number)) * draw.uniform(0.5, 1.5, (SUMS, number))


def projection(weights: Floats | None) -> Callable[[Array], Array]:
    """The function from outputs to their sums."""
    if weights is None:
        return lambda out: out
    return lambda out: jnp.asarray(weights, out.dtype) @ out


def groups_of(leaves: tuple[Leaf, ...]) -> np.ndarray:
    """For every output, the number of its leaf."""
    return np.concatenate([np.full(leaf.size, number) for number, leaf in enumerate(leaves)])


def largest_of_group(size: Floats, groups: np.ndarray) -> Floats:
    """The largest of each group of columns, in all of its columns."""
    out = np.empty_like(size)
    for group in np.unique(groups):
        mine = np.broadcast_to(groups == group, size.shape[1])
        out[:, mine] = size[:, mine].max(axis=1, keepdims=True)
    return out


def name_of(line: Line) -> str:
    """What moves along a line."""
    return line.leaf.name if line.element is None else line.leaf.element(line.element)
