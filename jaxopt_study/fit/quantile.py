"""Quantiles of Student's t and of Fisher's F, by inverting the incomplete beta function.

JAX has the distribution functions but not their inverses. Nothing here knows what a fit is.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc, betaln, ndtri
from jax.typing import ArrayLike

from jaxopt_study.types import Float

LARGE_DOF = 2000.0  # from here on the series is exact to rounding, and betainc no longer is
ITERATIONS = 60  # Newton takes about six; sixty bisections of the bracket below end in rounding too
BRACKET = 80.0  # of log F

Carry = tuple[Array, Array, Array, Array, Array]


@jax.jit
def t_quantile(level: ArrayLike, dof: ArrayLike) -> Float[Array, "..."]:
    """The t that a Student variable stays within, `P(|T| ≤ t) = level`.

    `T²` has Fisher's distribution with 1 and `dof` degrees of freedom, so t is the root of its
    quantile. Beyond 2000 degrees of freedom the incomplete beta function loses digits (its
    prefactor is the exponential of a difference of large logarithms), and four terms of
    the expansion in `1 / dof` are exact.

    Args:
      level: two-sided, within (0, 1).
      dof: degrees of freedom, any shape; infinity gives the normal distribution.

    Returns:
      t, of the common shape of both; NaN where `dof <= 0`.

    Source:
      Abramowitz and Stegun 1964, 26.5.28 and 26.7.5.

    Example:
      >>> print(f"{t_quantile(0.95, 10):.3f} {t_quantile(0.95, jnp.inf):.3f}")
      2.228 1.960
    """
    level, dof = _floats(level, dof)
    few = jnp.sqrt(f_quantile(level, jnp.ones_like(dof), jnp.clip(dof, 0.5, LARGE_DOF)))
    t = jnp.where(dof > LARGE_DOF, _expansion(ndtri(0.5 + 0.5 * level), jnp.maximum(dof, LARGE_DOF)), few)
    return jnp.where(dof > 0, t, jnp.nan)


@jax.jit
def f_quantile(level: ArrayLike, numerator_dof: ArrayLike, denominator_dof: ArrayLike) -> Float[Array, "..."]:
    """The f below which a variable with Fisher's distribution is, `P(F ≤ f) = level`.

    `P(F ≤ f) = I_x(a/2, b/2)` with `x = a f / (a f + b)`, solved for log f by Newton's method on the
    logarithm of the smaller tail, inside a bracket that every step narrows.

    Args:
      level: within (0, 1).
      numerator_dof: degrees of freedom a > 0 of the numerator.
      denominator_dof: degrees of freedom b > 0 of the denominator.

    Returns:
      f, of the common shape of all.

    Source:
      Abramowitz and Stegun 1964, 26.6.2.

    Example:
      >>> print(f"{f_quantile(0.95, 2, 10):.3f}")
      4.103
    """
    level, a, b = _floats(level, numerator_dof, denominator_dof)
    ratio, half_a, half_b = jnp.log(a / b), a / 2, b / 2
    upper = level > 0.5
    wanted = jnp.log(jnp.where(upper, 1 - level, level))
    normalizer = betaln(half_a, half_b)

    first, second = jnp.where(upper, half_b, half_a), jnp.where(upper, half_a, half_b)
    sign = jnp.where(upper, -1.0, 1.0)
    rounding = 4 * jnp.finfo(level.dtype).eps

    def again(carry: Carry) -> Carry:
        count, log_f, low, high, _ = carry
        odds = ratio + log_f  # log x / (1 - x)
        tail = betainc(first, second, jax.nn.sigmoid(sign * odds))
        # d I_x / d log f = x^a (1 - x)^b / B(a, b), with halves for a and b
        density = jnp.exp(half_a * jax.nn.log_sigmoid(odds) + half_b * jax.nn.log_sigmoid(-odds) - normalizer)
        excess = sign * (jnp.log(tail) - wanted)
        low, high = jnp.where(excess > 0, low, log_f), jnp.where(excess > 0, log_f, high)
        newton = log_f - excess * tail / density
        inside = (newton > low) & (newton < high)  # False for NaN too
        new = jnp.where(inside, newton, 0.5 * (low + high))
        return count + 1, new, low, high, jnp.abs(new - log_f)

    def going(carry: Carry) -> Array:
        count, log_f, _, _, moved = carry
        return (count < ITERATIONS) & jnp.any(moved > rounding * jnp.maximum(1.0, jnp.abs(log_f)))

    edge = jnp.full_like(level, BRACKET)
    start = jnp.zeros((), jnp.int32), jnp.zeros_like(level), -edge, edge, edge
    return jnp.exp(jax.lax.while_loop(going, again, start)[1])


def _floats(*values: ArrayLike) -> list[Array]:
    dtype = jnp.result_type(float, *values)
    return jnp.broadcast_arrays(*[jnp.asarray(value, dtype) for value in values])


def _expansion(z: Array, dof: Array) -> Array:
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + (g1 + (g2 + (g3 + g4 / dof) / dof) / dof) / dof
