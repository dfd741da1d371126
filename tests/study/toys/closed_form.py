"""A one-shot study: the bottom of a bowl, known beforehand."""

from typing import Literal

import jax.numpy as jnp

from jaxopt_study import study
from jaxopt_study.result import Status


@study.config
class Config:
    """A bottom."""

    height: float = 1.5
    seed: int = 0
    dtype: Literal["float32", "float64"] = study.static("float32")


def run(config, key):
    return study.Outcome(jnp.asarray(Status.GRADIENT_CONVERGED), jnp.asarray(0), jnp.asarray(config.height))
