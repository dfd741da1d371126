"""Michaelis and Menten's rate of an enzyme's reaction against the concentration of its substrate."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import Float

Params = dict[str, Array]


def init(vmax: float | Array, k: float | Array) -> Params:
    """Parameters from a first guess.

    Args:
      vmax: rate at saturation, in the rate's unit; the largest rate seen is a fair guess.
      k: Michaelis constant, the concentration of half that rate, in the concentration's unit.

    Returns:
      `{"vmax", "k"}`, scalars.

    Example:
      >>> print(sorted(init(200.0, 0.1)))
      ['k', 'vmax']
    """
    dtype = jnp.result_type(float)
    return {"vmax": jnp.asarray(vmax, dtype), "k": jnp.asarray(k, dtype)}


def apply(params: Any, concentration: Float[Array | np.ndarray, "..."]) -> Float[Array | np.ndarray, "..."]:
    """`v = vmax x / (k + x)`.

    Args:
      params: `{"vmax", "k"}`, from `init`.
      concentration: x, of any shape.

    Returns:
      Rates v, of the shape of `concentration`.

    Source:
      L. Michaelis and M. L. Menten, Die Kinetik der Invertinwirkung, 1913.

    Example:
      >>> print(apply(init(200.0, 0.1), jnp.array([0.0, 0.1, 0.3])))
      [  0. 100. 150.]
    """
    return params["vmax"] * concentration / (params["k"] + concentration)
