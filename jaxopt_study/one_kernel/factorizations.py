"""Factorizations of small matrices as loops, in the place of calls of LAPACK.

Each does what the primitive of its name does, for one matrix of real numbers: the same factors, signs and
permutations, to rounding.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Float, Int


def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower factor, column by column; NaN if there is none.

    >>> print(cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])))
    [[2. 0.]
     [1. 2.]]
    """
    places = jnp.arange(matrix.shape[0])

    def column(j: Array, factor: Array) -> Array:
        rest = matrix[:, j] - jnp.sum(factor * factor[j][None, :], axis=1)
        root = jnp.sqrt(jnp.where(rest[j] > 0, rest[j], jnp.nan))
        below = jnp.where(places == j, root, rest / root)
        here = (places >= j)[:, None] & (places == j)[None, :]
        return jnp.where(here, below[:, None], factor)

    return jax.lax.fori_loop(0, places.size, column, jnp.zeros_like(matrix))


def triangular_solve(
    matrix: Float[Array, "n n"], target: Float[Array, "n k"], *, lower: bool, unit_diagonal: bool
) -> Float[Array, "n k"]:
    """The solution of `matrix @ x = target`, row by row; the other triangle is not read.

    >>> matrix = jnp.array([[2.0, jnp.nan], [1.0, 4.0]])
    >>> print(triangular_solve(matrix, jnp.array([[2.0], [9.0]]), lower=True, unit_diagonal=False))
    [[1.]
     [2.]]
    """
    size = matrix.shape[0]
    places = jnp.arange(size)

    def row(step: Array, x: Array) -> Array:
        i = step if lower else size - 1 - step
        known = places < i if lower else places > i
        rest = target[i] - jnp.sum(jnp.where(known, matrix[i], 0.0)[:, None] * x, axis=0)
        solved = rest if unit_diagonal else rest / matrix[i, i]
        return jnp.where((places == i)[:, None], solved[None, :], x)

    return jax.lax.fori_loop(0, size, row, jnp.zeros_like(target))


def qr(
    matrix: Float[Array, "m n"], *, full_matrices: bool
) -> tuple[Float[Array, "m k"], Float[Array, "k n"]]:
    """Q and R by Householder's reflections, with LAPACK's signs.

    >>> q, r = qr(jnp.array([[3.0, 1.0], [4.0, 2.0]]), full_matrices=False)
    >>> print((q @ r).round(4))
    [[3. 1.]
     [4. 2.]]
    """
    rows, columns = matrix.shape
    count = min(rows, columns)
    places = jnp.arange(rows)

    def factor(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        system, axes = state
        column = jnp.where(places >= j, system[:, j], 0.0)
        unit = jnp.max(jnp.abs(column))
        column = column / jnp.where(unit > 0, unit, 1.0)
        length = jnp.sqrt(jnp.sum(column**2))
        axis = column + jnp.where(places == j, jnp.where(column[j] >= 0, length, -length), 0.0)
        # A column with nothing below its diagonal stays as it is, sign and all.
        below = jnp.any(jnp.where(places > j, column, 0.0) != 0)
        axis = jnp.where(below, axis / jnp.sqrt(jnp.where(below, 0.5 * jnp.sum(axis**2), 1.0)), 0.0)
        return _reflect(axis, system), jnp.where((jnp.arange(count) == j)[None, :], axis[:, None], axes)

    def accumulate(step: Array, q: Array) -> Array:
        return _reflect(axes[:, count - 1 - step], q)

    nothing = jnp.zeros((rows, count), matrix.dtype)
    system, axes = jax.lax.fori_loop(0, count, factor, (matrix, nothing))
    kept = rows if full_matrices else count
    q = jax.lax.fori_loop(0, count, accumulate, jnp.eye(rows, kept, dtype=matrix.dtype))
    return q, jnp.triu(system[:kept])


def _reflect(axis: Float[Array, " m"], system: Float[Array, "m n"]) -> Float[Array, "m n"]:
    return system - axis[:, None] * jnp.sum(axis[:, None] * system, axis=0)[None, :]


def lu(matrix: Float[Array, "m n"]) -> tuple[Float[Array, "m n"], Int[Array, " k"], Int[Array, " m"]]:
    """Both factors in one matrix, the exchanges of rows, and the permutation they amount to.

    >>> factors, pivots, permutation = lu(jnp.array([[1.0, 2.0], [2.0, 2.0]]))
    >>> print(factors.tolist(), pivots, permutation)
    [[2.0, 2.0], [0.5, 1.0]] [1 1] [1 0]
    """
    rows, columns = matrix.shape
    places = jnp.arange(rows)
    count = min(rows, columns)

    def eliminate(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        system, pivots, permutation = state
        size = jnp.where(places >= k, jnp.abs(system[:, k]), -1.0)
        pivot = jnp.argmax(jnp.where(jnp.isnan(size), jnp.inf, size)).astype(jnp.int32)
        swapped = jnp.where(places == k, pivot, jnp.where(places == pivot, k, places))
        system, permutation = system[swapped], permutation[swapped]
        top = system[k]
        factor = jnp.where((places > k) & (top[k] != 0), system[:, k] / top[k], 0.0)
        right = jnp.where(jnp.arange(columns) > k, top, 0.0)
        system = system - factor[:, None] * right[None, :]
        here = jnp.arange(columns) == k
        below = (places > k) & (top[k] != 0)
        system = jnp.where(below[:, None] & here[None, :], factor[:, None], system)
        return system, jnp.where(jnp.arange(count) == k, pivot, pivots), permutation

    start = (matrix, jnp.zeros(count, jnp.int32), jnp.arange(rows, dtype=jnp.int32))
    return jax.lax.fori_loop(0, count, eliminate, start)
