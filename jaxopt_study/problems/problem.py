"""What a problem consists of."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxopt_study.objectives import LeastSquares


class Problem(NamedTuple):
    """An objective, where to start, its data, and where it is lowest.

    The objective is the same function object for every problem of a kind, so that solving the
    second one compiles nothing.

    Attributes:
      objective: `objective(params, *data)`, a scalar, or a `LeastSquares`.
      init: parameters to start from.
      data: further arguments of the objective, a tuple.
      optimum: the parameters at the minimum; None where they are not known, or not unique.
      minima: values of the *objective* at its known local minima, some of them at infinity, in no
        order. For a `LeastSquares` that is `½ Σ r²`: half of what the literature prints, `Σ r²`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxopt_study as jos
      >>> from jaxopt_study.problems import rosenbrock
      >>> problem = rosenbrock.least_squares()
      >>> result = jos.least_squares(problem.objective, problem.init, problem.data)
      >>> print(jnp.round(result.params, 3), problem.optimum)
      [1. 1.] [1. 1.]
    """

    objective: LeastSquares | Callable[..., Any]
    init: Any
    data: tuple
    optimum: Any
    minima: tuple[float, ...] = ()
