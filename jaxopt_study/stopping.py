"""When to end: one test a tolerance, with SciPy's and MINPACK's names.

Each test takes numbers that were measured elsewhere and returns a bool; how an iteration uses
them is in `solvers`. A tolerance of None is absent from the compiled program; 0 switches a test
off at run time.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Bool, Float


class Tolerances(NamedTuple):
    """What an iteration is measured against; None for tests that are not made.

    Attributes:
      ftol: on the relative reduction of the value.
      xtol: on the relative length of the step.
      gtol: on the gradient.
      target: a value that is good enough.
    """

    ftol: Any = None
    xtol: Any = None
    gtol: Any = None
    target: Any = None


def default_tolerances(dtype: Any) -> Tolerances:
    """What `None` means for methods that accept and refuse their own steps.

    | dtype   | `ftol = ε^0.9` | `xtol = ε^⅝` | `gtol = ε^⅝` |
    |---------|----------------|--------------|--------------|
    | float64 | 8e-15          | 2e-10        | 2e-10        |
    | float32 | 6e-7           | 5e-5         | 5e-5         |

    Tight enough that a converged fit has six digits or more, and loose enough to be reached in the
    presence of rounding errors.

    >>> f"{default_tolerances('float64').ftol:.0e}"
    '8e-15'
    """
    eps = float(jnp.finfo(dtype).eps)
    return Tolerances(ftol=eps**0.9, xtol=eps**0.625, gtol=eps**0.625)


def value_test(
    actual: Float[Array, ""],
    predicted: Float[Array, ""],
    value: Float[Array, ""],
    ftol: Any,
    alone: Float[Array, ""] | float = 0.0,
) -> Bool[Array, ""]:
    """Whether neither the actual nor the predicted reduction exceeds `ftol |value|`.

    As in `step_test`: a step that damping has made short lowers the value by little, and says nothing.
    The reduction that is promised to one parameter `alone`, undamped, must not be 1000 times as much.

    Source: Moré, Garbow and Hillstrom, User guide for MINPACK-1, 1980, test 1 of LMDER.
    """
    small = ftol * jnp.abs(value)
    return (ftol > 0) & (jnp.abs(actual) <= small) & (jnp.abs(predicted) <= small) & (alone <= 1e3 * small)


def step_test(
    step_norm: Float[Array, ""],
    params_norm: Float[Array, ""],
    xtol: Any,
    alone: Float[Array, ""] | float = 0.0,
) -> Bool[Array, ""]:
    """Whether the step is not longer than `xtol ‖params‖`, in the norm of the method.

    A step that damping has made short says nothing: the one that every parameter would take `alone`,
    undamped, must not be longer than 1000 times as much.

    Source: Moré, Garbow and Hillstrom 1980, test 2 of LMDER; there of the trust region's radius.
    """
    short = (step_norm <= xtol * params_norm) & (alone <= 1e3 * xtol * params_norm)
    return (xtol > 0) & short & jnp.isfinite(params_norm)


def gradient_test(measure: Float[Array, ""], gtol: Any) -> Bool[Array, ""]:
    """Whether the gradient is zero to `gtol`.

    `measure` is, for Gauss-Newton and Levenberg-Marquardt, the largest cosine between the residuals
    and a column of the Jacobian (MINPACK's test 4); for Newton its like, see `newton`; these do not
    change with the units of the objective. For all others it is Dennis and Schnabel's relative
    gradient, `max |gᵢ| max(|θᵢ|, 1) / max(|f|, 1)`, which takes an objective of size 1 for granted.
    """
    return (gtol > 0) & (measure <= gtol)
