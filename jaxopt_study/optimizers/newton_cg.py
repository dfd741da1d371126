"""Newton's update from Hessian-vector products alone: truncated conjugate gradients in a trust region.

For `newton`, which says what is computed. The Hessian of `newton_exact` costs n products; here a step costs
none to four at the median of the test problems, whatever n, because the products of the steps before make a
preconditioner, and a trial that was refused is shortened along the path that is there. While the gradient
falls fast that preconditioner alone makes the step, as in L-BFGS, and there are no products at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study import image_descent
from jaxopt_study.bounds import Box, project
from jaxopt_study.linear_images import ByImages, by_images
from jaxopt_study.optimizers.newton_exact import firmly_held, rounding_from, size_of
from jaxopt_study.optimizers.newton_path import Task, far, find_path, or_one
from jaxopt_study.optimizers.trial import MARGIN, Point, Trial, move
from jaxopt_study.pytree import norm
from jaxopt_study.quasi_newton import Learned, append, inverse, no_pairs
from jaxopt_study.truncated_cg import Legs, Path, legs, truncated_cg
from jaxopt_study.types import Bool, Float, Int

Vector = Float[Array, " params"]
Scalar = Float[Array, ""]

LARGE = 10_000  # parameters from which on a pass over a vector is not for nothing
MEMORY, MEMORY_OF_LARGE = 20, 1  # pairs
# The residual at which conjugate gradients end, relative to the gradient: in small problems a better step
# saves gradients and values, in large ones with slow products a worse one saves those.
FORCING, FORCING_OF_LARGE = 0.1, 0.5
LEAST_FORCING, LEAST_FORCING_OF_LARGE = 1e-3, 0.1  # near the end
PROBE_PRODUCTS = 10
# Where the last step left less of the gradient than this, what is known of H⁻¹ will do for another, which
# needs no products. One pair knows too little for that.
FELL = 0.3
# Along f itself there is no model that could be solved too well: only a report and a fresh start are due.
FORCING_OF_IMAGES, MAX_DIRECTIONS = 1e-3, 20
# In one step, and not more than twice the parameters: beyond, rounding errors are solved for.
MAX_PRODUCTS = 200


class Seen(NamedTuple):
    """What conjugate gradients have seen so far, for the next step.

    Attributes:
      learned: of the curvature.
      first: norm of the first gradient; 0 before.
      curvature: the largest along a direction of the last step.
      probed: whether, at these parameters, a random direction was followed in search of a way down.
    """

    learned: Learned
    first: Scalar
    curvature: Scalar
    probed: Bool[Array, ""]


def nothing_seen(size: int, dtype: Any) -> Seen:
    """Before the first step."""
    memory = MEMORY if size < LARGE else MEMORY_OF_LARGE
    zero = jnp.zeros((), dtype)
    empty = jnp.zeros(size, dtype)
    return Seen(Learned(no_pairs(memory, size, dtype), empty, empty), zero, zero, jnp.zeros((), bool))


class Model(NamedTuple):
    """The quadratic model at a point, as conjugate gradients see it.

    Attributes:
      value, gradient: of the objective.
      push: products with the Hessian.
      legs: the steps on offer.
      radius: how far they go.
      products: how many products were taken for all of it.
      point: what is known before any trial.
      seen: for the next step.
    """

    value: Scalar
    gradient: Vector
    push: Callable[[Array], Array]
    legs: Legs
    radius: Scalar
    products: Int[Array, ""]
    point: Point
    seen: Seen


def model(
    fn: Callable[[Array], Array],
    theta: Vector,
    gradient: Vector | None,
    box: Box | None,
    seen: Seen,
    first_value: Scalar,
    longest: Scalar,
    radii: Callable[[Vector, Callable[[Array], Array]], tuple[Scalar, Scalar]],
    gtol: Any,
    target: Any,
    measure_only: Any,
) -> Model:
    """Linearize, and go along conjugate gradients as far as it is worth it.

    At parameters that would end the iteration the path begins in a random direction instead of the
    gradient's: where that meets negative curvature, the point is a saddle, and the path is a way down.
    """
    # A bound, or a gradient that is not that of f, is no matter of f alone.
    parts = by_images(fn, theta) if box is None and gradient is None else None
    (value, own), linear = jax.linearize(jax.value_and_grad(fn), theta)
    gradient = own if gradient is None else gradient
    mask = None if box is None else firmly_held(box, theta, gradient)
    free = gradient if mask is None else jnp.where(mask, 0.0, gradient)
    push = lambda v: linear(v)[1]  # noqa: E731
    pairs = seen.learned.with_secant(theta, own, seen.first > 0)
    matrix = inverse(pairs)
    known = pairs.count > 0
    alone = matrix(free)
    grad_norm = norm(free)
    test = jnp.where(known, jnp.vdot(free, alone), jnp.where(grad_norm == 0, 0.0, jnp.inf))
    curvature_known = jnp.maximum(seen.curvature, 0.0)
    size = size_of(value, first_value, curvature_known * longest**2)
    test = _cosine(size, test)
    first = jnp.where(seen.first > 0, seen.first, grad_norm)
    params_norm = norm(theta)
    eps = jnp.finfo(theta.dtype).eps
    slope = jnp.vdot(jnp.abs(gradient), eps * jnp.abs(theta))
    rounding = rounding_from(value, slope, curvature_known * (eps * params_norm) ** 2)
    finished = measure_only | (test <= gtol)
    # A coordinate without a slope may stay invisible from the first step to the last.
    flat = jnp.any(free == 0) if mask is None else jnp.any((free == 0) & ~mask)
    invisible = (seen.first == 0) & flat
    radius, reach = radii(free, push)
    most = min(MAX_PRODUCTS, 2 * theta.size)
    target = jnp.asarray(-jnp.inf if target is None else target, theta.dtype)
    probing = (finished | invisible) & ~seen.probed & ~(value <= target)
    alone_norm = norm(alone)
    quick = None
    if theta.size < LARGE:
        before = seen.learned.gradient if mask is None else jnp.where(mask, 0.0, seen.learned.gradient)
        fell = grad_norm < FELL * norm(before)
        # That a step is short which M makes says nothing of directions that M has not seen: products have to.
        fell &= alone_norm > eps**0.5 * params_norm
        quick = fell & known & (seen.first > 0) & ~finished & ~probing
    task = Task(
        push=push,
        matrix=matrix,
        gradient=free,
        known=alone,
        radius=radius,
        reach=reach,
        forcing=_forcing(theta, grad_norm, first),
        max_products=jnp.where(finished, 0, most),
        # At a start without any slope there is nothing else to go by.
        probe_products=jnp.where((seen.first == 0) & (grad_norm == 0), most, PROBE_PRODUCTS),
        visible=MARGIN * rounding,
        quick=quick,
        descend=None if parts is None else _descent(parts, theta, value, target),
    )
    path, way_down, products = find_path(task, theta, mask, box, probing)
    stepping = (task.max_products > 0) & ~way_down
    slack = 1 + 4 * eps
    lines = legs(path, free)
    full = jnp.clip(slack * lines.length, radius, reach if parts is None else jnp.inf)
    radius = jnp.where(path.negative, radius, full)
    # Both are below gᵀH⁻¹g where H is positive definite. Without pairs there is nothing else to go by.
    least = jnp.where(path.products > 0, grad_norm**2 / or_one(path.curvature), 0.0)
    ahead = jnp.maximum(-lines.slopes[1], least)
    test = jnp.where(stepping, jnp.maximum(jnp.where(known, test, 0.0), _cosine(size, ahead)), test)
    curvature = jnp.where(path.products > 0, path.curvature, seen.curvature)
    rounding = rounding_from(value, slope, curvature * (eps * params_norm) ** 2)
    kept = append(pairs, path.pairs)
    probed = (seen.probed | probing) & ~way_down & (test <= gtol)
    at = Point(
        value=value,
        grad_norm=grad_norm,
        gradient_test=test,
        rounding=rounding,
        coordinate_norm=jnp.where(known, alone_norm, lines.length),
        params_norm=params_norm,
        way_down=way_down,
    )
    seen = Seen(Learned(kept, theta, own), first, curvature, probed)
    return Model(value, gradient, push, lines, radius, products, at, seen)


def _descent(
    parts: ByImages, theta: Vector, value: Scalar, target: Scalar
) -> Callable[[Vector, Scalar, Int[Array, ""], int], Path]:
    """Conjugate gradients along f itself, in the place of those along its model."""
    images = parts.push(theta)

    def descend(gradient: Vector, reach: Scalar, most: Int[Array, ""], memory: int) -> Path:
        tolerance = FORCING_OF_IMAGES * norm(gradient)
        most = jnp.minimum(most, MAX_DIRECTIONS)
        return image_descent.descend(
            parts, theta, images, value, gradient, reach, tolerance, target, memory=memory, max_products=most
        )

    return descend


def curvature_along(direction: Vector, push: Callable[[Array], Array]) -> Scalar:
    """|dᵀHd| / dᵀd, at the price of a product."""
    return jnp.abs(jnp.vdot(direction, push(direction))) / or_one(jnp.vdot(direction, direction))


def direction(
    fn: Callable[[Array], Array], theta: Vector, gradient: Vector, seen: Seen
) -> tuple[Vector, Seen, Int[Array, ""]]:
    """A direction of ascent, about `H⁻¹ g`, for a line search; and what was seen, and the products."""
    own, push = jax.linearize(jax.grad(fn), theta)
    pairs = seen.learned.with_secant(theta, own, seen.first > 0)
    size = norm(gradient)
    first = jnp.where(seen.first > 0, seen.first, size)
    matrix = inverse(pairs)
    alone = matrix(gradient)
    usable = jnp.vdot(gradient, alone) > 0
    path = truncated_cg(
        push,
        gradient,
        far(theta),
        _forcing(theta, size, first) * size,
        preconditioned=jnp.where(usable, alone, gradient),
        precondition=lambda r: jnp.where(usable, matrix(r), r),
        memory=pairs.steps.shape[0],
        max_products=MAX_PRODUCTS,
        follow_negative=False,  # it would drown the rest
    )
    down = jnp.vdot(path.step, gradient) < 0
    scale = or_one(path.curvature)
    learned = Learned(append(pairs, path.pairs), theta, own)
    seen = Seen(learned, first, path.curvature, jnp.zeros((), bool))
    return jnp.where(down, -path.step, gradient / scale), seen, path.products


def trust_region_trial(
    here: Model, fn: Callable[[Array], Array], theta: Vector, box: Box | None
) -> Callable[[Scalar], Trial]:
    """From a radius to a trial."""

    def attempt(radius: Scalar) -> Trial:
        step, length, predicted = here.legs.shortened(radius)
        if box is not None:
            inside = project(box, theta + step) - theta
            clipped = jnp.any(inside != step)

            def anew() -> Scalar:
                return -jnp.vdot(inside, here.gradient + 0.5 * here.push(inside))

            step, length, predicted = inside, norm(inside), jax.lax.cond(clipped, anew, lambda: predicted)
        there = fn(move(theta, step, box))
        no = jnp.zeros((), bool)
        return Trial(step, there, here.value - there, predicted, length, no, no, radius)

    return attempt


def _forcing(theta: Vector, size: Scalar, first: Scalar) -> Scalar:
    large = theta.size >= LARGE
    most = FORCING_OF_LARGE if large else FORCING
    least = LEAST_FORCING_OF_LARGE if large else LEAST_FORCING
    return jnp.clip(jnp.sqrt(size / or_one(first)), least, most)


def _cosine(size: Scalar, decrement: Scalar) -> Scalar:
    """`√(gᵀH⁻¹g / 2|f|)`: of a sum of squares, the cosine of the residuals with what J can reach."""
    ratio = jnp.where(size > 0, 0.5 * decrement / jnp.where(size > 0, size, 1.0), jnp.inf)
    return jnp.where(decrement <= 0, 0.0, jnp.sqrt(ratio))
