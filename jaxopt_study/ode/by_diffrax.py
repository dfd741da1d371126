"""The same solve by diffrax's own loop, for its adjoints: `"direct"` and `"forward"`, and for comparison."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.step_control import Tolerances
from jaxopt_study.ode.tableau import VectorField
from jaxopt_study.result import Status
from jaxopt_study.types import PyTree


def solve_by_diffrax(
    field: VectorField,
    solver: Any,
    theta: PyTree,
    y0: Array,
    t0: Array,
    ts: Array,
    tolerances: Tolerances,
    adjoint: Any,
    max_steps: int,
    first_step: Any = None,
) -> tuple[Array, Any, Array]:
    """States at ts, diffrax's counts of steps, and a `Status`; the states are NaN where it failed."""
    import diffrax

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        t0,
        ts[-1],
        first_step,
        y0,
        theta,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=tolerances.rtol, atol=tolerances.atol),
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    solved = solution.result == diffrax.RESULTS.successful
    out_of_steps = solution.result == diffrax.RESULTS.max_steps_reached
    failed = jnp.where(out_of_steps, Status.OUT_OF_STEPS, Status.STEP_TOO_SMALL)
    status = jnp.where(solved, Status.END_REACHED, failed).astype(jnp.int32)
    # diffrax writes a constant, infinity, where it did not come to; here even its derivatives are NaN.
    reached = jnp.isfinite(solution.ys)
    leaves = [leaf for leaf in jax.tree.leaves((y0, theta)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    everything = sum(jnp.sum(leaf).astype(y0.dtype) for leaf in leaves)
    nothing = everything - jax.lax.stop_gradient(everything)
    missing = jnp.where(reached, 0.0, jnp.nan).astype(y0.dtype)
    return jnp.where(reached, solution.ys, jnp.nan) + missing * nothing, solution.stats, status
