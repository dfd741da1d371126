"""The search behind `find_roots`, in the unit cube: starts that fill it, Newton's method, clusters.

The first round starts everywhere. In every later one the function is divided by the distance from the roots
known so far, so that they attract nobody, and what is found is polished on the function itself.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.result import Status, is_converged
from jaxopt_study.solvers.root_input import RootNumbers, tolerances_for
from jaxopt_study.solvers.root_newton import SUSPECT, NewtonOptions, begin, run
from jaxopt_study.types import Bool, Float

FIRST_RADIUS = 0.1  # of the trust region, relative to the box: a start is to find a root near it
DEFLATE = 1e-2  # squared reach of what takes a root away, in widths of the box
OUTSIDE = 1e-9  # of the box's width, by which a root may miss it and be on its edge


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What of a search is structure; see `find_roots`."""

    max_roots: int
    starts: int
    rounds: int
    newton: NewtonOptions


def search(
    fn: Any,
    low: Float[Array, " n"],
    width: Float[Array, " n"],
    key: Array | None,
    numbers: RootNumbers,
    gap: Float[Array, ""],
    options: SearchOptions,
) -> tuple[Array, tuple]:
    """All roots that so many starts find.

    Args:
      fn: f where the box is the cube (0, 1)ⁿ.
      low, width: of the box.
      key: shifts the starts at random; None for the same ones always.
      numbers: of `find_root`.
      gap: roots that are nearer to each other than this are one.
      options: how many of what.

    Returns:
      Places in the box, NaN in empty rooms; and what `Roots` says of them, in its order.
    """
    n, dtype = low.size, low.dtype
    shift = jnp.full(n, 0.5, dtype) if key is None else jax.random.uniform(key, (n,), dtype)
    points = fill(options.rounds * options.starts, shift).reshape(options.rounds, options.starts, n)

    def newton(fn: Any, u: Array) -> Any:
        tolerances = tolerances_for(jnp.ones_like(u), numbers)
        radius = jnp.asarray(numbers.radius, dtype)
        end = run(fn, begin(u, radius, options.newton), numbers.max_steps, tolerances, options.newton)
        status = jnp.where(end.status == SUSPECT, Status.NO_ROOT, end.status)
        return end._replace(status=status.astype(jnp.int32))

    def in_box(u: Array) -> Bool[Array, ""]:
        return jnp.all((u >= -OUTSIDE) & (u <= 1 + OUTSIDE))

    rooms = options.max_roots
    known = (
        jnp.full((rooms, n), jnp.inf, dtype),
        jnp.full(rooms, jnp.inf, dtype),
        jnp.zeros(rooms, jnp.int32),
        jnp.zeros(rooms, bool),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )

    def search_round(carry: tuple, starts: Array) -> tuple[tuple, tuple[Array, Array]]:
        known, typical = carry
        places, _, _, _, count, _ = known

        def stage(starts: Array, take_away: Array) -> tuple[Array, Any]:
            ends = jax.vmap(functools.partial(newton, functools.partial(deflated, take_away)))(starts)
            return jnp.where(jnp.isfinite(ends.x), ends.x, starts), ends

        def deflated(take_away: Array, u: Array) -> Array:
            squares = jnp.sum((u[None] - jnp.where(jnp.isfinite(places), places, 0.0)) ** 2, axis=1)
            used = take_away & (jnp.arange(rooms, dtype=jnp.int32) < count)
            factor = jnp.where(used, 1 + DEFLATE / jnp.where(used & (squares > 0), squares, 1.0), 1.0)
            return fn(u) * jnp.prod(factor)

        # One program for both: first with the known roots taken away, then as it is.
        _, stages = jax.lax.scan(stage, starts, jnp.array([True, False]))
        ends = jax.tree.map(lambda leaf: leaf[-1], stages)
        good = is_converged(ends.status) & jax.vmap(in_box)(ends.x)
        sizes = jnp.max(jnp.abs(ends.residual), axis=1)
        # Beside the columns of J met on the first round's ways: the polish has seen none but its end's.
        typical = jnp.where(typical > 0, typical, jnp.min(jnp.median(stages.largest[0], axis=0)))
        slopes = ends.model.grad_norm / jnp.where(ends.size > 0, ends.size, 1.0)
        shallow = (slopes <= jnp.finfo(dtype).eps ** 0.5 * typical) & (ends.size > 0)
        known = _merge(known, ends.x, sizes, ends.model.singular | shallow, good, gap)
        return (known, typical), (jnp.sum(good, dtype=jnp.int32), jnp.sum(stages.num_evals, dtype=jnp.int32))

    begun = known, jnp.zeros((), dtype)
    (known, _), (converged, evals) = jax.lax.scan(search_round, begun, points)
    places, sizes, hits, singular, count, overflow = known
    # By the first coordinate, then the second; roots whose first is the same to the clusters' width are
    # sorted by the next.
    rounded = jnp.round(places / gap)
    order = jnp.lexsort(tuple(rounded[:, i] for i in reversed(range(n))))
    used = jnp.arange(rooms, dtype=jnp.int32) < count
    # Infinite where there is none.
    places = low[None] + width[None] * jnp.where(jnp.isfinite(places), places, jnp.nan)
    rest = (
        count,
        jnp.where(used, sizes[order], jnp.nan),
        hits[order],
        singular[order],
        overflow,
        jnp.sum(converged),
        jnp.sum(evals, dtype=jnp.int32),
    )
    return places[order], rest


def _merge(
    known: tuple,
    ends: Float[Array, "starts n"],
    sizes: Float[Array, " starts"],
    singular: Bool[Array, " starts"],
    good: Bool[Array, " starts"],
    gap: Float[Array, ""],
) -> tuple:
    """Count every end for the root that it is near to, or make it a new one; the best stands for all."""
    rooms = known[0].shape[0]

    def one(known: tuple, end: tuple) -> tuple[tuple, None]:
        places, best, hits, flags, count, overflow = known
        u, size, flag, is_root = end
        far = jnp.max(jnp.abs(places - u[None]), axis=1)
        near = jax.lax.argmin(far, 0, jnp.int32)
        seen = far[near] <= gap
        slot = jnp.where(seen, near, jnp.minimum(count, rooms - 1))
        room = seen | (count < rooms)
        better = is_root & room & (~seen | (size < best[near]))
        places = places.at[slot].set(jnp.where(better, u, places[slot]))
        best = best.at[slot].set(jnp.where(better, size, best[slot]))
        flags = flags.at[slot].set(jnp.where(better, flag, flags[slot]))
        hits = hits.at[slot].add((is_root & room).astype(hits.dtype))
        return (
            places,
            best,
            hits,
            flags,
            count + (is_root & ~seen & room).astype(count.dtype),
            overflow | (is_root & ~room),
        ), None

    return jax.lax.scan(one, known, (ends, sizes, singular, good))[0]


def fill(points: int, shift: Float[Array, " n"]) -> Float[Array, "points n"]:
    """Points that fill the unit cube evenly: `frac(shift + i α)`, αⱼ = φ⁻ʲ with φⁿ⁺¹ = φ + 1."""
    n = shift.size
    phi = 2.0
    for _ in range(50):
        phi = (1 + phi) ** (1 / (n + 1))
    alpha = np.mod(phi ** -np.arange(1.0, n + 1), 1.0)
    steps = np.mod(np.arange(1.0, points + 1)[:, None] * alpha, 1.0)  # in float64 on the host
    return jnp.mod(shift[None] + jnp.asarray(steps, shift.dtype), 1.0)
