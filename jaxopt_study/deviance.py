"""Maximum likelihood of counts as a sum of squares: the deviance residuals of Poisson's distribution.

Half the sum of their squares is the negative logarithm of the likelihood, less that of a model which meets
every count: any method for sums of squares then finds the estimates of maximum likelihood. Of errors
with a normal distribution it is the residuals themselves, and nothing is needed.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Float

SERIES = 0.05  # relative differences below it are taken by a power series


@jax.custom_jvp
def poisson_deviance_residual(mean: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """`sign(μ - y) √(2 (μ - y + y ln(y/μ)))`, so that `½ r²` is what a count y adds to `-ln L`.

    Gauss-Newton and Levenberg-Marquardt on it are Fisher's scoring where model and data agree to within
    the noise: `(∂r/∂μ)²` is `1/μ` there, the information of a count. The formula is 0/0 where they
    agree exactly, and so is its derivative; both are taken from `√y t √h(t)`, `t = μ/y - 1`, with h
    smooth and 1 at 0.

    Args:
      mean: what the model expects, μ > 0; NaN where it is not, which a solver refuses as a trial.
      count: what was counted, y ≥ 0.

    Returns:
      Residuals, of the common shape.

    Source:
      P. McCullagh and J. A. Nelder, Generalized Linear Models, 1989, section 2.4; T. A. Laurence and
      B. A. Chromy, Efficient maximum likelihood estimator fitting of histograms, 2010.

    Example:
      >>> print(poisson_deviance_residual(jnp.array([4.0, 4.0]), jnp.array([4.0, 0.0])))
      [0.        2.828427]
    """
    residual, _ = _residual_and_slope(mean, count)
    return residual


@poisson_deviance_residual.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The slope is a formula of its own, and can be differentiated again; counts have no tangent.
    residual, slope = _residual_and_slope(*primals)
    return residual, slope * tangents[0]


def _residual_and_slope(mean: Array, count: Array) -> tuple[Array, Array]:
    seen = count > 0
    y = jnp.where(seen, count, 1.0)
    positive = mean > 0
    mu = jnp.where(positive, mean, 1.0)
    t = (mu - y) / y
    near = jnp.abs(t) < SERIES
    small = jnp.where(near, t, 0.0)
    # 2 (t - ln(1 + t)) / t²
    series = 1 - small * (2 / 3 - small * (1 / 2 - small * (2 / 5 - small * (1 / 3 - small * (2 / 7)))))
    far = jnp.where(near, 1.0, t)
    h = jnp.where(near, series, 2 * (far - jnp.log1p(far)) / far**2)
    root = jnp.sqrt(h)
    none = jnp.sqrt(2 * mu)
    residual = jnp.where(seen, jnp.sqrt(y) * t * root, none)
    slope = jnp.where(seen, jnp.sqrt(y) / (mu * root), 1 / none)  # (μ - y) / (μ r)
    invalid = jnp.asarray(jnp.nan, residual.dtype)
    return jnp.where(positive, residual, invalid), jnp.where(positive, slope, invalid)
