"""`solve_ode`: initial value problems, on diffrax's methods."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.ode.solution import Solution, Stats
from jaxopt_study.pytree import check_real, params_dtype, traceable
from jaxopt_study.result import Status
from jaxopt_study.types import Float, PyTree

Adjoint = Literal["auto", "checkpoint", "backsolve", "direct", "forward"]
Field = Callable[[Any, PyTree, PyTree], PyTree]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Options:
    """What is compiled for."""

    solver: Any
    adjoint: Adjoint
    max_steps: int
    dense: bool


def solve_ode(
    field: Field,
    y0: PyTree,
    ts: Float[ArrayLike, " times"],
    params: PyTree = None,
    *,
    solver: Any = None,
    rtol: ArrayLike | None = None,
    atol: Any = None,
    adjoint: Adjoint = "auto",
    t0: ArrayLike | None = None,
    event: Callable[[Any, PyTree, PyTree], Any] | None = None,
    first_step: ArrayLike | None = None,
    max_steps: int = 4096,
    dense: bool = False,
) -> Solution:
    """Solve `dy/dt = field(t, y, params)` from y0 at t0."""
    y0 = check_real("y0", y0)
    dtype = params_dtype(y0)
    times = jnp.asarray(ts, dtype)
    start = times[0] if t0 is None else jnp.asarray(t0, dtype)
    options = Options(solver or "tsit5", adjoint, max_steps, dense)
    eps = float(jnp.finfo(dtype).eps)
    rtol = eps**0.5 if rtol is None else rtol
    atol = eps**0.5 * 1e-2 if atol is None else atol
    return _solve(options, traceable(field), y0, times, params, start, rtol, atol)


@jax.jit
def _solve(
    options: Options, field: Field, y0: PyTree, ts: Array, params: PyTree, t0: Array, rtol: Any, atol: Any
) -> Solution:
    import diffrax

    solver = {
        "tsit5": diffrax.Tsit5, "dopri5": diffrax.Dopri5, "dopri8": diffrax.Dopri8,
        "kvaerno3": diffrax.Kvaerno3, "kvaerno5": diffrax.Kvaerno5,
    }[options.solver]() if isinstance(options.solver, str) else options.solver
    made = diffrax.diffeqsolve(
        diffrax.ODETerm(field), solver, t0, ts[-1], None, y0, params, saveat=diffrax.SaveAt(ts=ts, t1=True),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol), max_steps=options.max_steps,
        adjoint=diffrax.DirectAdjoint(), throw=False,
    )
    ok = made.result == diffrax.RESULTS.successful
    ys = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, jnp.nan)[:-1], made.ys)
    y_end = jax.tree.map(lambda leaf: leaf[-1], made.ys)
    stats = Stats(made.stats["num_steps"], made.stats["num_accepted_steps"], made.stats["num_rejected_steps"])
    status = jnp.where(ok, Status.END_REACHED, Status.OUT_OF_STEPS).astype(jnp.int32)
    return Solution(ts, ys, status, stats, ts[-1], y_end)
