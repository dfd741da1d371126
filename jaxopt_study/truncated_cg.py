"""A Newton step from Hessian-vector products alone: conjugate gradients that end early.

They end when the residual is small enough for a step that will not be the last, at the border of a trust
region, and where the curvature turns negative, which is then followed to the border. A matrix is never
formed: the memory is that of a few vectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.pytree import norm
from jaxopt_study.quasi_newton import Pairs, curves_up, no_pairs, one_pair, record, recorded
from jaxopt_study.types import Bool, Float, Int

Operator = Callable[[Array], Array]


class Path(NamedTuple):
    """From zero over the first iterate to the last, and what was learned on the way.

    In large problems every vector that is carried costs as much as a pass over it. So there is no product
    with H for any point of the path; a quadratic model needs but three numbers of them.

    Attributes:
      first: the first direction.
      fraction: of it, which the first iterate is.
      step: the last iterate.
      bends: of those two, p and q, `[pᵀHp, pᵀHq, qᵀHq]`.
      pairs: directions of positive curvature and H times them, the last ones that fit; the first rows, see
        `quasi_newton.append`. If only one fits, that is the very last direction or none.
      negative: whether a direction of negative (or no) curvature was met.
      curvature: the largest |dᵀHd| / dᵀd of a direction.
      lowest: the least dᵀHd / dᵀd.
      products: how many products with H were taken.
    """

    first: Float[Array, " n"]
    fraction: Float[Array, ""]
    step: Float[Array, " n"]
    bends: Float[Array, " 3"]
    pairs: Pairs
    negative: Bool[Array, ""]
    curvature: Float[Array, ""]
    lowest: Float[Array, ""]
    products: Int[Array, ""]


class _Iterate(NamedTuple):
    """Between two directions.

    Attributes:
      step, length_square: the iterate d, and dᵀd.
      residual, preconditioned, residual_square: `r = Hd + g`, `Mr` and `rᵀMr`.
      beta: how much of the last direction is in the next one.
      direction, product, bend: the last direction, H times it, and its curvature.
      fraction, first_bend: of the first iterate, see `Path`.
      pairs: a ring of the last ones; None if only the last one is asked for, which is at hand.
      ended, negative, curvature, lowest, products: see `Path`.
    """

    step: Array
    length_square: Array
    residual: Array
    preconditioned: Array
    residual_square: Array
    beta: Array
    direction: Array
    product: Array
    bend: Array
    fraction: Array
    first_bend: Array
    pairs: Pairs | None
    ended: Array
    negative: Array
    curvature: Array
    lowest: Array
    products: Array


def truncated_cg(
    hessian: Operator,
    gradient: Float[Array, " n"],
    radius: Float[Array, ""],
    tolerance: Float[Array, ""],
    *,
    precondition: Operator,
    preconditioned: Float[Array, " n"] | None = None,
    memory: int,
    max_products: Int[Array, ""] | int,
    follow_negative: bool = True,
) -> Path:
    """Steihaug's conjugate gradients on `H d = -g` in the ball `‖d‖ ≤ Δ`.

    Args:
      hessian: `v ↦ Hv`.
      gradient: g.
      radius: Δ > 0, finite.
      tolerance: end when the residual `‖Hd + g‖` is not larger.
      precondition: `r ↦ M r` with M positive definite and near the inverse of H.
      preconditioned: `M g`, where it is known already.
      memory: how many pairs to return.
      max_products: end after so many products.
      follow_negative: whether to follow negative curvature to the border, or to end before it.

    Returns:
      A `Path`; with a gradient of zero it stays at zero and costs nothing.

    Source: T. Steihaug, The conjugate gradient method and trust regions, 1983; J. L. Morales and J. Nocedal,
      Automatic preconditioning by limited memory quasi-Newton updating, 2000, for M.

    Example:
      >>> path = truncated_cg(lambda v: jnp.array([1.0, -1.0]) * v, jnp.array([1.0, 0.1]), jnp.array(5.0),
      ...     jnp.array(1e-3), precondition=lambda r: r, memory=2, max_products=10)
      >>> print(path.products, path.negative, jnp.round(jnp.linalg.norm(path.step), 3))
      2 True 5.0
    """
    if preconditioned is None:
        preconditioned = precondition(gradient)
    square = jnp.vdot(gradient, preconditioned)

    def again(now: _Iterate) -> _Iterate:
        direction = now.beta * now.direction - now.preconditioned
        product = hessian(direction)
        bend = jnp.vdot(direction, product)
        length = jnp.vdot(direction, direction)
        along = jnp.vdot(now.step, direction)

        def square_after(multiple: Array) -> Array:
            return now.length_square + multiple * (2 * along + multiple * length)

        # No curvature is none to rely on: the model has no minimum along this direction.
        up = curves_up(length, jnp.vdot(product, product), bend)
        multiple = now.residual_square / jnp.where(up, bend, 1.0)
        out = ~(up & (square_after(multiple) < radius**2))
        multiple = jnp.where(out, _to_the_border(along, now.length_square, length, radius), multiple)
        if not follow_negative:
            multiple = jnp.where(up, multiple, 0.0)
        step = now.step + multiple * direction
        residual = now.residual + multiple * product
        preconditioned = precondition(residual)
        residual_square = jnp.vdot(residual, preconditioned)
        done = jnp.vdot(residual, residual) <= tolerance**2
        starting = now.products == 0
        # Of the iterate, not of the direction: squares of that may overflow, and of the multiple vanish.
        first_bend = jax.lax.cond(
            starting, lambda: jnp.vdot(multiple * direction, multiple * product), lambda: now.first_bend
        )
        pairs = now.pairs
        return _Iterate(
            step=step,
            length_square=square_after(multiple),
            residual=residual,
            preconditioned=preconditioned,
            residual_square=residual_square,
            beta=residual_square / now.residual_square,
            direction=direction,
            product=product,
            bend=bend,
            fraction=jnp.where(starting, multiple, now.fraction),
            first_bend=first_bend,
            pairs=None if pairs is None else record(pairs, one_pair(direction, product, bend, up)),
            ended=out | done | ~(residual_square > 0),
            negative=~up,
            curvature=jnp.maximum(now.curvature, jnp.abs(bend) / length),
            lowest=jnp.minimum(now.lowest, bend / length),
            products=now.products + 1,
        )

    zero, nothing = jnp.zeros((), gradient.dtype), jnp.zeros_like(gradient)
    start = _Iterate(
        step=nothing,
        length_square=zero,
        residual=gradient,
        preconditioned=preconditioned,
        residual_square=square,
        beta=zero,
        direction=nothing,
        product=nothing,
        bend=zero,
        fraction=zero,
        first_bend=zero,
        pairs=None if memory == 1 else no_pairs(memory, gradient.size, gradient.dtype),
        ended=~(square > 0),
        negative=jnp.zeros((), bool),
        curvature=zero,
        lowest=zero + jnp.inf,
        products=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(lambda now: ~now.ended & (now.products < max_products), again, start)
    if end.pairs is None:
        pairs = one_pair(end.direction, end.product, end.bend, ~end.negative & (end.products > 0))
    else:
        pairs = recorded(end.pairs)
    first, product = -preconditioned, end.residual - gradient
    cross = jnp.vdot(end.fraction * first, product)
    return Path(
        first,
        end.fraction,
        end.step,
        jnp.stack([end.first_bend, cross, jnp.vdot(end.step, product)]),
        pairs,
        end.negative,
        end.curvature,
        end.lowest,
        end.products,
    )


def _to_the_border(
    along: Float[Array, ""], square: Float[Array, ""], length: Float[Array, ""], radius: Float[Array, ""]
) -> Float[Array, ""]:
    """The t ≥ 0 with `‖p + t d‖ = Δ`, from `pᵀd`, `pᵀp` and `dᵀd`, in the way that does not cancel."""
    room = radius**2 - square
    root = jnp.sqrt(jnp.maximum(along**2 + length * room, 0.0))
    return jnp.where(along > 0, room / (along + root), (root - along) / length)


class Legs(NamedTuple):
    """A path of two straight lines, over the first iterate p to the last, q, on which f has a model.

    Attributes:
      first, fraction, step: p is that fraction of the first direction; q.
      length: ‖q‖.
      squares: `[pᵀp, pᵀq, qᵀq]`.
      slopes: `[gᵀp, gᵀq]`.
      bends: `[pᵀHp, pᵀHq, qᵀHq]`.
    """

    first: Float[Array, " n"]
    fraction: Float[Array, ""]
    step: Float[Array, " n"]
    length: Float[Array, ""]
    squares: Float[Array, " 3"]
    slopes: Float[Array, " 2"]
    bends: Float[Array, " 3"]

    def shortened(self, radius: Float[Array, ""]) -> tuple[Array, Array, Array]:
        """The point of the path at distance Δ from zero, or its end if that is nearer.

        A second radius costs no products.

        Returns:
          The point, its length, and by how much the model falls there.
        """
        first_square, both, last_square = self.squares
        scale = radius / jnp.sqrt(jnp.where(first_square > 0, first_square, 1.0))
        leg = jnp.maximum(first_square - 2 * both + last_square, 0.0)
        t = _to_the_border(both - first_square, first_square, jnp.where(leg > 0, leg, 1.0), radius)
        t = jnp.clip(t, 0.0, 1.0)
        whole = self.length <= radius * (1 + 2 * jnp.finfo(radius.dtype).eps)
        beyond = first_square < radius**2
        p = jnp.where(whole, 0.0, jnp.where(beyond, 1 - t, scale))
        q = jnp.where(whole, 1.0, jnp.where(beyond, t, 0.0))
        step = jnp.where(whole, self.step, (p * self.fraction) * self.first + q * self.step)
        slope = p * self.slopes[0] + q * self.slopes[1]
        bend = p * (p * self.bends[0] + 2 * q * self.bends[1]) + q**2 * self.bends[2]
        return step, jnp.where(whole, self.length, radius), -slope - 0.5 * bend


def legs(path: Path, gradient: Float[Array, " n"]) -> Legs:
    """What trials of a path need of it."""
    # Products of the points themselves: those of the direction may overflow where theirs do not.
    point, step = path.fraction * path.first, path.step
    squares = jnp.stack([jnp.vdot(point, point), jnp.vdot(point, step), jnp.vdot(step, step)])
    slopes = jnp.stack([jnp.vdot(gradient, point), jnp.vdot(gradient, step)])
    return Legs(path.first, path.fraction, step, norm(step), squares, slopes, path.bends)
