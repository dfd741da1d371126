"""`find_root`: where a function is zero. As many equations as unknowns; all roots are in `find_roots`."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds, check_bounds, sides
from jaxopt_study.compiling import Task, jit_small
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_study.pytree import check_real, ravel, ravel_leaves, traceable
from jaxopt_study.result import Result, Status, is_converged
from jaxopt_study.solvers import root_ending
from jaxopt_study.solvers.implicit import only_where, root_of, solve_regular
from jaxopt_study.solvers.minimize import minimize
from jaxopt_study.solvers.root_bracket import enclose
from jaxopt_study.solvers.root_input import (
    FIRST_RADIUS,
    MAX_STEPS,
    RootMethod,
    RootNumbers,
    RootOptions,
    check_numbers,
    check_options,
    check_square,
    tolerances_for,
)
from jaxopt_study.solvers.root_model import RootSolver, lengths
from jaxopt_study.solvers.root_newton import begin, trial
from jaxopt_study.traced_once import traced_once
from jaxopt_study.types import Bool, Int, PyTree


class RootState(NamedTuple):
    """What `find_root` knows at its end besides the root, in `Result.opt_state`.

    Attributes:
      residual: f at the root, in the form that the function returns.
      radius: of the trust region; for a bracket its width.
      num_jacobians: Jacobians taken, int32.
      singular: whether the last of them was singular to working precision.
    """

    residual: Any
    radius: Any
    num_jacobians: Any
    singular: Any


def find_root(
    fn: Callable[..., PyTree],
    x0: PyTree = None,
    args: tuple = (),
    *,
    method: RootMethod = "auto",
    bracket: tuple[ArrayLike, ArrayLike] | None = None,
    bounds: Bounds | None = None,
    max_steps: ArrayLike = MAX_STEPS,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    xatol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
    radius: ArrayLike = FIRST_RADIUS,
    solver: RootSolver = "auto",
    jacobian: Literal["auto", "forward", "reverse"] = "auto",
) -> Result:
    """Solve `fn(x, *args) = 0`, one equation or a system of as many equations as unknowns.

    | method                  | what it is, and when                                                     |
    |-------------------------|--------------------------------------------------------------------------|
    | `"newton"`              | Newton's method in a trust region (Powell's dogleg); the default         |
    | `"broyden"`             | the same with rank-one updates of the Jacobian: for Jacobians that cost  |
    |                         | much more than the function                                              |
    | `"levenberg_marquardt"` | `least_squares`; the default with `bounds`                               |
    | `"chandrupatla"`        | one equation, enclosed in `bracket`, without derivatives; the default    |
    |                         | with `bracket`                                                           |

    A function is compiled for once per function *object*: define it once, and pass data that changes
    through `args`. Tolerances, start, bracket and bounds are traced.

    Args:
      fn: a function of `(x, *args)` that returns a pytree of real floats, as many as x has.
      x0: where to start, a pytree of real float arrays; may be left out with a bracket, and is the first
        point looked at in it if not.
      args: a tuple of further arguments of the function, traced.
      method: see above.
      bracket: two numbers, in any order, at which fn has different signs; x is then one number.
      bounds: `(lower, upper)`, see `minimize`.
      max_steps: end with `OUT_OF_STEPS` after so many accepted steps (in a bracket: evaluations).
      ftol: the largest |fᵢ| that counts as zero, in its unit; 0 by default: none but zero itself.
      xtol: end when Newton's step is shorter, relative to x (each unknown weighted with its column of the
        Jacobian), after taking it; ε^⅝ by default, 2e-10 in float64, for a bracket ε.
      xatol: the same as a length, in the unit of x; by default ε|x0|, for a bracket (a, b) ε²|b - a|, or ε²
        if that is less.
      gtol: look for a minimum of ‖f‖ that is not zero when its slope is smaller than so much of the
        largest one seen; √ε by default.
      radius: of the trust region at the start, relative to x0.
      solver: of the linear systems, `"lu"` or `"gmres"` (Newton-Krylov: no Jacobian is held; takes
        derivatives in forward and reverse mode), or `"auto"`: GMRES beyond 4096 unknowns.
      jacobian: `"forward"` (`"auto"`) or `"reverse"`; forward mode goes through any loop.

    The root is differentiable with respect to `args`, and to all else that `fn` closes over, by the implicit
    function theorem, in forward and reverse mode and more than once. The derivatives are NaN where
    no root was found or the Jacobian is singular. Other fields carry none.

    Returns:
      A `Result`: `params` is the root, `value` is ½‖f‖² there, `grad_norm` its gradient's norm where
      a Jacobian was last taken (NaN for a bracket), `opt_state` a `RootState` with the residual.
      `status`:
      `TARGET_REACHED` (|f| ≤ ftol), `VALUE_CONVERGED` (f is zero to rounding), `STEP_CONVERGED`
      (`xtol`), or how it failed. **`NO_ROOT`** says that ‖f‖ has a local minimum at `params` that is not
      zero (to second order, up to 64 unknowns), or that f jumps across zero; another start may find one.

    Raises:
      TypeError: if an argument is of the wrong kind, or x0 has a leaf that is not a real float array.
      ValueError: if the numbers of equations and unknowns differ, or an option is unknown.

    Source: see `root_newton`, `root_bracket`.

    Example:
      >>> import jaxopt_study as jos
      >>> circle = lambda p, r: {"on": p["x"]**2 + p["y"]**2 - r**2, "diagonal": p["x"] - p["y"]}
      >>> start = {"x": jnp.array(1.0), "y": jnp.array(0.5)}
      >>> root = lambda r: jos.find_root(circle, start, (r,)).params["x"]
      >>> print(f"{root(2.0):.4f} {jax.grad(root)(2.0):.4f}")
      1.4142 0.7071
      >>> print(f"{jos.find_root(jnp.cos, bracket=(0.0, 3.0)).params:.4f}")
      1.5708
      >>> jos.find_root(lambda x: x**2 + 1, 3.0).message
      'no root: the residual has a minimum here that is not zero, or jumps across it'
    """
    options, x0 = check_options(fn, x0, args, method, bracket, bounds, solver, jacobian)
    x = check_real("x0", x0)
    ends = None if bracket is None else (jnp.asarray(bracket[0], x.dtype), jnp.asarray(bracket[1], x.dtype))
    numbers = check_numbers(RootNumbers(ftol, xtol, xatol, gtol, radius, max_steps))
    return _find(options, traceable(fn), x, args, ends, check_bounds(bounds, x, "x0"), numbers)


@jit_small(lambda options, fn, x, args, *_: Task((x, args), fn, (x, *args)), static_argnums=0)
def _find(
    options: RootOptions,
    fn: Any,
    x: PyTree,
    args: tuple,
    bracket: tuple[Array, Array] | None,
    bounds: Bounds | None,
    numbers: RootNumbers,
) -> Result:
    flat, unravel = ravel(x)
    once = traced_once(fn)
    shape = check_square(once, x, args)

    def of_vector(theta: Array) -> Array:
        return ravel_leaves(once(unravel(theta), *args)).astype(flat.dtype)

    def found() -> tuple[Array, tuple[Bool[Array, ""], Result]]:
        if bracket is not None:
            result = _in_bracket(of_vector, bracket, flat[0], numbers)
        elif options.method == "levenberg_marquardt":
            result = _by_least_squares(fn, of_vector, x, args, bounds, numbers, options)
        else:
            result = _by_newton(of_vector, flat, numbers, options)
        return result.params, (result.converged, dataclasses.replace(result, params=None))

    root, (is_root, rest) = root_of(of_vector, found, flat, solve_regular)
    _, unravel_residual = ravel(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape))
    params = unravel(only_where(is_root, root))
    state = rest.opt_state._replace(residual=unravel_residual(rest.opt_state.residual))
    active = None if bounds is None else sides(bounds, jax.lax.stop_gradient(params))
    return dataclasses.replace(rest, params=params, opt_state=state, active=active)


def _by_newton(fn: Any, x: Array, numbers: RootNumbers, options: RootOptions) -> Result:
    radius = jnp.asarray(numbers.radius, x.dtype)
    end = root_ending.solve(fn, x, radius, numbers.max_steps, tolerances_for(x, numbers), options.newton)
    return Result(
        params=end.x,
        value=0.5 * lengths(end.residual)[0] ** 2,
        grad_norm=end.grad_norm,
        status=end.status,
        num_steps=end.num_steps,
        num_evals=end.num_evals,
        opt_state=RootState(end.residual, end.radius, end.num_jacobians, end.singular),
    )


def _in_bracket(fn: Any, bracket: tuple[Array, Array], x0: Array, numbers: RootNumbers) -> Result:
    dtype = x0.dtype
    eps = float(jnp.finfo(dtype).eps)
    ftol, xtol, xatol, *_ = numbers
    # A bracket around 0 would shrink on and on; one that begins wide says nothing of how near 0 a root is.
    shortest = eps**2 * jnp.minimum(jnp.abs(bracket[1] - bracket[0]), 1.0)
    end = enclose(
        lambda x: fn(x[None])[0],
        bracket,
        x0,
        jnp.asarray(numbers.max_steps, jnp.int32),
        ftol=jnp.asarray(0.0 if ftol is None else ftol, dtype),
        xtol=jnp.asarray(eps if xtol is None else xtol, dtype),
        xatol=jnp.asarray(shortest if xatol is None else xatol, dtype),
    )
    zero = jnp.zeros((), jnp.int32)
    return Result(
        params=end.x[None],
        value=0.5 * end.residual**2,
        grad_norm=jnp.full((), jnp.nan, dtype),
        status=end.status,
        num_steps=end.num_steps,
        num_evals=end.num_evals,
        opt_state=RootState(end.residual[None], end.width, zero, jnp.zeros((), bool)),
    )


def _by_least_squares(
    fn: Any,
    of_vector: Any,
    x: PyTree,
    args: tuple,
    bounds: Bounds | None,
    numbers: RootNumbers,
    options: RootOptions,
) -> Result:
    """Levenberg-Marquardt, whose end is a root only if Newton's method would end there too."""
    start = ravel_leaves(x)
    tolerances = tolerances_for(start, numbers)
    result = minimize(
        LeastSquares(fn),
        x,
        levenberg_marquardt(),
        args,
        bounds=bounds,
        max_steps=numbers.max_steps,
        xtol=tolerances.xtol,
        ftol=0.0,
        gtol=jnp.finfo(start.dtype).eps,
        target=0.5 * tolerances.ftol**2,
    )
    theta = ravel_leaves(result.params)
    loose = tolerances._replace(xtol=100 * tolerances.xtol)
    there = trial(of_vector, begin(theta, jnp.ones((), theta.dtype), options.newton), loose, options.newton)
    is_root = is_converged(there.status) | there.last | root_ending.is_noise(of_vector, theta, there.residual)
    # A minimum of ½‖f‖² in the box; or where f is stationary and not zero.
    rest = result.converged | (result.status == Status.STALLED) | (result.status == Status.RANK_DEFICIENT)
    helps = root_ending.newton_helps(of_vector, there)
    if bounds is not None:  # what leads out of the box does not help
        helps &= jnp.all(ravel_leaves(sides(bounds, result.params)) == 0)
    resting = jnp.where(helps, Status.STALLED, Status.NO_ROOT)
    failed = jnp.where(rest, resting, result.status)
    converged = jnp.where(result.converged, result.status, Status.VALUE_CONVERGED)
    return Result(
        params=theta,
        value=0.5 * there.size**2,
        grad_norm=result.grad_norm,
        status=jnp.where(is_root, converged, failed).astype(jnp.int32),
        num_steps=result.num_steps,
        num_evals=result.num_evals + 1 + root_ending.NEIGHBORS,
        opt_state=RootState(there.residual, there.radius, _count(result) + 1, there.model.singular),
    )


def _count(result: Result) -> Int[Array, ""]:
    """A Jacobian at the start, one after every step."""
    return result.num_steps + 1
