"""`least_squares`: the driver for sums of squares, by Levenberg-Marquardt unless told otherwise."""

from collections.abc import Callable
from typing import Any

import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds
from jaxopt_study.losses import Loss
from jaxopt_study.objectives import LeastSquares, with_loss
from jaxopt_study.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_study.result import Result
from jaxopt_study.solvers.minimize import minimize
from jaxopt_study.types import PyTree


def least_squares(
    residual_fn: LeastSquares | Callable[..., PyTree],
    params: PyTree,
    args: tuple = (),
    *,
    optimizer: optax.GradientTransformation | None = None,
    bounds: Bounds | None = None,
    loss: Loss = "linear",
    loss_scale: ArrayLike = 1.0,
    max_steps: ArrayLike = 1000,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    gtol: ArrayLike | None = None,
    target: ArrayLike | None = None,
    trace: bool | Callable[[PyTree], PyTree] = False,
    batch_fn: Callable[[Array, Array], tuple] | None = None,
    key: Array | None = None,
    opt_state: Any = None,
) -> Result:
    """Minimize `½ Σ C² ρ(r(params, *args)² / C²)`, half the sum of squares for the linear loss.

    Args:
      residual_fn: a function of `(params, *args)` that returns a pytree of residuals, or a
        `LeastSquares`.
      params: where to start, a pytree of real float arrays.
      args: a tuple of further arguments, traced: data goes here.
      optimizer: `levenberg_marquardt(damping_rule="radius")` if not given; any other that `minimize` takes.
      bounds: `(lower, upper)`, see `minimize`.
      loss: ρ, `"linear"`, `"huber"`, `"soft_l1"`, `"cauchy"`, `"arctan"`, `"tukey"` or a function, see
        `LeastSquares`.
      loss_scale: C, from which size on a residual is an outlier; SciPy's `f_scale`.
      max_steps, ftol, xtol, gtol, target, trace, batch_fn, key, opt_state: see `minimize`.

    Returns:
      A `Result`; `value` is the objective above: SciPy's `cost`.

    Raises:
      TypeError, ValueError: see `minimize`.
      ValueError: if a `LeastSquares` has a loss of its own and `loss` is another.

    Example:
      >>> import jaxopt_study as jos
      >>> decay = lambda p, t, y: p["a"] * jnp.exp(-p["k"] * t) - y
      >>> t = jnp.linspace(0.0, 4.0, 20)
      >>> start = {"a": jnp.array(1.0), "k": jnp.array(1.0)}
      >>> result = jos.least_squares(decay, start, (t, 3.0 * jnp.exp(-0.5 * t)))
      >>> print(f"{result.params['a']:.3f} {result.params['k']:.3f}", bool(result.converged))
      3.000 0.500 True
    """
    return minimize(
        with_loss(residual_fn, loss, loss_scale),
        params,
        levenberg_marquardt(damping_rule="radius") if optimizer is None else optimizer,
        args,
        bounds=bounds,
        max_steps=max_steps,
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        target=target,
        trace=trace,
        batch_fn=batch_fn,
        key=key,
        opt_state=opt_state,
    )
