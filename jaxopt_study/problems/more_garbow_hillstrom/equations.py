"""Discretized equations and banded systems, of Moré, Garbow and Hillstrom: as many rows as variables."""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def discrete_boundary_value(n: int = 10) -> Problem:
    """`u'' = ½ (u + t + 1)³` on (0, 1), u = 0 at both ends, by differences.

    `rᵢ = 2 xᵢ - xᵢ₋₁ - xᵢ₊₁ + ½ h² (xᵢ + tᵢ + 1)³` with tᵢ = i h and h = 1 / (n + 1).

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` from `xⱼ = tⱼ (tⱼ - 1)`, with the minimum 0.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 28.

    Example:
      >>> problem = discrete_boundary_value()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.1e}")
      7.9e-04
    """
    t = _grid(n)
    return Problem(_BOUNDARY_VALUE, t * (t - 1.0), (t,), None, (0.0,))


def discrete_integral_equation(n: int = 10) -> Problem:
    """The same as an integral equation, with Green's function: a full Jacobian near the identity.

    `rᵢ = xᵢ + ½ h ((1 - tᵢ) Σ_{j≤i} tⱼ cⱼ + tᵢ Σ_{j>i} (1 - tⱼ) cⱼ)`, `cⱼ = (xⱼ + tⱼ + 1)³`.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` from `xⱼ = tⱼ (tⱼ - 1)`, with the minimum 0.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 29.

    Example:
      >>> problem = discrete_integral_equation()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.3f}")
      0.063
    """
    t = _grid(n)
    return Problem(_INTEGRAL_EQUATION, t * (t - 1.0), (t,), None, (0.0,))


def broyden_tridiagonal(n: int = 10) -> Problem:
    """`rᵢ = (3 - 2 xᵢ) xᵢ - xᵢ₋₁ - 2 xᵢ₊₁ + 1`, with x₀ = xₙ₊₁ = 0.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` from (-1, …, -1), with the minimum 0.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 30.

    Example:
      >>> problem = broyden_tridiagonal()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      21.0
    """
    _check(n)
    return Problem(_BROYDEN_TRIDIAGONAL, -jnp.ones(n), (), None, (0.0,))


def broyden_banded(n: int = 10) -> Problem:
    """`rᵢ = xᵢ (2 + 5 xᵢ²) + 1 - Σ xⱼ (1 + xⱼ)`, over j ≠ i from i - 5 to i + 1.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` from (-1, …, -1), with the minimum 0.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 31.

    Example:
      >>> problem = broyden_banded()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      360.0
    """
    _check(n)
    return Problem(_BROYDEN_BANDED, -jnp.ones(n), (), None, (0.0,))


def _check(n: int) -> None:
    if n < 1:
        raise ValueError(f"n: expected a number >= 1, got {n}")


def _grid(n: int) -> Array:
    _check(n)
    return jnp.arange(1.0, n + 1.0) / (n + 1.0)


def _boundary_value(x: Float[Array, " n"], t: Float[Array, " n"]) -> Float[Array, " n"]:
    h = 1.0 / (x.size + 1.0)
    ends = jnp.pad(x, 1)
    return 2.0 * x - ends[:-2] - ends[2:] + h**2 * (x + t + 1.0) ** 3 / 2.0


def _integral_equation(x: Float[Array, " n"], t: Float[Array, " n"]) -> Float[Array, " n"]:
    h = 1.0 / (x.size + 1.0)
    s, u = t[:, None], t[None, :]
    green = jnp.where(u <= s, (1.0 - s) * u, s * (1.0 - u))
    return x + h / 2.0 * (green @ (x + t + 1.0) ** 3)


def _broyden_tridiagonal(x: Float[Array, " n"]) -> Float[Array, " n"]:
    ends = jnp.pad(x, 1)
    return (3.0 - 2.0 * x) * x - ends[:-2] - 2.0 * ends[2:] + 1.0


def _broyden_banded(x: Float[Array, " n"]) -> Float[Array, " n"]:
    n = x.size
    terms = jnp.pad(x * (1.0 + x), (5, 1))
    neighbors = sum((terms[k : k + n] for k in (0, 1, 2, 3, 4, 6)), jnp.zeros_like(x))
    return x * (2.0 + 5.0 * x**2) + 1.0 - neighbors


_BOUNDARY_VALUE = LeastSquares(_boundary_value)
_INTEGRAL_EQUATION = LeastSquares(_integral_equation)
_BROYDEN_TRIDIAGONAL = LeastSquares(_broyden_tridiagonal)
_BROYDEN_BANDED = LeastSquares(_broyden_banded)
