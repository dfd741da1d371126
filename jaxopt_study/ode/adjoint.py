"""The continuous adjoint, written out: what `adjoint="backsolve"` is, and why it is not the default.

With `a(t) = ∂L/∂y(t)` the gradients follow from one more differential equation, solved backwards:

    dy/dt = f(t, y, θ)                    the state once more
    da/dt = -aᵀ ∂f/∂y                     its adjoint, which jumps by ∂L/∂y(tᵢ) at every observation
    dg/dt = -aᵀ ∂f/∂θ                     and g(t0) = ∂L/∂θ

Both products are one vector-Jacobian product of f; no Jacobian is ever made. Memory does not grow with the
number of steps, because nothing is stored: the state is solved for again. That is also its fault. What decays
going forwards grows going backwards, so that for a stiff or dissipative problem the state found on the
way back is not that of the way there, and the gradient is wrong without a sign of it.

Source: L. S. Pontryagin et al., The Mathematical Theory of Optimal Processes, 1962; R. T. Q. Chen et al.,
Neural Ordinary Differential Equations, 2018, appendix B.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.by_diffrax import solve_by_diffrax
from jaxopt_study.ode.plan import Numbers
from jaxopt_study.ode.tableau import VectorField
from jaxopt_study.types import PyTree


class Forward(NamedTuple):
    """How both solves are made, static: the field, a solver of diffrax, and the most steps."""

    field: VectorField
    solver: Any
    max_steps: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def backsolve(
    how: Forward, theta: PyTree, others: PyTree, y0: Array, t0: Array, ts: Array, numbers: Numbers
) -> tuple[Array, Any, Array]:
    """The states at ts, counts of steps and a status; the gradient solves the adjoint equation backwards.

    Args:
      how: see `Forward`; its field takes `(theta, others)` for parameters.
      theta: parameters of the field, a pytree of floats.
      others: those that are none, which have no derivative.
      y0: the state at t0, shape `(n,)`.
      t0: the first time.
      ts: the times observed, increasing, shape `(times,)`.
      numbers: tolerances and first step of both solves.
    """
    import diffrax

    forwards = diffrax.ForwardMode()
    return solve_by_diffrax(
        how.field, how.solver, (theta, others), y0, t0, ts, numbers.tolerances, forwards, how.max_steps,
        numbers.first_step,
    )  # fmt: skip


def _forward(
    how: Forward, theta: PyTree, others: PyTree, y0: Array, t0: Array, ts: Array, numbers: Numbers
) -> tuple[Any, Any]:
    out = backsolve(how, theta, others, y0, t0, ts, numbers)
    return out, (theta, others, y0, t0, ts, out[0], numbers)


def _backward(how: Forward, kept: Any, bars: Any) -> Any:
    import diffrax

    *given, t0, ts, ys, numbers = kept
    theta, others, y0 = jax.tree.map(jnp.asarray, given)  # NumPy's arrays are kept as they were given
    tolerances, first_step = numbers.tolerances, numbers.first_step
    ys_bar = bars[0]

    def augmented(t: Any, state: Any, given: PyTree) -> Any:
        y, a, _ = state
        theta, others = given
        slope, transpose = jax.vjp(lambda y, theta: how.field(t, y, (theta, others)), y, theta)
        a_slope, g_slope = transpose(-a)
        return slope, a_slope, g_slope

    def between(carry: Any, now: Any) -> Any:
        """From one observation back to the one before; the state is set right at every one of them."""
        a, g = carry
        t_before, t_after, y, y_bar = now
        a = a + y_bar
        back = diffrax.diffeqsolve(
            diffrax.ODETerm(augmented),
            how.solver,
            t_after,
            t_before,
            None if first_step is None else -first_step,
            (y, a, g),
            (theta, others),
            stepsize_controller=diffrax.PIDController(rtol=tolerances.rtol, atol=tolerances.atol),
            adjoint=diffrax.ForwardMode(),
            max_steps=how.max_steps,
            throw=False,
        )
        failed = back.result != diffrax.RESULTS.successful
        a, g = jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf[0]), back.ys[1:])
        # ∂L/∂t of an observation is the slope there.
        return (a, g), jnp.sum(y_bar * how.field(t_after, y, (theta, others)))

    nothing = (jnp.zeros_like(y0), jax.tree.map(jnp.zeros_like, theta))
    befores = jnp.concatenate([t0[None], ts[:-1]])
    (a, g), ts_bar = jax.lax.scan(between, nothing, (befores, ts, ys, ys_bar), reverse=True)
    t0_bar = -jnp.sum(a * how.field(t0, y0, (theta, others)))
    return g, None, a, t0_bar, ts_bar, jax.tree.map(jnp.zeros_like, numbers)


backsolve.defvjp(_forward, _backward)
