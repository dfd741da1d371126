"""Functions of as many variables as wanted, of Moré, Garbow and Hillstrom: polynomials, penalties.

Those that discretize an equation are in `equations`.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float

# ½ Σ r² by the number of variables: the published digits, and more from Newton's method in 60 digits.
_MINIMA: dict[str, dict[int, tuple[float, ...]]] = {
    "watson": {
        6: (0.0011438350267762181,),
        9: (6.9988006904950997e-7,),
        12: (2.3611905529458787e-10,),
    },
    "penalty_1": {4: (1.1249887504499685e-5,), 10: (3.5438257335451847e-5,)},
    "penalty_2": {4: (4.6881465036777208e-6,), 10: (1.4683026872837297e-4,)},
    "trigonometric": {10: (1.3975280609397281e-5,)},
    "chebyquad": {
        **dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 9), (0.0,)),
        8: (0.0017584368628389658,),
        10: (0.0023863568481876745, 0.0032519774004411531),
    },
}


def watson(n: int = 6) -> Problem:
    """A polynomial p of degree n - 1 that solves `p' - p² = 1`, p(0) = 0, at 29 points of [0, 1].

    `rᵢ = p'(tᵢ) - p(tᵢ)² - 1` with tᵢ = i/29 and `p(t) = Σ xⱼ tʲ⁻¹`; then x₁, and `x₂ - x₁² - 1`.

    Args:
      n: number of variables, 2 ≤ n ≤ 31. The Jacobian's condition grows five times with each.

    Returns:
      A `Problem` of 31 residuals from the origin, with the minimum `Σ r²` = 2.28767…e-3 for n = 6,
      1.39976…e-6 for n = 9, 4.72238…e-10 for n = 12.

    Raises:
      ValueError: if not 2 ≤ n ≤ 31.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 20.

    Example:
      >>> problem = watson()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.1f}")
      30.0
    """
    if not 2 <= n <= 31:
        raise ValueError(f"n: expected a number from 2 to 31, got {n}")
    t, power = np.arange(1.0, 30.0)[:, None] / 29.0, np.arange(n)[None, :]
    data = (jnp.asarray(t**power), jnp.asarray(power * t ** np.maximum(power - 1, 0)))
    return Problem(_WATSON, jnp.zeros(n), data, None, _MINIMA["watson"].get(n, ()))


def penalty_1(n: int = 4) -> Problem:
    """`√a (xᵢ - 1)` with a = 10⁻⁵, and one more, `Σ xⱼ² - ¼`.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` of n + 1 residuals from (1, 2, …, n), with the minimum `Σ r²` = 2.24997…e-5 for
      n = 4 and 7.08765…e-5 for n = 10.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 23.

    Example:
      >>> problem = penalty_1()
      >>> print(f"{2 * problem.objective(problem.init):.2f}")
      885.06
    """
    _check(n, 1)
    return Problem(_PENALTY_1, jnp.arange(1.0, n + 1.0), (), None, _MINIMA["penalty_1"].get(n, ()))


def penalty_2(n: int = 4) -> Problem:
    """`x₁ - 0.2`, then `√a (exp(xᵢ/10) + exp(xᵢ₋₁/10) - yᵢ)`, `√a (exp(xᵢ/10) - exp(-1/10))`.

    For i = 2 … n each, with a = 10⁻⁵ and `yᵢ = exp(i/10) + exp((i - 1)/10)`; and at last
    `Σ (n - j + 1) xⱼ² - 1`.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` of 2n residuals from (½, …, ½), with the minimum `Σ r²` = 9.37629…e-6 for n = 4
      and 2.93660…e-4 for n = 10.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 24.

    Example:
      >>> problem = penalty_2()
      >>> print(f"{2 * problem.objective(problem.init):.4f}")
      2.3400
    """
    _check(n, 1)
    return Problem(_PENALTY_2, jnp.full(n, 0.5), (), None, _MINIMA["penalty_2"].get(n, ()))


def variably_dimensioned(n: int = 10) -> Problem:
    """`xᵢ - 1`, and two more: `s = Σ j (xⱼ - 1)` and `s²`.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` of n + 2 residuals from `xⱼ = 1 - j/n`, with the minimum 0 at (1, …, 1).

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 25.

    Example:
      >>> problem = variably_dimensioned()
      >>> print(f"{2 * problem.objective(problem.init):.4e}")
      2.1986e+06
    """
    _check(n, 1)
    return Problem(_VARIABLY_DIMENSIONED, 1.0 - jnp.arange(1.0, n + 1.0) / n, (), jnp.ones(n), (0.0,))


def trigonometric(n: int = 10) -> Problem:
    """`rᵢ = n - Σ cos xⱼ + i (1 - cos xᵢ) - sin xᵢ`.

    Args:
      n: number of variables, n ≥ 1.

    Returns:
      A `Problem` from (1/n, …, 1/n), with the minimum 0, at the origin among other places, and for
      n = 10 a local one, `Σ r² = 2.79506…e-5`.

    Raises:
      ValueError: if n < 1.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 26.

    Example:
      >>> problem = trigonometric()
      >>> print(f"{2 * problem.objective(problem.init):.3e}")
      7.076e-03
    """
    _check(n, 1)
    minima = (0.0, *_MINIMA["trigonometric"].get(n, ()))
    return Problem(_TRIGONOMETRIC, jnp.full(n, 1.0 / n), (), jnp.zeros(n), minima)


def brown_almost_linear(n: int = 10) -> Problem:
    """`rᵢ = xᵢ + Σ xⱼ - (n + 1)` for i < n, and `Π xⱼ - 1`.

    Args:
      n: number of variables, n ≥ 2.

    Returns:
      A `Problem` from (½, …, ½), with the minimum 0 at (1, …, 1) and at one or two more points
      (α, …, α, α¹⁻ⁿ), and a local one of 1 at (0, …, 0, n + 1).

    Raises:
      ValueError: if n < 2.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 27.

    Example:
      >>> problem = brown_almost_linear()
      >>> print(f"{2 * problem.objective(problem.init):.1f}")
      273.2
    """
    _check(n, 2)
    return Problem(_BROWN_ALMOST_LINEAR, jnp.full(n, 0.5), (), jnp.ones(n), (0.0, 0.5))


def chebyquad(n: int = 8, m: int | None = None) -> Problem:
    """Quadrature of equal weights: `rᵢ = (1/n) Σⱼ Tᵢ(xⱼ) - ∫ Tᵢ`, Chebyshev's polynomials on [0, 1].

    Args:
      n: number of variables, the nodes.
      m: number of residuals, m ≥ n; n if not given.

    Returns:
      A `Problem` from `xⱼ = j / (n + 1)`; for m = n the minimum `Σ r²` is 0 where such a rule
      exists (n < 8 and n = 9), 3.51687…e-3 for n = 8 and 6.50395…e-3, with a local one of
      4.77271…e-3, for n = 10. The nodes can be exchanged, so `optimum` is None.

    Raises:
      ValueError: if not 1 ≤ n ≤ m.

    Source:
      Moré, Garbow and Hillstrom 1981, problem 35.

    Example:
      >>> problem = chebyquad()
      >>> print(f"{2 * problem.objective(problem.init, *problem.data):.5f}")
      0.03862
    """
    m = n if m is None else m
    if not 1 <= n <= m:
        raise ValueError(f"n, m: expected 1 <= n <= m, got n = {n}, m = {m}")
    i = np.arange(1, m + 1)
    integrals = np.where(i % 2 == 0, -1.0 / np.where(i % 2 == 0, i**2 - 1.0, 1.0), 0.0)
    minima = _MINIMA["chebyquad"].get(n, ()) if m == n else ()
    start = jnp.arange(1.0, n + 1.0) / (n + 1.0)
    return Problem(_CHEBYQUAD, start, (jnp.asarray(integrals),), None, minima)


def _check(n: int, least: int) -> None:
    if n < least:
        raise ValueError(f"n: expected a number >= {least}, got {n}")


def _watson(
    x: Float[Array, " n"], values: Float[Array, "29 n"], slopes: Float[Array, "29 n"]
) -> Float[Array, "31"]:
    inside = slopes @ x - (values @ x) ** 2 - 1.0
    return jnp.concatenate([inside, jnp.stack([x[0], x[1] - x[0] ** 2 - 1.0])])


def _penalty_1(x: Float[Array, " n"]) -> Float[Array, " m"]:
    return jnp.append(math.sqrt(1e-5) * (x - 1.0), jnp.sum(x**2) - 0.25)


def _penalty_2(x: Float[Array, " n"]) -> Float[Array, " m"]:
    n = x.size
    e, i = jnp.exp(x / 10.0), jnp.arange(2, n + 1, dtype=x.dtype)
    y = jnp.exp(i / 10.0) + jnp.exp((i - 1.0) / 10.0)
    weights = jnp.arange(n, 0, -1, dtype=x.dtype)
    pairs = math.sqrt(1e-5) * (e[1:] + e[:-1] - y)
    singles = math.sqrt(1e-5) * (e[1:] - math.exp(-0.1))
    return jnp.concatenate([x[:1] - 0.2, pairs, singles, jnp.sum(weights * x**2, keepdims=True) - 1.0])


def _variably_dimensioned(x: Float[Array, " n"]) -> Float[Array, " m"]:
    s = jnp.sum(jnp.arange(1, x.size + 1, dtype=x.dtype) * (x - 1.0))
    return jnp.concatenate([x - 1.0, jnp.stack([s, s**2])])


def _trigonometric(x: Float[Array, " n"]) -> Float[Array, " n"]:
    i = jnp.arange(1, x.size + 1, dtype=x.dtype)
    return x.size - jnp.sum(jnp.cos(x)) + i * (1.0 - jnp.cos(x)) - jnp.sin(x)


def _brown_almost_linear(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.append(x[:-1] + jnp.sum(x) - (x.size + 1.0), jnp.prod(x) - 1.0)


def _chebyquad(x: Float[Array, " n"], integrals: Float[Array, " m"]) -> Float[Array, " m"]:
    # By the recurrence, because cos(i arccos) ends at the interval, and iterates do not.
    before, now = jnp.ones_like(x), 2.0 * x - 1.0
    rows = []
    for _ in range(integrals.size):
        rows.append(now)
        before, now = now, 2.0 * (2.0 * x - 1.0) * now - before
    return jnp.mean(jnp.stack(rows), axis=1) - integrals


_WATSON = LeastSquares(_watson)
_PENALTY_1 = LeastSquares(_penalty_1)
_PENALTY_2 = LeastSquares(_penalty_2)
_VARIABLY_DIMENSIONED = LeastSquares(_variably_dimensioned)
_TRIGONOMETRIC = LeastSquares(_trigonometric)
_BROWN_ALMOST_LINEAR = LeastSquares(_brown_almost_linear)
_CHEBYQUAD = LeastSquares(_chebyquad)
