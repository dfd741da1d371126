"""A system of equations near a point: its Newton step, its steepest descent, and whether it is zero there.

Residuals are divided by their norm, `f̂ = f / ‖f‖`, and unknowns by the largest column norms of J seen,
`e = D d`, so that nothing overflows and nothing depends on units. What is kept of the Jacobian is what the
dogleg path needs: two steps and their images, because every point of the path is made of these.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.linearize import scale_of
from jaxopt_study.square_solve import solve_scaled, solve_square
from jaxopt_study.types import Bool, Float

RootSolver = Literal["auto", "lu", "gmres"]
LARGEST_FACTOR = 4096  # unknowns: a factorization takes seconds on a CPU, and a Jacobian 128 MiB
SUBSPACE = 40  # vectors that GMRES keeps before it starts anew
FORCING = 1e-3  # relative residual of the linear system at which GMRES ends

Function = Callable[[Array], Array]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """How the linear model is made: which solver, and how the Jacobian is taken."""

    solver: RootSolver = "auto"
    jacobian: Literal["forward", "reverse"] = "forward"


class Path(NamedTuple):
    """Powell's two legs, and what says how far a radius reaches; see `trust_region.path_fractions`.

    Attributes:
      cauchy: the best multiple of the steepest descent of ‖f‖, shape `(n,)`.
      leg: from there to the Newton step.
      pushed_cauchy, pushed_leg: their images under Ĵ.
      short: length of `cauchy`.
      far: length of the Newton step.
      leg_square: squared length of `leg`.
      turn: scalar product of the legs.
    """

    cauchy: Float[Array, " n"]
    leg: Float[Array, " n"]
    pushed_cauchy: Float[Array, " n"]
    pushed_leg: Float[Array, " n"]
    short: Float[Array, ""]
    far: Float[Array, ""]
    leg_square: Float[Array, ""]
    turn: Float[Array, ""]


class RootModel(NamedTuple):
    """`f(x + d) ≈ f + J d`, in the variables `e = D d / ‖f‖`.

    Attributes:
      newton: the step to the zero of the model, shape `(n,)`; where J is singular a regularized one.
      path: the dogleg path there.
      slope: `‖Ĵᵀf̂‖`, zero where ‖f‖ is stationary.
      grad_norm: norm of the gradient of ½‖f‖², `‖Jᵀf‖`.
      relative: length of the Newton step relative to x, both weighted with the column norms of J here.
      reach: `‖D x‖`, the length of x in the metric of the trust region.
      singular: whether J is singular to working precision.
      at_rounding: whether f could be zero: no component is more than ε times the terms `Jᵢⱼ xⱼ` it is
        made of.
    """

    newton: Float[Array, " n"]
    path: Path
    slope: Float[Array, ""]
    grad_norm: Float[Array, ""]
    relative: Float[Array, ""]
    reach: Float[Array, ""]
    singular: Bool[Array, ""]
    at_rounding: Bool[Array, ""]


def uses_matrix(options: ModelOptions, size: int) -> bool:
    """Whether J is held, and factored."""
    return options.solver == "lu" or (options.solver == "auto" and size <= LARGEST_FACTOR)


def take_jacobian(fn: Function, x: Float[Array, " n"], options: ModelOptions) -> Float[Array, "n n"]:
    """Jᵀ at x, row j being `∂f/∂xⱼ`.

    Transposed, because so it comes from forward mode and so LAPACK wants it: with J itself every
    factorization began with passes that only moved it around, and took as long as all else.
    """
    if options.jacobian == "reverse":
        return jax.jacrev(fn)(x).T
    return jax.vmap(lambda v: jax.jvp(fn, (x,), (v,))[1])(jnp.eye(x.size, dtype=x.dtype))


def lengths(*vectors: Float[Array, " n"]) -> list[Float[Array, ""]]:
    """Euclidean norms, of tiny elements too: `pytree.norms` lets their squares vanish in float64.

    All of them together: every pass over so little costs more to compile and to start than to do.
    """
    rows = jnp.stack(vectors)
    largest = jnp.max(jnp.abs(rows), axis=1)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return list(unit * jnp.sqrt(jnp.sum((rows / unit[:, None]) ** 2, axis=1)))


def column_norms(jacobian_t: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Norms of the columns of J; no square overflows where an element does not."""
    largest = jnp.max(jnp.abs(jacobian_t), axis=1)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((jacobian_t / unit[:, None]) ** 2, axis=1))


def dense_model(
    jacobian_t: Float[Array, "n n"],
    x: Float[Array, " n"],
    residual: Float[Array, " n"],
    size: Float[Array, ""],
    columns: Float[Array, " n"],
    largest: Float[Array, " n"],
) -> RootModel:
    """The model from its matrix.

    Args:
      jacobian_t: Jᵀ, or an approximation of it.
      x: the point.
      residual: f there.
      size: ‖f‖.
      columns: the column norms of J.
      largest: the largest seen, these included.
    """
    unit = residual / jnp.where(size > 0, size, 1.0)
    # Two metrics: columns of norm 1 are what elimination wants, those of the trust region may be shorter.
    scale, own = scale_of(largest), scale_of(columns)
    normed_t, shrunk = jacobian_t / own[:, None], own / scale
    slopes = shrunk * (normed_t @ unit)
    bend = (shrunk * slopes) @ normed_t
    newton, pushed, singular = _newton_step(normed_t, shrunk, unit, slopes)
    terms = jnp.abs(x) @ jnp.abs(jacobian_t)
    at_rounding = jnp.all(jnp.abs(residual) <= jnp.finfo(x.dtype).eps * terms)
    # Not weighted with the largest norms: one that was huge far away would make every step look short.
    return _model(newton, slopes, pushed, bend, x, size, columns, scale, singular, at_rounding)


def _newton_step(
    normed_t: Float[Array, "n n"],
    shrunk: Float[Array, " n"],
    unit: Float[Array, " n"],
    slopes: Float[Array, " n"],
) -> tuple[Float[Array, " n"], Float[Array, " n"], Bool[Array, ""]]:
    """`-Ĵ⁻¹f̂`, its image `-f̂`, and whether Ĵ is singular: then `-(ĴᵀĴ + √(nε) ‖ĴᵀĴ‖ I)⁻¹ Ĵᵀf̂`, and its image.

    Source: Dennis and Schnabel 1983, section 6.5.
    """
    solution = solve_scaled(normed_t, -unit)
    newton = solution.x / shrunk
    singular = solution.singular | ~jnp.all(jnp.isfinite(newton))

    def regularized(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        scaled_t = normed_t * shrunk[:, None]
        gram = scaled_t @ scaled_t.T
        most = jnp.max(jnp.sum(jnp.abs(gram), axis=0))
        shift = (slopes.size * jnp.finfo(gram.dtype).eps) ** 0.5 * jnp.where(most > 0, most, 1.0)
        step = solve_square(gram + shift * jnp.eye(slopes.size, dtype=gram.dtype), -slopes).x
        return step, step @ scaled_t, jnp.zeros((), bool)

    # A loop of no turn or one: a batch in which no lane is singular goes without.
    newton, pushed, _ = jax.lax.while_loop(lambda carry: carry[2], regularized, (newton, -unit, singular))
    return newton, pushed, singular


def matrix_free_model(
    fn: Function, x: Float[Array, " n"], residual: Float[Array, " n"], size: Float[Array, ""]
) -> RootModel:
    """The model from products with J and Jᵀ: an inexact Newton step by GMRES, and no scaling.

    Source: Dembo, Eisenstat and Steihaug, Inexact Newton methods, 1982.
    """
    unit = residual / jnp.where(size > 0, size, 1.0)
    _, push = jax.linearize(fn, x)
    pull = jax.linear_transpose(push, x)
    (slopes,) = pull(unit)
    restart = min(SUBSPACE, x.size)
    newton, _ = jax.scipy.sparse.linalg.gmres(push, -unit, tol=FORCING, restart=restart, maxiter=10)
    usable = jnp.all(jnp.isfinite(newton))
    newton = jnp.where(usable, newton, -slopes)
    pushed = push(newton)
    (off,) = lengths(pushed + unit)
    unscaled = jnp.ones_like(x)
    # The terms of f are not seen, so that there is no telling what is rounding.
    no = jnp.zeros((), bool)
    return _model(newton, slopes, pushed, push(slopes), x, size, unscaled, unscaled, off > 0.5, no)


def _model(
    newton: Float[Array, " n"],
    slopes: Float[Array, " n"],
    pushed: Float[Array, " n"],
    bend: Float[Array, " n"],
    x: Float[Array, " n"],
    size: Float[Array, ""],
    columns: Float[Array, " n"],
    scale: Float[Array, " n"],
    singular: Bool[Array, ""],
    at_rounding: Bool[Array, ""],
) -> RootModel:
    """Put together what a step needs; `pushed` and `bend` are the images of `newton` and of `slopes`."""
    slope, curve, gradient, step, here, reach, far = lengths(
        slopes, bend, scale * slopes, columns / scale * newton, columns * x, scale * x, newton
    )
    best = -jnp.where(curve > 0, (slope / jnp.where(curve > 0, curve, 1.0)) ** 2, 0.0)
    cauchy, pushed_cauchy = best * slopes, best * bend
    leg = newton - cauchy
    path = Path(
        cauchy,
        leg,
        pushed_cauchy,
        pushed - pushed_cauchy,
        jnp.abs(best) * slope,
        far,
        jnp.vdot(leg, leg),
        jnp.vdot(cauchy, leg),
    )
    relative = jnp.where(here > 0, size * step / jnp.where(here > 0, here, 1.0), jnp.inf)
    return RootModel(newton, path, slope, size * gradient, relative, reach, singular, at_rounding)
