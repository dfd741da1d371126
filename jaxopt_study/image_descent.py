"""Conjugate gradients along f itself, where f is a cheap function of dear linear images.

On a quadratic model every direction costs a product with the Hessian, and a new model is made where the old
one no longer holds. Here a direction costs its image and a gradient, the same two passes; value, slopes and
curvature in the plane of this direction and the last steps are known from images alone, and Newton's method
in that plane takes the place of the two coefficients of conjugate gradients. On a quadratic function both
take the same steps. Source: G. Narkiss and M. Zibulevsky, Sequential subspace optimization method for
large-scale unconstrained problems, 2005.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.linear_images import ByImages, Images
from jaxopt_study.pytree import norm
from jaxopt_study.quasi_newton import Pairs, curves_up, no_pairs, one_pair, record, recorded
from jaxopt_study.truncated_cg import Path
from jaxopt_study.types import Bool, Float, Int

REMEMBERED = 2  # steps that span the plane, with the new direction
NEWTON_STEPS = 3  # in the plane, at most
SETTLED = 1e-2  # of what the last of them was to gain: the plane is left where it gains less
HALVINGS = 30
SUFFICIENT = 1e-4  # of what the slope promises


class _Descent(NamedTuple):
    """Between two directions.

    Attributes:
      step, images: from the start, and Lθ there.
      value, gradient: of f there.
      basis, pushed: the last steps, of length 1, a row each, and their images.
      fraction, first_bend: how many gradients the first step is long, and its curvature.
      pairs: steps and changes of the gradient, as in `Path`.
      curvature, lowest: the largest and the least curvature along a step.
      products, ended: as in `Path`.
    """

    step: Float[Array, " n"]
    images: Images
    value: Float[Array, ""]
    gradient: Float[Array, " n"]
    basis: Float[Array, "remembered n"]
    pushed: Images
    fraction: Float[Array, ""]
    first_bend: Float[Array, ""]
    pairs: Pairs
    curvature: Float[Array, ""]
    lowest: Float[Array, ""]
    products: Int[Array, ""]
    ended: Bool[Array, ""]


def descend(
    parts: ByImages,
    theta: Float[Array, " n"],
    images: Images,
    value: Float[Array, ""],
    gradient: Float[Array, " n"],
    reach: Float[Array, ""],
    tolerance: Float[Array, ""],
    target: Float[Array, ""],
    *,
    memory: int,
    max_products: Int[Array, ""] | int,
) -> Path:
    """Go down from θ until the gradient is small enough for a step that will not be the last.

    Args:
      parts: f by its images.
      theta, images, value, gradient: where to start, and what is known there.
      reach: no step in a plane is longer.
      tolerance: end when the gradient is not larger.
      target: end when f is not larger.
      memory: how many pairs to return.
      max_products: end after so many directions.

    Returns:
      A `Path`, in which what the gradient changed by stands for products with the Hessian.
    """
    pull = jax.linear_transpose(parts.push, theta)
    slopes = jax.grad(parts.value, argnums=(0, 1))

    def again(now: _Descent) -> _Descent:
        at = theta + now.step
        length = norm(now.gradient)
        newest = -now.gradient / jnp.where(length > 0, length, 1.0)
        basis = jnp.concatenate([now.basis, newest[None]])
        pushed = _with_row(now.pushed, parts.push(newest))

        def in_plane(c: Float[Array, " plane"]) -> Float[Array, ""]:
            moved = tuple(z + jnp.tensordot(c, rows, 1) for z, rows in zip(now.images, pushed, strict=True))
            return parts.value(at + c @ basis, moved)

        c, lower = _minimize_in_plane(in_plane, basis.shape[0], now.value, reach, theta.dtype)
        step = c @ basis
        ahead = tuple(jnp.tensordot(c, rows, 1) for rows in pushed)
        images = tuple(z + dz for z, dz in zip(now.images, ahead, strict=True))
        own, of_images = slopes(at + step, images)
        gradient = own + pull(of_images)[0]
        change = gradient - now.gradient
        moved = norm(step)
        unit = 1 / jnp.where(moved > 0, moved, 1.0)
        bend = jnp.vdot(step, change)
        up = curves_up(moved**2, jnp.vdot(change, change), bend)
        curvature = bend * unit**2
        starting = now.products == 0
        return _Descent(
            step=now.step + step,
            images=images,
            value=lower,
            gradient=gradient,
            basis=jnp.concatenate([now.basis[1:], unit * step[None]]),
            pushed=tuple(
                jnp.concatenate([rows[1:-1], unit * dz[None]]) for rows, dz in zip(pushed, ahead, strict=True)
            ),
            fraction=jnp.where(starting, moved / jnp.where(length > 0, length, 1.0), now.fraction),
            first_bend=jnp.where(starting, bend, now.first_bend),
            pairs=record(now.pairs, one_pair(step, change, bend, up)),
            curvature=jnp.maximum(now.curvature, jnp.abs(curvature)),
            lowest=jnp.minimum(now.lowest, curvature),
            products=now.products + 1,
            ended=~(lower < now.value) | (lower <= target) | (norm(gradient) <= tolerance),
        )

    zero, nothing = jnp.zeros((), theta.dtype), jnp.zeros_like(theta)
    none = jnp.zeros((), jnp.int32)
    start = _Descent(
        step=nothing,
        images=images,
        value=value,
        gradient=gradient,
        basis=jnp.zeros((REMEMBERED, theta.size), theta.dtype),
        pushed=tuple(jnp.zeros((REMEMBERED, *z.shape), z.dtype) for z in images),
        fraction=zero,
        first_bend=zero,
        pairs=no_pairs(memory, theta.size, theta.dtype),
        curvature=zero,
        lowest=zero + jnp.inf,
        products=none,
        ended=norm(gradient) <= tolerance,
    )
    end = jax.lax.while_loop(lambda now: ~now.ended & (now.products < max_products), again, start)
    change = end.gradient - gradient
    cross = -jnp.vdot(end.fraction * gradient, change)
    return Path(
        -gradient,
        end.fraction,
        end.step,
        jnp.stack([end.first_bend, cross, jnp.vdot(end.step, change)]),
        recorded(end.pairs),
        jnp.zeros((), bool),
        end.curvature,
        end.lowest,
        end.products,
    )


class _Place(NamedTuple):
    """Where Newton's method is in a plane: coefficients, f there, what the last step gained, steps."""

    c: Float[Array, " plane"]
    value: Float[Array, ""]
    gained: Float[Array, ""]
    steps: Int[Array, ""]


def _minimize_in_plane(
    fn: Callable[[Float[Array, " plane"]], Float[Array, ""]],
    size: int,
    value: Float[Array, ""],
    reach: Float[Array, ""],
    dtype: Any,
) -> tuple[Float[Array, " plane"], Float[Array, ""]]:
    """A few steps of Newton's method with |H| from zero, each shortened until f falls; and f there."""

    def again(now: _Place) -> _Place:
        slope, hessian = jax.grad(fn)(now.c), jax.hessian(fn)(now.c)
        curvature, axes = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        size = jnp.abs(curvature)
        floor = jnp.finfo(dtype).eps ** 0.5 * jnp.max(size)
        step = -axes @ ((slope @ axes) / jnp.maximum(size, jnp.where(floor > 0, floor, 1.0)))
        length = norm(step)
        step = jnp.where(length > reach, reach / jnp.where(length > 0, length, 1.0), 1.0) * step
        promised = -jnp.vdot(slope, step)

        def refused(trial: tuple[Array, Array, Array]) -> Array:
            factor, there, halvings = trial
            return ~(there <= now.value - SUFFICIENT * factor * promised) & (halvings < HALVINGS)

        def shorter(trial: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            factor, _, halvings = trial
            return 0.5 * factor, fn(now.c + 0.5 * factor * step), halvings + 1

        one = jnp.ones((), dtype)
        first = (one, fn(now.c + step), jnp.zeros((), jnp.int32))
        factor, there, _ = jax.lax.while_loop(refused, shorter, first)
        better = there < now.value
        return _Place(
            jnp.where(better, now.c + factor * step, now.c),
            jnp.where(better, there, now.value),
            jnp.where(better, now.value - there, 0.0),
            now.steps + 1,
        )

    def going(now: _Place) -> Bool[Array, ""]:
        return (now.gained > SETTLED * (value - now.value)) & (now.steps < NEWTON_STEPS)

    nothing = jnp.zeros((), jnp.int32)
    start = _Place(jnp.zeros(size, dtype), value, jnp.full((), jnp.inf, dtype), nothing)
    end = jax.lax.while_loop(going, again, start)
    return end.c, end.value


def _with_row(rows: Images, row: Images) -> Images:
    return tuple(jnp.concatenate([old, new[None]]) for old, new in zip(rows, row, strict=True))
