"""JᵀJ and Jᵀr where there are very many residuals of few parameters, without J.

On a CPU, where 10⁶ × 10 numbers go through memory, and the two cores of a small machine are to work together.
What the passes for all parameters have in common (sines, exponentials) is computed once and kept; the passes
themselves are one loop over rows in blocks, so that what they have in common stays in the cache from one
parameter to the next; and blocks are multiplied as a batch of small matrices. Half the time of one pass a
parameter and one long product, for 9 parameters in a sum of damped waves.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.derivatives import IN_CACHE, residual_and_jacobian
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.pytree import ravel, size
from jaxopt_study.types import Float, JacobianMode, PyTree

FEW = 16  # parameters: what is on the way in a pass is there for all of them at once
LIGHT = (
    64  # numbers that a row keeps for its passes: of heavier ones all passes at once would fill the memory
)
BLOCK = 500  # rows: a dozen arrays of so many are 48 KiB in float64, what a core has nearest


def is_tall(objective: LeastSquares, params: PyTree, args: tuple, mode: JacobianMode) -> bool:
    """Whether J is long enough, thin enough, and of a kind that `tall_products` is for.

    Not in float32, where squares overflow and J has to be looked through before it is multiplied.

    >>> objective = LeastSquares(lambda p, x: p[0] * jnp.exp(p[1] * x))
    >>> with jax.enable_x64(True):
    ...     params, x = jnp.zeros(2), jnp.zeros(200_000)
    ...     is_tall(objective, params, (x,), "auto"), is_tall(objective, params, (x[:9],), "auto")
    (True, False)
    """
    if mode not in ("auto", "forward") or objective.sharding is not None or size(params) > FEW:
        return False
    residual = jax.eval_shape(objective.residual, params, *args)
    return residual.size * size(params) > IN_CACHE and np.finfo(residual.dtype).maxexp >= 1024


def tall_products(
    objective: LeastSquares, params: PyTree, args: tuple
) -> tuple[
    Float[Array, " residuals"],
    Float[Array, " residuals"],
    Float[Array, "params params"],
    Float[Array, " params"],
]:
    """The residuals, as they are and weighted by the loss, and `JᵀJ` and `Jᵀr` of the weighted ones.

    Args:
      objective: of which `is_tall` holds.
      params, args: see `LeastSquares`.
    """
    theta, unravel = ravel(params)
    plain, push = jax.linearize(lambda t: objective.residual(unravel(t), *args), theta)
    residual, factor = objective.weigh(plain)
    whole = plain.size - plain.size % BLOCK
    light = sum(np.size(leaf) for leaf in jax.tree.leaves(push)) <= LIGHT * plain.size

    def products(push: Any, residual: Array, factor: Array | None) -> tuple[Array, Array]:
        basis = jnp.eye(theta.size, dtype=theta.dtype)
        rows = jax.vmap(push)(basis) if light else jax.lax.map(push, basis)
        if factor is not None:
            # Not by multiplication alone: the derivative of what does not count may be infinite.
            rows = jnp.where(factor[None, :] == 0, 0.0, rows * factor[None, :])
        blocks = rows[:, :whole].reshape(theta.size, -1, BLOCK).transpose(1, 0, 2)
        residuals = residual[:whole].reshape(-1, BLOCK)
        gram = jnp.sum(jnp.einsum("kir,kjr->kij", blocks, blocks), axis=0)
        slope = jnp.sum(jnp.einsum("kir,kr->ki", blocks, residuals), axis=0)
        rest = rows[:, whole:]
        return gram + rest @ rest.T, slope + rest @ residual[whole:]

    def lost(push: Any, residual: Array, factor: Array | None) -> tuple[Array, Array]:
        del push, residual, factor
        return jnp.full((theta.size, theta.size), jnp.nan, theta.dtype), jnp.full_like(theta, jnp.nan)

    # A branch, because what goes into it is computed before. Without it the compiler would take every sine
    # again for every parameter.
    gram, slope = jax.lax.cond(jnp.all(jnp.isfinite(theta)), products, lost, push, residual, factor)
    return plain, residual, gram, slope


def remade(objective: LeastSquares, params: PyTree, args: tuple) -> Float[Array, "params residuals"]:
    """The transposed Jacobian of the weighted residuals, where one is needed after all."""
    plain, jacobian_t = residual_and_jacobian(objective, params, args, "forward")
    _, factor = objective.weigh(plain)
    return (
        jacobian_t if factor is None else jnp.where(factor[None, :] == 0, 0.0, jacobian_t * factor[None, :])
    )
