"""Levenberg-Marquardt: Gauss-Newton steps shortened by a damping that follows their success."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study import damping as rule
from jaxopt_study.derivatives import check_mode
from jaxopt_study.linear_solve import check_solver, damped_solver
from jaxopt_study.linearize import linearize
from jaxopt_study.objectives import as_least_squares
from jaxopt_study.optimizers.transform import (
    StepInfo,
    check_solvable,
    linearized_info,
    number,
    transformation,
    unmeasured,
)
from jaxopt_study.optimizers.trial import Trial, damped_trials, half_sums, try_residual
from jaxopt_study.pytree import params_dtype, ravel, size
from jaxopt_study.types import DampingRule, Float, JacobianMode, LinearSolver, PyTree


class LevenbergMarquardtState(NamedTuple):
    """State of `levenberg_marquardt`.

    Attributes:
      damping: λ and its growth, for the next update.
      scale: the largest norm seen of each column of the Jacobian, shape `(params,)`.
      info: what the last update did.
    """

    damping: rule.Damping
    scale: Float[Array, " params"]
    info: StepInfo


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    solver: LinearSolver
    jacobian: JacobianMode
    damping_rule: DampingRule


def levenberg_marquardt(
    damping: ArrayLike = 1e-3,
    *,
    solver: LinearSolver = "auto",
    jacobian: JacobianMode = "auto",
    damping_rule: DampingRule = "nielsen",
    max_trials: ArrayLike = 60,
) -> optax.GradientTransformationExtraArgs:
    """The method of Levenberg and Marquardt for sums of squares, in the scaled norm of Moré.

    One update linearizes the residuals at `params`, `r(θ + d) ≈ r + J d`, solves

        (JᵀJ + λ D²) d = -Jᵀr

    and tries `θ + d`; until the sum of squares falls, λ grows and d shortens and turns towards the
    negative gradient. D holds the norms of J's columns, each the largest seen, so that the path
    does not depend on the units of the parameters. λ follows the gain ratio by Nielsen's rule.
    A trial that is not finite counts as rejected.

    Args:
      damping: λ at the start, relative to D² (dimensionless): small trusts the start, as with 1e-3;
        1 or more is for starts that are far off. A leaf: sweeping it recompiles nothing.
      solver: `"cholesky"` of the scaled normal equations; `"qr"` of `[J; √λ D]`, slower and
        accurate for ill-conditioned J; `"auto"`: Cholesky, and QR where that fails.
      jacobian: `"forward"`, `"reverse"`, `"pointwise"` or `"auto"`, see
        `derivatives.residual_and_jacobian`.
      damping_rule: how λ follows the trials: `"nielsen"`, or `"delayed"` gratification, which takes
        more trials and gets further in as many steps where parameters are badly determined, as in
        networks; see `damping`.
      max_trials: how many dampings one update tries before it gives up.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `residual_fn` (a
      function or a `LeastSquares`), and `args`. `grads` is not used and may be None. The update is
      a descent step, to be added; it is zero when no trial was accepted. See `StepInfo` for
      `state.info`.

    Raises:
      ValueError: if `damping` is not positive, or `solver`, `jacobian` or `damping_rule` is unknown.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`;
        from `update`, if there is no `residual_fn`.

    Source:
      J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, 1978;
      H. B. Nielsen, Damping parameter in Marquardt's method, 1999; M. K. Transtrum and
      J. P. Sethna, Improvements to the Levenberg-Marquardt algorithm, 2012.

    Example:
      >>> residual_fn = lambda p: jnp.stack([p["x"] - 1.0, 10 * (p["y"] - p["x"] ** 2)])
      >>> params = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
      >>> optimizer = levenberg_marquardt()
      >>> state = optimizer.init(params)
      >>> for _ in range(15):
      ...     updates, state = optimizer.update(None, state, params, residual_fn=residual_fn)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{params['x']:.3f} {params['y']:.3f}")
      1.000 1.000
    """
    if isinstance(damping, int | float) and damping <= 0:
        raise ValueError(f"damping: expected a number > 0, got {damping}")
    check_solver(solver)
    check_mode(jacobian)
    rule.check_rule(damping_rule)
    return transformation(
        _init, _update, number(damping), max_trials, _Options(solver, jacobian, damping_rule)
    )


def _init(bound: Any, /, params: PyTree) -> LevenbergMarquardtState:
    damping, *_ = bound
    check_solvable(params, "levenberg_marquardt")
    dtype = params_dtype(params)
    return LevenbergMarquardtState(
        damping=rule.start(jnp.maximum(jnp.asarray(damping, dtype), jnp.finfo(dtype).eps ** 2)),
        scale=jnp.zeros(size(params), dtype),
        info=unmeasured(dtype),
    )


def _update(
    bound: Any,
    /,
    updates: PyTree,
    state: LevenbergMarquardtState,
    params: PyTree,
    *,
    residual_fn: Any = None,
    args: tuple = (),
    measure_only: Any = False,
    **extra: Any,
) -> tuple[PyTree, LevenbergMarquardtState]:
    del updates, extra
    _, max_trials, options = bound
    objective = as_least_squares(residual_fn, "levenberg_marquardt")
    gram = options.solver != "qr"
    here = linearize(objective, params, args, state.scale, jacobian=options.jacobian, gram=gram)
    solve = damped_solver(here, options.solver)
    theta, unravel = ravel(params)

    def attempt(damping: Float[Array, ""]) -> Trial:
        direction = solve(damping)
        e = direction.step
        step = e / here.scale
        value, actual = try_residual(objective, params, args, here, unravel(step))
        half_square, half_slope = half_sums(e**2, e * here.gradient)
        # ½‖Ĵe‖² + λ‖e‖², with Ĵᵀ(Ĵe + r) = -λe put in: a sum of two terms that are positive.
        predicted = damping * half_square - half_slope
        length = jnp.sqrt(2 * half_square)
        return Trial(step, value, actual, predicted, length, direction.rank_deficient, direction.orthogonal)

    info = linearized_info(here)
    step, next_damping, info = damped_trials(
        attempt,
        state.damping,
        theta,
        info,
        max_trials=max_trials,
        measure_only=measure_only,
        damping_rule=options.damping_rule,
    )
    return unravel(step), LevenbergMarquardtState(next_damping, here.scale, info)
