"""Adam: the decaying mean of gradients over the root of the decaying mean of their squares."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxopt_study.optimizers import moments
from jaxopt_study.optimizers.combine import chain
from jaxopt_study.optimizers.learning_rate import ScalarOrSchedule, scale_by_learning_rate
from jaxopt_study.optimizers.transform import elementwise, number, transformation
from jaxopt_study.types import Int, PyTree


class AdamState(NamedTuple):
    """State of `scale_by_adam`.

    Attributes:
      count: updates made, int32.
      mean: decaying mean of gradients, like the parameters (in `mu_dtype` if given).
      mean_square: decaying mean of squared gradients, like the parameters.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # hides tuple.count, as optax does
    mean: PyTree
    mean_square: PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    mu_dtype: Any
    nesterov: bool


def scale_by_adam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """`m ← b1 m + (1 - b1) g`, `v ← b2 v + (1 - b2) g²`; the update is `m̂ / (√(v̂ + eps_root) + eps)`.

    m̂ and v̂ are the means without bias, `m / (1 - b1ᵗ)` and `v / (1 - b2ᵗ)`.

    Args:
      b1: decay of the mean, in [0, 1).
      b2: decay of the mean square, in [0, 1).
      eps: keeps the divisor away from zero, outside the root.
      eps_root: the same inside the root, for derivatives through the update at g = 0.
      mu_dtype: dtype in which the mean is kept; None for the gradient's.
      nesterov: Dozat's NAdam.

    Returns:
      An optax transformation; equal to `optax.scale_by_adam`.

    Source: Kingma and Ba 2015, algorithm 1; Dozat 2016.

    Example:
      >>> rule = scale_by_adam(eps=0.0)
      >>> updates, _ = rule.update(jnp.array([0.01, -100.0]), rule.init(jnp.zeros(2)))
      >>> print(jnp.round(updates, 4))
      [ 1. -1.]
    """
    dtype = None if mu_dtype is None else jnp.dtype(mu_dtype)
    numbers = (
        moments.decay("b1", b1),
        moments.decay("b2", b2),
        number("eps", eps),
        number("eps_root", eps_root),
    )
    return transformation(_init, _update, *numbers, _Options(dtype, nesterov))


def _init(bound: Any, /, params: PyTree) -> AdamState:
    *_, options = bound
    return AdamState(
        count=jnp.zeros((), jnp.int32),
        mean=jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=options.mu_dtype), params),
        mean_square=jax.tree.map(jnp.zeros_like, params),
    )


@elementwise
def _update(
    bound: Any, /, updates: PyTree, state: AdamState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, AdamState]:
    del params, extra
    b1, b2, eps, eps_root, options = bound
    count = optax.safe_increment(state.count)
    mean = moments.moving_average(updates, state.mean, b1, 1)
    mean_square = moments.moving_average(updates, state.mean_square, b2, 2)
    unbiased_square = moments.bias_correction(mean_square, b2, count)
    if options.nesterov:
        ahead = moments.bias_correction(mean, b1, optax.safe_increment(count))
        now = moments.bias_correction(updates, b1, count)
        unbiased = jax.tree.map(
            lambda m, g: jnp.asarray(b1.rate, m.dtype) * m + jnp.asarray(b1.complement, g.dtype) * g,
            ahead,
            now,
        )
    else:
        unbiased = moments.bias_correction(mean, b1, count)

    def rescale(m: Any, v: Any) -> Any:
        return m / (jnp.sqrt(v + jnp.asarray(eps_root, v.dtype)) + jnp.asarray(eps, v.dtype))

    out = jax.tree.map(rescale, unbiased, unbiased_square)
    if options.mu_dtype is not None:
        mean = jax.tree.map(lambda m: m.astype(options.mu_dtype), mean)
    return out, AdamState(count, mean, mean_square)


def adam(
    learning_rate: ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam: `θ ← θ - η m̂ / (√(v̂ + eps_root) + eps)`, elementwise, with the means of `scale_by_adam`.

    Args:
      learning_rate: η, a number or a schedule.
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of their squares, in [0, 1).
      eps: keeps the divisor away from zero, outside the root.
      eps_root: the same inside the root, for derivatives through the update at g = 0.
      mu_dtype: dtype in which the mean is kept; None for the gradient's.
      nesterov: Dozat's NAdam.

    Returns:
      An optax optimizer that is a pytree; its numbers equal those of `optax.adam`.

    Source: D. P. Kingma and J. Ba, Adam, ICLR 2015.

    Example:
      >>> params, optimizer = jnp.array(4.0), adam(0.5)
      >>> grads = jax.grad(lambda x: x**2)(params)
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> print(jnp.round(optax.apply_updates(params, updates), 4))
      3.5
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
