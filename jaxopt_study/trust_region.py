"""Steps of a trust region: the exact one, and Powell's dogleg.

The exact step is the lowest point of a quadratic in a ball, convex or not,

    minimize  gᵀd + ½ dᵀHd   over   ‖d‖ ≤ Δ

in the eigenvectors of H, where it is one equation in one unknown, and costs as much as a few norms
once they are known: a radius that failed costs no factorization. The step for matrices that are known
by their products alone is in `truncated_cg`. Of the dogleg, here is how far along its legs a radius reaches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Float

ITERATIONS = 60  # a bound: Newton's method needs two to six


class SpectralStep(NamedTuple):
    """A step in the basis of eigenvectors.

    Attributes:
      along: its coordinates, shape `(n,)`.
      predicted: by how much it lowers the quadratic, ≥ 0.
      multiplier: λ ≥ 0 of `(H + λI) d = -g`; 0 in the inside of the ball.
    """

    along: Float[Array, " n"]
    predicted: Float[Array, ""]
    multiplier: Float[Array, ""]


def spectral_step(
    curvature: Float[Array, " n"],
    slope: Float[Array, " n"],
    radius: Float[Array, ""],
    toward: Float[Array, ""] | float = 1.0,
) -> SpectralStep:
    """The lowest point of `Σ sᵢpᵢ + ½ wᵢpᵢ²` in the ball `‖p‖ ≤ Δ`.

    It is `pᵢ = -sᵢ / (wᵢ + λ)` with the least λ ≥ max(0, -w₁) for which `‖p‖ ≤ Δ`. Newton's method on
    `1/‖p‖ = 1/Δ`, concave in λ, climbs from any bound below without overshooting.

    The unknown is `μ = λ + w₁ ≥ 0`, so that nothing cancels where λ has to be close to -w₁. In the *hard
    case*, where s has no part along the lowest eigenvector and w₁ < 0, no such λ exists; s₁ is given a part
    of the size of its rounding errors, and then the step reaches the border along that eigenvector, up or
    down being alike.

    Args:
      curvature: the eigenvalues w, ascending.
      slope: s, the gradient in the eigenvectors.
      radius: Δ > 0.
      toward: 1 or -1, the way to go along the lowest eigenvector in the hard case.

    Returns:
      A `SpectralStep`.

    Source: J. J. Moré and D. C. Sorensen, Computing a trust region step, 1983, section 3;
      A. R. Conn, N. I. M. Gould and Ph. L. Toint, Trust-region methods, 2000, section 7.3.

    Example:
      >>> saddle = spectral_step(jnp.array([-1.0, 2.0]), jnp.array([0.0, 1.0]), jnp.array(2.0))
      >>> print(*(f"{abs(part):.3f}" for part in saddle.along), f"{saddle.multiplier:.3f}")
      1.972 0.333 1.000
    """
    eps = jnp.finfo(slope.dtype).eps
    lowest = curvature[0]
    gaps = curvature - lowest
    length = jnp.sqrt(jnp.sum(slope**2))
    steepest = jnp.maximum(jnp.abs(lowest), jnp.abs(curvature[-1]))
    # Where neither curvature nor slope is more than rounding errors, their quotient is noise.
    lost = slope.size * eps
    noise = (jnp.abs(curvature) <= lost * steepest) & (jnp.abs(slope) <= lost * length)
    slope = jnp.where(noise, 0.0, slope)
    least = eps * (length + jnp.abs(lowest) * radius)
    side = jnp.where(slope[0] == 0, -toward, jnp.sign(slope[0]))
    hard = (lowest < -lost * steepest) & (jnp.abs(slope[0]) < least)
    slope = slope.at[0].set(jnp.where(hard, side * least, slope[0]))

    def at(mu: Float[Array, ""]) -> Float[Array, " n"]:
        return jnp.where(slope == 0, 0.0, -slope / jnp.where(slope == 0, 1.0, gaps + mu))

    def norm(p: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.sqrt(jnp.sum(p**2))

    def climb(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mu, p, count = carry
        size = norm(p)
        fall = jnp.sum(jnp.where(slope == 0, 0.0, p**2 / jnp.where(slope == 0, 1.0, gaps + mu)))
        mu = mu + size**2 / fall * (size - radius) / radius
        return mu, at(mu), count + 1

    def outside(carry: tuple[Array, Array, Array]) -> Array:
        _, p, count = carry
        return (norm(p) > radius * (1 + eps**0.5)) & (count < ITERATIONS)

    # ‖p‖ ≥ |pᵢ|, for every i.
    below = jnp.max(jnp.abs(slope) / radius - gaps, initial=0.0)
    mu = jnp.maximum(below, jnp.maximum(lowest, 0.0))
    mu, p, _ = jax.lax.while_loop(outside, climb, (mu, at(mu), jnp.zeros((), jnp.int32)))
    multiplier = mu - lowest
    # With s = -(w + λ) p the reduction is a sum of terms that are not negative.
    predicted = jnp.sum(p**2 * (0.5 * gaps + (multiplier + 0.5 * lowest)))
    return SpectralStep(p, predicted, multiplier)


def path_fractions(
    short: Float[Array, ""],
    far: Float[Array, ""],
    leg_square: Float[Array, ""],
    turn: Float[Array, ""],
    radius: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How much of the legs from 0 to the Cauchy point, and from there to the aim, lies within `radius` of 0.

    Args:
      short: distance of the Cauchy point.
      far: distance of the aim.
      leg_square: squared length of the second leg.
      turn: scalar product of the two legs.
      radius: how far to go.

    >>> one = jnp.float32(1.0)
    >>> first, second = path_fractions(one, jnp.sqrt(5.0), 4 * one, 0 * one, jnp.sqrt(2.0))
    >>> print(f"{first:.2f} {second:.2f}")
    1.00 0.50
    """
    # ‖cauchy + t leg‖² = Δ², with the root taken in the way that does not cancel.
    a, b, c = leg_square, turn, radius**2 - short**2
    root = jnp.sqrt(jnp.maximum(b**2 + a * c, 0.0))
    divisor = jnp.where(b > 0, b + root, a)
    t = jnp.where(b > 0, c, root - b) / jnp.where(divisor > 0, divisor, 1.0)
    to_cauchy = jnp.minimum(1.0, radius / jnp.where(short > 0, short, 1.0))
    inside, arrived = short < radius, far <= radius
    second = jnp.where(arrived, 1.0, jnp.where(inside, jnp.clip(t, 0.0, 1.0), 0.0))
    return jnp.where(inside | arrived, 1.0, to_cauchy), second
