"""Powers of a rate of decay: of a library in most programs, an exponential inside of one function.

A call of a library is all that a function of machine code cannot do in place, and two of them take two fifths
of a step of Adam on two parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.types import Float, Int

NAME = "jaxopt_study.decaying_power"  # in a jaxpr, where no function of a user has it


def decaying_power(rate: ArrayLike, count: ArrayLike) -> Any:
    """`rateᶜᵒᵘⁿᵗ`, for what decays from one to zero: a power, if the rate is no argument of what is traced.

    >>> print(decaying_power(0.5, 3))
    0.125
    """
    with jax.numpy_dtype_promotion("standard"):  # of a whole number, which stays one in the program
        return _called(rate, count) if isinstance(rate, jax.core.Tracer) else rate**count


def _power(rate: ArrayLike, count: ArrayLike) -> Array:
    return jnp.power(rate, count)


_power.__name__ = NAME
_called = jax.jit(_power)


def is_decaying_power(call: dict[str, Any]) -> bool:
    """Whether a call of a jitted function is one of `decaying_power`.

    Its derivatives have its name too, and other operations.

    Args:
      call: the parameters of the equation.
    """
    if call.get("name") != NAME:
        return False
    jaxpr = call["jaxpr"].jaxpr
    names = [eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name != "convert_element_type"]
    return (len(jaxpr.invars), names, len(jaxpr.outvars)) == (2, ["pow"], 1)


def as_exponential(rate: np.floating, count: Int[Array, ""]) -> Float[Array, ""]:
    """The same as `exp(count log rate)`, for a rate that is known and above zero.

    Its errors are those of a number of size one, and so are those of `1 - rateᶜᵒᵘⁿᵗ`: with 0.999 in float32
    at most 2e-5 of it, at counts of 1 and 2, as with the power itself.

    >>> print(as_exponential(np.float32(0.5), jnp.array(3)))
    0.125
    """
    log = jnp.asarray(np.log(np.float64(rate)), rate.dtype)
    return jnp.exp(log * count)
