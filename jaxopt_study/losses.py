"""Robust losses ρ(z) of a squared residual z, under SciPy's names and with SciPy's meaning.

Each is one formula; its derivatives are JAX's. All have ρ(0) = 0 and ρ'(0) = 1, so that small
residuals count as in least squares. How residuals are weighted with them is in `objectives`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.pytree import shown
from jaxopt_study.types import Float, LossName

Loss = str | Callable[[Array], Array]  # of the names in LossName


class Rho(NamedTuple):
    """ρ, ρ' and ρ'' at each z."""

    value: Float[Array, "..."]
    slope: Float[Array, "..."]
    curvature: Float[Array, "..."]


def huber(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`z` up to 1, `2√z - 1` beyond: the absolute value of a large residual."""
    return jnp.where(z <= 1, z, 2 * jnp.sqrt(jnp.where(z <= 1, 1.0, z)) - 1)


def soft_l1(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`2 (√(1 + z) - 1)`: as `huber`, smoothly. Written without cancellation for small z."""
    return 2 * z / (jnp.sqrt(1 + z) + 1)


def cauchy(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`ln(1 + z)`: the likelihood of a Cauchy distribution."""
    return jnp.log1p(z)


def arctan(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`arctan z`: no residual costs more than π/2."""
    return jnp.arctan(z)


def tukey(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`(1 - (1 - z)³) / 3` up to 1, 1/3 beyond: a large residual has no influence (the biweight)."""
    inside = jnp.where(z <= 1, z, 1.0)
    return inside * (1 - inside + inside**2 / 3)


_NAMED: dict[str, Callable[[Array], Array]] = {
    "huber": huber,
    "soft_l1": soft_l1,
    "cauchy": cauchy,
    "arctan": arctan,
    "tukey": tukey,
}


def check_loss(loss: Any, scale: Any = 1.0) -> None:
    """Check a loss and its scale; a scale that is traced is not checked.

    Raises:
      TypeError: if the scale is no number.
      ValueError: if the loss is neither a name that this file knows nor an elementwise function, or the
        scale no positive number.
    """
    if not callable(loss) and not (isinstance(loss, str) and loss in get_args(LossName)):
        expected = f"one of {get_args(LossName)} or a function of z"
        raise ValueError(f"loss: expected {expected}, got {shown(loss)}")
    if callable(loss):
        z = jax.ShapeDtypeStruct((5,), jnp.result_type(float))
        out = jax.eval_shape(loss, z)
        if jax.tree.map(jnp.shape, out) != z.shape:
            raise ValueError(
                "loss: expected an elementwise function, which returns ρ(z) in the shape of z and nothing "
                f"else; from z of shape {z.shape} it made {jax.tree.map(jnp.shape, out)}"
            )
    if isinstance(scale, jax.core.Tracer):
        return
    if not isinstance(scale, float | int | np.number | np.ndarray | jax.Array) or np.iscomplexobj(scale):
        raise TypeError(f"loss_scale: expected a number > 0, got {shown(scale)}")
    if not (np.ndim(scale) == 0 and scale > 0):
        raise ValueError(f"loss_scale: expected a number > 0, got {shown(scale)}")


def rho(loss: Loss, z: Float[Array, "..."]) -> Float[Array, "..."]:
    """ρ(z), elementwise; z itself for `"linear"`.

    >>> print(rho("huber", jnp.array([0.25, 4.0])))
    [0.25 3.  ]
    """
    if loss == "linear":
        return z
    return _NAMED[loss](z) if isinstance(loss, str) else loss(z)


def rho_with_derivatives(loss: Loss, z: Float[Array, "..."]) -> Rho:
    """ρ, ρ' and ρ'' by two nested forward derivatives.

    >>> print(rho_with_derivatives("cauchy", jnp.array(1.0)).slope)
    0.5
    """
    one = jnp.ones_like(z)

    def first(z: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda z: rho(loss, z), (z,), (one,))

    (value, slope), (_, curvature) = jax.jvp(first, (z,), (one,))
    return Rho(value, slope, curvature)
