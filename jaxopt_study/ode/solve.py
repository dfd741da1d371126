"""`solve_ode`: initial value problems, on diffrax's methods, with derivatives of every kind."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.compiling import jit_small
from jaxopt_study.ode.check_input import (
    Adjoint,
    check_number,
    check_options,
    check_times,
    estimates,
    real,
    spread,
)
from jaxopt_study.ode.methods import check_solver
from jaxopt_study.ode.plan import Numbers
from jaxopt_study.ode.problem import as_vectors
from jaxopt_study.ode.run import Options, by_march, by_other_loops
from jaxopt_study.ode.solution import Solution, Stats
from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.pytree import check_real, params_dtype, traceable
from jaxopt_study.solvers.minimize_input import check_arrays
from jaxopt_study.types import PyTree

Field = Callable[[Any, PyTree, PyTree], PyTree]
MAX_STEPS = 4096


def solve_ode(
    field: Field,
    y0: PyTree,
    ts: Any,
    params: PyTree = None,
    *,
    solver: Any = None,
    rtol: ArrayLike | None = None,
    atol: Any = None,
    adjoint: Adjoint = "auto",
    t0: ArrayLike | None = None,
    event: Callable[[Any, PyTree, PyTree], Any] | None = None,
    first_step: ArrayLike | None = None,
    step: ArrayLike | None = None,
    max_steps: int = MAX_STEPS,
    dense: bool = False,
) -> Solution:
    """Solve `dy/dt = field(t, y, params)` from y0 at the first time to the last.

    Under `adjoint="auto"` everything may be differentiated with `jax.grad`, `jacfwd`, `jacrev`, `hessian`,
    `jvp`, in any order and under `vmap`, with respect to y0, params, ts, t0 and what the field closes over.

    | adjoint        | what it is, and when                                                              |
    |----------------|-----------------------------------------------------------------------------------|
    | `"auto"`       | the derivative of the numerical solution: forward mode along the steps, reverse   |
    |                | mode back over kept states; all of them where that is little memory               |
    | `"checkpoint"` | the same with at most 256 kept states, whatever `max_steps` is                    |
    | `"direct"`     | diffrax's `DirectAdjoint`, through its loop: slow to compile; for comparison      |
    | `"forward"`    | diffrax's `ForwardMode`: no reverse mode; for comparison                          |
    | `"backsolve"`  | the continuous adjoint, solved backwards (`ode.adjoint`): reverse mode only, and  |
    |                | **wrong without a sign of it** where the problem is stiff                         |

    Args:
      field: `field(t, y, params) -> dy/dt`, a pytree like y. Compiled for once per function *object*: define
        it once, and pass what changes through `params`.
      y0: the state at the start, a pytree of real float arrays. A batch that is an axis of y0 has one step
        size, which is fastest; under `vmap` each sample has its own steps.
      ts: the times at which the state is wanted, increasing or decreasing, shape `(times,)`.
      params: passed to the field; any pytree.
      solver: a name (`"tsit5"`, the default, `"dopri5"`, `"dopri8"`, `"bosh3"`, ...; for stiff problems
        `"kvaerno3"`, `"kvaerno5"`), or a Runge-Kutta method of diffrax.
      rtol: a step's error may be `atol + rtol |y|`, in the root mean square over all of y; √ε by default
        (1.5e-8 in float64, 3.5e-4 in float32).
      atol: one number, or a pytree like y0; √ε / 100 by default.
      adjoint: see above.
      t0: where y0 is; the first of ts by default.
      event: `event(t, y, params) -> scalar`: the solve ends where it changes its sign.
      first_step: the length of the first step; chosen by default.
      step: a constant step length, without control of the error.
      max_steps: end with `OUT_OF_STEPS` after so many tries, static.
      dense: whether `Solution.evaluate` is wanted: every state is then kept.

    Returns:
      A `Solution`. Where the solve failed, states are NaN from there on, and so are the derivatives of those;
      `status` says why: `OUT_OF_STEPS`, `STEP_TOO_SMALL`, `NON_FINITE_START`, `NON_FINITE` (a constant step).
      Derivatives hold the steps fixed. That of a state by its own time is the field there, that by t0 minus
      the field at the start, carried along. `status`, `stats`, `t_end` without an event, and `y_end` of a
      solve that failed, carry none.

    Raises:
      TypeError: if an argument is of the wrong kind, or y0 has a leaf that is not a real float array.
      ValueError: if ts is not one row of finite, monotone times (found within `jit`, they are NaN and the
        status is `NON_FINITE_START`), the field returns other shapes than y0's, or an
        option is unknown or does not go with another.

    Source: methods: diffrax (P. Kidger, On Neural Differential Equations, 2021); see `step_control`.

    Example:
      >>> import jaxopt_study as jos
      >>> def oscillator(t, y, frequency):
      ...     return {"x": y["v"], "v": -frequency**2 * y["x"]}
      >>> def at_the_end(frequency):
      ...     start = {"x": jnp.array(0.0), "v": jnp.array(1.0)}
      ...     ts = jnp.array([0.0, 0.5])
      ...     return jos.solve_ode(oscillator, start, ts, frequency, rtol=1e-6, atol=1e-6).ys["x"][-1]
      >>> print(f"{at_the_end(1.0):.4f} {jax.grad(at_the_end)(1.0):.4f}")
      0.4794 -0.0406
    """
    check_options(field, ts, adjoint, event, max_steps, dense)
    y0 = check_real("y0", y0)
    check_arrays("params", params)
    dtype = params_dtype(y0)
    times = real("ts", ts, dtype)
    start = times[0] if t0 is None else real("t0", t0, dtype)
    check_times(times, start)
    chosen = check_solver("tsit5" if solver is None else solver)
    numbers_given: dict[str, Any] = {"rtol": rtol, "first_step": first_step, "step": step}
    for name, value in numbers_given.items():
        check_number(name, value)
    if step is not None and adjoint not in ("auto", "checkpoint"):
        raise ValueError(f"step: adjoint {adjoint!r} takes none; 'auto' and 'checkpoint' do")
    if step is None and not estimates(chosen):
        raise ValueError(
            f"step: {type(chosen).__name__} has no estimate of its error: give it a constant step"
        )
    eps = float(jnp.finfo(dtype).eps)
    numbers = Numbers(
        Tolerances(jnp.asarray(eps**0.5 if rtol is None else rtol, dtype), spread(atol, y0, eps**0.5 / 100)),
        None if first_step is None else jnp.asarray(first_step, dtype),
        None if step is None else jnp.asarray(step, dtype),
    )
    options = Options(chosen, adjoint, int(max_steps), dense)
    functions = (traceable(field), None if event is None else traceable(event))
    return _solve(options, functions, y0, times, params, start, numbers)


@jit_small(lambda *_: None)
def _solve(
    options: Options, functions: tuple, y0: PyTree, ts: Array, params: PyTree, t0: Array, numbers: Numbers
) -> Solution:
    problem = as_vectors(functions, y0, ts, params, t0)
    if options.adjoint in ("auto", "checkpoint"):
        return by_march(options, functions[1] is not None, problem, ts, numbers)
    ys, counts, status = by_other_loops(options, problem, numbers)
    stats = Stats(*(counts[name] for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")))
    ys = jax.vmap(problem.unravel)(ys)
    return Solution(ts, ys, status, stats, ts[-1], jax.tree.map(lambda leaf: leaf[-1], ys))
