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
      matrix: what is known of its inverse, M.
      gradient: zero where it is held.
      known: `M g`, for where there are no bounds.
      radius: of the trust region.
      reach: how far to go where all curvature is positive; the same, but for the first step.
      forcing: the relative residual at which to end.
      max_products: of a step.
      probe_products: of a probe.
      visible: the least reduction that rounding errors do not hide.
      quick: whether to take the quasi-Newton step `-Mg`, and no products; None where that never is.
      descend: what goes down along f itself instead, where f has images; see `image_descent`.
    """

    push: Callable[[Array], Array]
    matrix: Inverse
    gradient: Vector
    known: Vector
    radius: Scalar
    reach: Scalar
    forcing: Scalar
    max_products: Int[Array, ""]
    probe_products: Int[Array, ""]
    visible: Scalar
    quick: Bool[Array, ""] | None = None
    descend: Callable[[Vector, Scalar, Int[Array, ""], int], Path] | None = None

    def solve(self, mask: Bool[Array, " params"] | None, probing: Bool[Array, ""]) -> Path:
        """The path over what is not held; when probing, from a random slope and without a border."""
        keep = lambda v: v if mask is None else jnp.where(mask, 0.0, v)  # noqa: E731

        def with_known(slope: Vector) -> tuple[Vector, Vector]:
            return keep(slope), keep(self.matrix(keep(slope)))

        def drawn() -> tuple[Vector, Vector]:
            return with_known(jax.random.normal(jax.random.key(0), self.gradient.shape, self.gradient.dtype))

        def own() -> tuple[Vector, Vector]:
            return (self.gradient, self.known) if mask is None else with_known(self.gradient)

        target, known = jax.lax.cond(probing, drawn, own)
        promise = jnp.vdot(target, known)
        usable = promise > 0
        most, quick = self.max_products, None
        if self.quick is not None:
            quick = self.quick & ~probing & usable
            most = jnp.where(quick, 0, most)
        memory = self.matrix.pairs.steps.shape[0]

        def along_model() -> Path:
            return truncated_cg(
                lambda v: keep(self.push(v)),
                target,
                jnp.where(probing, far(target), self.reach),
                jnp.where(probing, PROBE_TOLERANCE, self.forcing) * norm(target),
                preconditioned=jnp.where(usable, known, target),
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
        if quick is None:
            return path
        # Of `-Mg` the model says `H d = -g`, as BFGS has it.
        length = norm(known)
        within = jnp.where(length > self.reach, self.reach / or_one(length), 1.0)
        choose = lambda new, old: jnp.where(quick, new, old)  # noqa: E731
        return path._replace(
            first=choose(-known, path.first),
            fraction=choose(within, path.fraction),
            step=choose(-within * known, path.step),
            bends=choose(within**2 * promise, path.bends),
        )

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
        pairs = path.pairs._replace(count=jnp.zeros_like(path.pairs.count))
        bends = jnp.where(jnp.arange(3) == 2, factor**2 * path.bends, 0.0)
        return path._replace(
            fraction=jnp.zeros_like(path.fraction), step=factor * path.step, bends=bends, pairs=pairs
        )


def far(like: Vector) -> Scalar:
    """A radius that nothing reaches but a direction of negative curvature; its square is finite."""
    return jnp.asarray(jnp.finfo(like.dtype).max ** 0.25, like.dtype)


class _Way(NamedTuple):
    path: Path
    mask: Bool[Array, " params"] | None
    probing: Bool[Array, ""]
    products: Int[Array, ""]
    going: Bool[Array, ""]


def find_path(
    task: Task, theta: Vector, mask: Bool[Array, " params"] | None, box: Box | None, probing: Bool[Array, ""]
) -> tuple[Path, Bool[Array, ""], Int[Array, ""]]:
    """The path; a probe first where it is asked for, and more held where it would leave through a bound.

    Args:
      task: what is asked for.
      theta: where it begins.
      mask: what a bound holds there; None without bounds.
      box: the bounds.
      probing: whether to probe first.

    Returns:
      The path; whether it is that of a probe that found a way down; all products taken.
    """

    def again(now: _Way) -> _Way:
        path = task.solve(now.mask, now.probing)
        products = now.products + path.products
        in_vain = now.probing & ~task.is_way_down(path)
        path = jax.lax.cond(now.probing, lambda: task.straight(path, theta, box), lambda: path)
        going = in_vain & (task.max_products > 0)
        mask = now.mask
        if box is not None and mask is not None:
            blocked = _leaving(box, theta, path) & ~mask
            going |= jnp.any(blocked)
            mask = mask | blocked
        return _Way(path, mask, now.probing & ~in_vain, products, going)

    # Written over at once. XLA makes zeros before it copies them; vectors that are there it only copies.
    there = task.matrix.pairs
    shapes = jax.eval_shape(task.solve, mask, probing)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    empty = empty._replace(first=task.gradient, step=task.gradient, pairs=there)
    start = _Way(empty, mask, probing, jnp.zeros((), jnp.int32), jnp.ones((), bool))
    end = jax.lax.while_loop(lambda now: now.going, again, start)
    return end.path, end.probing, end.products


def _leaving(box: Box, theta: Vector, path: Path) -> Bool[Array, " params"]:
    first = path.fraction * path.first
    down, up = (first < 0) | (path.step < 0), (first > 0) | (path.step > 0)
    return ((theta <= box.lower) & down) | ((theta >= box.upper) & up)


def or_one(number: Array) -> Array:
    """A divisor: 1 where there is none."""
    return jnp.where(number > 0, number, 1.0)
