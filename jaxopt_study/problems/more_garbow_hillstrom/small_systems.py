"""Functions of two to four variables without data, of Moré, Garbow and Hillstrom.

Curved valleys, a singular Jacobian at the solution, a second minimum, variables of very different
size. Two of them extend to as many variables as wanted.
"""

import math

import jax.numpy as jnp
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def rosenbrock(n: int = 2) -> Problem:
    """A curved valley for every pair of variables: `[10 (x₂ - x₁²), 1 - x₁]`.

    Args:
      n: number of variables, even; more than 2 are the extended Rosenbrock function.

    Returns:
      A `Problem` from (-1.2, 1, -1.2, 1, …), with the minimum 0 at (1, …, 1).

    Raises:
      ValueError: if n is not a positive even number.

    Source:
      Moré, Garbow and Hillstrom 1981, problems 1 and 21.

    Example:
      >>> problem = rosenbrock()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      24.2
    """
    if n < 2 or n % 2:
        raise ValueError(f"n: expected a positive even number, got {n}")
    return Problem(_ROSENBROCK, jnp.tile(jnp.array([-1.2, 1.0]), n // 2), (), jnp.ones(n), (0.0,))


def freudenstein_roth() -> Problem:
    """Two cubics, `x₁ - 13 + ((5 - x₂) x₂ - 2) x₂` and `x₁ - 29 + ((x₂ + 1) x₂ - 14) x₂`.

    Returns:
      A `Problem` from (0.5, -2), with the minimum 0 at (5, 4) and a local one, `Σ r² = 48.9842…`
      at (11.41…, -0.8968…), to which the standard start leads.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 2.

    Example:
      >>> problem = freudenstein_roth()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      400.5
    """
    minima = (0.0, 24.492126839620011)
    return Problem(_FREUDENSTEIN_ROTH, jnp.array([0.5, -2.0]), (), jnp.array([5.0, 4.0]), minima)


def powell_badly_scaled() -> Problem:
    """`[10⁴ x₁ x₂ - 1, exp(-x₁) + exp(-x₂) - 1.0001]`: the solution's coordinates differ by 10⁶.

    Returns:
      A `Problem` from (0, 1), with the minimum 0 at (1.098…e-5, 9.106…).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 3.

    Example:
      >>> problem = powell_badly_scaled()
      >>> print(f"{2 * problem.objective(problem.init):.4f}")
      1.1353
    """
    optimum = jnp.array([1.0981593296998175e-5, 9.106146739866524])
    return Problem(_POWELL_BADLY_SCALED, jnp.array([0.0, 1.0]), (), optimum, (0.0,))


def brown_badly_scaled() -> Problem:
    """`[x₁ - 10⁶, x₂ - 2·10⁻⁶, x₁ x₂ - 2]`: the solution's coordinates differ by 10¹².

    Returns:
      A `Problem` from (1, 1), with the minimum 0 at (10⁶, 2·10⁻⁶).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 4.

    Example:
      >>> problem = brown_badly_scaled()
      >>> print(f"{2 * problem.objective(problem.init):.3e}")
      1.000e+12
    """
    return Problem(_BROWN_BADLY_SCALED, jnp.ones(2), (), jnp.array([1e6, 2e-6]), (0.0,))


def beale() -> Problem:
    """`rᵢ = yᵢ - x₁ (1 - x₂ⁱ)` with y = (1.5, 2.25, 2.625).

    Returns:
      A `Problem` from (1, 1), with the minimum 0 at (3, 0.5).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 5.

    Example:
      >>> problem = beale()
      >>> print(f"{2 * problem.objective(problem.init):.4f}")
      14.2031
    """
    return Problem(_BEALE, jnp.ones(2), (), jnp.array([3.0, 0.5]), (0.0,))


def helical_valley() -> Problem:
    """A valley that winds around an axis: `[10 (x₃ - 10 θ), 10 (√(x₁² + x₂²) - 1), x₃]`.

    θ is the angle of (x₁, x₂) in turns, from -¼ to ¾; it jumps where x₁ = 0 and x₂ < 0, and has
    no derivative there and on the axis.

    Returns:
      A `Problem` from (-1, 0, 0), with the minimum 0 at (1, 0, 0).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 7.

    Example:
      >>> problem = helical_valley()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      2500.0
    """
    start, optimum = jnp.array([-1.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
    return Problem(_HELICAL_VALLEY, start, (), optimum, (0.0,))


def powell_singular(n: int = 4) -> Problem:
    """`[x₁ + 10 x₂, √5 (x₃ - x₄), (x₂ - 2 x₃)², √10 (x₁ - x₄)²]` for every four variables.

    The Jacobian is singular at the solution, so that Gauss-Newton steps halve the distance to it
    and no more.

    Args:
      n: number of variables, a multiple of 4; more than 4 are the extended Powell function.

    Returns:
      A `Problem` from (3, -1, 0, 1, …), with the minimum 0 at the origin.

    Raises:
      ValueError: if n is not a positive multiple of 4.

    Source:
      Moré, Garbow and Hillstrom 1981, problems 13 and 22.

    Example:
      >>> problem = powell_singular()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      215.0
    """
    if n < 4 or n % 4:
        raise ValueError(f"n: expected a positive multiple of 4, got {n}")
    start = jnp.tile(jnp.array([3.0, -1.0, 0.0, 1.0]), n // 4)
    return Problem(_POWELL_SINGULAR, start, (), jnp.zeros(n), (0.0,))


def wood() -> Problem:
    """Two valleys, coupled: `10 (x₂ - x₁²), 1 - x₁, √90 (x₄ - x₃²), 1 - x₃` and two more.

    They are `√10 (x₂ + x₄ - 2)` and `(x₂ - x₄) / √10`.

    Returns:
      A `Problem` from (-3, -1, -3, -1), with the minimum 0 at (1, 1, 1, 1).

    Source:
      Moré, Garbow and Hillstrom 1981, problem 14.

    Example:
      >>> problem = wood()
      >>> print(f"{2 * problem.objective(problem.init):.0f}")
      19192
    """
    return Problem(_WOOD, jnp.array([-3.0, -1.0, -3.0, -1.0]), (), jnp.ones(4), (0.0,))


def _rosenbrock(x: Float[Array, " n"]) -> Float[Array, " n"]:
    a, b = x[0::2], x[1::2]
    return jnp.stack([10.0 * (b - a**2), 1.0 - a], axis=1).ravel()


def _freudenstein_roth(x: Float[Array, "2"]) -> Float[Array, "2"]:
    a, b = x
    return jnp.stack(
        [
            a - 13.0 + ((5.0 - b) * b - 2.0) * b,
            a - 29.0 + ((b + 1.0) * b - 14.0) * b,
        ]
    )


def _powell_badly_scaled(x: Float[Array, "2"]) -> Float[Array, "2"]:
    a, b = x
    return jnp.stack([1e4 * a * b - 1.0, jnp.exp(-a) + jnp.exp(-b) - 1.0001])


def _brown_badly_scaled(x: Float[Array, "2"]) -> Float[Array, "3"]:
    a, b = x
    return jnp.stack([a - 1e6, b - 2e-6, a * b - 2.0])


def _beale(x: Float[Array, "2"]) -> Float[Array, "3"]:
    a, b = x
    return jnp.stack([y - a * (1.0 - b**i) for i, y in ((1, 1.5), (2, 2.25), (3, 2.625))])


def _helical_valley(x: Float[Array, "3"]) -> Float[Array, "3"]:
    a, b, c = x
    # arctan(b/a), and half a turn more on the left, as the paper has it; atan2 of the point or of
    # its mirror image takes that quotient without dividing by a = 0.
    side = jnp.where(a < 0, -1.0, 1.0)
    turns = jnp.arctan2(side * b, side * a) / (2.0 * math.pi) + jnp.where(a < 0, 0.5, 0.0)
    return jnp.stack([10.0 * (c - 10.0 * turns), 10.0 * (jnp.sqrt(a**2 + b**2) - 1.0), c])


def _powell_singular(x: Float[Array, " n"]) -> Float[Array, " n"]:
    a, b, c, d = (x[k::4] for k in range(4))
    rows = [a + 10.0 * b, 5.0**0.5 * (c - d), (b - 2.0 * c) ** 2, 10.0**0.5 * (a - d) ** 2]
    return jnp.stack(rows, axis=1).ravel()


def _wood(x: Float[Array, "4"]) -> Float[Array, "6"]:
    a, b, c, d = x
    return jnp.stack(
        [
            10.0 * (b - a**2),
            1.0 - a,
            90.0**0.5 * (d - c**2),
            1.0 - c,
            10.0**0.5 * (b + d - 2.0),
            (b - d) / 10.0**0.5,
        ]
    )


_ROSENBROCK = LeastSquares(_rosenbrock)
_FREUDENSTEIN_ROTH = LeastSquares(_freudenstein_roth)
_POWELL_BADLY_SCALED = LeastSquares(_powell_badly_scaled)
_BROWN_BADLY_SCALED = LeastSquares(_brown_badly_scaled)
_BEALE = LeastSquares(_beale)
_HELICAL_VALLEY = LeastSquares(_helical_valley)
_POWELL_SINGULAR = LeastSquares(_powell_singular)
_WOOD = LeastSquares(_wood)
