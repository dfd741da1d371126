"""Decaying means of gradients and of their squares, for the methods that keep them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_study.one_kernel import decaying_power
from jaxopt_study.optimizers.transform import number
from jaxopt_study.types import PyTree


class Decay(NamedTuple):
    """A rate of decay and its complement, both leaves of an optimizer.

    The complement of 0.9999 taken in float32 has three digits, in bfloat16 none: it is taken before
    the numbers are rounded to the dtype of the parameters.
    """

    rate: ArrayLike
    complement: ArrayLike


def decay(name: str, rate: ArrayLike) -> Decay:
    """The `Decay` of a rate; `name` is what the rate is called where it is wrong.

    >>> decay("b1", 0.75)
    Decay(rate=0.75, complement=0.25)
    """
    rate = number(name, rate)
    return Decay(rate, 1 - rate)


def moving_average(updates: PyTree, moments: PyTree, decay: Decay, order: int) -> PyTree:
    """`m ← (1 - decay) gᵒʳᵈᵉʳ + decay m`, for order 1 or 2, elementwise.

    >>> print(moving_average(jnp.array(2.0), jnp.array(1.0), decay("b1", 0.5), 2))
    2.5
    """

    def blend(g: Any, m: Any) -> Any:
        # In the wider of both dtypes: a mean that is kept in bfloat16 is multiplied in the gradient's.
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(g, m)
        fresh = jnp.asarray(decay.complement, dtype) * (g if order == 1 else g * g).astype(dtype)
        return fresh + jnp.asarray(decay.rate, dtype) * m.astype(dtype)

    return jax.tree.map(blend, updates, moments)


def bias_correction(moments: PyTree, decay: Decay, count: Any) -> PyTree:
    """`m / (1 - decayᵗ)`: a decaying mean that began at zero, made unbiased (Kingma and Ba 2015, section 3).

    >>> print(bias_correction(jnp.array(0.5), decay("b1", 0.5), 1))
    1.0
    """
    correction = 1 - decaying_power(decay.rate, count)
    return jax.tree.map(lambda m: m / jnp.asarray(correction, m.dtype), moments)
