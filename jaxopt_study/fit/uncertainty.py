"""What the data say about the parameters: information, noise, covariance.

Everything is measured at the solution, in columns scaled to unit length, so that the rank does
not depend on the units of the parameters. Profiles, which leave the solution, are in `profile`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.direct_solve import cholesky_solve
from jaxopt_study.fit.curve import Curve
from jaxopt_study.losses import rho_with_derivatives
from jaxopt_study.types import Bool, Float, Int

LOST = 10  # a squared component of a singular vector below this many ε is rounding error


class Information(NamedTuple):
    """`(JᵀJ)⁺` over the parameters that are free, and the directions in which J says nothing.

    Attributes:
      inverse: shape `(params, params)`; zero rows and columns for held parameters. In directions
        that are not determined it is zero, not infinite; `undetermined` has those.
      undetermined: the orthogonal projector onto them, in scaled variables `D θ`.
      scale: the diagonal of D, the norms of J's columns.
      rank: the number of directions of free parameters that are determined.
    """

    inverse: Float[Array, "params params"]
    undetermined: Float[Array, "params params"]
    scale: Float[Array, " params"]
    rank: Int[Array, ""]


def information(jacobian_t: Float[Array, "params residuals"], held: Bool[Array, " params"]) -> Information:
    """The information in a Jacobian, by the SVD of its scaled columns.

    Singular values at or below `max(m, n) ε s_max` count as zero. NaN everywhere if J is not finite.

    Args:
      jacobian_t: Jᵀ.
      held: parameters that are not free: at a bound, or fixed.
    """
    jacobian_t = jnp.where(held[:, None], 0.0, jacobian_t)
    scale = _row_norms(jacobian_t)
    # The inverse does not depend on D, so neither does its derivative.
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))
    inverse, null, rank = _pseudo_inverse((jacobian_t / scale[:, None]).T)
    free = ~held[:, None] & ~held[None, :]
    inverse = jnp.where(free, inverse / scale[:, None] / scale[None, :], 0.0)
    return Information(inverse, jnp.where(free, null, 0.0), scale, rank)


def information_of_gram(
    gram: Float[Array, "params params"], held: Bool[Array, " params"]
) -> tuple[Information, Bool[Array, ""]]:
    """As `information`, from JᵀJ by Cholesky, and whether that is good enough.

    A fraction of the price of the SVD, and in half the digits: it is good enough where every squared
    distance of a scaled column from those before it is above √ε. Elsewhere ask `information`.

    Args:
      gram: JᵀJ.
      held: parameters that are not free.
    """
    size, eps = held.size, float(jnp.finfo(gram.dtype).eps)
    norms = jnp.sqrt(jnp.diagonal(gram))
    # Squares of smaller columns, as of float32 in SI units, have lost digits or terms.
    usable = (jnp.diagonal(gram) > float(jnp.finfo(gram.dtype).tiny) / eps) & jnp.isfinite(norms)
    scale = jnp.where(usable & ~held, norms, 1.0)
    free = ~held[:, None] & ~held[None, :]
    unit = jnp.eye(size, dtype=gram.dtype)
    scaled = jnp.where(free, gram / scale[:, None] / scale[None, :], unit)
    inverse, pivots, _ = jax.vmap(cholesky_solve, in_axes=(None, 0), out_axes=(0, None, 0))(scaled, unit)
    good = jnp.all(held | (usable & (pivots > eps**0.5))) & jnp.all(jnp.isfinite(inverse))
    inverse = jnp.where(free, 0.5 * (inverse + inverse.T) / scale[:, None] / scale[None, :], 0.0)
    rank = jnp.sum(~held, dtype=jnp.int32)
    return Information(inverse, jnp.zeros_like(gram), scale, rank), good


@jax.custom_jvp
def _pseudo_inverse(
    jacobian: Float[Array, "residuals params"],
) -> tuple[Float[Array, "params params"], Float[Array, "params params"], Int[Array, ""]]:
    """`(JᵀJ)⁺`, the projector onto the null space of J, and the rank."""
    finite = jnp.all(jnp.isfinite(jacobian))
    _, singular, vt = jnp.linalg.svd(jnp.where(finite, jacobian, 0.0), full_matrices=False)
    largest = jnp.max(singular, initial=0.0)
    keep = singular > max(jacobian.shape) * jnp.finfo(jacobian.dtype).eps * largest
    rows = jnp.where(keep, 1.0 / jnp.where(keep, singular, 1.0), 0.0)[:, None] * vt
    kept = jnp.where(keep[:, None], vt, 0.0)
    null = jnp.eye(vt.shape[1], dtype=vt.dtype) - kept.T @ kept
    return jnp.where(finite, rows.T @ rows, jnp.nan), null, jnp.sum(keep, dtype=jnp.int32)


@_pseudo_inverse.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    # That of the SVD divides by differences of singular values, which may be equal. The inverse
    # has no such trouble: dC = -C d(JᵀJ) C. (Exact for full rank, and second derivatives too,
    # because C is differentiated by the same rule again.)
    (jacobian,), (change,) = primals, tangents
    inverse, null, rank = _pseudo_inverse(jacobian)
    cross = inverse @ (jacobian.T @ change) @ inverse
    no_change = np.zeros(np.shape(rank), jax.dtypes.float0)
    return (inverse, null, rank), (-(cross + cross.T), jnp.zeros_like(null), no_change)


class Noise(NamedTuple):
    """How large the errors are, in units of sigma.

    Attributes:
      dispersion: s², what twice a fall of the cost is divided by to be compared with t².
      curvature: the mean curvature of the loss; 1 for the linear loss. The covariance of
        the parameters is `dispersion / curvature × (JᵀJ)⁻¹`.
    """

    dispersion: Float[Array, ""]
    curvature: Float[Array, ""]


def noise(curve: Curve, residuals: Float[Array, " residuals"], cost: Any, rank: Any, dof: Any) -> Noise:
    """The noise that the residuals show, or 1 where sigma is known.

    With the linear loss `s² = 2 cost / dof`. With a robust one, whose influence function is
    `ψ(r) = ρ'(z) r`, `z = r²/C²`, it is Huber's proposal for `C(θ) = K² (Σψ²/dof) / mean(ψ')² (JᵀJ)⁻¹`,
    with `K = 1 + (p/n) var(ψ') / mean(ψ')²`: it takes errors that are independent and alike, not
    normal ones. It estimates their size by itself, whether sigma is called absolute or not.

    Args:
      curve: what was fitted.
      residuals: whitened, 0 where missing.
      cost: the objective.
      rank: p, how many directions were determined.
      dof: n - p; the noise is NaN where there are none, or where a loss like Tukey's leaves no more than
        p points that count.

    Source:
      P. J. Huber, Robust Statistics, 1981, equation 7.6.5 and what follows.
    """
    one = jnp.ones_like(cost)
    freedom = jnp.maximum(dof, 1).astype(cost.dtype)
    if curve.loss == "linear":
        if curve.absolute_sigma:
            return Noise(one, one)
        return Noise(jnp.where(dof > 0, 2.0 * cost / freedom, jnp.nan), one)
    present = curve.present.ravel()
    points = jnp.maximum(jnp.sum(present), 1).astype(cost.dtype)
    rho = rho_with_derivatives(curve.loss, (residuals / curve.loss_scale) ** 2)
    psi = rho.slope * residuals
    bend = rho.slope + 2 * (residuals / curve.loss_scale) ** 2 * rho.curvature
    mean = jnp.sum(jnp.where(present, bend, 0.0)) / points
    spread = jnp.sum(jnp.where(present, (bend - mean) ** 2, 0.0)) / points
    correction = 1.0 + rank.astype(cost.dtype) / points * spread / mean**2
    dispersion = correction**2 * jnp.sum(psi**2) / freedom / mean
    # As many points as parameters, the others beyond the reach of the loss, are met exactly: no noise shows.
    enough = (dof > 0) & (jnp.sum(present & (rho.slope > 0), dtype=rank.dtype) > rank)
    return Noise(jnp.where(enough & (mean > 0), dispersion, jnp.nan), mean)


def covariance(found: Information, of_noise: Noise) -> Float[Array, "params params"]:
    """The covariance of the parameters, `s²/m (JᵀJ)⁻¹`, infinite where the data do not determine them.

    It is the limit of a prior that gets ever wider: variances of parameters that are part of an
    undetermined direction are infinite, covariances between two of them infinite with their sign,
    all other entries as if those directions were not there. (SciPy makes all entries infinite.)
    """
    finite = of_noise.dispersion / of_noise.curvature * found.inverse
    null = found.undetermined
    open_ = jnp.abs(null) > LOST * jnp.finfo(null.dtype).eps
    diagonal = jnp.diagonal(open_)
    open_ = open_ & diagonal[:, None] & diagonal[None, :]
    return jnp.where(open_ & ~jnp.isnan(finite), jnp.sign(null) * jnp.inf, finite)


def variance_along(
    found: Information, of_noise: Noise, directions: Float[Array, "points params"]
) -> Float[Array, " points"]:
    """The variance of `directions @ params`: `gᵀ C g`, infinite where g is not determined."""
    finite = of_noise.dispersion / of_noise.curvature * jnp.sum((directions @ found.inverse) * directions, 1)
    scaled = directions / found.scale[None, :]
    lost = jnp.sum((scaled @ found.undetermined) * scaled, axis=1)
    length = jnp.sum(scaled**2, axis=1)
    open_ = lost > LOST * jnp.finfo(lost.dtype).eps * length
    return jnp.where(open_ & ~jnp.isnan(finite), jnp.inf, finite)


def standard_errors(matrix: Float[Array, "params params"]) -> Float[Array, " params"]:
    """Roots of the diagonal, with a finite derivative where it is zero."""
    variance = jnp.diagonal(matrix)
    positive = variance > 0
    root = jnp.sqrt(jnp.where(positive, variance, 1.0))
    return jnp.where(positive, root, jnp.where(jnp.isnan(variance), jnp.nan, 0.0))


def correlation(matrix: Float[Array, "params params"]) -> Float[Array, "params params"]:
    """`Cᵢⱼ / √(Cᵢᵢ Cⱼⱼ)`; NaN where a variance is zero or infinite, and 1 on the diagonal elsewhere."""
    error = standard_errors(matrix)
    known = (error > 0) & jnp.isfinite(error)
    unit = jnp.where(known, error, 1.0)
    ratio = jnp.where(jnp.isfinite(matrix), matrix, 0.0) / unit[:, None] / unit[None, :]
    ratio = jnp.where(jnp.eye(unit.size, dtype=bool), 1.0, jnp.clip(ratio, -1.0, 1.0))
    return jnp.where(known[:, None] & known[None, :], ratio, jnp.nan)


def _row_norms(rows: Float[Array, "rows n"]) -> Float[Array, " rows"]:
    """Euclidean norms that do not overflow where the elements do not, as float32 in SI units would."""
    largest = jnp.max(jnp.abs(rows), axis=1, initial=0.0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((rows / unit[:, None]) ** 2, axis=1))
