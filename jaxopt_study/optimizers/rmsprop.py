"""RMSprop: gradients divided by the root of their decaying mean square."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.optimizers import moments
from jaxopt_study.optimizers.combine import chain
from jaxopt_study.optimizers.learning_rate import ScalarOrSchedule, scale_by_learning_rate
from jaxopt_study.optimizers.sgd import scale_by_momentum
from jaxopt_study.optimizers.transform import elementwise, number, transformation
from jaxopt_study.types import Int, PyTree


class RmspropState(NamedTuple):
    """State of `scale_by_rms`.

    Attributes:
      count: updates made, int32; None without bias correction, which alone needs it.
      mean: decaying mean of gradients, like the parameters; None unless centered.
      mean_square: decaying mean of squared gradients, like the parameters.
    """

    count: Int[Array, ""] | None  # type: ignore[assignment]  # hides tuple.count, as optax does
    mean: PyTree
    mean_square: PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    eps_in_sqrt: bool
    centered: bool
    bias_correction: bool


def scale_by_rms(
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """`v ← decay v + (1 - decay) g²`; the update is `g / √(v + eps)`.

    Args:
      decay: of the means, in [0, 1).
      eps: keeps the divisor away from zero.
      initial_scale: v at the start.
      eps_in_sqrt: `√(v + eps)` (optax, TensorFlow), else `√v + eps` (PyTorch).
      centered: divide by the standard deviation, `√(v - mean² + eps)`.
      bias_correction: divide the means by `1 - decayᵗ`, as Adam does.

    Returns:
      An optax transformation; equal to `optax.scale_by_rms` and `optax.scale_by_stddev`.

    Source: Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, eqs. 38 to 45.

    Example:
      >>> rule = scale_by_rms(decay=0.0, eps=0.0)
      >>> updates, _ = rule.update(jnp.array([0.01, -100.0]), rule.init(jnp.zeros(2)))
      >>> print(updates)
      [ 1. -1.]
    """
    options = _Options(eps_in_sqrt, centered, bias_correction)
    numbers = (moments.decay("decay", decay), number("eps", eps), number("initial_scale", initial_scale))
    return transformation(_init, _update, *numbers, options)


def _init(bound: Any, /, params: PyTree) -> RmspropState:
    _, _, initial_scale, options = bound
    mean = jax.tree.map(jnp.zeros_like, params) if options.centered else None
    mean_square = jax.tree.map(lambda leaf: jnp.full_like(leaf, initial_scale), params)
    return RmspropState(jnp.zeros((), jnp.int32) if options.bias_correction else None, mean, mean_square)


@elementwise
def _update(
    bound: Any, /, updates: PyTree, state: RmspropState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, RmspropState]:
    del params, extra
    decay, eps, _, options = bound
    count = optax.safe_increment(state.count) if options.bias_correction else None
    mean = moments.moving_average(updates, state.mean, decay, 1) if options.centered else None
    mean_square = moments.moving_average(updates, state.mean_square, decay, 2)
    m, v = mean, mean_square
    if options.bias_correction:
        v = moments.bias_correction(v, decay, count)
        m = moments.bias_correction(m, decay, count) if options.centered else None
    if options.centered:
        v = jax.tree.map(lambda v, m: v - m * m, v, m)

    def rescale(g: Any, v: Any) -> Any:
        small = jnp.asarray(eps, v.dtype)
        inverse = jax.lax.rsqrt(v + small) if options.eps_in_sqrt else 1 / (jnp.sqrt(v) + small)
        return inverse * g

    return jax.tree.map(rescale, updates, v), RmspropState(count, mean, mean_square)


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RMSprop: `θ ← θ - η g / √(v + eps)` with v the decaying mean of g².

    Args:
      learning_rate: η, a number or a schedule.
      decay: of the mean, in [0, 1).
      eps: keeps the divisor away from zero.
      initial_scale: v at the start.
      eps_in_sqrt: `√(v + eps)` (optax, TensorFlow), else `√v + eps` (PyTorch).
      centered: divide by the standard deviation of the gradients instead.
      momentum: of the updates, after the rate; None for none.
      nesterov: Nesterov's variant of it.
      bias_correction: divide the means by `1 - decayᵗ`, as Adam does.

    Returns:
      An optax optimizer that is a pytree; its numbers equal those of `optax.rmsprop`.

    Source: T. Tieleman and G. Hinton, Lecture 6.5, 2012; A. Graves, arXiv 1308.0850, 2013.

    Example:
      >>> params, optimizer = jnp.array(4.0), rmsprop(0.5, decay=0.0)
      >>> grads = jax.grad(lambda x: x**2)(params)
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      3.5
    """
    rules = [
        scale_by_rms(decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction),
        scale_by_learning_rate(learning_rate),
    ]
    if momentum is not None:
        rules.append(scale_by_momentum(number("momentum", momentum), nesterov))
    return chain(*rules)
