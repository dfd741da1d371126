"""The way that a step of Newton-CG goes: what is asked of conjugate gradients, and what is made of a saddle.

`newton_cg` says where the step begins and when it is good enough. Here is what is tried for it: the
quasi-Newton step alone, conjugate gradients on the model or along f itself, and, where an iteration is about
to end, a probe in a random direction.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box
from jaxopt_study.pytree import norm
from jaxopt_study.quasi_newton import Inverse
from jaxopt_study.truncated_cg import Path, truncated_cg
from jaxopt_study.types import Bool, Float, Int

Vector = Float[Array, " params"]
Scalar = Float[Array, ""]

PROBE_TOLERANCE = 1e-2


class Task(NamedTuple):
    """What conjugate gradients are asked for, but for what is held.

    Attributes:
      push: products with the Hessian.
      matrix: what is known of its inverse.
      gradient: zero where it is held.
      radius: of the trust region.
      reach: how far to go where all curvature is positive; the same, but for the first step.
      forcing: the relative residual at which to end.
      max_products: of a step.
      probe_products: of a probe.
      visible: the least reduction that rounding errors do not hide.
      quick: whether to take the quasi-Newton step `-Mg`, and no products.
      descend: what goes down along f itself instead, where f has images; see `image_descent`.
    """

    push: Callable[[Array], Array]
    matrix: Inverse
    gradient: Vector
    radius: Scalar
    reach: Scalar
    forcing: Scalar
    max_products: Int[Array, ""]
    probe_products: Int[Array, ""]
    visible: Scalar
    quick: Bool[Array, ""]
    descend: Callable[[Vector, Scalar, Int[Array, ""], int], Path] | None = None

    def solve(self, mask: Bool[Array, " params"], probing: Bool[Array, ""]) -> Path:
        """The path over what is not held; when probing, from a random slope and without a border."""
        keep = lambda v: jnp.where(mask, 0.0, v)  # noqa: E731
        draw = lambda: jax.random.normal(jax.random.key(0), mask.shape, self.gradient.dtype)  # noqa: E731
        target = keep(jax.lax.cond(probing, draw, lambda: self.gradient))
        known = keep(self.matrix(target))
        usable = jnp.vdot(target, known) > 0
        quick = self.quick & ~probing & usable
        most = jnp.where(quick, 0, self.max_products)
        memory = self.matrix.pairs.steps.shape[0]

        def along_model() -> Path:
            return truncated_cg(
                lambda v: keep(self.push(v)),
                target,
                jnp.where(probing, far(target), self.reach),
                jnp.where(probing, PROBE_TOLERANCE, self.forcing) * norm(target),
                precondition=lambda r: jnp.where(usable, keep(self.matrix(r)), r),
                memory=memory,
                max_products=jnp.where(probing, self.probe_products, most),
            )

        descend = self.descend
        if descend is None:
            path = along_model()
        else:
            path = jax.lax.cond(
                probing, along_model, lambda: descend(self.gradient, self.reach, most, memory)
            )
        # Of `-Mg` the model says `H d = -g`, as BFGS has it.
        length = norm(known)
        within = -jnp.where(length > self.reach, self.reach / or_one(length), 1.0)
        choose = lambda new, old: jnp.where(quick, within * new, old)  # noqa: E731
        step, product = choose(known, path.step), choose(target, path.product)
        first, first_product = choose(known, path.first), choose(target, path.first_product)
        return path._replace(first=first, first_product=first_product, step=step, product=product)

    def is_way_down(self, path: Path) -> Bool[Array, ""]:
        """Whether a probe met negative curvature that the value will show."""
        floor = jnp.finfo(self.radius.dtype).eps ** 0.75 * path.curvature
        return (path.lowest < -floor) & (-0.5 * path.lowest * self.radius**2 > self.visible)

    def straight(self, path: Path, theta: Vector, box: Box | None) -> Path:
        """The end of a probe, as long as the radius, and where it is not blocked; nothing, if in vain."""
        ratio = self.radius / or_one(norm(path.step))

        def promised(sign: float) -> Scalar:
            step = sign * ratio * path.step
            if box is not None:
                step = jnp.clip(step, box.lower - theta, box.upper - theta)
            return -jnp.vdot(step, self.gradient) - 0.5 * path.lowest * jnp.vdot(step, step)

        factor = jnp.where(promised(1.0) >= promised(-1.0), ratio, -ratio)
        factor = jnp.where(self.is_way_down(path), factor, 0.0)
        step, product = factor * path.step, factor * path.product
        pairs = path.pairs._replace(count=jnp.zeros_like(path.pairs.count))
        return path._replace(first=step, first_product=product, step=step, product=product, pairs=pairs)


def far(like: Vector) -> Scalar:
    """A radius that nothing reaches but a direction of negative curvature; its square is finite."""
    return jnp.asarray(jnp.finfo(like.dtype).max ** 0.25, like.dtype)


def find_path(
    task: Task, theta: Vector, mask: Bool[Array, " params"], box: Box | None, probing: Bool[Array, ""]
) -> tuple[Path, Bool[Array, ""], Int[Array, ""]]:
    """The path; a probe first where it is asked for, and more held where it would leave through a bound.

    Returns:
      The path; whether it is that of a probe that found a way down; all products taken.
    """

    def leaving(path: Path, mask: Array) -> Array:
        if box is None:
            return jnp.zeros_like(mask)
        down = (path.first < 0) | (path.step < 0)
        up = (path.first > 0) | (path.step > 0)
        return ~mask & (((theta <= box.lower) & down) | ((theta >= box.upper) & up))

    def again(carry: tuple[Path, Array, Array, Array, Array]) -> tuple[Path, Array, Array, Array, Array]:
        _, mask, probing, products, _ = carry
        path = task.solve(mask, probing)
        products = products + path.products
        in_vain = probing & ~task.is_way_down(path)
        path = jax.lax.cond(probing, lambda: task.straight(path, theta, box), lambda: path)
        blocked = leaving(path, mask)
        going = (in_vain & (task.max_products > 0)) | jnp.any(blocked)
        return path, mask | blocked, probing & ~in_vain, products, going

    yes, none = jnp.ones((), bool), jnp.zeros((), jnp.int32)
    shapes = jax.eval_shape(task.solve, mask, probing)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    path, _, found, products, _ = jax.lax.while_loop(
        lambda carry: carry[-1], again, (empty, mask, probing, none, yes)
    )
    return path, found, products


def or_one(number: Array) -> Array:
    """A divisor: 1 where there is none."""
    return jnp.where(number > 0, number, 1.0)
