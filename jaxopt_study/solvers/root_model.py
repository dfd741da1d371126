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

from jaxopt_study.square_solve import solve_square
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


class RootModel(NamedTuple):
    """`f(x + d) ≈ f + J d`, in the variables `e = D d / ‖f‖`.

    Attributes:
      newton: the step to the zero of the model, shape `(n,)`; where J is singular a regularized one.
      pushed_newton: its image, `Ĵ newton`, `-f̂` where J is regular.
      cauchy: the best multiple of the steepest descent of ‖f‖.
      pushed_cauchy: its image.
      slope: `‖Ĵᵀf̂‖`, zero where ‖f‖ is stationary.
      grad_norm: norm of the gradient of ½‖f‖², `‖Jᵀf‖`.
      relative: length of the Newton step relative to x, both weighted with the column norms of J here.
      singular: whether J is singular to working precision.
      at_rounding: whether f could be zero: no component is more than ε times the terms `Jᵢⱼ xⱼ` it is
        made of.
    """

    newton: Float[Array, " n"]
    pushed_newton: Float[Array, " n"]
    cauchy: Float[Array, " n"]
    pushed_cauchy: Float[Array, " n"]
    slope: Float[Array, ""]
    grad_norm: Float[Array, ""]
    relative: Float[Array, ""]
    singular: Bool[Array, ""]
    at_rounding: Bool[Array, ""]


def uses_matrix(options: ModelOptions, size: int) -> bool:
    """Whether J is held, and factored."""
    return options.solver == "lu" or (options.solver == "auto" and size <= LARGEST_FACTOR)


def take_jacobian(fn: Function, x: Float[Array, " n"], options: ModelOptions) -> Float[Array, "n n"]:
    """J at x, `J[i, j] = ∂fᵢ/∂xⱼ`."""
    return jax.jacfwd(fn)(x) if options.jacobian == "forward" else jax.jacrev(fn)(x)


def length(vector: Float[Array, " n"]) -> Float[Array, ""]:
    """Euclidean norm, of tiny elements too: `pytree.norm` lets their squares vanish in float64."""
    largest = jnp.max(jnp.abs(vector))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((vector / unit) ** 2))


def column_norms(jacobian: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Norms of the columns; no square overflows where an element does not."""
    largest = jnp.max(jnp.abs(jacobian), axis=0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((jacobian / unit[None, :]) ** 2, axis=0))


def scale_of(largest: Float[Array, " n"]) -> Float[Array, " n"]:
    """D: the largest column norms seen, 1 for a column that has been zero all along."""
    return jnp.where(largest > 0, largest, 1.0)


def dense_model(
    jacobian: Float[Array, "n n"],
    x: Float[Array, " n"],
    residual: Float[Array, " n"],
    size: Float[Array, ""],
    columns: Float[Array, " n"],
    largest: Float[Array, " n"],
) -> RootModel:
    """The model from its matrix.

    Args:
      jacobian: J, or an approximation of it.
      x: the point.
      residual: f there.
      size: ‖f‖.
      columns: the column norms of J.
      largest: the largest seen, these included.
    """
    unit = residual / jnp.where(size > 0, size, 1.0)
    scale = scale_of(largest)
    scaled = jacobian / scale[None, :]
    slopes = scaled.T @ unit
    newton, singular = _newton_step(scaled, unit, slopes)
    terms = jnp.abs(jacobian) @ jnp.abs(x)
    at_rounding = jnp.all(jnp.abs(residual) <= jnp.finfo(x.dtype).eps * terms)
    # Not with the largest norms: one that was huge far away would make every step look short.
    weights = columns / scale
    relative = _relative(size * length(weights * newton), length(columns * x))
    return RootModel(
        newton,
        scaled @ newton,
        *_descent(slopes, scaled @ slopes),
        slope=length(slopes),
        grad_norm=size * length(scale * slopes),
        relative=relative,
        singular=singular,
        at_rounding=at_rounding,
    )


def _newton_step(
    scaled: Float[Array, "n n"], unit: Float[Array, " n"], slopes: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """`-Ĵ⁻¹f̂`; where Ĵ is singular `-(ĴᵀĴ + √(nε) ‖ĴᵀĴ‖ I)⁻¹ Ĵᵀf̂`, and that it was.

    Source: Dennis and Schnabel 1983, section 6.5.
    """
    size = slopes.size
    gram = scaled.T @ scaled
    most = jnp.max(jnp.sum(jnp.abs(gram), axis=0))
    shift = (size * jnp.finfo(scaled.dtype).eps) ** 0.5 * jnp.where(most > 0, most, 1.0)
    regular = gram + shift * jnp.eye(size, dtype=scaled.dtype)

    # A loop of one or two turns, because elimination is most of what there is to compile here.
    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, singular, turns = carry
        matrix, right = jnp.where(singular, regular, scaled), jnp.where(singular, slopes, unit)
        solution = solve_square(matrix, -right)
        failed = solution.singular | ~jnp.all(jnp.isfinite(solution.x))
        return solution.x, singular | failed, turns + 1

    zero, no = jnp.zeros_like(slopes), jnp.zeros((), bool)
    newton, singular, _ = jax.lax.while_loop(
        lambda carry: (carry[2] == 0) | ((carry[2] == 1) & carry[1]),
        again,
        (zero, no, jnp.zeros((), jnp.int32)),
    )
    return newton, singular


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
    singular = length(pushed + unit) > 0.5  # GMRES did not get anywhere
    slope = length(slopes)
    return RootModel(
        newton,
        pushed,
        *_descent(slopes, push(slopes)),
        slope=slope,
        grad_norm=size * slope,
        relative=_relative(size * length(newton), length(x)),
        singular=singular,
        at_rounding=jnp.zeros((), bool),  # the terms of f are not seen
    )


def _relative(part: Float[Array, ""], whole: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.inf)


def _descent(slopes: Float[Array, " n"], bend: Float[Array, " n"]) -> tuple[Array, Array]:
    """The steepest descent to the minimum of the model along it, and its image."""
    square, along = jnp.vdot(slopes, slopes), jnp.vdot(bend, bend)
    best = -jnp.where(along > 0, square / jnp.where(along > 0, along, 1.0), 0.0)
    return best * slopes, best * bend
