"""Newton's update where the Hessian fits in memory: one symmetric eigendecomposition, any number of trials.

For `newton`, which says what is computed; here is how, in the order in which it happens. The same for
Hessians that are only multiplied with is in `newton_cg`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box, held, project
from jaxopt_study.optimizers.trial import MARGIN, Point, Trial, move
from jaxopt_study.pytree import norm
from jaxopt_study.trust_region import spectral_step
from jaxopt_study.types import Bool, Float

Vector = Float[Array, " params"]
Scalar = Float[Array, ""]


class Spectrum(NamedTuple):
    """The quadratic model at a point, in the eigenvectors of its free part.

    Attributes:
      value, gradient, hessian: of the objective.
      free_gradient: zero where a bound holds the parameter.
      mask: which those are; None without bounds.
      curvature, basis: eigenvalues, ascending, and eigenvectors of the free part of the Hessian.
      slope: the free gradient in them.
    """

    value: Scalar
    gradient: Vector
    hessian: Float[Array, "params params"]
    free_gradient: Vector
    mask: Bool[Array, " params"] | None
    curvature: Vector
    basis: Float[Array, "params params"]
    slope: Vector

    @property
    def steepest(self) -> Scalar:
        """The largest |w|."""
        return jnp.maximum(jnp.abs(self.curvature[0]), jnp.abs(self.curvature[-1]))

    @property
    def flat(self) -> Bool[Array, " params"]:
        """Which eigenvalues are zero to working precision."""
        lost = self.slope.size * jnp.finfo(self.slope.dtype).eps
        return jnp.abs(self.curvature) <= lost * self.steepest


def value_gradient_hessian(
    fn: Callable[[Array], Array], theta: Vector
) -> tuple[Scalar, Vector, Float[Array, "params params"]]:
    """All three, the Hessian as n products with one linearization."""
    (value, gradient), push = jax.linearize(jax.value_and_grad(fn), theta)
    _, hessian = jax.vmap(push)(jnp.eye(theta.size, dtype=theta.dtype))
    # As one vector, in which there is one order: otherwise XLA asks the objective for LAPACK's, and its own
    # Fourier transforms for CPUs know no other than C's.
    hessian = jax.lax.optimization_barrier(hessian.ravel()).reshape(hessian.shape)
    return value, gradient, 0.5 * (hessian + hessian.T)


def spectrum(
    fn: Callable[[Array], Array], theta: Vector, gradient: Vector | None, box: Box | None
) -> Spectrum:
    """Take the derivatives, and the eigenvectors.

    Args:
      fn: the objective of one vector.
      theta: where.
      gradient: instead of the objective's own, if not None.
      box: the bounds.
    """
    value, own, hessian = value_gradient_hessian(fn, theta)
    gradient = own if gradient is None else gradient
    mask = None if box is None else firmly_held(box, theta, gradient)
    free = gradient if mask is None else jnp.where(mask, 0.0, gradient)
    curvature, basis = _eigenvectors(hessian, mask)
    return Spectrum(value, gradient, hessian, free, mask, curvature, basis, free @ basis)


def firmly_held(box: Box, theta: Vector, gradient: Vector) -> Bool[Array, " params"]:
    """Which parameters a bound holds. With no slope at all the curvature may lead back inside."""
    return held(box, theta, gradient) & ((gradient != 0) | (box.lower >= box.upper))


def _eigenvectors(
    hessian: Float[Array, "params params"], mask: Bool[Array, " params"] | None
) -> tuple[Vector, Float[Array, "params params"]]:
    if mask is not None:
        largest = jnp.max(jnp.abs(hessian), initial=0.0)
        # What is held is given a curvature that is neither negative nor small.
        own = jnp.diag(jnp.where(mask, jnp.where(largest > 0, largest, 1.0), 0.0))
        hessian = jnp.where(mask[:, None] | mask[None, :], own, hessian)
    return jnp.linalg.eigh(hessian, symmetrize_input=False)


def first_radius(here: Spectrum, radius: Scalar, reach: Scalar) -> Scalar:
    """The radius; where H is positive definite, as large as the full step needs it, up to `reach`."""
    convex = (here.curvature[0] > 0) & ~here.flat[0]
    full = norm(here.slope / jnp.where(convex, here.curvature, 1.0))
    needed = jnp.clip((1 + 4 * jnp.finfo(full.dtype).eps) * full, radius, reach)
    return jnp.where(convex & jnp.isfinite(full), needed, radius)


def point(here: Spectrum, theta: Vector, radius: Scalar, first_value: Scalar, longest: Scalar) -> Point:
    """What is known before any trial."""
    rounding = rounding_errors(here.value, here.gradient, here.hessian, theta)
    floor = jnp.finfo(theta.dtype).eps ** 0.75 * here.steepest
    down = -0.5 * here.curvature[0] * radius**2
    size = size_of(here.value, first_value, here.steepest * longest**2)
    return Point(
        value=here.value,
        grad_norm=norm(here.free_gradient),
        gradient_test=_cosine(size, here.free_gradient, here.hessian),
        rounding=rounding,
        coordinate_norm=norm(_alone(here.free_gradient, here.hessian)),
        params_norm=norm(theta),
        way_down=(here.curvature[0] < -floor) & (down > MARGIN * rounding),
    )


def trust_region_trial(
    here: Spectrum, fn: Callable[[Array], Array], theta: Vector, box: Box | None
) -> Callable[[Scalar], Trial]:
    """From a radius to a trial."""

    def attempt(radius: Scalar) -> Trial:
        if box is None:
            exact = spectral_step(here.curvature, here.slope, radius)
            step, predicted = here.basis @ exact.along, exact.predicted
        else:
            step = _within_box(here, box, theta, radius)
            predicted = -jnp.vdot(step, here.gradient + 0.5 * here.hessian @ step)
        return _try(here, fn, theta, box, step, predicted, radius)

    return attempt


def damped_trial(
    here: Spectrum, fn: Callable[[Array], Array], theta: Vector, box: Box | None, plain: bool
) -> Callable[[Scalar], Trial]:
    """From a damping to a trial, with |w| for w unless the method is plain."""
    lost = theta.size * jnp.finfo(theta.dtype).eps

    def attempt(damping: Scalar) -> Trial:
        curvature, steepest = here.curvature, here.steepest
        divisor = curvature if plain else jnp.abs(curvature) + damping * steepest
        left_out = here.flat & (divisor <= lost * steepest)
        along = jnp.where(left_out, 0.0, -here.slope / jnp.where(left_out, 1.0, divisor))
        predicted = -jnp.sum(along * (here.slope + 0.5 * curvature * along))
        step = here.basis @ along
        if box is not None:
            step = project(box, theta + step) - theta
            predicted = -jnp.vdot(step, here.gradient + 0.5 * here.hessian @ step)
        return _try(here, fn, theta, box, step, predicted, damping)

    return attempt


def _try(
    here: Spectrum,
    fn: Callable[[Array], Array],
    theta: Vector,
    box: Box | None,
    step: Vector,
    predicted: Scalar,
    damping: Scalar,
) -> Trial:
    there = fn(move(theta, step, box))
    no = jnp.zeros((), bool)
    return Trial(step, there, here.value - there, predicted, norm(step), jnp.any(here.flat), ~no, damping)


def _within_box(here: Spectrum, box: Box, theta: Vector, radius: Scalar) -> Vector:
    """Solve, put what would leave the box on its bound, solve for the rest, until nothing leaves.

    As `linear_solve.within_box`, but each round is an eigendecomposition, of which one is known; and the
    rest has the part of the radius that is left.
    """
    lower, upper = box.lower - theta, box.upper - theta
    held_first = jnp.zeros_like(theta, bool) if here.mask is None else here.mask

    def leaving(step: Vector, mask: Array) -> tuple[Array, Array]:
        below, above = step < lower, step > upper
        return (below | above) & ~mask, jnp.where(below, lower, upper)

    def solve(curvature: Array, basis: Array, slope: Array, radius: Scalar) -> Vector:
        lowest = basis[:, 0]
        ahead, back = (norm(jnp.clip(s * radius * lowest, lower, upper)) for s in (1.0, -1.0))
        toward = jnp.where(ahead >= back, 1.0, -1.0)
        return basis @ spectral_step(curvature, slope, radius, toward).along

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        step, mask = carry
        leaves, bound = leaving(step, mask)
        mask = mask | leaves
        fixed = jnp.where(mask, jnp.where(leaves, bound, step), 0.0)
        slope = jnp.where(mask, 0.0, here.gradient + here.hessian @ fixed)
        curvature, basis = _eigenvectors(here.hessian, mask)
        room = jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(fixed**2), (1e-3 * radius) ** 2))
        return jnp.where(mask, fixed, solve(curvature, basis, slope @ basis, room)), mask

    step = jnp.where(held_first, 0.0, solve(here.curvature, here.basis, here.slope, radius))
    step, _ = jax.lax.while_loop(lambda carry: jnp.any(leaving(*carry)[0]), again, (step, held_first))
    return project(box, theta + step) - theta


def rounding_errors(value: Scalar, gradient: Vector, hessian: Float[Array, "..."], theta: Vector) -> Scalar:
    """How the value may change with errors ε|θ| in the parameters, and with its own."""
    error = jnp.finfo(theta.dtype).eps * jnp.abs(theta)
    return rounding_from(value, jnp.abs(gradient) @ error, error @ (jnp.abs(hessian) @ error))


def rounding_from(value: Scalar, slope: Scalar, bend: Scalar) -> Scalar:
    """`rounding_errors` from `|g|ᵀe` and `eᵀ|H|e`, or bounds on them, with the errors `e = ε|θ|`."""
    # A sum over data is rounded term by term, and the terms are not seen here.
    return 50 * jnp.finfo(value.dtype).eps * jnp.abs(value) + slope + 0.5 * bend


def _alone(gradient: Array, hessian: Array) -> Array:
    own = jnp.abs(jnp.diagonal(hessian))
    # Down a slope without curvature there is no end.
    return jnp.where(own > 0, gradient / jnp.where(own > 0, own, 1.0), jnp.where(gradient == 0, 0.0, jnp.inf))


def size_of(value: Scalar, first_value: Scalar, bent: Scalar) -> Scalar:
    """What a promise is compared with: |f|, and a trace of the first value where f goes to zero.

    Args:
      value: f.
      first_value: f at the start; Chebyquad has 10³⁸ at 100 times its own, of which no trace is small.
      bent: the largest curvature times the largest ‖θ‖², which the trace does not exceed: a promise that is
        small beside that is one of a step that is short beside θ.
    """
    trace = jnp.minimum(jnp.finfo(value.dtype).eps ** 1.25 * jnp.abs(first_value), bent)
    return jnp.abs(value) + jnp.where(jnp.isfinite(trace), trace, 0.0)


def _cosine(value: Array, gradient: Array, hessian: Array) -> Array:
    # Not of 2f: that may overflow, and no slope would be long beside it.
    lengths = jnp.sqrt(jnp.abs(jnp.diagonal(hessian))) * jnp.sqrt(value) * 2**0.5
    cosines = jnp.abs(gradient) / jnp.where(lengths > 0, lengths, 1.0)
    # Without curvature there is no length to compare with: only a gradient of zero is small.
    cosines = jnp.where(lengths > 0, cosines, jnp.where(gradient == 0, 0.0, jnp.inf))
    return jnp.max(cosines, initial=0.0)


def modified_direction(fn: Callable[[Array], Array], theta: Vector, gradient: Vector) -> Vector:
    """`|H|⁻¹ g`, with no eigenvalue below √ε of the largest."""
    here = spectrum(fn, theta, gradient, None)
    floor = jnp.finfo(theta.dtype).eps ** 0.5 * here.steepest
    size = jnp.maximum(jnp.abs(here.curvature), jnp.where(floor > 0, floor, 1.0))
    return here.basis @ (here.slope / size)
