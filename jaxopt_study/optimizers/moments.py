"""Decaying means of gradients and of their squares, for the methods that keep them."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_study.types import PyTree


def moving_average(updates: PyTree, moments: PyTree, decay: Any, order: int) -> PyTree:
    """`m ← (1 - decay) gᵒʳᵈᵉʳ + decay m`, for order 1 or 2, elementwise.

    >>> print(moving_average(jnp.array(2.0), jnp.array(1.0), 0.5, 2))
    2.5
    """

    def blend(g: Any, m: Any) -> Any:
        # In the moment's own dtype, which may be narrower than the gradient's or wider.
        d = jnp.asarray(decay, jnp.result_type(g, m))
        return (1 - d) * (g if order == 1 else g * g) + d * m

    return jax.tree.map(blend, updates, moments)


def bias_correction(moments: PyTree, decay: Any, count: Any) -> PyTree:
    """`m / (1 - decayᵗ)`: a decaying mean that began at zero, made unbiased (Kingma and Ba 2015, section 3).

    >>> print(bias_correction(jnp.array(0.5), 0.5, 1))
    1.0
    """
    correction = 1 - decay**count
    return jax.tree.map(lambda m: m / jnp.asarray(correction, m.dtype), moments)
