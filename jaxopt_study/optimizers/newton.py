"""Newton's method for a minimum: in a trust region, exactly or by conjugate gradients; damped; line-searched.

What it carries and how an update goes; the two ways of computing a step are in `newton_exact` and
`newton_cg`, the direction for a line search in `newton_direction`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study import damping as damping_rule
from jaxopt_study.bounds import as_box
from jaxopt_study.optimizers import newton_cg, newton_exact
from jaxopt_study.optimizers.combine import chain
from jaxopt_study.optimizers.leap import Pace, leap, standing
from jaxopt_study.optimizers.newton_direction import (
    NewtonOptions,
    NewtonSolver,
    check_solver,
    scale_by_newton,
)
from jaxopt_study.optimizers.step_info import Evaluations, StepInfo, no_evaluations, unmeasured
from jaxopt_study.optimizers.transform import check_solvable, number, positive, transformation, whole
from jaxopt_study.optimizers.trial import Point, follow_damping, follow_radius, full_step, search
from jaxopt_study.pytree import norm, params_dtype, ravel, ravel_leaves, size
from jaxopt_study.types import Float, PyTree

FIRST_DAMPING = 1e-4  # relative to the largest curvature, after the first step that was refused
FIRST_REACH = 1000.0  # how many first radii a full step may be long where H is positive definite


class NewtonState(NamedTuple):
    """State of `newton`.

    Attributes:
      damping: λ and its growth, for the next update; used with `saddle_free`.
      radius: of the trust region for the next update; infinite before the first.
      first_value: the objective's at the first update, NaN before.
      longest: the largest ‖θ‖ so far.
      seen: what conjugate gradients have learned of the curvature, None for the exact solver.
      pace: how far the steps since the last look ahead have led.
      evaluations: values, gradients and Hessian-vector products, counted apart, from the start.
      info: what the last update did.
    """

    damping: damping_rule.Damping
    radius: Float[Array, ""]
    first_value: Float[Array, ""]
    longest: Float[Array, ""]
    seen: newton_cg.Seen | None
    pace: Pace
    evaluations: Evaluations
    info: StepInfo


def newton(
    damping: ArrayLike | None = 0.0,
    *,
    solver: NewtonSolver = "auto",
    radius: ArrayLike = 0.1,
    saddle_free: bool = False,
    linesearch: optax.GradientTransformation | None = None,
    max_trials: ArrayLike = 60,
) -> optax.GradientTransformationExtraArgs:
    """Newton's method in a trust region: `min gᵀd + ½ dᵀHd` over `‖d‖ ≤ Δ`, negative curvature and all.

    | `solver`  | how                                                     | for                              |
    |-----------|---------------------------------------------------------|----------------------------------|
    | `"exact"` | H as n products and one eigendecomposition; the step of | a few hundred parameters;        |
    |           | Moré and Sorensen, the hard case too                    | final answers to the last digit  |
    | `"cg"`    | Steihaug's conjugate gradients, preconditioned by what  | any number: H is never formed, a |
    |           | those of the steps before have seen                     | step takes 0 to 4 products       |
    | `"auto"`  | `"exact"` up to 3 parameters, else `"cg"`               | fewest evaluations               |

    Where H is positive definite and the model holds this is Newton's step `-H⁻¹g` (with `"cg"` to a tenth of
    the gradient, and better near the end). Where it is not, the step goes along negative curvature, to the
    border of the region; also at a strict saddle, where the gradient is zero, and `info.way_down` says so:
    `minimize` does not end there. Conjugate gradients look for such a direction once, in at most 10
    products, before they let an iteration end; in up to 200 at a start without any slope.

    Where `value_fn` is a cheap function of θ and of dear linear images of it, `X @ weights` for one, its
    program says so, and conjugate gradients go along f itself instead of its model: up to 20 directions a
    step, each counted as a Hessian-vector product. Not with bounds or with given `grads`.

    Every 25th step looks ahead: if f is lower still where these steps together point, the step is made longer
    by twice, four times, ... that way. (This is how a bowl full of ripples is crossed.)

    What `gtol` is compared with does not change with the units of f. Exact: `max |gᵢ| / √(2 |f| |Hᵢᵢ|)`; cg:
    `√(gᵀMg / 2|f|)`, M being what is known of H⁻¹. For a sum of squares with small residuals these are
    cosines between the residuals and what J reaches. Where f goes to zero nothing is small beside it: to |f|
    is added ε^1.25 of the first value, 10⁻²⁰ in float64, but not more than the largest curvature times the
    largest ‖θ‖² so far: from far away the first value may be any number.

    Args:
      damping: None for the plain method, `d = -H⁻¹g` whatever it does to the value: it finds stationary
        points, of any kind, and is exact. A number is λ ≥ 0 at the start, relative to the largest
        |curvature|: with `saddle_free` see there; in a trust region the first step is not longer than
        `‖g‖ / (λ max|w|)`. A leaf.
      solver: see above.
      radius: Δ at the start, relative to ‖θ‖, or to 1 where that is zero. Where H is positive definite the
        full step is tried first nevertheless, if it is not longer than 1000 Δ. A leaf.
      saddle_free: instead of the trust region, damp `H = Q diag(w) Qᵀ` with its eigenvalues made positive,
        `d = -Q diag(1 / (|w| + λ max|w|)) Qᵀg`, and raise λ until the value falls (Dauphin et al. 2014).
        Exact.
      linesearch: of optax, `optax.scale_by_zoom_linesearch(20)` for one, instead of the trust region: the
        direction is `scale_by_newton`'s, and the state that of a chain.
      max_trials: how many radii, or dampings, one update tries before it gives up.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keyword `value_fn`, the
      objective as a function of the parameters alone, and `bounds`, a pair of pytrees like `params`, in
      which steps end. `grads` may be None: then the gradient of
      `value_fn` is used, which comes with the Hessian at no cost; otherwise `grads` is. The update
      is a step to be added; it is zero when no trial was accepted. See `StepInfo` for
      `state.info`; its `damping` is the radius of the last trial.

    Raises:
      ValueError: if `damping` is negative, `radius` not positive, `solver` unknown or not one that the other
        options can go with.
      TypeError: from `init`, if the parameters are in half precision or hidden by `optax.masked`.

    Source: Nocedal and Wright 2006, chapters 4 and 7; J. J. Moré and D. C. Sorensen 1983;
      T. Steihaug 1983; J. L. Morales and J. Nocedal 2000.

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
    plain = damping is None
    damping = 0.0 if damping is None else number("damping", damping)
    if isinstance(damping, float) and not damping >= 0:
        raise ValueError(f"damping: expected a number >= 0 or None, got {damping}")
    radius = positive("radius", radius)
    check_solver(solver)
    if solver == "cg" and (plain or saddle_free):
        raise ValueError("solver: 'cg' has neither eigenvalues (saddle_free) nor full steps (damping=None)")
    if linesearch is not None:
        if plain or saddle_free:
            raise ValueError("linesearch: decides on the length; it goes with no damping and no saddle_free")
        return chain(scale_by_newton(solver=solver), optax.scale(-1.0), linesearch)
    options = NewtonOptions(solver, plain, saddle_free)
    return transformation(_init, _update, damping, radius, whole("max_trials", max_trials, 1), options)


def _init(bound: Any, /, params: PyTree) -> NewtonState:
    damping, _, _, options = bound
    check_solvable(params, "newton")
    dtype = params_dtype(params)
    seen = None if options.exact(params) else newton_cg.nothing_seen(size(params), dtype)
    return NewtonState(
        damping_rule.start(jnp.asarray(damping, dtype)),
        jnp.full((), jnp.inf, dtype),
        jnp.full((), jnp.nan, dtype),
        jnp.zeros((), dtype),
        seen,
        standing(ravel_leaves(params).astype(dtype)),
        no_evaluations(),
        unmeasured(dtype),
    )


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
    gtol: Any = None,
    target: Any = None,
    **extra: Any,
) -> tuple[PyTree, NewtonState]:
    del extra
    damping, first_radius, max_trials, options = bound
    box = as_box(bounds, params)
    theta, unravel = ravel(params)
    given = None if updates is None else ravel(updates)[0].astype(theta.dtype)
    # Where the iteration ends here, anything more is for nothing.
    limit = jnp.zeros((), theta.dtype) if gtol is None else gtol
    longest = jnp.maximum(state.longest, norm(theta))

    def of_vector(theta: Array) -> Array:
        return value_fn(unravel(theta)).astype(theta.dtype)

    def radii(gradient: Array, steepest: Callable[[], Array]) -> tuple[Array, Array]:
        """Δ, and how far a first step may go where H is positive definite."""
        length = norm(theta)
        first = first_radius * jnp.where(length > 0, length, 1.0)
        bend = jax.lax.cond(
            (damping > 0) & jnp.isinf(state.radius),
            lambda: (damping * steepest()).astype(theta.dtype),
            lambda: jnp.zeros((), theta.dtype),
        )
        damped = norm(gradient) / jnp.where(bend > 0, bend, 1.0)
        bound = (bend > 0) & (damped > 0)
        first = jnp.where(bound, jnp.minimum(first, damped), first)
        reach = jnp.where(bound, first, FIRST_REACH * first)
        known = jnp.isfinite(state.radius)
        choose = lambda new: jnp.where(known, state.radius, new).astype(theta.dtype)  # noqa: E731
        return choose(first), choose(reach)

    def finished(point: Point) -> Array:
        return measure_only | ((point.gradient_test <= limit) & ~jnp.asarray(point.way_down))

    if options.exact(params):
        here = newton_exact.spectrum(of_vector, theta, given, box)
        radius = newton_exact.first_radius(here, *radii(here.free_gradient, lambda: here.steepest))
        first_value = jnp.where(jnp.isfinite(state.first_value), state.first_value, here.value)
        point = newton_exact.point(here, theta, radius, first_value, longest)
        products = jnp.full((), theta.size, jnp.int32)
        seen = None
        attempt = newton_exact.trust_region_trial(here, of_vector, theta, box)
        if options.plain or options.saddle_free:
            point = point._replace(way_down=False)
            attempt = newton_exact.damped_trial(here, of_vector, theta, box, options.plain)
    else:
        assert state.seen is not None
        model = newton_cg.model(
            of_vector,
            theta,
            given,
            box,
            state.seen,
            state.first_value,
            longest,
            lambda free, push: radii(free, lambda: newton_cg.curvature_along(free, push)),
            jnp.finfo(theta.dtype).eps ** 0.625 if gtol is None else gtol,
            target,
            measure_only,
        )
        first_value = jnp.where(jnp.isfinite(state.first_value), state.first_value, model.value)
        radius, point, products, seen = model.radius, model.point, model.products, model.seen
        attempt = newton_cg.trust_region_trial(model, of_vector, theta, box)
    if options.plain:
        step, info = full_step(attempt(state.damping.value), point, measure_only)
        next_damping, radius = state.damping, state.radius
    elif options.saddle_free:
        step, control, info = search(
            lambda control: attempt(control[0]),
            follow_damping("nielsen", FIRST_DAMPING),
            jnp.stack(state.damping),
            theta,
            point,
            max_trials=max_trials,
            measure_only=finished(point),
        )
        next_damping, radius = damping_rule.Damping(*control), state.radius
    else:
        step, control, info = search(
            lambda control: attempt(control[0]),
            follow_radius,
            radius[None],
            theta,
            point,
            max_trials=max_trials,
            measure_only=finished(point),
        )
        next_damping, radius = state.damping, control[0]
    pace = state.pace
    if not options.plain:
        step, pace, found = leap(of_vector, pace, theta, step, info, box)
        # The region goes along: steps of its old size would be short beside the new parameters, and so ends.
        radius = jnp.where(found.value < info.value, jnp.maximum(radius, found.step_norm), radius)
        info = found
    counted = state.evaluations.plus(info.trials, 1, products)
    return unravel(step), NewtonState(next_damping, radius, first_value, longest, seen, pace, counted, info)
