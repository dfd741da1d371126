"""A bowl, `½ (x - c)ᵀ A (x - c)`, as narrow as wanted: the simplest problem with a condition number."""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def bowl(dimension: int = 2, condition_number: float | Array = 10.0) -> Problem:
    """A convex quadratic whose curvatures are spread evenly, on a log scale, from 1/κ to 1.

    The axes of the bowl are turned away from the coordinates', so that methods that scale every
    coordinate by itself (Adam for one) get no help from that.

    Args:
      dimension: number of variables, >= 1.
      condition_number: κ, the ratio of the largest curvature to the smallest, >= 1; not used
        where there is one variable.

    Returns:
      A `Problem` from zero, with the minimum 0 at (1, 2, 3, …).

    Raises:
      ValueError: if `dimension` is less than 1.

    Example:
      >>> import jaxopt_study as jos
      >>> problem = bowl(3, condition_number=100.0)
      >>> result = jos.minimize(problem.objective, problem.init, jos.newton(), problem.data)
      >>> print([round(float(x), 3) for x in result.params], bool(result.converged))
      [1.0, 2.0, 3.0] True
    """
    if dimension < 1:
        raise ValueError(f"dimension: expected a number >= 1, got {dimension}")
    curvature = (1.0 / condition_number) ** jnp.linspace(0.0, 1.0, dimension)
    # A Householder reflection turns (1, 1, …)/√n onto the first axis.
    normal = jnp.ones(dimension) / dimension**0.5
    normal = normal - jnp.eye(dimension)[0]
    square = jnp.vdot(normal, normal)
    outer = normal[:, None] * normal[None, :]
    axes = jnp.eye(dimension) - 2.0 * outer / jnp.where(square > 0, square, 1.0)
    hessian = (axes * curvature[None, :]) @ axes.T
    optimum = jnp.arange(1.0, dimension + 1.0)
    return Problem(_value, jnp.zeros(dimension), (hessian, optimum), optimum)


def _value(
    params: Float[Array, " n"], hessian: Float[Array, "n n"], center: Float[Array, " n"]
) -> Float[Array, ""]:
    off = params - center
    return 0.5 * jnp.vdot(off, hessian @ off)
