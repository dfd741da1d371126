"""Curve fits to measured data, of Moré, Garbow and Hillstrom.

The minima are not zero: the models do not quite fit. Minimizers, and the digits of minima beyond the
published six, come from Newton's method in 60 decimal digits.
"""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def bard() -> Problem:
    """`rᵢ = yᵢ - (x₁ + u / (v x₂ + w x₃))` with u = i, v = 16 - i and w the smaller of the two.

    Returns:
      A `Problem` of 15 residuals from (1, 1, 1), with the minimum `Σ r² = 8.21487…e-3`, and
      17.4286… at (0.8406…, -∞, -∞), where the curve is a constant.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 8.

    Example:
      >>> problem = bard()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.4f}")
      41.6817
    """
    u = jnp.arange(1.0, 16.0)
    v = 16.0 - u
    data = (u, v, jnp.minimum(u, v), jnp.array(_BARD_Y))
    return Problem(_BARD, jnp.ones(3), data, jnp.array(_BARD_OPTIMUM), _BARD_MINIMA)


def gaussian() -> Problem:
    """A bell curve on 15 of its own points, rounded: `rᵢ = x₁ exp(-½ x₂ (tᵢ - x₃)²) - yᵢ`.

    Returns:
      A `Problem` from (0.4, 1, 0), with the minimum `Σ r² = 1.12793…e-8`.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 9.

    Example:
      >>> problem = gaussian()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.2e}")
      3.89e-06
    """
    t = (8.0 - jnp.arange(1.0, 16.0)) / 2.0
    y = jnp.array(_GAUSSIAN_Y + _GAUSSIAN_Y[-2::-1])
    return Problem(
        _GAUSSIAN, jnp.array([0.4, 1.0, 0.0]), (t, y), jnp.array(_GAUSSIAN_OPTIMUM), _GAUSSIAN_MINIMA
    )


def meyer() -> Problem:
    """The resistance of a thermistor: `rᵢ = x₁ exp(x₂ / (tᵢ + x₃)) - yᵢ`, tᵢ = 45 + 5 i.

    The condition number of the Jacobian at the solution is 10⁸, and with its columns scaled 3000.

    Returns:
      A `Problem` of 16 residuals from (0.02, 4000, 250), with the minimum `Σ r² = 87.9458…`.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 10; the data are those of NIST's MGH10.

    Example:
      >>> problem = meyer()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3e}")
      1.694e+09
    """
    t = 45.0 + 5.0 * jnp.arange(1.0, 17.0)
    return Problem(
        _MEYER,
        jnp.array([0.02, 4000.0, 250.0]),
        (t, jnp.array(_MEYER_Y)),
        jnp.array(_MEYER_OPTIMUM),
        _MEYER_MINIMA,
    )


def kowalik_osborne() -> Problem:
    """The speed of an enzyme's reaction: `rᵢ = yᵢ - x₁ (u² + u x₂) / (u² + u x₃ + x₄)`.

    Returns:
      A `Problem` of 11 residuals from (0.25, 0.39, 0.415, 0.39), with the minimum
      `Σ r² = 3.07505…e-4`, and 1.02734…e-3 at (+∞, -14.07…, -∞, -∞).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 15; the data are those of NIST's MGH09.

    Example:
      >>> problem = kowalik_osborne()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3e}")
      5.313e-03
    """
    start = jnp.array([0.25, 0.39, 0.415, 0.39])
    data = (jnp.array(_KOWALIK_U), jnp.array(_KOWALIK_Y))
    return Problem(
        _KOWALIK_OSBORNE, start, data, jnp.array(_KOWALIK_OSBORNE_OPTIMUM), _KOWALIK_OSBORNE_MINIMA
    )


def osborne_1() -> Problem:
    """Two decays over a constant: `rᵢ = yᵢ - (x₁ + x₂ exp(-tᵢ x₄) + x₃ exp(-tᵢ x₅))`.

    Returns:
      A `Problem` of 33 residuals, tᵢ = 10 (i - 1), from (0.5, 1.5, -1, 0.01, 0.02), with the
      minimum `Σ r² = 5.46489…e-5`.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 17.

    Example:
      >>> problem = osborne_1()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3f}")
      0.879
    """
    t = 10.0 * jnp.arange(33.0)
    start = jnp.array([0.5, 1.5, -1.0, 0.01, 0.02])
    return Problem(
        _OSBORNE_1, start, (t, jnp.array(_OSBORNE_1_Y)), jnp.array(_OSBORNE_1_OPTIMUM), _OSBORNE_1_MINIMA
    )


def osborne_2() -> Problem:
    """A decay and three peaks: `x₁ exp(-t x₅) + Σ xₖ₊₁ exp(-xₖ₊₅ (t - xₖ₊₈)²)` for k = 1, 2, 3.

    Returns:
      A `Problem` of 65 residuals `yᵢ - model`, tᵢ = (i - 1) / 10, and 11 variables, with the
      minimum `Σ r² = 4.01377…e-2`.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 19.

    Example:
      >>> problem = osborne_2()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3f}")
      2.093
    """
    t = jnp.arange(65.0) / 10.0
    start = jnp.array([1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5])
    return Problem(
        _OSBORNE_2, start, (t, jnp.array(_OSBORNE_2_Y)), jnp.array(_OSBORNE_2_OPTIMUM), _OSBORNE_2_MINIMA
    )


def _bard(
    x: Float[Array, "3"], u: Float[Array, "15"], v: Float[Array, "15"], w: Float[Array, "15"], y: Array
) -> Float[Array, "15"]:
    return y - (x[0] + u / (v * x[1] + w * x[2]))


def _gaussian(x: Float[Array, "3"], t: Float[Array, "15"], y: Float[Array, "15"]) -> Float[Array, "15"]:
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2.0) - y


def _meyer(x: Float[Array, "3"], t: Float[Array, "16"], y: Float[Array, "16"]) -> Float[Array, "16"]:
    return x[0] * jnp.exp(x[1] / (t + x[2])) - y


def _kowalik_osborne(
    x: Float[Array, "4"], u: Float[Array, "11"], y: Float[Array, "11"]
) -> Float[Array, "11"]:
    return y - x[0] * u * (u + x[1]) / (u * (u + x[2]) + x[3])


def _osborne_1(x: Float[Array, "5"], t: Float[Array, "33"], y: Float[Array, "33"]) -> Float[Array, "33"]:
    return y - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def _osborne_2(x: Float[Array, "11"], t: Float[Array, "65"], y: Float[Array, "65"]) -> Float[Array, "65"]:
    decay = x[0] * jnp.exp(-t * x[4])
    return y - sum((x[k] * jnp.exp(-x[k + 4] * (t - x[k + 7]) ** 2) for k in (1, 2, 3)), decay)


_BARD_Y = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
_GAUSSIAN_Y = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989)
# fmt: off
_MEYER_Y = (
    34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0,
    8261.0, 7030.0, 6005.0, 5147.0, 4427.0, 3820.0, 3307.0, 2872.0,
)
_KOWALIK_U = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
_KOWALIK_Y = (
    0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246,
)
_OSBORNE_1_Y = (
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658,
    0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431,
    0.424, 0.420, 0.414, 0.411, 0.406,
)
_OSBORNE_2_Y = (
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655,
    0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558,
    0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562,
    0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710,
    0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
)
_BARD_OPTIMUM = (8.241055974978893e-2, 1.13303609202972157, 2.3436951786425371)
_BARD_MINIMA = (0.0041074386532894874, 8.7143466666666667)
_GAUSSIAN_OPTIMUM = (0.39895613783875668, 1.0000190844878057, 0.0)
_GAUSSIAN_MINIMA = (5.6396638480932402e-9,)
_MEYER_OPTIMUM = (0.0056096364710280525, 6181.3463462863723, 345.2236346241365)
_MEYER_MINIMA = (43.97292758542556,)
_KOWALIK_OSBORNE_OPTIMUM = (
    0.19280693457903785, 0.19128232873436696, 0.12305650692632065, 0.13606233068379484,
)
_KOWALIK_OSBORNE_MINIMA = (1.5375280192461871e-4, 5.1367152434772892e-4)
_OSBORNE_1_OPTIMUM = (
    0.37541005210695204, 1.9358469127123674, -1.4646871366134231, 0.012867534640057289, 0.022122699661672611,
)
_OSBORNE_1_MINIMA = (2.7324473487414532e-5,)
_OSBORNE_2_OPTIMUM = (
    1.3099771546273005, 0.43155379460298892, 0.633661698960724, 0.5994305347859163,
    0.75418322632801128, 0.90428857985963366, 1.3658118352370285, 4.8236988172271556,
    2.3986848661317546, 4.5688745976676716, 5.6753414705806412,
)
_OSBORNE_2_MINIMA = (0.020068868146773869,)
# fmt: on

_BARD = LeastSquares(_bard)
_GAUSSIAN = LeastSquares(_gaussian)
_MEYER = LeastSquares(_meyer)
_KOWALIK_OSBORNE = LeastSquares(_kowalik_osborne)
_OSBORNE_1 = LeastSquares(_osborne_1)
_OSBORNE_2 = LeastSquares(_osborne_2)
