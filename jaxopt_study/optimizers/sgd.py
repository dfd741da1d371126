"""Gradient descent, with Polyak's heavy-ball momentum or Nesterov's."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_study.optimizers.combine import chain
from jaxopt_study.optimizers.learning_rate import ScalarOrSchedule, scale_by_learning_rate
from jaxopt_study.optimizers.transform import elementwise, number, transformation
from jaxopt_study.types import PyTree


class MomentumState(NamedTuple):
    """State of `scale_by_momentum`: the decaying sum of past updates, like the parameters."""

    trace: PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    nesterov: bool


def scale_by_momentum(decay: ArrayLike, nesterov: bool = False) -> optax.GradientTransformationExtraArgs:
    """`m ← g + decay m`; the update is m, or with Nesterov's correction `g + decay m`.

    Args:
      decay: how much of the sum is kept from one update to the next, in [0, 1).
      nesterov: whether to look ahead by one decay.

    Returns:
      An optax transformation; equal to `optax.trace`.

    Source: Polyak 1964; Sutskever et al. 2013, eqs. 1 to 4.

    Example:
      >>> rule = scale_by_momentum(0.5)
      >>> state = rule.init(jnp.zeros(1))
      >>> for _ in range(3):
      ...     updates, state = rule.update(jnp.ones(1), state)
      >>> print(updates)
      [1.75]
    """
    return transformation(_init, _update, number("decay", decay), _Options(nesterov))


def _init(bound: Any, /, params: PyTree) -> MomentumState:
    del bound
    return MomentumState(jax.tree.map(jnp.zeros_like, params))


@elementwise
def _update(
    bound: Any, /, updates: PyTree, state: MomentumState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, MomentumState]:
    del params, extra
    decay, options = bound

    def accumulate(g: Any, m: Any) -> Any:
        return g + jnp.asarray(decay, g.dtype) * m

    trace = jax.tree.map(accumulate, updates, state.trace)
    out = jax.tree.map(accumulate, updates, trace) if options.nesterov else trace
    return out, MomentumState(trace)


def sgd(
    learning_rate: ScalarOrSchedule, momentum: ArrayLike | None = None, nesterov: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent: `θ ← θ - η g`, or `θ ← θ - η m` with momentum.

    The momentum is `m ← g + momentum · m`; with `nesterov` the step is `-η (g + momentum · m)`.

    Args:
      learning_rate: η, a number or a schedule.
      momentum: how much of the sum of past gradients is kept, in [0, 1); None for none.
      nesterov: Nesterov's variant.

    Returns:
      An optax optimizer that is a pytree; its numbers equal those of `optax.sgd`.

    Source: Cauchy 1847; Polyak 1964; Nesterov 1983 as in Sutskever et al. 2013.

    Example:
      >>> params, optimizer = jnp.array(4.0), sgd(0.25)
      >>> grads = jax.grad(lambda x: x**2)(params)
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      2.0
    """
    descend = scale_by_learning_rate(learning_rate)
    if momentum is None:
        return descend
    return chain(scale_by_momentum(number("momentum", momentum), nesterov), descend)
