"""Square linear systems `A x = b`, and whether A is singular to working precision.

Least-squares systems, damped or not, are in `linear_solve`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Bool, Float

UNROLLED = 4  # rows: a call of LAPACK costs more than all the arithmetic of so small a system


class Solution(NamedTuple):
    """A solution of a square system.

    Attributes:
      x: shape `(n,)`; of no meaning where A is singular, and not always finite there.
      singular: whether a pivot of A, its rows and columns scaled to 1, is lost in rounding errors.
    """

    x: Float[Array, " n"]
    singular: Bool[Array, ""]


def solve_square(matrix: Float[Array, "n n"], target: Float[Array, " n"]) -> Solution:
    """Solve `A x = b` by elimination with partial pivoting, columns and then rows scaled to 1.

    The scaling makes the answer, and what counts as singular, independent of the units of equations
    and unknowns. Up to four rows are eliminated in plain arithmetic, which `vmap` turns into loops over
    lanes; larger systems go to LAPACK.

    >>> solution = solve_square(jnp.array([[2.0, 0.0], [0.0, 4.0]]), jnp.array([2.0, 4.0]))
    >>> print(solution.x, solution.singular)
    [1. 1.] False
    """
    size = target.size
    columns = _nonzero(jnp.max(jnp.abs(matrix), axis=0))
    scaled = matrix / columns[None, :]
    rows = _nonzero(jnp.max(jnp.abs(scaled), axis=1))
    scaled, right = scaled / rows[:, None], target / rows
    if size <= UNROLLED:
        x, pivots = _eliminate(scaled, right)
    else:
        # Factors apart from b, so that x is linear in it, and differentiated in reverse mode.
        factors, order = jax.scipy.linalg.lu_factor(scaled)
        x = jax.scipy.linalg.lu_solve((factors, order), right)
        pivots = jnp.abs(jnp.diagonal(factors))
    return Solution(x / columns, _is_lost(pivots))


def solve_scaled(transposed: Float[Array, "n n"], target: Float[Array, " n"]) -> Solution:
    """`solve_square` where the columns are of one size already, from Aᵀ: LAPACK wants columns together.

    Faster, and not to be differentiated: b is eliminated beside the matrix, as on paper, and takes neither a
    permutation nor a second substitution.
    """
    size = target.size
    rows = _nonzero(jnp.max(jnp.abs(transposed), axis=0))
    scaled, right = transposed / rows[None, :], target / rows
    if size <= UNROLLED:
        x, pivots = _eliminate(scaled.T, right)
    else:
        factors, _, _ = jax.lax.linalg.lu(jnp.concatenate([scaled, right[None, :]]).T)
        x = jax.scipy.linalg.solve_triangular(factors[:, :size], factors[:, size])
        pivots = jnp.abs(jnp.diagonal(factors))
    return Solution(x, _is_lost(pivots))


def _is_lost(pivots: Float[Array, " n"]) -> Bool[Array, ""]:
    lost = pivots.size * jnp.finfo(pivots.dtype).eps * jnp.max(pivots, initial=0.0)
    # Not `pivot <= lost`: a pivot may be NaN.
    return ~jnp.all(pivots > lost)


def _nonzero(scale: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.where(scale > 0, scale, 1.0)


def _eliminate(
    matrix: Float[Array, "n n"], target: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """x, and the sizes of the pivots."""
    n = target.size
    rows = [[*(matrix[i, j] for j in range(n)), target[i]] for i in range(n)]
    for k in range(n):
        for i in range(k + 1, n):
            swap = jnp.abs(rows[i][k]) > jnp.abs(rows[k][k])
            upper = [jnp.where(swap, low, up) for up, low in zip(rows[k], rows[i], strict=True)]
            rows[i] = [jnp.where(swap, up, low) for up, low in zip(rows[k], rows[i], strict=True)]
            rows[k] = upper
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [low - factor * up for up, low in zip(rows[k], rows[i], strict=True)]
    x: list[Array] = [rows[i][n] for i in range(n)]
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            x[i] = x[i] - rows[i][j] * x[j]
        x[i] = x[i] / rows[i][i]
    return jnp.stack(x), jnp.abs(jnp.stack([rows[i][i] for i in range(n)]))
