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

from jaxopt_study.quasi_newton import Pairs, curves_up, record, recorded, recorder
from jaxopt_study.types import Bool, Float, Int

Operator = Callable[[Array], Array]


class Path(NamedTuple):
    """From zero over the first iterate to the last, and what was learned on the way.

    Attributes:
      first, first_product: the first iterate and H times it.
      step, product: the last one and H times it.
      inside: the last one before the border, or before the curvature turned negative.
      pairs: directions and H times them, the last ones that fit; the first rows, see
        `quasi_newton.append`.
      negative: whether a direction of negative (or no) curvature was met; `step` ends with it.
      curvature: the largest |dᵀHd| / dᵀd of a direction.
      lowest: the least dᵀHd / dᵀd.
      products: how many products with H were taken.
    """

    first: Float[Array, " n"]
    first_product: Float[Array, " n"]
    step: Float[Array, " n"]
    product: Float[Array, " n"]
    inside: Float[Array, " n"]
    pairs: Pairs
    negative: Bool[Array, ""]
    curvature: Float[Array, ""]
    lowest: Float[Array, ""]
    products: Int[Array, ""]


class _Iterate(NamedTuple):
    step: Array
    product: Array
    inside: Array
    direction: Array
    residual_square: Array
    first: Array
    first_product: Array
    pairs: Pairs
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
    memory: int,
    max_products: Int[Array, ""] | int,
) -> Path:
    """Steihaug's conjugate gradients on `H d = -g` in the ball `‖d‖ ≤ Δ`.

    Args:
      hessian: `v ↦ Hv`.
      gradient: g.
      radius: Δ > 0, finite.
      tolerance: end when the residual `‖Hd + g‖` is not larger.
      precondition: `r ↦ M r` with M positive definite and near the inverse of H.
      memory: how many pairs to return.
      max_products: end after so many products.

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
    nothing = jnp.zeros_like(gradient)
    preconditioned = precondition(gradient)
    square = jnp.vdot(gradient, preconditioned)

    def again(now: _Iterate) -> _Iterate:
        product = hessian(now.direction)
        bend = jnp.vdot(now.direction, product)
        length = jnp.vdot(now.direction, now.direction)
        # No curvature is none to rely on: the model has no minimum along this direction.
        up = curves_up(now.direction, product, bend)
        multiple = now.residual_square / jnp.where(up, bend, 1.0)
        ahead = now.step + multiple * now.direction
        out = ~up | (jnp.vdot(ahead, ahead) >= radius**2)
        multiple = jnp.where(out, _to_the_border(now.step, now.direction, length, radius), multiple)
        step = now.step + multiple * now.direction
        along = now.product + multiple * product
        residual = gradient + along
        preconditioned = precondition(residual)
        square = jnp.vdot(residual, preconditioned)
        direction = (square / now.residual_square) * now.direction - preconditioned
        done = jnp.vdot(residual, residual) <= tolerance**2
        starting = now.products == 0
        return _Iterate(
            step=step,
            product=along,
            inside=jnp.where(out, now.step, step),
            direction=direction,
            residual_square=square,
            first=jnp.where(starting, step, now.first),
            first_product=jnp.where(starting, along, now.first_product),
            pairs=record(now.pairs, now.direction, product, up),
            ended=out | done | ~(square > 0),
            negative=~up,
            curvature=jnp.maximum(now.curvature, jnp.abs(bend) / length),
            lowest=jnp.minimum(now.lowest, bend / length),
            products=now.products + 1,
        )

    no = jnp.zeros((), bool)
    none = jnp.zeros((), jnp.int32)
    zero = jnp.zeros((), gradient.dtype)
    first = _Iterate(
        nothing,
        nothing,
        nothing,
        -preconditioned,
        square,
        nothing,
        nothing,
        recorder(memory, gradient.size, gradient.dtype),
        ~(square > 0),
        no,
        zero,
        jnp.full((), jnp.inf, gradient.dtype),
        none,
    )
    end = jax.lax.while_loop(lambda now: ~now.ended & (now.products < max_products), again, first)
    return Path(
        end.first,
        end.first_product,
        end.step,
        end.product,
        end.inside,
        recorded(end.pairs),
        end.negative,
        end.curvature,
        end.lowest,
        end.products,
    )


def _to_the_border(
    step: Float[Array, " n"],
    direction: Float[Array, " n"],
    length: Float[Array, ""],
    radius: Float[Array, ""],
) -> Float[Array, ""]:
    """The t ≥ 0 with `‖step + t direction‖ = Δ`, in the way that does not cancel."""
    along, room = jnp.vdot(step, direction), radius**2 - jnp.vdot(step, step)
    root = jnp.sqrt(jnp.maximum(along**2 + length * room, 0.0))
    return jnp.where(along > 0, room / (along + root), (root - along) / length)


def shortened(path: Path, radius: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The point of the path at distance Δ from zero, or its end if that is nearer; and H times it.

    The path is of two straight lines, over the first iterate. A second radius costs no products.
    """
    first, step = path.first, path.step
    near, far = jnp.vdot(first, first), jnp.vdot(step, step)
    scale = radius / jnp.sqrt(jnp.where(near > 0, near, 1.0))
    leg = step - first
    length = jnp.vdot(leg, leg)
    t = _to_the_border(first, leg, jnp.where(length > 0, length, 1.0), radius)
    inside, whole = near < radius**2, far <= radius**2 * (1 + 4 * jnp.finfo(step.dtype).eps)

    def at(first: Array, last: Array) -> Array:
        bent = first + jnp.clip(t, 0.0, 1.0) * (last - first)
        return jnp.where(whole, last, jnp.where(inside, bent, scale * first))

    return at(path.first, path.step), at(path.first_product, path.product)
