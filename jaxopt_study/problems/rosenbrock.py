"""Rosenbrock's valley: find its lowest point, or find its two constants from measurements of it."""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.models import rosenbrock as model
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def scalar() -> Problem:
    """The classic function of two variables, `(1 - x)² + 100 (y - x²)²`, from (-1.2, 1).

    Returns:
      A `Problem` whose parameters are `[x, y]`, with the minimum 0 at (1, 1).

    Source:
      H. H. Rosenbrock, An automatic method for finding the greatest or least value of a
      function, 1960.

    Example:
      >>> problem = scalar()
      >>> print(f"{problem.objective(problem.init):.3f} {problem.objective(problem.optimum):.3f}")
      24.200 0.000
    """
    return Problem(_value, jnp.array([-1.2, 1.0]), (), jnp.ones(2))


def least_squares() -> Problem:
    """The same as residuals, `[1 - x, 10 (y - x²)]`; `LeastSquares` takes half their sum of squares.

    Returns:
      A `Problem` whose parameters are `[x, y]`, with the minimum 0 at (1, 1).

    Source:
      J. J. Moré, B. S. Garbow and K. E. Hillstrom, Testing unconstrained optimization software,
      1981, problem 1.

    Example:
      >>> problem = least_squares()
      >>> print(f"{problem.objective(problem.init):.3f}")
      12.100
    """
    return Problem(_LEAST_SQUARES, jnp.array([-1.2, 1.0]), (), jnp.ones(2))


def surface_fit(
    a: float | Array = 2.5, b: float | Array = 2.5, start: tuple[float | Array, float | Array] = (5.0, 5.0)
) -> Problem:
    """Find a and b of `z = (a - x)² + b (y - x²)²` from its height at nine points.

    The points are x, y in {-2, 0, 2}. Residuals are scaled by √(2/9), so that the objective is
    the mean of their squares.

    Args:
      a, b: what the heights are made with.
      start: where to start, (a, b).

    Returns:
      A `Problem` whose parameters are `{"a", "b"}`, with the minimum 0 at the `a` and `b` given.

    Example:
      >>> problem = surface_fit()
      >>> print(f"{problem.objective(problem.init, *problem.data):.3f}")
      3868.229
    """
    x, y = (grid.ravel() for grid in jnp.meshgrid(*[jnp.array([-2.0, 0.0, 2.0])] * 2, indexing="ij"))
    optimum = model.init(a, b)
    return Problem(_SURFACE, model.init(*start), (x, y, model.apply(optimum, x, y)), optimum)


def _residual(params: Float[Array, "2"]) -> Float[Array, "2"]:
    x, y = params
    return jnp.stack([1.0 - x, 10.0 * (y - x**2)])


def _value(params: Float[Array, "2"]) -> Float[Array, ""]:
    x, y = params
    return (1.0 - x) ** 2 + 100.0 * (y - x**2) ** 2


def _surface_residual(
    params: dict[str, Array], x: Float[Array, "9"], y: Float[Array, "9"], z: Float[Array, "9"]
) -> Float[Array, "9"]:
    return (2.0 / 9.0) ** 0.5 * (model.apply(params, x, y) - z)


_LEAST_SQUARES = LeastSquares(_residual)
_SURFACE = LeastSquares(_surface_residual)
