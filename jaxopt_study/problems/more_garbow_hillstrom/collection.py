"""The collection as tables of functions that make a `Problem`, and its starts."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.problems.more_garbow_hillstrom.any_dimension import (
    brown_almost_linear,
    chebyquad,
    penalty_1,
    penalty_2,
    trigonometric,
    variably_dimensioned,
    watson,
)
from jaxopt_study.problems.more_garbow_hillstrom.equations import (
    broyden_banded,
    broyden_tridiagonal,
    discrete_boundary_value,
    discrete_integral_equation,
)
from jaxopt_study.problems.more_garbow_hillstrom.exponentials import (
    biggs_exp6,
    box_3d,
    brown_dennis,
    gulf,
    jennrich_sampson,
)
from jaxopt_study.problems.more_garbow_hillstrom.fits import (
    bard,
    gaussian,
    kowalik_osborne,
    meyer,
    osborne_1,
    osborne_2,
)
from jaxopt_study.problems.more_garbow_hillstrom.linear import (
    linear_full_rank,
    linear_rank_one,
    linear_rank_one_with_zeros,
)
from jaxopt_study.problems.more_garbow_hillstrom.small_systems import (
    beale,
    brown_badly_scaled,
    freudenstein_roth,
    helical_valley,
    powell_badly_scaled,
    powell_singular,
    rosenbrock,
    wood,
)
from jaxopt_study.problems.problem import Problem

NONLINEAR_LEAST_SQUARES: dict[str, Callable[[], Problem]] = {
    "linear_full_rank": linear_full_rank,
    "linear_rank_one": linear_rank_one,
    "linear_rank_one_with_zeros": linear_rank_one_with_zeros,
    "rosenbrock": rosenbrock,
    "helical_valley": helical_valley,
    "powell_singular": powell_singular,
    "freudenstein_roth": freudenstein_roth,
    "bard": bard,
    "kowalik_osborne": kowalik_osborne,
    "meyer": meyer,
    "watson": watson,
    "box_3d": box_3d,
    "jennrich_sampson": jennrich_sampson,
    "brown_dennis": brown_dennis,
    "chebyquad": chebyquad,
    "brown_almost_linear": brown_almost_linear,
    "osborne_1": osborne_1,
    "osborne_2": osborne_2,
}
"""The paper's 18 for codes for nonlinear least squares, in its order and with its usual sizes."""

OTHERS: dict[str, Callable[[], Problem]] = {
    "powell_badly_scaled": powell_badly_scaled,
    "brown_badly_scaled": brown_badly_scaled,
    "beale": beale,
    "gaussian": gaussian,
    "gulf": gulf,
    "wood": wood,
    "biggs_exp6": biggs_exp6,
    "extended_rosenbrock": functools.partial(rosenbrock, 10),
    "extended_powell_singular": functools.partial(powell_singular, 12),
    "penalty_1": penalty_1,
    "penalty_2": penalty_2,
    "variably_dimensioned": variably_dimensioned,
    "trigonometric": trigonometric,
    "discrete_boundary_value": discrete_boundary_value,
    "discrete_integral_equation": discrete_integral_equation,
    "broyden_tridiagonal": broyden_tridiagonal,
    "broyden_banded": broyden_banded,
}
"""The other 17 of the paper's 35, in its order."""


def start(problem: Problem, factor: ArrayLike = 1.0) -> Array:
    """The standard start times a factor, 1, 10 or 100 in the paper.

    Where the standard start is the origin and the factor is not 1, every variable starts at the
    factor, as in MINPACK's test programs: a multiple of the origin would be no other start.

    Args:
      problem: one of this collection.
      factor: a number.

    Returns:
      A start, shape `(n,)`.

    Source:
      Moré, Garbow and Hillstrom 1981; for the origin, `initpt` of MINPACK's tests, 1980.

    Example:
      >>> print(start(rosenbrock(), 10.0), start(watson(2), 10.0), start(watson(2)))
      [-12.  10.] [10. 10.] [0. 0.]
    """
    init = problem.init
    elsewhere = jnp.where(jnp.asarray(factor) == 1, init, jnp.full_like(init, factor))
    return jnp.where(jnp.any(init != 0), factor * init, elsewhere)
