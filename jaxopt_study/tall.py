"""JᵀJ and Jᵀr where there are very many residuals of few parameters, and J itself goes through memory.

The passes for all parameters are one loop over blocks of rows, so that what they have in common stays in the
cache from one parameter to the next, and all cores of a CPU take part; the blocks are multiplied as a batch
of small matrices, and then forgotten. A fit of three damped waves at 10⁶ points takes 0.7 times as long as
with one pass a parameter and one long product.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.derivatives import FEW, residual_and_jacobian, shared, shares
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.pytree import ravel, size, traceable
from jaxopt_study.types import Float, JacobianMode, PyTree

LONG = 2**21  # elements of J, 16 MiB; of fewer, J itself costs no more
BLOCK = 500  # rows: a dozen arrays of so many are 48 KiB in float64, what a core has nearest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Passes:
    """The Jacobian of the weighted residuals at a point, made again where somebody needs it or a product."""

    objective: Any
    params: Any
    args: Any

    def matrix(self) -> Float[Array, "params residuals"]:
        """Jᵀ."""
        plain, jacobian_t = residual_and_jacobian(self.objective, self.params, self.args, "forward")
        return self.objective.weighted(jacobian_t, self.objective.weigh(plain)[1])

    def push(self, step: Float[Array, " params"]) -> Float[Array, " residuals"]:
        """J d, one pass."""
        theta, residual = self._function()
        plain, moved = jax.jvp(residual, (theta,), (step,))
        return self.objective.weighted(moved, self.objective.weigh(plain)[1])

    def pull(self, weights: Float[Array, " residuals"]) -> Float[Array, " params"]:
        """Jᵀ w, one pass back."""
        theta, residual = self._function()
        plain, back = jax.vjp(residual, theta)
        return back(self.objective.weighted(weights, self.objective.weigh(plain)[1]))[0]

    def _function(self) -> tuple[Array, Any]:
        theta, unravel = ravel(self.params)
        return theta, lambda t: self.objective.residual(unravel(t), *self.args)


def is_tall(objective: LeastSquares, params: PyTree, args: tuple, mode: JacobianMode) -> bool:
    """Whether J is long enough, thin enough, and of a kind that `tall_products` is for.

    Not in float32, where squares overflow and J has to be looked through before it is multiplied.

    >>> objective = LeastSquares(lambda p, x: p[0] * jnp.exp(p[1] * x) + p[2])
    >>> with jax.enable_x64(True):
    ...     params, x = jnp.zeros(3), jnp.zeros(700_000)
    ...     is_tall(objective, params, (x,), "auto"), is_tall(objective, params, (x[:9],), "auto")
    (True, False)
    """
    if mode not in ("auto", "forward") or objective.sharding is not None or size(params) > FEW:
        return False
    program = jax.make_jaxpr(objective.residual)(params, *args)
    residual = program.out_avals[0]
    long = residual.size * size(params) > LONG and np.finfo(residual.dtype).maxexp >= 1024
    return long and shares(program, size(params))


def tall_products(
    objective: LeastSquares, params: PyTree, args: tuple
) -> tuple[
    Float[Array, " residuals"],
    Float[Array, " residuals"],
    Float[Array, "params params"],
    Float[Array, " params"],
    Passes,
]:
    """The residuals, as they are and weighted by the loss; `JᵀJ` and `Jᵀr` of the weighted ones; and J.

    Args:
      objective: of which `is_tall` holds.
      params, args: see `LeastSquares`.
    """
    theta, unravel = ravel(params)
    plain, push = jax.linearize(lambda t: objective.residual(unravel(t), *args), theta)
    residual, factor = objective.weigh(plain)
    whole = plain.size - plain.size % BLOCK

    def products(push: Any, residual: Array, factor: Array | None) -> tuple[Array, Array]:
        rows = objective.weighted(jax.vmap(push)(jnp.eye(theta.size, dtype=theta.dtype)), factor)
        blocks = rows[:, :whole].reshape(theta.size, -1, BLOCK).transpose(1, 0, 2)
        residuals = residual[:whole].reshape(-1, BLOCK)
        gram = jnp.sum(jnp.einsum("kir,kjr->kij", blocks, blocks), axis=0)
        slope = jnp.sum(jnp.einsum("kir,kr->ki", blocks, residuals), axis=0)
        rest = rows[:, whole:]
        return gram + rest @ rest.T, slope + rest @ residual[whole:]

    gram, slope = shared(theta, products, push, residual, factor)
    return plain, residual, gram, slope, Passes(traceable(objective), params, args)
