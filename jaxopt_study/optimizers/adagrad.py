"""AdaGrad: each parameter's rate falls with the sum of its squared gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_study.optimizers.combine import chain
from jaxopt_study.optimizers.learning_rate import ScalarOrSchedule, scale_by_learning_rate
from jaxopt_study.optimizers.transform import elementwise, number, transformation
from jaxopt_study.types import PyTree


class AdagradState(NamedTuple):
    """State of `scale_by_adagrad`: the sum of squared gradients, like the parameters."""

    sum_of_squares: PyTree


def scale_by_adagrad(
    initial_accumulator_value: ArrayLike = 0.1, eps: ArrayLike = 1e-7
) -> optax.GradientTransformationExtraArgs:
    """`s ← s + g²`; the update is `g / √(s + eps)`, 0 where s is 0.

    Args:
      initial_accumulator_value: s at the start, >= 0.
      eps: keeps the root away from zero.

    Returns:
      An optax transformation; equal to `optax.scale_by_rss`.

    Source: Duchi, Hazan and Singer 2011, figure 1 (diagonal).

    Example:
      >>> rule = scale_by_adagrad(initial_accumulator_value=0.0, eps=0.0)
      >>> updates, _ = rule.update(jnp.array([0.01, 100.0]), rule.init(jnp.zeros(2)))
      >>> print(updates)
      [1. 1.]
    """
    initial = number("initial_accumulator_value", initial_accumulator_value)
    return transformation(_init, _update, initial, number("eps", eps))


def _init(bound: Any, /, params: PyTree) -> AdagradState:
    initial, _ = bound
    return AdagradState(jax.tree.map(lambda leaf: jnp.full_like(leaf, initial), params))


@elementwise
def _update(
    bound: Any, /, updates: PyTree, state: AdagradState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, AdagradState]:
    del params, extra
    _, eps = bound
    squares = jax.tree.map(lambda g, s: g * g + s, updates, state.sum_of_squares)

    def rescale(g: Any, s: Any) -> Any:
        root = jax.lax.rsqrt(s + jnp.asarray(eps, s.dtype))
        return jnp.where(s > 0, root, 0.0) * g

    return jax.tree.map(rescale, updates, squares), AdagradState(squares)


def adagrad(
    learning_rate: ScalarOrSchedule, initial_accumulator_value: ArrayLike = 0.1, eps: ArrayLike = 1e-7
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad: `θ ← θ - η g / √(Σ g² + eps)`, elementwise.

    Args:
      learning_rate: η, a number or a schedule.
      initial_accumulator_value: what the sum of squares begins with, >= 0.
      eps: keeps the root away from zero.

    Returns:
      An optax optimizer that is a pytree; its numbers equal those of `optax.adagrad`.

    Source: J. Duchi, E. Hazan and Y. Singer, Adaptive subgradient methods, JMLR 12, 2011.

    Example:
      >>> params, optimizer = jnp.array(4.0), adagrad(0.5, initial_accumulator_value=0.0)
      >>> grads = jax.grad(lambda x: x**2)(params)
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      3.5
    """
    return chain(scale_by_adagrad(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate))
