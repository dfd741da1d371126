"""What every optimizer here is made with: a transformation that is a pytree, and its report.

No method is in this file; combinators are in `combine`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from jaxopt_study.linearize import Linearization
from jaxopt_study.pytree import params_dtype, ravel_leaves
from jaxopt_study.types import Bool, Float, Int, PyTree


def transformation(
    init: Callable[..., Any], update: Callable[..., Any], *bound: Any
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose numeric hyperparameters are leaves.

    `init` and `update` are module-level functions, `init(bound, /, params)` and
    `update(bound, /, updates, state, params=None, **extra)`. Numbers in `bound` are leaves of the
    optimizer, so that two optimizers that differ in numbers alone share one compilation; options
    go there as instances of a class registered with `jax.tree_util.register_static`.

    `bound` is one positional-only tuple, so that an extra of any name is just an extra.
    """
    return optax.GradientTransformationExtraArgs(Partial(init, bound), Partial(update, bound))


def number(value: ArrayLike) -> ArrayLike:
    """A hyperparameter in one type: 1, 1.0 and `np.float64(1)` would each be compiled for anew."""
    return float(value) if isinstance(value, int | float | np.number) else value


class StepInfo(NamedTuple):
    """What an optimizer that accepts or refuses its own steps reports, in `state.info`.

    Attributes:
      value: the objective at `params + update`.
      grad_norm: norm of the gradient at `params`, before the update.
      gradient_test: what `gtol` is compared with, at `params`: the largest cosine between the
        residuals and a column of the Jacobian, or its like for a scalar objective, see `newton`.
      actual: by how much the update lowers the value.
      predicted: by how much the model said it would.
      gain_ratio: actual over predicted; -1 if that is not a number.
      step_norm: length of the update, in the metric of the method's trust region.
      params_norm: length of `params` in that metric.
      damping: the damping of the last trial; 0 for methods without.
      trials: how many points were tried.
      accepted: whether one was taken; if not, the update is zero.
      rank_deficient: whether the curvature, JᵀJ or the Hessian, was singular to working precision.
      rounding: by how much rounding errors may change the value.
      at_rounding: whether already the first trial promised a reduction so small that rounding errors
        of the value hide it: then a trial that changes the value by no more is taken.
      orthogonal: whether the step came from an orthogonal factorization, not from Cholesky.
      num_evals: evaluations of the objective, `trials` and the linearization.
    """

    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    gradient_test: Float[Array, ""]
    actual: Float[Array, ""]
    predicted: Float[Array, ""]
    rounding: Float[Array, ""]
    gain_ratio: Float[Array, ""]
    step_norm: Float[Array, ""]
    params_norm: Float[Array, ""]
    damping: Float[Array, ""]
    trials: Int[Array, ""]
    accepted: Bool[Array, ""]
    rank_deficient: Bool[Array, ""]
    at_rounding: Bool[Array, ""]
    orthogonal: Bool[Array, ""]
    num_evals: Int[Array, ""]


def check_solvable(params: PyTree, method: str) -> None:
    """Check that linear systems in the parameters can be solved.

    Raises:
      TypeError: the parameters are in half precision, or some are hidden by `optax.masked`.
    """
    nodes = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
    if any(isinstance(node, optax.MaskedNode) for node in nodes):
        raise TypeError(f"{method}: sees only a part of the parameters; use jaxopt_study.masked instead")
    dtype = params_dtype(params)
    if jnp.finfo(dtype).bits < 32:
        raise TypeError(f"{method}: needs parameters in float32 or float64, got {dtype}")


def unmeasured(dtype: Any) -> StepInfo:
    """The report before anything was measured: no number is known, nothing was accepted."""
    unknown = jnp.full((), jnp.nan, dtype)
    none, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    return StepInfo(
        value=unknown,
        grad_norm=unknown,
        gradient_test=unknown,
        actual=unknown,
        predicted=unknown,
        rounding=unknown,
        gain_ratio=unknown,
        step_norm=unknown,
        params_norm=unknown,
        damping=unknown,
        trials=none,
        accepted=no,
        rank_deficient=no,
        at_rounding=no,
        orthogonal=no,
        num_evals=none,
    )


def linearized_info(here: Linearization) -> StepInfo:
    """The report after a linearization, before any trial."""
    return unmeasured(here.scale.dtype)._replace(
        value=here.value,
        grad_norm=here.grad_norm,
        gradient_test=here.gradient_test,
        rounding=here.rounding,
        params_norm=here.params_norm,
        num_evals=jnp.ones((), jnp.int32),
    )


def relative_gradient(params: PyTree, grads: PyTree, value: Float[Array, ""]) -> Float[Array, ""]:
    """`max |gᵢ| max(|θᵢ|, 1) / max(|f|, 1)`: how much, relatively, f changes with θ.

    Source: Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, 1983, eq. 7.2.5.
    """
    theta, gradient = ravel_leaves(params), ravel_leaves(grads)
    change = jnp.abs(gradient) * jnp.maximum(jnp.abs(theta), 1)
    return jnp.max(change, initial=0.0) / jnp.maximum(jnp.abs(value), 1)
