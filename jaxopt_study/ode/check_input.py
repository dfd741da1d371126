"""What `solve_ode` refuses, in one line that names the argument, before anything is computed."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import params_dtype, ravel_leaves, shown
from jaxopt_study.solvers.minimize_input import check_arrays, check_flag
from jaxopt_study.types import PyTree

Adjoint = Literal["auto", "checkpoint", "backsolve", "direct", "forward"]


def check_options(field: Any, ts: Any, adjoint: Any, event: Any, max_steps: Any, dense: Any) -> None:
    """Kinds, shapes, and options that do not go together."""
    for name, value in (("field", field), ("event", event)):
        if not callable(value) and not (name == "event" and value is None):
            raise TypeError(f"{name}: expected a function of (t, y, params), got {type(value).__name__}")
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        raise ValueError(f"ts: expected one row of times, got shape {np.shape(ts)}")
    if not (isinstance(adjoint, str) and adjoint in get_args(Adjoint)):
        raise ValueError(f"adjoint: expected one of {get_args(Adjoint)}, got {shown(adjoint)}")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 1:
        raise ValueError(f"max_steps: expected a whole number >= 1, got {shown(max_steps)}")
    check_flag("dense", dense)
    for name, wanted in (("event", event is not None), ("dense", dense)):
        if wanted and adjoint not in ("auto", "checkpoint"):
            raise ValueError(f"{name}: adjoint {adjoint!r} has none; 'auto' and 'checkpoint' do")


def real(name: str, value: Any, dtype: Any) -> Array:
    """Times in the dtype of the state.

    Raises:
      TypeError: if they are no real numbers.
    """
    check_arrays(name, value)
    given = jnp.asarray(value)
    if jnp.iscomplexobj(given):
        raise TypeError(f"{name}: expected real times, got dtype {given.dtype}")
    return jnp.asarray(value, dtype)


def check_number(name: str, value: Any) -> None:
    """One number above zero, or None; what is traced is not looked at.

    Raises:
      TypeError: if it is no real number.
      ValueError: if there are several, or it is not above zero, or infinite.
    """
    if value is None:
        return
    value = number(name, value)
    if np.ndim(value) != 0:
        raise ValueError(f"{name}: expected one number, got shape {np.shape(value)}")
    if not isinstance(value, jax.core.Tracer) and not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")


def check_times(ts: Array, t0: Array) -> None:
    """Times that turn round or are not finite, where they are known."""
    if t0.ndim != 0:
        raise ValueError(f"t0: expected one time, got shape {t0.shape}")
    if isinstance(ts, jax.core.Tracer) or isinstance(t0, jax.core.Tracer):
        return
    times = np.concatenate([np.asarray(t0)[None], np.asarray(ts)])
    if not np.all(np.isfinite(times)):
        raise ValueError(f"ts: expected finite times, got {times[~np.isfinite(times)][0]}")
    steps = np.diff(times)
    if np.any(steps > 0) and np.any(steps < 0):
        raise ValueError("ts: expected times that increase, or decrease, from t0 on; they do both")


def estimates(solver: Any) -> bool:
    """Whether the solver estimates its error."""
    import diffrax

    return isinstance(solver, diffrax.AbstractAdaptiveSolver)


def spread(atol: Any, y0: PyTree, default: float) -> Array:
    """The absolute tolerance: one number, or one an element of the state."""
    dtype = params_dtype(y0)
    for leaf in jax.tree.leaves(atol):
        leaf = number("atol", leaf)
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.asarray(leaf) >= 0):
            raise ValueError(f"atol: expected no negative number, got {leaf}")
    if atol is None:
        return jnp.asarray(default, dtype)
    given: Any = jax.tree.structure(atol)
    if given != jax.tree.structure(y0):
        if given != jax.tree.structure(0) or np.ndim(atol) != 0:
            raise ValueError("atol: expected one number, or a pytree like y0")
        return jnp.asarray(atol, dtype)
    if all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(atol)) and given.num_leaves == 1:
        return jnp.asarray(jax.tree.leaves(atol)[0], dtype)

    def fill(tolerance: Any, state: Any) -> Array:
        try:
            return jnp.broadcast_to(jnp.asarray(tolerance, dtype), state.shape)
        except ValueError:
            fits = f"does not fit y0, where it is {state.shape}"
            raise ValueError(f"atol: shape {np.shape(tolerance)} {fits}") from None

    return ravel_leaves(jax.tree.map(fill, atol, y0))
