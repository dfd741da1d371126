"""The linear systems of one update: `(ĴᵀĴ + λI) e = -Ĵᵀr`, damped or not, in scaled columns.

Normal equations with Cholesky are 10 times cheaper than a QR and, in scaled columns, good enough
unless the damping is near rounding; there the stacked system `[Ĵ; √λ I] e ≈ [-r; 0]` is solved by
QR, and without damping the minimum-norm solution is taken by SVD. Which was used is reported.
"""

from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.linearize import Linearization
from jaxopt_study.types import Bool, Float, LinearSolver


def check_solver(solver: str) -> None:
    """Raise a `ValueError` unless `solver` is one that this file knows."""
    if solver not in get_args(LinearSolver):
        raise ValueError(f"solver: expected one of {get_args(LinearSolver)}, got {solver!r}")


class Direction(NamedTuple):
    """A solution of the linear system.

    Attributes:
      step: e, shape `(params,)`, in scaled variables.
      rank_deficient: whether ĴᵀĴ is singular to working precision: the squared distance of a column
        from the span of the others, or a squared singular value, is lost in rounding errors.
      orthogonal: whether an orthogonal factorization (QR or SVD) was used, not Cholesky.
    """

    step: Float[Array, " params"]
    rank_deficient: Bool[Array, ""]
    orthogonal: Bool[Array, ""]


def damped_solver(
    linearization: Linearization, solver: LinearSolver
) -> Callable[[Float[Array, ""]], Direction]:
    """Factor what is common to all dampings once; the function returned solves for one λ > 0.

    Args:
      linearization: in scaled columns.
      solver: `"cholesky"`: of ĴᵀĴ + λI; when that fails the step is NaN (a rejected trial).
        `"qr"`: of [Ĵ; √λ I]. `"auto"`: Cholesky, and QR where its pivots are lost in rounding.

    Raises:
      ValueError: if `solver` is unknown.
    """
    check_solver(solver)
    if solver == "qr":
        return lambda damping: _stacked_qr(linearization, damping)
    gram = _gram(linearization)

    def solve(damping: Float[Array, ""]) -> Direction:
        direction = _cholesky(gram, linearization.gradient, damping)
        if solver == "cholesky":
            return direction
        return jax.lax.cond(
            jnp.all(jnp.isfinite(direction.step)) | ~jnp.all(jnp.isfinite(linearization.gradient)),
            lambda: direction,
            lambda: _stacked_qr(linearization, damping),
        )

    return solve


def undamped(linearization: Linearization, solver: LinearSolver) -> Direction:
    """The Gauss-Newton direction: the least-squares solution of `Ĵ e ≈ -r`, of minimum norm ‖e‖.

    Args:
      linearization: in scaled columns.
      solver: `"cholesky"`: never checks the rank beyond the pivots; `"qr"`: QR, then SVD of the
        triangle; `"auto"`: Cholesky if its pivots say that Ĵ has full rank, else as `"qr"`.

    Raises:
      ValueError: if `solver` is unknown.
    """
    check_solver(solver)
    if solver == "qr":
        return _minimum_norm(linearization)
    gram = _gram(linearization)
    direction = _cholesky(gram, linearization.gradient, jnp.zeros((), gram.dtype))
    if solver == "cholesky":
        return direction
    return jax.lax.cond(direction.rank_deficient, lambda: _minimum_norm(linearization), lambda: direction)


def _gram(linearization: Linearization) -> Float[Array, "params params"]:
    if linearization.gram is None:
        raise ValueError("linearization: was made with gram=False, which only solver='qr' can use")
    return linearization.gram


def _cholesky(
    gram: Float[Array, "params params"], gradient: Float[Array, " params"], damping: Float[Array, ""]
) -> Direction:
    size = gram.shape[0]
    damped = gram + damping * jnp.eye(size, dtype=gram.dtype)
    # A diagonal scaling changes neither the rounding errors of Cholesky nor its pivots' meaning
    # (Higham 2002, theorem 10.6), so unit columns are all the equilibration that is needed.
    factor = jax.lax.linalg.cholesky(damped, symmetrize_input=False)
    step = -jax.scipy.linalg.cho_solve((factor, True), gradient)
    # A pivot is the squared distance of a column from the span of those before it. The last
    # digits of 1 + λ are what it is computed in.
    pivots = jnp.diagonal(factor) ** 2 - damping
    return Direction(step, ~jnp.all(pivots > _lost(gram) * (1 + damping)), jnp.zeros((), bool))


def _lost(matrix: Float[Array, "rows columns"]) -> float:
    """What of a squared length of 1 is rounding error after a factorization."""
    return 10 * matrix.shape[1] * float(jnp.finfo(matrix.dtype).eps)


def _stacked_qr(linearization: Linearization, damping: Float[Array, ""]) -> Direction:
    size = linearization.scale.size
    dtype = linearization.jacobian_t.dtype
    stacked = jnp.concatenate(
        [linearization.scaled_jacobian, jnp.sqrt(damping) * jnp.eye(size, dtype=dtype)], axis=0
    )
    target = jnp.concatenate([-linearization.residual, jnp.zeros(size, dtype)])
    q, r = jnp.linalg.qr(stacked)
    step = jax.scipy.linalg.solve_triangular(r, q.T @ target)
    pivots = jnp.diagonal(r) ** 2 - damping
    return Direction(step, ~jnp.all(pivots > _lost(stacked) * (1 + damping)), jnp.ones((), bool))


def _minimum_norm(linearization: Linearization) -> Direction:
    jacobian = linearization.scaled_jacobian
    q, r = jnp.linalg.qr(jacobian)
    u, singular, vt = jnp.linalg.svd(r, full_matrices=False)
    largest = jnp.max(singular, initial=0.0)
    keep = singular > max(jacobian.shape) * jnp.finfo(r.dtype).eps * largest
    projected = u.T @ (q.T @ -linearization.residual)
    step = vt.T @ jnp.where(keep, projected / jnp.where(keep, singular, 1.0), 0.0)
    determined = jnp.all(singular**2 > _lost(jacobian) * largest**2)
    wide = jacobian.shape[1] > jacobian.shape[0]
    return Direction(step, ~determined | wide, jnp.ones((), bool))
