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
    step: Float[Array, " n"], change: Float[Array, " n"], curvature: Float[Array, ""]
) -> Bool[Array, ""]:
    """Whether `sᵀy > 0` by more than rounding errors, so that the pair may be kept."""
    floor = jnp.finfo(step.dtype).eps
    lengths = jnp.sqrt(jnp.sum(step**2)) * jnp.sqrt(jnp.sum(change**2))
    return jnp.isfinite(curvature) & (curvature > floor * lengths)


def append(pairs: Pairs, new: Pairs) -> Pairs:
    """The pairs, then the new ones; the oldest are forgotten.

    Args:
      pairs: as kept.
      new: not more rows; the *first* `new.count` of them count, and are scaled here.
    """
    memory = pairs.steps.shape[0]
    rows = jnp.arange(new.steps.shape[0]) < new.count
    products = jnp.sum(new.steps * new.changes, axis=1)
    factor = jnp.where(rows, 1 / jnp.sqrt(jnp.where(rows, products, 1.0)), 0.0)[:, None]

    def shifted(old: Array, fresh: Array) -> Array:
        both = jnp.concatenate([old, jnp.where(rows[:, None], fresh * factor, 0.0)])
        return jax.lax.dynamic_slice_in_dim(both, new.count, memory)

    return Pairs(
        shifted(pairs.steps, new.steps),
        shifted(pairs.changes, new.changes),
        jnp.minimum(pairs.count + new.count, memory),
    )


def recorder(memory: int, size: int, dtype: Any) -> Pairs:
    """Room for the last `memory` pairs of a run, written around in a ring; see `record` and `recorded`."""
    # A row more than is asked for: what is written there last may be a pair that does not count.
    return no_pairs(memory + 1, size, dtype)


def record(
    ring: Pairs, step: Float[Array, " n"], change: Float[Array, " n"], counts: Bool[Array, ""]
) -> Pairs:
    """Write a pair; if it does not count, the next one is written over it."""
    place = ring.count % ring.steps.shape[0]
    return Pairs(ring.steps.at[place].set(step), ring.changes.at[place].set(change), ring.count + counts)


def recorded(ring: Pairs) -> Pairs:
    """The pairs of a ring in their order, in the first rows."""
    memory = ring.steps.shape[0] - 1
    oldest = jnp.maximum(ring.count - memory, 0)
    order = (oldest + jnp.arange(memory)) % (memory + 1)
    return Pairs(ring.steps[order], ring.changes[order], jnp.minimum(ring.count, memory))


def inverse(pairs: Pairs) -> Inverse:
    """The BFGS matrix that maps every change to about its step, and the last one exactly.

    Source: R. H. Byrd, J. Nocedal and R. B. Schnabel, Representations of quasi-Newton matrices, 1994,
      eq. 3.1, with `D = I`.

    Example:
      >>> hessian = jnp.diag(jnp.array([1.0, 4.0]))
      >>> new = Pairs(jnp.eye(2), jnp.eye(2) @ hessian, jnp.array(2))
      >>> print(inverse(append(no_pairs(2, 2, float), new))(jnp.array([1.0, 4.0])))
      [1. 1.]
    """
    steps, changes, count = pairs
    memory = steps.shape[0]
    used = jnp.arange(memory) >= memory - count
    last = jnp.sum(changes[-1] ** 2)
    scale = jnp.where((count > 0) & (last > 0), 1 / jnp.where(last > 0, last, 1.0), 1.0)
    identity = jnp.eye(memory, dtype=steps.dtype)
    products = jnp.triu(steps @ changes.T) + jnp.diag(jnp.where(used, 0.0, 1.0).astype(steps.dtype))
    triangle = jax.scipy.linalg.solve_triangular(products, identity)
    triangle = jnp.where(used[:, None] & used[None, :], triangle, 0.0)
    middle = identity + scale * (changes @ changes.T)
    return Inverse(pairs, scale, triangle, triangle.T @ middle @ triangle)
