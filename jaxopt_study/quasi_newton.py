"""What products with a Hessian have told of its inverse: the limited-memory BFGS matrix, in compact form.

Pairs (s, y = Hs) are kept, the newest last, scaled so that `sᵀy = 1`. Its use here is to precondition
conjugate gradients with what those of the steps before have seen: see `truncated_cg`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Bool, Float, Int


class Pairs(NamedTuple):
    """Steps and the changes of the gradient that go with them.

    Attributes:
      steps, changes: shape `(memory, n)`; the last `count` rows are in use, the others zero.
      count: how many, int32.
    """

    steps: Float[Array, "memory n"]
    changes: Float[Array, "memory n"]
    count: Int[Array, ""]  # type: ignore[assignment]  # hides tuple.count, as optax does


class Learned(NamedTuple):
    """What is known of the curvature near a point, whether or not an iteration goes on from there.

    Attributes:
      pairs: products with Hessians.
      theta, gradient: of the last step; with the next they are a pair too.
    """

    pairs: Pairs
    theta: Float[Array, " n"]
    gradient: Float[Array, " n"]

    def with_secant(
        self, theta: Float[Array, " n"], gradient: Float[Array, " n"], counts: Bool[Array, ""]
    ) -> Pairs:
        """The pairs and the last step, with the change of the gradient along it, which cost nothing."""
        step, change = theta - self.theta, gradient - self.gradient
        bend = jnp.vdot(step, change)
        up = curves_up(jnp.vdot(step, step), jnp.vdot(change, change), bend)
        return append(self.pairs, one_pair(step, change, bend, up & counts))


class Inverse(NamedTuple):
    """The BFGS matrix M of some pairs, `M = γI + [S γY]ᵀ W [S γY]` with W in two blocks."""

    pairs: Pairs
    scale: Float[Array, ""]
    triangle: Float[Array, "memory memory"]
    square: Float[Array, "memory memory"]

    def __call__(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`M v`; without pairs, v."""
        steps, changes, _ = self.pairs
        along, across = steps @ vector, changes @ vector
        inner = self.square @ along - self.scale * (self.triangle.T @ across)
        return self.scale * (vector - (self.triangle @ along) @ changes) + inner @ steps


def no_pairs(memory: int, size: int, dtype: Any) -> Pairs:
    """Nothing seen yet."""
    nothing = jnp.zeros((memory, size), dtype)
    return Pairs(nothing, nothing, jnp.zeros((), jnp.int32))


def curves_up(
    step_square: Float[Array, ""], change_square: Float[Array, ""], curvature: Float[Array, ""]
) -> Bool[Array, ""]:
    """Whether `sᵀy > 0` by more than rounding errors of sᵀs and yᵀy, so that the pair may be kept."""
    floor = jnp.finfo(curvature.dtype).eps
    return jnp.isfinite(curvature) & (curvature > floor * jnp.sqrt(step_square) * jnp.sqrt(change_square))


def one_pair(
    step: Float[Array, " n"],
    change: Float[Array, " n"],
    curvature: Float[Array, ""],
    counts: Bool[Array, ""],
) -> Pairs:
    """A step and a change, scaled by what their product `sᵀy` is; zero where they do not count."""
    factor = jnp.where(counts, 1 / jnp.sqrt(jnp.where(counts, curvature, 1.0)), 0.0)
    scaled = lambda row: jnp.where(counts, factor * row, 0.0)[None]  # noqa: E731
    return Pairs(scaled(step), scaled(change), counts.astype(jnp.int32))


def append(pairs: Pairs, new: Pairs) -> Pairs:
    """The pairs, then the new ones; the oldest are forgotten.

    Args:
      pairs: as kept.
      new: not more rows; the *first* `new.count` of them count.
    """
    memory, most = pairs.steps.shape[0], new.steps.shape[0]

    def shifted(old: Array, fresh: Array) -> Array:
        if most == 1:  # a choice is one pass over vectors, a slice that begins anywhere two
            return jnp.where(new.count > 0, jnp.concatenate([old[1:], fresh]), old)
        return jax.lax.dynamic_slice_in_dim(jnp.concatenate([old, fresh]), new.count, memory)

    return Pairs(
        shifted(pairs.steps, new.steps),
        shifted(pairs.changes, new.changes),
        jnp.minimum(pairs.count + new.count, memory),
    )


def record(ring: Pairs, new: Pairs) -> Pairs:
    """Write a pair into a ring, over the oldest one if it is full, or leave it out; see `recorded`."""
    place = ring.count % ring.steps.shape[0]
    counts = new.count > 0

    def written(rows: Array, row: Array) -> Array:
        return rows.at[place].set(jnp.where(counts, row[0], rows[place]))

    return Pairs(written(ring.steps, new.steps), written(ring.changes, new.changes), ring.count + new.count)


def recorded(ring: Pairs) -> Pairs:
    """The pairs of a ring in their order, in the first rows."""
    memory = ring.steps.shape[0]
    count = jnp.minimum(ring.count, memory)
    if memory == 1:  # in order as it is: to gather rows would be a pass over them
        return ring._replace(count=count)
    order = (jnp.maximum(ring.count - memory, 0) + jnp.arange(memory, dtype=jnp.int32)) % memory
    return Pairs(ring.steps[order], ring.changes[order], count)


def inverse(pairs: Pairs) -> Inverse:
    """The BFGS matrix that maps every change to about its step, and the last one exactly.

    Source: R. H. Byrd, J. Nocedal and R. B. Schnabel, Representations of quasi-Newton matrices, 1994,
      eq. 3.1, with `D = I`.

    Example:
      >>> step, change = jnp.array([0.0, 1.0]), jnp.array([0.0, 4.0])
      >>> new = one_pair(step, change, step @ change, jnp.array(True))
      >>> print(inverse(append(no_pairs(2, 2, float), new))(change))
      [0. 1.]
    """
    steps, changes, count = pairs
    memory = steps.shape[0]
    used = jnp.arange(memory, dtype=count.dtype) >= memory - count
    last = jnp.sum(changes[-1] ** 2)
    scale = jnp.where((count > 0) & (last > 0), 1 / jnp.where(last > 0, last, 1.0), 1.0)
    identity = jnp.eye(memory, dtype=steps.dtype)
    products = jnp.triu(steps @ changes.T) + jnp.diag(jnp.where(used, 0.0, 1.0).astype(steps.dtype))
    triangle = jax.scipy.linalg.solve_triangular(products, identity)
    triangle = jnp.where(used[:, None] & used[None, :], triangle, 0.0)
    middle = identity + scale * (changes @ changes.T)
    return Inverse(pairs, scale, triangle, triangle.T @ middle @ triangle)
