"""Derivatives of a solution with respect to what it was solved for: the implicit function theorem.

Where `∇f(θ, a) = 0`, the solution follows the data by `dθ/da = -(∇²f)⁻¹ ∂∇f/∂a`, with the full Hessian
of the value: JᵀJ alone gives wrong derivatives wherever residuals remain. A parameter that a bound
holds follows its bound, and one that is frozen its start. Nothing is differentiated through the iterations.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxopt_study.bounds import Box, as_box, held
from jaxopt_study.modes import value_and_gradient
from jaxopt_study.pytree import norm, ravel
from jaxopt_study.square_solve import solve_square
from jaxopt_study.types import Bool, Float, PyTree

LARGEST_MATRIX = 200  # parameters; beyond, conjugate gradients on Hessian-vector products
CG_STEPS = 1000
GMRES_VECTORS = 60  # kept before GMRES starts anew


def follow_the_data(
    value_fn: Callable[[PyTree], Float[Array, ""]],
    solve: Callable[[], tuple[PyTree, Float[Array, ""], Bool[Array, ""], Any]],
    params: PyTree,
    bounds: Any,
    trained: PyTree | None = None,
) -> tuple[PyTree, Float[Array, ""], Any]:
    """Give a minimum the derivatives that the implicit function theorem says it has.

    Forward and reverse mode, once or more often. `value_fn` may close over traced values: the solution is
    differentiated with respect to them.

    Args:
      value_fn: what is minimized, as a function of the parameters alone.
      solve: finds the minimum: its parameters, its value, whether it is one (the tangents are NaN where
        not), and whatever else, which carries no derivatives.
      params: where the iteration started; what is frozen is still there, and follows it.
      bounds: `(lower, upper)` as `bounds.check_bounds` returns them, or None.
      trained: a tree like `params` of bools, false for leaves that are frozen; None if none is.

    Returns:
      The parameters, the value, and the rest.
    """
    flat, unravel = ravel(params)
    box = as_box(bounds, params)
    frozen = None if trained is None else _each(jax.tree.map(lambda flag: not flag, trained), params)

    def of_vector(theta: Array) -> Array:
        return jnp.asarray(value_fn(unravel(theta)), flat.dtype)

    def conditions(unknown: tuple[Array, Array]) -> tuple[Array, Array]:
        """Zero at the solution: the gradient, or the distance from the bound; and the value's error."""
        theta, value = unknown
        there, gradient = value_and_gradient(of_vector, theta)
        zero = _or_bound(box, theta, gradient)
        return zero if frozen is None else jnp.where(frozen, theta - flat, zero), value - there

    def pinned(unknown: tuple[Array, Array]) -> tuple[Array, Any]:
        """The parameters, and which of them the gradient has no say in."""
        theta = jax.lax.stop_gradient(unknown[0])
        if box is None:
            return theta, frozen
        on_bound = held(box, theta, value_and_gradient(of_vector, theta)[1])
        return theta, on_bound if frozen is None else on_bound | frozen

    def found() -> tuple[tuple[Array, Array], Any]:
        end, value, is_minimum, rest = solve()
        return (ravel(end)[0], value), (is_minimum, rest)

    like = (flat, jnp.zeros((), flat.dtype))
    (theta, value), (is_minimum, rest) = root_of(conditions, found, like, _solve_linear, pinned)
    theta, value = only_where(is_minimum, theta), only_where(is_minimum, value)
    return unravel(theta), value, rest


def root_of(
    conditions: Callable[[Any], Any],
    found: Callable[[], tuple[Any, Any]],
    like: Any,
    solve_linear: Callable[[Callable[[Any], Any], Any, Any], Any],
    about: Callable[[Any], Any] = lambda x: x,
) -> Any:
    """What `found` returns, `(x, rest)`, where x has the derivatives of a root of `conditions`.

    As `jax.lax.custom_root`, which cannot return integers beside the root. What the functions close over
    is made an argument, so that the rule sees its tangents.

    Args:
      conditions: of x, zero at the root, in the form of x.
      found: finds the root, and the rest, which carries no derivatives.
      like: something in the form of x.
      solve_linear: `(product, target, about(x)) -> z` with `product(z) = target`, linear in the target.
      about: what else has to be known of the root, and is only if there are derivatives.
    """
    conditions, of_conditions = closed(conditions, like)
    about, of_about = closed(about, like)
    found, of_found = closed(found)

    @jax.custom_jvp
    def root(of_conditions: list[Any], of_about: list[Any], x: Any) -> Any:
        del of_conditions, of_about
        return x

    @root.defjvp
    def root_jvp(primals: tuple, tangents: tuple) -> Any:
        x = root(*primals)
        data, moves = primals[0], tangents[0]
        _, drift = jax.jvp(lambda data: conditions(data, x), (data,), (moves,))
        _, product = jax.linearize(lambda x: conditions(data, x), x)
        return x, jax.tree.map(jnp.negative, solve_linear(product, drift, about(primals[1], x)))

    # Outside of the rule: what is inside of one does not see the numbers that the program around says.
    x, rest = found(jax.lax.stop_gradient(of_found))
    return root(of_conditions, of_about, x), rest


def closed(fn: Callable[..., Any], *like: Any) -> tuple[Callable[..., Any], list[Any]]:
    """`fn` as a function of what it closes over, and that. (`jax.closure_convert` leaves integers inside.)"""
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*like)
    jaxpr, structure = program.jaxpr, jax.tree.structure(shapes)  # without the values, which may be traced

    def of_closure(closure: list[Any], *args: Any) -> Any:
        run = jaxpr_as_fun(ClosedJaxpr(jaxpr, closure))
        return jax.tree.unflatten(structure, run(*jax.tree.leaves(args)))

    return of_closure, program.consts


def _or_bound(box: Box | None, theta: Array, gradient: Array) -> Array:
    if box is None:
        return gradient
    at_bound = jax.lax.stop_gradient(held(box, theta, gradient))
    bound = jnp.where(theta <= box.lower, box.lower, box.upper)
    bound = jnp.where(box.lower >= box.upper, 0.5 * (box.lower + box.upper), bound)
    return jnp.where(at_bound, theta - jnp.where(at_bound, bound, 0.0), gradient)


def _each(flags: PyTree, params: PyTree) -> np.ndarray:
    """A flag for every element, from one for every leaf."""
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(params)]
    return np.repeat(np.asarray(jax.tree.leaves(flags), bool), sizes)


def _solve_linear(
    product: Callable[..., Any], target: tuple[Array, Array], pinned: tuple[Array, Any]
) -> tuple[Array, Array]:
    """Solve `product((x, v)) = target`, whose first part is H x and whose second is v - g·x.

    Where parameters are pinned, their rows say what they are; what is left is symmetric.

    In variables `x = D z`: parameters in units of their own size, then of their own curvature. H itself
    overflows in float32 where a parameter is 1e20, and is singular to rounding where others are 1.
    """
    gradient_part, value_part = target
    theta, still = pinned
    nothing = jnp.zeros_like(value_part)
    scale = jnp.abs(theta)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1.0)
    if still is not None:
        known = jnp.where(still, gradient_part, 0.0)
        gradient_part = jnp.where(still, 0.0, gradient_part - product((known, nothing))[0])

    def scaled_product(z: Array) -> Array:
        if still is None:
            return scale * product((scale * z, nothing))[0]
        return jnp.where(still, z, scale * product((jnp.where(still, 0.0, scale * z), nothing))[0])

    size = gradient_part.size
    if size <= LARGEST_MATRIX:
        hessian = jax.vmap(scaled_product, out_axes=1)(jnp.eye(size, dtype=gradient_part.dtype))
        own = jax.lax.stop_gradient(jnp.sqrt(jnp.abs(jnp.diagonal(hessian))))
        own = jnp.where((own > 0) & jnp.isfinite(own), own, 1.0)
        hessian = hessian / own[:, None] / own[None, :]
        x = scale / own * jnp.linalg.solve(hessian, scale * gradient_part / own)
    else:
        x = scale * jax.lax.custom_linear_solve(
            scaled_product,
            scale * gradient_part,
            lambda matvec, b: jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-12, maxiter=CG_STEPS)[0],
            symmetric=True,
        )
    if still is not None:
        x = jnp.where(still, known, x)
    _, slope = product((x, nothing))
    return x, value_part - slope


def solve_regular(
    product: Callable[[Array], Array], target: Float[Array, " n"], root: Any = None
) -> Float[Array, " n"]:
    """Solve `J z = target` by elimination, for many unknowns by GMRES; NaN if J is singular."""
    del root
    if target.size <= LARGEST_MATRIX:
        matrix = jax.vmap(product, out_axes=1)(jnp.eye(target.size, dtype=target.dtype))
        solution = solve_square(matrix, target)
        return jnp.where(solution.singular, jnp.nan, solution.x)

    def iterate(matvec: Callable[[Array], Array], b: Array) -> Array:
        restart = min(GMRES_VECTORS, b.size)
        x, _ = jax.scipy.sparse.linalg.gmres(matvec, b, tol=1e-12, restart=restart, maxiter=CG_STEPS)
        solved = norm(matvec(x) - b) <= 1e-3 * norm(b)
        return jnp.where(solved, x, jnp.nan)

    return jax.lax.custom_linear_solve(product, target, iterate, transpose_solve=iterate)


@jax.custom_jvp
def only_where(known: Bool[Array, ""], x: Array) -> Array:
    """x, whose tangent is NaN where it is not known."""
    del known
    return x


@only_where.defjvp
def _only_where_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    known, x = primals
    return only_where(known, x), tangents[1] * jnp.where(known, 1.0, jnp.nan).astype(x.dtype)
