"""One system of few unknowns, solved directly: a positive definite one, and one of least squares.

Each also says how its solution shortens with damping, `xᵀ(AᵀA)⁻¹x`, and what is left of every column.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.derivatives import THIN
from jaxopt_study.types import Float

HANDFUL = 16  # unknowns: fewer operations to compile than reflections are, written out; one loop over a batch
FEW_ROWS = 2**16  # elements of a matrix of few columns, each of which is a pass over all of it


def cholesky_solve(
    matrix: Float[Array, "params params"], target: Float[Array, " params"]
) -> tuple[Float[Array, " params"], Float[Array, " params"], Float[Array, ""]]:
    """The solution x of a positive definite system `A x = b`; the pivots; and `xᵀA⁻¹x`.

    A pivot is the square of what Cholesky's factor has on its diagonal, NaN from the first that is not
    positive. Up to 8 parameters the factorization is written out, number by number: a call of LAPACK takes
    longer, for one system, and for many under `vmap`.

    Args:
      matrix: of which the lower triangle is used.
      target: the right-hand side.

    >>> print(cholesky_solve(jnp.diag(jnp.array([4.0, 9.0])), jnp.array([8.0, 9.0]))[0])
    [2. 1.]
    """
    if target.size <= THIN:
        return _written_out(matrix, target)
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    solution = jax.scipy.linalg.cho_solve((factor, True), target)
    half = jax.scipy.linalg.solve_triangular(factor, solution, lower=True)
    return solution, jnp.diagonal(factor) ** 2, jnp.vdot(half, half)


def _written_out(
    matrix: Float[Array, "params params"], target: Float[Array, " params"]
) -> tuple[Float[Array, " params"], Float[Array, " params"], Float[Array, ""]]:
    """As LAPACK, number by number, so that under `vmap` every one is a vector of systems."""
    size = target.size
    lower: list[list[Array]] = [[] for _ in range(size)]
    for i in range(size):
        for j in range(i):
            rest = matrix[i, j] - _dot(lower[i][:j], lower[j][:j])
            lower[i].append(rest / lower[j][j])
        square = matrix[i, i] - _dot(lower[i], lower[i])
        # As LAPACK's, a factor that does not exist is NaN and not a division by zero.
        lower[i].append(jnp.sqrt(jnp.where(square > 0, square, jnp.nan)))
    forward = _forward(lower, [target[i] for i in range(size)])
    solution: list[Array] = []
    for i in reversed(range(size)):
        below = [lower[k][i] for k in reversed(range(i + 1, size))]
        solution.append((forward[i] - _dot(below, solution)) / lower[i][i])
    half = _forward(lower, solution[::-1])
    pivots = jnp.stack([lower[i][i] for i in range(size)]) ** 2
    return jnp.stack(solution[::-1]), pivots, jnp.asarray(_dot(half, half))


def _forward(lower: list[list[Array]], target: list[Array]) -> list[Array]:
    solution: list[Array] = []
    for i, row in enumerate(lower):
        solution.append((target[i] - _dot(row[:i], solution)) / row[i])
    return solution


def _dot(left: list[Array], right: list[Array]) -> Array | float:
    return sum((a * b for a, b in zip(left, right, strict=True)), start=0.0)


def orthogonal_solve(
    matrix: Float[Array, "m n"], target: Float[Array, " m"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, ""]]:
    """As `gram_schmidt_solve`, which it is of few columns and not too many rows; else by LAPACK's QR.

    >>> print(orthogonal_solve(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([3.0, 3.0]))[0])
    [1. 1.]
    """
    size = matrix.shape[1]
    if size <= HANDFUL and matrix.size <= FEW_ROWS:
        return gram_schmidt_solve(matrix, target)
    # The triangle of [A b] has Qᵀb as its last column: Q itself is not needed.
    triangle = jnp.linalg.qr(jnp.concatenate([matrix, target[:, None]], axis=1), mode="r")
    r = triangle[:size, :size]
    solution = jax.scipy.linalg.solve_triangular(r, triangle[:size, size])
    half = jax.scipy.linalg.solve_triangular(r, solution, trans="T")
    return solution, jnp.diagonal(r) ** 2, jnp.vdot(half, half)


def gram_schmidt_solve(
    matrix: Float[Array, "m n"], target: Float[Array, " m"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, ""]]:
    """The x for which `‖A x - b‖` is least; `rᵢᵢ²` of QR's triangle; and `xᵀ(AᵀA)⁻¹x`.

    Modified Gram-Schmidt on the columns of [A b], none of which is normalized, and a triangle with ones on
    its diagonal to solve. As accurate as Householder's reflections: b is made orthogonal with the columns,
    and not by an inaccurate Q (Björck). (To carry the identity along, and find x below b, would save the
    triangle, and lose the square of the condition number where columns are nearly parallel in two pairs.)
    Under `vmap` it is one loop over all systems.

    Args:
      matrix: A, of columns of a size near 1; x is not finite where one of them is zero.
      target: b.

    Source: Å. Björck, Solving linear least squares problems by Gram-Schmidt orthogonalization, 1967.

    >>> x, squares, _ = gram_schmidt_solve(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([3.0, 3.0]))
    >>> print(x, squares)
    [1. 1.] [4. 9.]
    """
    rows, size = matrix.shape
    # Row k is column k of [A b], then how much of the columns before was subtracted from it.
    columns = jnp.concatenate([matrix.T, target[None, :]])
    columns = jnp.concatenate([columns, jnp.zeros((size + 1, size), matrix.dtype)], axis=1)
    ranks, places = jnp.arange(size + 1), jnp.arange(rows + size)

    def subtract(j: Array, columns: Array) -> Array:
        column = jnp.where(places < rows, columns[j], 0.0)
        parts = jnp.sum(columns * column[None, :], axis=1) / jnp.sum(column**2)
        parts = jnp.where(ranks > j, parts, 0.0)
        return columns - parts[:, None] * jnp.where(places == rows + j, -1.0, column)[None, :]

    columns = jax.lax.fori_loop(0, size, subtract, columns)
    squares = jnp.sum(columns[:size, :rows] ** 2, axis=1)
    parts = columns[:, rows:]

    def back(step: Array, x: Array) -> Array:
        k = size - 1 - step
        return x - x[k] * parts[k]

    def forth(k: Array, half: Array) -> Array:
        return half - jnp.where(ranks[:size] == k, jnp.sum(parts[k] * half), 0.0)

    solution = jax.lax.fori_loop(0, size, back, parts[size])
    half = jax.lax.fori_loop(0, size, forth, solution)
    return solution, squares, jnp.sum((half / jnp.sqrt(squares)) ** 2)
