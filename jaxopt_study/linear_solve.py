"""The linear systems of one update: `(ĴᵀĴ + λI) e = -Ĵᵀr`, damped or not, in scaled columns.

| solver       | factors                                  | for                                             |
|--------------|------------------------------------------|-------------------------------------------------|
| `"cholesky"` | `ĴᵀĴ + λI`, n × n                        | more residuals than parameters: 10 times        |
|              |                                          | cheaper than QR, and good enough in scaled      |
|              |                                          | columns unless λ is near rounding               |
| `"qr"`       | `[Ĵ; √λ I]`, (m + n) × n                 | ill-conditioned Ĵ                               |
| `"dual"`     | `ĴĴᵀ + λI`, m × m, `e = -Ĵᵀ(ĴĴᵀ + λI)⁻¹r`| fewer residuals than parameters                 |
| `"cg"`       | nothing: conjugate gradients on products | Jacobians that do not fit in memory             |
| `"auto"`     | see `choose_solver`                      | everything; Cholesky falls back on QR, and      |
|              |                                          | without damping on the SVD's minimum norm       |

Parameters that are *held* keep a step that is known (zero, or up to their bound), and the system is
that of the others. Which factorization was used is reported.
"""

from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import Box
from jaxopt_study.direct_solve import cholesky_solve, orthogonal_solve
from jaxopt_study.layout import gathered
from jaxopt_study.linearize import Linearization
from jaxopt_study.types import Bool, Float, LinearSolver

CG_TOLERANCE = 1e-2  # relative residual at which conjugate gradients end: an inexact step is enough
CG_STEPS = 100
LARGEST_JACOBIAN = 2**27  # elements: 1 GiB in float64
LARGEST_FACTOR = 8192  # rows of a matrix that is factored: seconds on a CPU


def check_solver(solver: str) -> None:
    """Raise a `ValueError` unless `solver` is one that this file knows."""
    if solver not in get_args(LinearSolver):
        raise ValueError(f"solver: expected one of {get_args(LinearSolver)}, got {solver!r}")


def choose_solver(solver: LinearSolver, residuals: int, params: int) -> LinearSolver:
    """What `"auto"` means for so many residuals and parameters; others stay.

    `"cg"` if the Jacobian has more than 2²⁷ elements (1 GiB in float64) or the matrix to factor more
    than 8192 rows; `"dual"` if there are fewer residuals than parameters; else `"auto"`, Cholesky
    with its fallback.

    >>> choose_solver("auto", 500, 41), choose_solver("auto", 10, 41), choose_solver("auto", 1280, 10**6)
    ('auto', 'dual', 'cg')
    """
    check_solver(solver)
    if solver != "auto":
        return solver
    if residuals * params > LARGEST_JACOBIAN or min(residuals, params) > LARGEST_FACTOR:
        return "cg"
    return "dual" if residuals < params else "auto"


class Direction(NamedTuple):
    """A solution of the linear system.

    Attributes:
      step: e, shape `(params,)`, in scaled variables.
      rank_deficient: whether ĴᵀĴ is singular to working precision: the squared distance of a column
        from the span of the others, or a squared singular value, is lost in rounding errors.
      orthogonal: whether an orthogonal factorization (QR or SVD) was used, not Cholesky.
      shortening: how the step shortens with λ, `-½ d‖e‖²/dλ = eᵀ(ĴᵀĴ + λI)⁻¹e`; NaN where it is not known,
        from conjugate gradients and the SVD.
    """

    step: Float[Array, " params"]
    rank_deficient: Bool[Array, ""]
    orthogonal: Bool[Array, ""]
    shortening: Float[Array, ""]


class Held(NamedTuple):
    """Parameters whose step is known.

    Attributes:
      mask: which they are, shape `(params,)`.
      step: what their steps are, zero for the others.
    """

    mask: Bool[Array, " params"]
    step: Float[Array, " params"]


Solve = Callable[..., Direction]


def damped_solver(here: Linearization, solver: LinearSolver) -> Solve:
    """Make what is common to all dampings once.

    Args:
      here: in scaled columns.
      solver: see the table above, `"auto"` as `choose_solver` left it. Where a factorization fails
        the step is NaN, a rejected trial.

    Returns:
      `solve(damping, held=None, residual=None)`, which solves for one λ > 0: with the steps of some
      parameters known, with another right-hand side than r.

    Raises:
      ValueError: if `solver` is unknown.
    """
    check_solver(solver)
    kernel = {"qr": _stacked_qr, "dual": _dual, "cg": _conjugate_gradients}.get(solver, _cholesky)

    def solve(
        damping: Float[Array, ""],
        held: Held | None = None,
        residual: Float[Array, " residuals"] | None = None,
    ) -> Direction:
        system = here
        if residual is not None:
            system = here._replace(residual=residual, gradient=here.pull(residual))
        direction = kernel(system, damping, held)
        if solver != "auto":
            return direction
        failed = ~jnp.all(jnp.isfinite(direction.step)) & jnp.all(jnp.isfinite(system.gradient))
        # With pivots lost in rounding and too little damping to make up for them, the step is noise.
        noise = direction.rank_deficient & (damping < lost(here.gradient))
        return jax.lax.cond(failed | noise, lambda: _stacked_qr(system, damping, held), lambda: direction)

    return solve


def undamped(here: Linearization, solver: LinearSolver, held: Held | None = None) -> Direction:
    """The Gauss-Newton direction: the least-squares solution of `Ĵ e ≈ -r`, of minimum norm ‖e‖.

    Args:
      here: in scaled columns.
      solver: `"cholesky"` and `"dual"` never check the rank beyond the pivots; `"qr"`: QR, then SVD
        of the triangle; `"auto"`: Cholesky if its pivots say that Ĵ has full rank, else as `"qr"`.
      held: parameters whose step is known.

    Raises:
      ValueError: if `solver` is unknown.
    """
    check_solver(solver)
    nothing = jnp.zeros((), here.gradient.dtype)
    if solver == "qr":
        return _minimum_norm(here, held)
    if solver == "dual":
        return _dual(here, nothing, held)
    if solver == "cg":
        return _conjugate_gradients(here, nothing, held)
    direction = _cholesky(here, nothing, held)
    if solver == "cholesky":
        return direction
    return jax.lax.cond(direction.rank_deficient, lambda: _minimum_norm(here, held), lambda: direction)


def within_box(
    solve: Callable[[Held], Direction], here: Linearization, box: Box, theta: Float[Array, " params"]
) -> tuple[Direction, Held]:
    """Solve, put what would leave the box on its bound, and solve for the rest, until nothing leaves.

    Every round holds one parameter more at least, so there are at most as many as parameters; where no
    bound is near there is one. The result need not be the model's minimum in the box, but it is for
    large dampings: a step that promises nothing is refused, and then the damping grows.

    Args:
      solve: from what is held to a direction.
      here: the linearization, which knows what bounds hold from the start.
      box: the bounds.
      theta: the parameters.

    Returns:
      The last direction, and what was held in it.
    """
    lower, upper = here.scale * (box.lower - theta), here.scale * (box.upper - theta)
    mask = jnp.zeros_like(theta, bool) if here.held is None else here.held

    def again(carry: tuple[Direction, Held, Held, Array]) -> tuple[Direction, Held, Held, Array]:
        _, _, held, _ = carry
        direction = solve(held)
        below, above = direction.step < lower, direction.step > upper
        leaves = (below | above) & ~held.mask
        step = jnp.where(leaves, jnp.where(below, lower, upper), held.step)
        return direction, held, Held(held.mask | leaves, step), jnp.any(leaves)

    zero, no = jnp.zeros_like(theta), jnp.zeros((), bool)
    start = Held(mask, zero)
    direction, held, _, _ = jax.lax.while_loop(
        lambda carry: carry[3], again, (Direction(zero, no, no, zero.sum()), start, start, ~no)
    )
    return direction, held


def _cholesky(
    here: Linearization,
    damping: Float[Array, ""],
    held: Held | None,
) -> Direction:
    if here.gram is None:
        raise ValueError(
            "linearization: was made with gram=False, which only solvers 'qr', 'dual' and 'cg' can use"
        )
    matrix, target = here.gram, here.gradient
    diagonal = jnp.full_like(target, damping)
    if held is not None:
        target = jnp.where(held.mask, 0.0, target + matrix @ held.step)
        matrix = jnp.where(held.mask[:, None] | held.mask[None, :], 0.0, matrix)
        diagonal = jnp.where(held.mask, 1.0, damping)
    damped = matrix + jnp.diag(diagonal)
    # A diagonal scaling changes neither the rounding errors of Cholesky nor its pivots' meaning
    # (Higham 2002, theorem 10.6), so unit columns are all the equilibration that is needed.
    solution, pivots, shortening = cholesky_solve(damped, target)
    # A pivot is the squared distance of a column from the span of those before it. The last
    # digits of 1 + λ are what it is computed in.
    full_rank = _full_rank(pivots - damping, matrix, damping, held)
    return _known(held, -solution, full_rank, jnp.zeros((), bool), shortening)


def _full_rank(
    pivots: Float[Array, " n"],
    matrix: Float[Array, "rows columns"],
    damping: Float[Array, ""],
    held: Held | None,
) -> Bool[Array, ""]:
    good = pivots > lost(matrix) * (1 + damping)
    return jnp.all(good if held is None else good | held.mask)


def _known(
    held: Held | None,
    step: Float[Array, " params"],
    full_rank: Bool[Array, ""],
    orthogonal: Bool[Array, ""],
    shortening: Float[Array, ""] | float = jnp.nan,
) -> Direction:
    if held is not None:
        step = jnp.where(held.mask, held.step, step)
    return Direction(step, ~full_rank, orthogonal, jnp.asarray(shortening, step.dtype))


def lost(matrix: Float[Array, "*rows columns"]) -> float:
    """What of a squared length of 1 is rounding error after a factorization of so many columns."""
    return 10 * matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)


def _rest(
    here: Linearization, held: Held | None
) -> tuple[Float[Array, "params residuals"], Float[Array, " residuals"]]:
    """Ĵᵀ without the rows of held parameters, and the residual after their steps.

    Where residuals lie over several devices: of the triangle of [Ĵ r] on each of them, which has the same
    products as its rows (a tall and skinny QR), so that a few numbers travel and no row does.
    """
    jacobian_t, residual = here.scaled_jacobian_t, here.residual
    if here.sharding is not None:
        both = jnp.concatenate([jacobian_t, residual[None, :]], axis=0)
        triangles = gathered(lambda share: jnp.linalg.qr(share.T, mode="r"), here.sharding, both)
        jacobian_t, residual = triangles[:, :-1].T, triangles[:, -1]
    if held is None:
        return jacobian_t, residual
    return jnp.where(held.mask[:, None], 0.0, jacobian_t), residual + held.step @ jacobian_t


def _stacked_qr(here: Linearization, damping: Float[Array, ""], held: Held | None) -> Direction:
    jacobian_t, residual = _rest(here, held)
    size, dtype = jacobian_t.shape[0], jacobian_t.dtype
    dampings = jnp.full(size, damping) if held is None else jnp.where(held.mask, 1.0, damping)
    stacked = jnp.concatenate([jacobian_t.T, jnp.diag(jnp.sqrt(dampings))], axis=0)
    target = jnp.concatenate([-residual, jnp.zeros(size, dtype)])
    step, squares, shortening = orthogonal_solve(stacked, target)
    full_rank = _full_rank(squares - damping, stacked, damping, held)
    return _known(held, step, full_rank, jnp.ones((), bool), shortening)


def _dual(here: Linearization, damping: Float[Array, ""], held: Held | None) -> Direction:
    jacobian_t, residual = _rest(here, held)
    outer = jacobian_t.T @ jacobian_t
    damped = outer + damping * jnp.eye(outer.shape[0], dtype=outer.dtype)
    factor = jax.lax.linalg.cholesky(damped, symmetrize_input=False)
    weights = jax.scipy.linalg.cho_solve((factor, True), residual)
    step = -jacobian_t @ weights
    inverse = -jacobian_t @ jax.scipy.linalg.cho_solve((factor, True), weights)
    # More parameters than residuals leave some undetermined, whatever the pivots are.
    lengths = jnp.diagonal(outer)
    pivots = (jnp.diagonal(factor) ** 2 - damping) / jnp.where(lengths > 0, lengths, 1.0)
    tall = jacobian_t.shape[0] <= jacobian_t.shape[1]
    full_rank = jnp.all(pivots > lost(outer) * (1 + damping)) & tall
    return _known(held, step, full_rank, jnp.zeros((), bool), jnp.vdot(step, inverse))


def _conjugate_gradients(here: Linearization, damping: Float[Array, ""], held: Held | None) -> Direction:
    def product(e: Array) -> Array:
        if held is None:
            return here.curvature(e) + damping * e
        return jnp.where(held.mask, e, here.curvature(jnp.where(held.mask, 0.0, e)) + damping * e)

    target = -here.gradient
    if held is not None:
        target = jnp.where(held.mask, 0.0, target - here.curvature(held.step))
    steps = min(CG_STEPS, here.gradient.size)
    step, _ = jax.scipy.sparse.linalg.cg(product, target, tol=CG_TOLERANCE, maxiter=steps)
    # The rank is not known: nothing was factored.
    return _known(held, step, jnp.ones((), bool), jnp.zeros((), bool))


def _minimum_norm(here: Linearization, held: Held | None = None) -> Direction:
    jacobian_t, residual = _rest(here, held)
    q, r = jnp.linalg.qr(jacobian_t.T)
    u, singular, vt = jnp.linalg.svd(r, full_matrices=False)
    largest = jnp.max(singular, initial=0.0)
    keep = singular > max(jacobian_t.shape) * jnp.finfo(r.dtype).eps * largest
    projected = u.T @ (q.T @ -residual)
    step = vt.T @ jnp.where(keep, projected / jnp.where(keep, singular, 1.0), 0.0)
    determined = singular**2 > lost(jacobian_t.T) * largest**2
    # A held parameter's column is zero, and so is a singular value for it.
    zeros = 0 if held is None else jnp.sum(held.mask)
    full_rank = jnp.sum(determined) + zeros >= jacobian_t.shape[0]
    return _known(held, step, full_rank, jnp.ones((), bool))
