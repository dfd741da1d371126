"""The linear functions of Moré, Garbow and Hillstrom: of full rank, of rank 1, and with zero columns.

One Gauss-Newton step solves them; what they ask is what a solver does where the Jacobian is
singular from beginning to end.
"""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def linear_full_rank(n: int = 5, m: int = 10) -> Problem:
    """Orthogonal columns: `rᵢ = xᵢ - (2/m) Σ xⱼ - 1` for i ≤ n, `-(2/m) Σ xⱼ - 1` for the others.

    Args:
      n: number of variables.
      m: number of residuals, m ≥ n.

    Returns:
      A `Problem` from (1, …, 1), with `Σ r² = m - n` at (-1, …, -1).

    Raises:
      ValueError: if not 1 ≤ n ≤ m.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 32.

    Example:
      >>> problem = linear_full_rank()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.1f} {2 * problem.minima[0]}")
      25.0 5.0
    """
    _check(n, m, 1)
    return Problem(_FULL_RANK, jnp.ones(n), (_count(m),), -jnp.ones(n), ((m - n) / 2,))


def linear_rank_one(n: int = 5, m: int = 10) -> Problem:
    """Every row a multiple of one: `rᵢ = i Σ j xⱼ - 1`.

    Args:
      n: number of variables.
      m: number of residuals, m ≥ n.

    Returns:
      A `Problem` from (1, …, 1), with `Σ r² = m (m - 1) / (2 (2m + 1))` wherever
      `Σ j xⱼ = 3 / (2m + 1)`; so its `optimum` is None.

    Raises:
      ValueError: if not 1 ≤ n ≤ m.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 33.

    Example:
      >>> print(f"{2 * linear_rank_one().minima[0]:.4f}")
      2.1429
    """
    _check(n, m, 1)
    minimum = m * (m - 1) / (2 * (2 * m + 1)) / 2
    return Problem(_RANK_ONE, jnp.ones(n), (_count(m),), None, (minimum,))


def linear_rank_one_with_zeros(n: int = 5, m: int = 10) -> Problem:
    """The same with zeros in the first and last column and row: `rᵢ = (i - 1) Σ j xⱼ - 1`.

    The sum is over 1 < j < n, and the first and the last residual are -1.

    Args:
      n: number of variables, n ≥ 3.
      m: number of residuals, m ≥ n.

    Returns:
      A `Problem` from (1, …, 1), with `Σ r² = (m² + 3m - 6) / (2 (2m - 3))` wherever the sum is
      `3 / (2m - 3)`; so its `optimum` is None.

    Raises:
      ValueError: if not 3 ≤ n ≤ m.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 34.

    Example:
      >>> print(f"{2 * linear_rank_one_with_zeros().minima[0]:.4f}")
      3.6471
    """
    _check(n, m, 3)
    minimum = (m**2 + 3 * m - 6) / (2 * (2 * m - 3)) / 2
    return Problem(_RANK_ONE_WITH_ZEROS, jnp.ones(n), (_count(m),), None, (minimum,))


def _count(m: int) -> Array:
    return jnp.arange(1.0, m + 1.0)


def _check(n: int, m: int, least: int) -> None:
    if not least <= n <= m:
        raise ValueError(f"n, m: expected {least} <= n <= m, got n = {n}, m = {m}")


def _full_rank(x: Float[Array, " n"], i: Float[Array, " m"]) -> Float[Array, " m"]:
    n, m = x.size, i.size
    return jnp.pad(x, (0, m - n)) - (2.0 / m * jnp.sum(x) + 1.0)


def _rank_one(x: Float[Array, " n"], i: Float[Array, " m"]) -> Float[Array, " m"]:
    j = jnp.arange(1, x.size + 1, dtype=x.dtype)
    return i * jnp.sum(j * x) - 1.0


def _rank_one_with_zeros(x: Float[Array, " n"], i: Float[Array, " m"]) -> Float[Array, " m"]:
    j = jnp.arange(2, x.size, dtype=x.dtype)
    rows = jnp.where(i < i.size, i - 1.0, 0.0)
    return rows * jnp.sum(j * x[1:-1]) - 1.0


_FULL_RANK = LeastSquares(_full_rank)
_RANK_ONE = LeastSquares(_rank_one)
_RANK_ONE_WITH_ZEROS = LeastSquares(_rank_one_with_zeros)
