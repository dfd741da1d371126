"""Newton's update from Hessian-vector products alone: truncated conjugate gradients in a trust region.

For `newton`, which says what is computed. The Hessian of `newton_exact` costs n products; here a step costs
two to four at the median of the test problems, whatever n, because the products of the steps before make a
preconditioner, and a trial that was refused is shortened along the path that is there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box, project
from jaxopt_study.optimizers.newton_exact import firmly_held, rounding_errors
from jaxopt_study.optimizers.trial import MARGIN, Point, Trial, move
from jaxopt_study.pytree import norm
from jaxopt_study.quasi_newton import Inverse, Pairs, append, curves_up, inverse, no_pairs
from jaxopt_study.truncated_cg import Path, shortened, truncated_cg
from jaxopt_study.types import Bool, Float, Int

Vector = Float[Array, " params"]
Scalar = Float[Array, ""]

MEMORY = 10
MEMORY_OF_LARGE = 5  # pairs, from LARGE parameters on: there they cost more than most products
LARGE = 10_000
FORCING = 0.1  # the residual at which conjugate gradients end, relative to the gradient
PROBE_TOLERANCE = 1e-2
PROBE_PRODUCTS = 20
MAX_PRODUCTS = 200  # in one step


class Seen(NamedTuple):
    """What conjugate gradients have seen so far, for the next step.

    Attributes:
      pairs: products with Hessians.
      theta, gradient: of the last step; with the next they are a pair too.
      first: norm of the first gradient; 0 before.
      curvature: the largest along a direction of the last step.
      probed: whether, at these parameters, a random direction was followed in search of a way down.
    """

    pairs: Pairs
    theta: Vector
    gradient: Vector
    first: Scalar
    curvature: Scalar
    probed: Bool[Array, ""]


def nothing_seen(size: int, dtype: Any) -> Seen:
    """Before the first step."""
    memory = MEMORY if size < LARGE else MEMORY_OF_LARGE
    zero = jnp.zeros((), dtype)
    empty = jnp.zeros(size, dtype)
    return Seen(no_pairs(memory, size, dtype), empty, empty, zero, zero, jnp.zeros((), bool))


class Model(NamedTuple):
    """The quadratic model at a point, as conjugate gradients see it.

    Attributes:
      value, gradient: of the objective.
      push: products with the Hessian.
      path: the steps on offer.
      radius: how far they go.
      products: how many products were taken for all of it.
      point: what is known before any trial.
      seen: for the next step.
    """

    value: Scalar
    gradient: Vector
    push: Callable[[Array], Array]
    path: Path
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
    radius: Callable[[Vector, Callable[[Array], Array]], Scalar],
    gtol: Any,
    measure_only: Any,
) -> Model:
    """Linearize, and go along conjugate gradients as far as it is worth it.

    At parameters that would end the iteration the path begins in a random direction instead of the
    gradient's: where that meets negative curvature, the point is a saddle, and the path is a way down.
    """
    (value, own), linear = jax.linearize(jax.value_and_grad(fn), theta)
    gradient = own if gradient is None else gradient
    mask = jnp.zeros_like(theta, bool) if box is None else firmly_held(box, theta, gradient)
    free = jnp.where(mask, 0.0, gradient)
    push = lambda v: linear(v)[1]  # noqa: E731
    seen = _with_secant(seen, theta, own)
    matrix = inverse(seen.pairs)
    known = seen.pairs.count > 0
    alone = matrix(free)
    grad_norm = norm(free)
    test = jnp.where(known, jnp.vdot(free, alone), jnp.where(grad_norm == 0, 0.0, jnp.inf))
    test = _cosine(value, test)
    probing = (test <= gtol) & ~seen.probed
    first = jnp.where(seen.first > 0, seen.first, grad_norm)
    forcing = jnp.minimum(FORCING, jnp.sqrt(grad_norm / jnp.where(first > 0, first, 1.0)))
    length = radius(free, push)
    finished = measure_only | ((test <= gtol) & seen.probed)
    limit = jnp.where(finished, 0, MAX_PRODUCTS)
    task = _Task(push, matrix, free, length, forcing, probing, jnp.where(probing, PROBE_PRODUCTS, limit))
    path, products = _within_box(task, theta, mask, box)
    stepping = (products > 0) & ~probing
    # Both are below gᵀH⁻¹g where H is positive definite. Without pairs there is nothing else to go by.
    seen_ahead = jnp.maximum(-jnp.vdot(free, path.step), grad_norm**2 / _or_one(path.curvature))
    ahead = _cosine(value, seen_ahead)
    test = jnp.where(stepping, jnp.maximum(jnp.where(known, test, 0.0), ahead), test)
    curvature = jnp.where(path.products > 0, path.curvature, seen.curvature)
    rounding = rounding_errors(value, gradient, curvature, theta)
    # A direction without curvature is no way down; and how far down has to be seen in the value.
    floor = jnp.finfo(theta.dtype).eps ** 0.75 * path.curvature
    way_down = probing & (path.lowest < -floor) & (-0.5 * path.lowest * length**2 > MARGIN * rounding)
    kept = append(seen.pairs, path.pairs._replace(count=jnp.where(probing, 0, path.pairs.count)))
    probed = (seen.probed | probing) & ~way_down & (test <= gtol)
    at = Point(
        value=value,
        grad_norm=grad_norm,
        gradient_test=test,
        rounding=rounding,
        coordinate_norm=jnp.where(known, norm(alone), norm(path.step)),
        params_norm=norm(theta),
        way_down=way_down,
    )
    # A random direction that met no way down is no step.
    path = jax.tree.map(lambda leaf: jnp.where(probing & ~way_down, jnp.zeros_like(leaf), leaf), path)
    return Model(value, gradient, push, path, length, products, at, Seen(kept, theta, own, first, curvature, probed))


def curvature_along(direction: Vector, push: Callable[[Array], Array]) -> Scalar:
    """|dᵀHd| / dᵀd, at the price of a product."""
    return jnp.abs(jnp.vdot(direction, push(direction))) / _or_one(jnp.vdot(direction, direction))


def direction(
    fn: Callable[[Array], Array], theta: Vector, gradient: Vector, seen: Seen
) -> tuple[Vector, Seen, Int[Array, ""]]:
    """A direction of ascent, about `H⁻¹ g`, for a line search; and what was seen, and the products."""
    own, push = jax.linearize(jax.grad(fn), theta)
    seen = _with_secant(seen, theta, own)
    size = norm(gradient)
    first = jnp.where(seen.first > 0, seen.first, size)
    forcing = jnp.minimum(FORCING, jnp.sqrt(size / _or_one(first)))
    no, far = jnp.zeros((), bool), jnp.asarray(jnp.finfo(theta.dtype).max ** 0.25, theta.dtype)
    task = _Task(push, inverse(seen.pairs), gradient, far, forcing, no, jnp.asarray(MAX_PRODUCTS))
    path = task.solve(jnp.zeros_like(theta, bool))
    # What leads to the border is a direction of negative curvature; it would drown the rest.
    within = jnp.where(path.negative, path.inside, path.step)
    usable = jnp.vdot(within, gradient) < 0
    scale = _or_one(path.curvature)
    kept = Seen(append(seen.pairs, path.pairs), theta, own, first, path.curvature, no)
    return jnp.where(usable, -within, gradient / scale), kept, path.products


def trust_region_trial(
    here: Model, fn: Callable[[Array], Array], theta: Vector, box: Box | None
) -> Callable[[Scalar], Trial]:
    """From a radius to a trial."""

    def attempt(radius: Scalar) -> Trial:
        step, product = shortened(here.path, radius)
        if box is not None:
            inside = project(box, theta + step) - theta
            clipped = jnp.any(inside != step)
            product = jax.lax.cond(clipped, here.push, lambda _: product, inside)
            step = inside
        predicted = -jnp.vdot(step, here.gradient + 0.5 * product)
        there = fn(move(theta, step, box))
        no = jnp.zeros((), bool)
        return Trial(step, there, here.value - there, predicted, norm(step), no, no)

    return attempt


def _with_secant(seen: Seen, theta: Vector, gradient: Vector) -> Seen:
    """Add the last step and the change of the gradient along it, which cost nothing."""
    step, change = theta - seen.theta, gradient - seen.gradient
    up = curves_up(step, change, jnp.vdot(step, change)) & (seen.first > 0)
    return seen._replace(pairs=append(seen.pairs, Pairs(step[None], change[None], up.astype(jnp.int32))))


def _cosine(value: Scalar, decrement: Scalar) -> Scalar:
    """`√(gᵀH⁻¹g / 2|f|)`: of a sum of squares, the cosine of the residuals with what J can reach."""
    size = 2 * jnp.abs(value)
    ratio = jnp.where(size > 0, decrement / jnp.where(size > 0, size, 1.0), jnp.inf)
    return jnp.where(decrement <= 0, 0.0, jnp.sqrt(ratio))


def _or_one(number: Array) -> Array:
    return jnp.where(number > 0, number, 1.0)


class _Task(NamedTuple):
    """What conjugate gradients are asked for, but for what is held."""

    push: Callable[[Array], Array]
    matrix: Inverse
    gradient: Vector
    radius: Scalar
    forcing: Scalar
    probing: Bool[Array, ""]
    max_products: Int[Array, ""]

    def solve(self, mask: Bool[Array, " params"]) -> Path:
        """The path over what is not held; a straight one, when probing."""
        keep = lambda v: jnp.where(mask, 0.0, v)  # noqa: E731
        random = jax.random.normal(jax.random.key(0), mask.shape, self.gradient.dtype)
        target = keep(jnp.where(self.probing, random, self.gradient))
        usable = jnp.vdot(target, keep(self.matrix(target))) > 0
        far = jnp.finfo(target.dtype).max ** 0.25
        return truncated_cg(
            lambda v: keep(self.push(v)),
            target,
            jnp.where(self.probing, far, self.radius),
            jnp.where(self.probing, PROBE_TOLERANCE, self.forcing) * norm(target),
            precondition=lambda r: jnp.where(usable, keep(self.matrix(r)), r),
            memory=self.matrix.pairs.steps.shape[0],
            max_products=self.max_products,
        )


def _within_box(
    task: _Task, theta: Vector, mask: Bool[Array, " params"], box: Box | None
) -> tuple[Path, Int[Array, ""]]:
    """The path, and where it would leave through a bound another one, with more held."""

    def oriented(path: Path) -> Path:
        """A probe is as long as the radius, and goes where it is not blocked."""
        long = norm(path.step)
        ratio = task.radius / _or_one(long)
        ahead = back = -jnp.vdot(path.step, task.gradient)
        if box is not None:
            lower, upper = box.lower - theta, box.upper - theta
            ahead, back = (norm(jnp.clip(s * ratio * path.step, lower, upper)) for s in (1.0, -1.0))
        else:
            back = jnp.zeros_like(back)
        factor = jnp.where(ahead >= back, ratio, -ratio)
        step, product = factor * path.step, factor * path.product
        straight = path._replace(first=step, first_product=product, step=step, product=product)
        return jax.tree.map(lambda new, old: jnp.where(task.probing, new, old), straight, path)

    path = oriented(task.solve(mask))
    if box is None:
        return path, path.products

    def leaving(path: Path, mask: Array) -> Array:
        down = (path.first < 0) | (path.step < 0)
        up = (path.first > 0) | (path.step > 0)
        return ~mask & (((theta <= box.lower) & down) | ((theta >= box.upper) & up))

    def again(carry: tuple[Path, Array, Array]) -> tuple[Path, Array, Array]:
        path, mask, products = carry
        mask = mask | leaving(path, mask)
        path = oriented(task.solve(mask))
        return path, mask, products + path.products

    path, _, products = jax.lax.while_loop(
        lambda carry: jnp.any(leaving(carry[0], carry[1])), again, (path, mask, path.products)
    )
    return path, products
