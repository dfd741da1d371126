"""Sums of exponentials whose data are made by a formula, of Moré, Garbow and Hillstrom.

They overflow, or become flat, a little way from the solution.
"""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def jennrich_sampson(m: int = 10) -> Problem:
    """`rᵢ = 2 + 2 i - (exp(i x₁) + exp(i x₂))`.

    Args:
      m: number of residuals, m ≥ 2.

    Returns:
      A `Problem` from (0.3, 0.4); for m = 10 the minimum is `Σ r² = 124.362…` at
      x₁ = x₂ = 0.2578…, where the Jacobian is singular.

    Raises:
      ValueError: if m < 2.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 6.

    Example:
      >>> problem = jennrich_sampson()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.1f}")
      4171.3
    """
    _check(m, 2)
    optimum = jnp.full(2, 0.25782521367036408) if m == 10 else None
    minima = (62.181091177807427,) if m == 10 else ()
    return Problem(_JENNRICH_SAMPSON, jnp.array([0.3, 0.4]), (jnp.arange(1.0, m + 1.0),), optimum, minima)


def gulf(m: int = 99) -> Problem:
    """A Weibull distribution: `rᵢ = exp(-|yᵢ - x₂|^x₃ / x₁) - tᵢ`, `yᵢ = 25 + (-50 ln tᵢ)^(2/3)`.

    With tᵢ = i/100. (The paper prints `yᵢ m i x₂` for `yᵢ - x₂`; its solution is one of the latter.)

    Args:
      m: number of residuals, 3 ≤ m ≤ 100.

    Returns:
      A `Problem` from (5, 2.5, 0.15), with the minimum 0 at (50, 25, 1.5).

    Raises:
      ValueError: if not 3 ≤ m ≤ 100.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 11.

    Example:
      >>> problem = gulf()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3f}")
      12.111
    """
    _check(m, 3)
    if m > 100:
        raise ValueError(f"m: expected a number <= 100, got {m}")
    t = jnp.arange(1.0, m + 1.0) / 100.0
    data = (t, 25.0 + (-50.0 * jnp.log(t)) ** (2.0 / 3.0))
    return Problem(_GULF, jnp.array([5.0, 2.5, 0.15]), data, jnp.array([50.0, 25.0, 1.5]), (0.0,))


def box_3d(m: int = 10) -> Problem:
    """`rᵢ = exp(-t x₁) - exp(-t x₂) - x₃ (exp(-t) - exp(-10 t))`, t = i/10.

    Args:
      m: number of residuals, m ≥ 3.

    Returns:
      A `Problem` from (0, 10, 20), with the minimum 0 at (1, 10, 1), at (10, 1, -1), and wherever
      x₁ = x₂ and x₃ = 0; `optimum` is the first.

    Raises:
      ValueError: if m < 3.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 12.

    Example:
      >>> problem = box_3d()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.1f}")
      1031.2
    """
    _check(m, 3)
    t = jnp.arange(1.0, m + 1.0) / 10.0
    return Problem(_BOX_3D, jnp.array([0.0, 10.0, 20.0]), (t,), jnp.array([1.0, 10.0, 1.0]), (0.0,))


def brown_dennis(m: int = 20) -> Problem:
    """`rᵢ = (x₁ + t x₂ - exp(t))² + (x₃ + x₄ sin(t) - cos(t))²`, t = i/5: large residuals.

    Args:
      m: number of residuals, m ≥ 4.

    Returns:
      A `Problem` from (25, 5, -5, -1); for m = 20 the minimum is `Σ r² = 85822.2…`.

    Raises:
      ValueError: if m < 4.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 16.

    Example:
      >>> problem = brown_dennis()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3e}")
      7.927e+06
    """
    _check(m, 4)
    t = jnp.arange(1.0, m + 1.0) / 5.0
    start = jnp.array([25.0, 5.0, -5.0, -1.0])
    optimum: Array | None = None
    minima: tuple[float, ...] = ()
    if m == 20:
        optimum = jnp.array(
            [-11.594439904762165, 13.203630051207204, -0.40343948817685952, 0.2367787744557363]
        )
        minima = (42911.100813178172,)
    return Problem(_BROWN_DENNIS, start, (t,), optimum, minima)


def biggs_exp6(m: int = 13) -> Problem:
    """`rᵢ = x₃ exp(-t x₁) - x₄ exp(-t x₂) + x₆ exp(-t x₅) - yᵢ`, t = i/10.

    With `yᵢ = exp(-t) - 5 exp(-10 t) + 3 exp(-4 t)`.

    Args:
      m: number of residuals, m ≥ 6.

    Returns:
      A `Problem` from (1, 2, 1, 1, 1, 1), with the minimum 0 at (1, 10, 1, 5, 4, 3), and for
      m = 13 a local one, `Σ r² = 5.65565…e-3`.

    Raises:
      ValueError: if m < 6.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 18.

    Example:
      >>> problem = biggs_exp6()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.4f}")
      0.7791
    """
    _check(m, 6)
    t = jnp.arange(1.0, m + 1.0) / 10.0
    data = (t, jnp.exp(-t) - 5.0 * jnp.exp(-10.0 * t) + 3.0 * jnp.exp(-4.0 * t))
    start, optimum = jnp.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0]), jnp.array([1.0, 10.0, 1.0, 5.0, 4.0, 3.0])
    minima = (0.0, 0.0028278249627499655) if m == 13 else (0.0,)
    return Problem(_BIGGS_EXP6, start, data, optimum, minima)


def _check(m: int, least: int) -> None:
    if m < least:
        raise ValueError(f"m: expected a number >= {least}, got {m}")


def _jennrich_sampson(x: Float[Array, "2"], i: Float[Array, " m"]) -> Float[Array, " m"]:
    return 2.0 + 2.0 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


def _gulf(x: Float[Array, "3"], t: Float[Array, " m"], y: Float[Array, " m"]) -> Float[Array, " m"]:
    distance = jnp.abs(y - x[1])
    # 0^x₃ is 0 for x₃ > 0, but its derivative by the formula is 0 · log 0.
    away = distance > 0
    power = jnp.where(away, jnp.where(away, distance, 1.0) ** x[2], 0.0)
    return jnp.exp(-power / x[0]) - t


def _box_3d(x: Float[Array, "3"], t: Float[Array, " m"]) -> Float[Array, " m"]:
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-10.0 * t))


def _brown_dennis(x: Float[Array, "4"], t: Float[Array, " m"]) -> Float[Array, " m"]:
    line = x[0] + t * x[1] - jnp.exp(t)
    wave = x[2] + x[3] * jnp.sin(t) - jnp.cos(t)
    return line**2 + wave**2


def _biggs_exp6(x: Float[Array, "6"], t: Float[Array, " m"], y: Float[Array, " m"]) -> Float[Array, " m"]:
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


_JENNRICH_SAMPSON = LeastSquares(_jennrich_sampson)
_GULF = LeastSquares(_gulf)
_BOX_3D = LeastSquares(_box_3d)
_BROWN_DENNIS = LeastSquares(_brown_dennis)
_BIGGS_EXP6 = LeastSquares(_biggs_exp6)
