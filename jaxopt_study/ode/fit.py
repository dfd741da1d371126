"""`fit_ode`: parameters of an ODE, and initial states, from observed time series."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import check_bounds
from jaxopt_study.fit.check_input import check_params, is_concrete
from jaxopt_study.fit.curve_fit import check_controls, fit_curve, prepare
from jaxopt_study.fit.fit import Fit
from jaxopt_study.losses import check_loss
from jaxopt_study.ode.check_input import Adjoint
from jaxopt_study.ode.series import Series, gather, like_series
from jaxopt_study.ode.shooting import shoot
from jaxopt_study.ode.trajectory import Fitted, Trajectory
from jaxopt_study.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_study.pytree import size, traceable
from jaxopt_study.types import PyTree

NEAR = 1e-9  # damping of Levenberg-Marquardt where multiple shooting has been
LOOSEST = 1e-5  # a solver's tolerance: with √ε of float32 some fits stall in the errors of its solves
FEW = 32  # numbers that a solution depends on; up to so many, forward sensitivities serve every derivative

Sensitivities = Literal["auto", "forward", "reverse"]


def fit_ode(
    field: Callable[[Any, PyTree, PyTree], PyTree],
    ts: Any,
    ys: Any,
    params: PyTree,
    y0: Any,
    *,
    observe: Callable[[PyTree, PyTree], PyTree] | None = None,
    fit_y0: Any = False,
    t0: ArrayLike | None = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    weights: Any = None,
    bounds: Any = None,
    y0_bounds: Any = None,
    loss: Any = "linear",
    loss_scale: ArrayLike = 1.0,
    segments: int = 1,
    states: PyTree = None,
    solver: Any = None,
    rtol: ArrayLike | None = None,
    atol: Any = None,
    adjoint: Adjoint = "auto",
    max_solver_steps: int = 4096,
    sensitivities: Sensitivities = "auto",
    optimizer: optax.GradientTransformation | None = None,
    max_steps: ArrayLike = 1000,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
) -> Fit:
    """Fit the parameters of `dy/dt = field(t, y, params)` to observations of its solutions.

    Minimizes `½ Σ C² ρ(rᵢ²/C²)`, `rᵢ = (observe(y(tᵢ), params) - ysᵢ) / sigmaᵢ`, as `curve_fit` does, and
    has the same uncertainties. Works under `jit`, and under `vmap` over ys, ts, sigma and starts.

    A trial at which the solver fails or the solution leaves the numbers is refused, and the step shortened.

    Args:
      field: `field(t, y, params)` returns dy/dt, a pytree like y.
      ts: times, shape `(times,)`, in any order, more than once if need be. For several series
        `(series, times)`, or a list of arrays of any lengths; or `(times,)` that all have in common.
      ys: what was observed, shape `(times, ...)`, for several series `(series, times, ...)` or a list of
        them. NaN is missing. Where a pytree is observed, a pytree like it; None in it was not seen.
      params: where to start, a pytree of real float arrays or numbers.
      y0: the state at `t0`, a pytree of real floats; for several series one for all, or one each with a
        leading axis or in a list. Or a function of params that returns it: for initial states that are
        tied to each other, known in part, or in logarithms.
      observe: `observe(y, params)` is what is seen of a state: an array, a number or a pytree of them; the
        state itself if not given. For log-normal noise return the logarithm, and give that of the data.
      fit_y0: whether y0 is fitted too, or which of it: a bool, or a pytree of them like y0 or a prefix of it.
      t0: when the state is y0; a number, or one for each series; the first of ts if not given.
      sigma, absolute_sigma, weights: see `curve_fit`; lists for series in a list. A covariance is that
        of ys raveled.
      bounds: `(lower, upper)` of params, see `curve_fit`.
      y0_bounds: `(lower, upper)` of y0, where it is fitted.
      loss, loss_scale: see `curve_fit`.
      segments: into how many each series is cut to find a start by multiple shooting, for long or
        chaotic series: a few times each, less than it takes the solution to turn; 1 for none.
      states: for multiple shooting, a guess of the state at every time, with the axes of ts in front; the
        data if not given where the state itself is observed, and else the solution from the start.
      solver, adjoint: see `solve_ode`.
      rtol, atol: tolerances of the solver; √ε, but no more than 1e-5, and a hundredth of it, if not given.
      max_solver_steps: steps of a solve after which it has failed.
      sensitivities: `"forward"` computes the Jacobian of every solution once, with respect to the
        parameters and its own start; `"reverse"` leaves derivatives to JAX and the adjoint, for networks
        and others with many parameters; `"auto"` is forward up to 32, start included.
      optimizer: see `least_squares`.
      max_steps, ftol, xtol, gtol: see `minimize`. A solution is smooth down to the solver's errors only.

    Returns:
      A `Fit`. Where y0 is fitted, `params`, `stderr` and so on are each a `Fitted(params, y0)`. Its x are
      the times: `fit.predict(ts, 0.95)` has a band of what is observed at any others after `t0`. Series of
      a list are padded to the longest, NaN. `num_steps` includes those of multiple shooting.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, t0 is after an observation, or as `curve_fit`.

    Source:
      H. G. Bock, Recent advances in parameter identification techniques for ODE, 1983 (multiple shooting).

    Example:
      >>> import jaxopt_study as jos
      >>> def field(t, y, params):
      ...     return -params["k"] * y
      >>> ts = jnp.linspace(0.0, 4.0, 9)
      >>> noise = jnp.array([1.0, -2.0, 1.5, 0.5, -1.0, 0.0, 1.0, -0.5, -1.0])
      >>> ys = 3.0 * jnp.exp(-0.5 * ts) + 0.02 * noise
      >>> fit = jos.fit_ode(field, ts, ys, {"k": 1.0}, 1.0, fit_y0=True)
      >>> print(f"{fit.params.params['k']:.3f} ± {fit.stderr.params['k']:.3f}, from {fit.params.y0:.2f}")
      0.502 ± 0.006, from 3.01
    """
    if not callable(field):
        raise TypeError(f"field: expected a function of (t, y, params), got {type(field).__name__}")
    if observe is not None and not callable(observe):
        raise TypeError(f"observe: expected a function of (y, params), got {type(observe).__name__}")
    if sensitivities not in get_args(Sensitivities):
        raise ValueError(f"sensitivities: expected one of {get_args(Sensitivities)}, got {sensitivities!r}")
    check_loss(loss, loss_scale)
    controls = check_controls(max_steps, ftol, xtol, gtol)
    initial = _initial(y0, fit_y0)
    if initial != "fitted" or jax.tree.leaves(params):
        params = check_params(params)
    observe_fn = traceable(_itself if observe is None else observe)
    state = jax.eval_shape(y0, params) if initial == "function" else y0

    def look(state: PyTree) -> PyTree:
        return jax.eval_shape(observe_fn, state, params)

    given = gather(ts, ys, state, params, look)
    rtol = min(float(jnp.finfo(given.ts.dtype).eps) ** 0.5, LOOSEST) if rtol is None else rtol
    atol = 1e-2 * rtol if atol is None else atol
    segments = _check_segments(segments, given)
    states = _check_states(states, given)
    trajectory = Trajectory(
        field=traceable(field),
        observe=observe_fn,
        y0={"fixed": given.y0, "fitted": None, "function": traceable(y0)}[initial],
        t0=_begin(t0, given.ts),
        options={"rtol": rtol, "atol": atol},
        initial=initial,
        series=given.number,
        shared=given.shared,
        sees_all=observe is None,
        forward=sensitivities == "forward" or (sensitivities == "auto" and _few(params, given)),
        method=(("solver", solver), ("adjoint", adjoint), ("max_steps", max_solver_steps)),
    )
    fitted = Fitted(params, given.y0) if initial == "fitted" else params
    curve, fitted = prepare(
        trajectory,
        given.ts,
        given.ys,
        fitted,
        sigma=like_series("sigma", sigma, ts),
        absolute_sigma=absolute_sigma,
        weights=like_series("weights", weights, ts),
        bounds=_bounds(fitted, bounds, y0_bounds, fit_y0, initial),
        loss=loss,
        loss_scale=loss_scale,
        pointwise=False,
        optimizer=optimizer,
    )
    steps: Any = 0
    if segments > 1:
        fitted, steps = shoot(curve, fitted, segments, states)
        # This start is good; and along chaos, where the cost is flat and steep at once, more would last.
        optimizer = levenberg_marquardt(NEAR) if optimizer is None else optimizer
    fit = fit_curve(curve, fitted, optimizer, controls)
    return dataclasses.replace(fit, num_steps=fit.num_steps + steps)


def _itself(state: PyTree, params: PyTree) -> PyTree:
    del params
    return state


def _initial(y0: Any, fit_y0: Any) -> str:
    """What is known of the initial state: `"fixed"`, `"fitted"` or `"function"`."""
    for leaf in jax.tree.leaves(fit_y0):
        if np.asarray(leaf).dtype != bool:
            raise TypeError(f"fit_y0: expected True, False or a pytree of them, got {leaf!r}")
    asked = any(np.any(leaf) for leaf in jax.tree.leaves(fit_y0))
    if callable(y0):
        if asked:
            raise ValueError("fit_y0: y0 is a function of params, and fitted through them")
        return "function"
    return "fitted" if asked else "fixed"


def _check_segments(segments: Any, given: Series) -> int:
    points = given.ts.shape[-1]
    if isinstance(segments, bool) or not isinstance(segments, int | np.integer) or segments < 1:
        raise ValueError(f"segments: expected a whole number >= 1, got {segments!r}")
    if segments > max(points - 1, 1):
        raise ValueError(f"segments: {segments} of {points} times; a segment has two or more")
    return int(segments)


def _check_states(states: PyTree, given: Series) -> PyTree:
    """A guess of all states; each leaf with the axes of ts in front of those of y0."""
    if states is None:
        return None
    several = given.number is not None and not given.shared
    wanted = jax.tree.map(lambda leaf: (*given.ts.shape, *leaf.shape[several:]), given.y0)
    got = jax.tree.map(np.shape, states)
    if got != wanted:
        raise ValueError(f"states: expected the shape {wanted}, got {got}")
    return states


def _begin(t0: Any, ts: Array) -> Array:
    """The time of the initial states, one or one for each series."""
    first = jnp.min(ts, axis=-1)
    if t0 is None:
        return first
    begin = jnp.asarray(t0, ts.dtype)
    if begin.shape not in ((), first.shape):
        raise ValueError(f"t0: expected a number, or one for each series, got shape {begin.shape}")
    if is_concrete(begin, first) and np.any(np.asarray(begin) > np.asarray(first)):
        raise ValueError(f"t0: {begin} is after the first of ts, {first}")
    return begin


def _few(params: PyTree, given: Series) -> bool:
    of_one = size(given.y0) // (1 if given.shared else given.number or 1)
    return size(params) + of_one <= FEW


def _bounds(fitted: Any, bounds: Any, y0_bounds: Any, fit_y0: Any, initial: str) -> Any:
    """The bounds of what is fitted; equal ones where part of y0 is not."""
    if initial != "fitted":
        if y0_bounds is not None:
            raise ValueError("y0_bounds: y0 is not fitted; give fit_y0=True, or bounds of params")
        return bounds
    held = _spread(fit_y0, fitted.y0)
    if bounds is None and y0_bounds is None and held is None:
        return None
    none = (None, None)
    of_params = check_bounds(none if bounds is None else bounds, fitted.params) or none
    try:
        of_y0: Any = check_bounds(none if y0_bounds is None else y0_bounds, fitted.y0)
    except (TypeError, ValueError) as error:
        words = str(error).replace("params", "y0").replace("bounds", "y0_bounds")
        raise type(error)(words) from error
    if held is not None:
        of_y0 = tuple(jax.tree.map(jnp.where, held, fitted.y0, side) for side in of_y0)
    return tuple(Fitted(p, y) for p, y in zip(of_params, of_y0, strict=True))


def _spread(fit_y0: Any, y0: PyTree) -> PyTree:
    """Which elements of y0 are held; None if all are fitted."""
    if all(np.all(leaf) for leaf in jax.tree.leaves(fit_y0)):
        return None

    def fill(asked: Any, below: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: ~jnp.broadcast_to(jnp.asarray(asked), leaf.shape), below)

    try:
        return jax.tree.map(fill, fit_y0, y0)
    except ValueError as error:
        raise ValueError(
            f"fit_y0: does not fit y0, whose leaves have the shapes {jax.tree.map(np.shape, y0)}"
        ) from error
