"""Newton's method for a minimum: full steps while they lower the value, damped ones when not."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study import damping as damping_rule
from jaxopt_study.bounds import as_box, held, project
from jaxopt_study.optimizers.step_info import StepInfo, unmeasured
from jaxopt_study.optimizers.transform import check_solvable, number, transformation
from jaxopt_study.optimizers.trial import Point, Trial, follow_damping, full_step, move, search
from jaxopt_study.pytree import norm, params_dtype, ravel
from jaxopt_study.types import Float, PyTree

FIRST_DAMPING = 1e-4  # relative to the largest curvature, after the first step that was refused


class NewtonState(NamedTuple):
    """State of `newton`.

    Attributes:
      damping: λ and its growth, for the next update.
      info: what the last update did.
    """

    damping: damping_rule.Damping
    info: StepInfo


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    plain: bool


def newton(
    damping: ArrayLike | None = 0.0, *, max_trials: ArrayLike = 60
) -> optax.GradientTransformationExtraArgs:
    """Newton's method with the exact Hessian, for up to a few hundred parameters.

    With the eigenvalues and -vectors of the Hessian, `H = Q diag(w) Qᵀ`, an update is

        d = -Q diag(1 / (|w| + λ max|w|)) Qᵀ g

    and λ grows from 0 until the value falls. While H is positive definite and full steps succeed
    this is Newton's step `-H⁻¹g`. Taking |w| instead of w makes every step one of descent, also
    where H is indefinite, so that it leads away from saddles (but not from the very point, where
    the gradient is zero). Directions without curvature are left alone (the minimum-norm step), and
    `info.rank_deficient` says so.

    What `gtol` is compared with is `max |gᵢ| / √(2 |f| |Hᵢᵢ|)`. It does not change with the units
    of f or of the parameters; for a sum of squares with small residuals it is the largest cosine
    between the residuals and a column of the Jacobian.

    Args:
      damping: λ at the start, relative to the largest |w| (dimensionless); a leaf. None for the
        plain method: `d = -H⁻¹g` whatever it does to the value. It finds stationary points, of
        any kind.
      max_trials: how many dampings one update tries before it gives up.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `value_fn`, the
      objective as a function of the parameters alone, and `bounds`, a pair of pytrees like `params`,
      onto which steps are projected. `grads` may be None: then the gradient of
      `value_fn` is used, which comes with the Hessian at no cost; otherwise `grads` is. The update
      is a step to be added; it is zero when no trial was accepted. See `StepInfo` for
      `state.info`.

    Raises:
      ValueError: if `damping` is negative.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`.

    Source: Nocedal and Wright 2006, sections 3.3 and 3.4; |w| as in Dauphin et al. 2014.

    Example:
      >>> value_fn = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
      >>> params = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
      >>> optimizer = newton()
      >>> state = optimizer.init(params)
      >>> for _ in range(25):
      ...     updates, state = optimizer.update(None, state, params, value_fn=value_fn)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{params['x']:.3f} {params['y']:.3f}")
      1.000 1.000
    """
    if isinstance(damping, int | float) and damping < 0:
        raise ValueError(f"damping: expected a number >= 0 or None, got {damping}")
    start = 0.0 if damping is None else number(damping)
    return transformation(_init, _update, start, max_trials, _Options(plain=damping is None))


def _init(bound: Any, /, params: PyTree) -> NewtonState:
    damping, *_ = bound
    check_solvable(params, "newton")
    dtype = params_dtype(params)
    return NewtonState(damping_rule.start(jnp.asarray(damping, dtype)), unmeasured(dtype))


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: NewtonState,
    params: PyTree,
    *,
    value_fn: Callable[[PyTree], Array],
    bounds: Any = None,
    measure_only: Any = False,
    **extra: Any,
) -> tuple[PyTree, NewtonState]:
    del extra
    _, max_trials, options = bound
    box = as_box(bounds, params)
    theta, unravel = ravel(params)

    def of_vector(theta: Array) -> Array:
        return value_fn(unravel(theta)).astype(theta.dtype)

    value, gradient, hessian = _value_gradient_hessian(of_vector, theta)
    if updates is not None:
        gradient = ravel(updates)[0].astype(theta.dtype)
    free_gradient, free_hessian = gradient, hessian
    if box is not None:
        at_bound = held(box, theta, gradient)
        free_gradient = jnp.where(at_bound, 0.0, gradient)
        largest = jnp.max(jnp.abs(hessian), initial=0.0)
        others = at_bound[:, None] | at_bound[None, :]
        free_hessian = jnp.where(others, largest * jnp.eye(theta.size, dtype=theta.dtype), hessian)
    curvature, basis = jnp.linalg.eigh(free_hessian)
    slope = basis.T @ free_gradient
    steepest = jnp.max(jnp.abs(curvature), initial=0.0)
    flat = jnp.abs(curvature) <= theta.size * jnp.finfo(theta.dtype).eps * steepest

    def attempt(damping: Float[Array, ""]) -> Trial:
        divisor = curvature if options.plain else jnp.abs(curvature) + damping * steepest
        left_out = flat & (divisor <= theta.size * jnp.finfo(theta.dtype).eps * steepest)
        along = jnp.where(left_out, 0.0, -slope / jnp.where(left_out, 1.0, divisor))
        predicted = -jnp.sum(along * (slope + 0.5 * curvature * along))
        step = basis @ along
        if box is not None:
            step = project(box, theta + step) - theta
            predicted = -jnp.vdot(step, gradient + 0.5 * hessian @ step)
        there = of_vector(move(theta, step, box))
        return Trial(step, there, value - there, predicted, norm(step), jnp.any(flat), jnp.ones((), bool))

    point = Point(
        value=value,
        grad_norm=norm(free_gradient),
        gradient_test=_cosine(value, free_gradient, hessian),
        rounding=_rounding(value, gradient, hessian, theta),
        params_norm=norm(theta),
    )
    if options.plain:
        step, info = full_step(attempt(state.damping.value), point, state.damping.value, measure_only)
        return unravel(step), NewtonState(state.damping, info)
    step, damping, info = search(
        attempt,
        follow_damping("nielsen", FIRST_DAMPING),
        jnp.stack(state.damping),
        theta,
        point,
        max_trials=max_trials,
        measure_only=measure_only,
    )
    return unravel(step), NewtonState(damping_rule.Damping(*damping), info)


def _value_gradient_hessian(fn: Callable[[Array], Array], theta: Array) -> tuple[Array, Array, Array]:
    (value, gradient), push = jax.linearize(jax.value_and_grad(fn), theta)
    _, hessian = jax.vmap(push)(jnp.eye(theta.size, dtype=theta.dtype))
    return value, gradient, 0.5 * (hessian + hessian.T)


def _cosine(value: Array, gradient: Array, hessian: Array) -> Array:
    lengths = jnp.sqrt(jnp.abs(jnp.diagonal(hessian))) * jnp.sqrt(2 * jnp.abs(value))
    cosines = jnp.abs(gradient) / jnp.where(lengths > 0, lengths, 1.0)
    # Without curvature there is no length to compare with: only a gradient of zero is small.
    cosines = jnp.where(lengths > 0, cosines, jnp.where(gradient == 0, 0.0, jnp.inf))
    return jnp.max(cosines, initial=0.0)


def _rounding(value: Array, gradient: Array, hessian: Array, theta: Array) -> Array:
    """How the value may change with errors ε|θ| in the parameters, and with its own."""
    eps = jnp.finfo(theta.dtype).eps
    error = eps * jnp.abs(theta)
    by_params = jnp.abs(gradient) @ error + 0.5 * error @ jnp.abs(hessian) @ error
    # A sum over data is rounded term by term, and the terms are not seen here.
    return 50 * eps * jnp.abs(value) + by_params
