"""L-BFGS: optax's own, by its name, as a pytree. The method is not written here a second time."""

import dataclasses
from typing import Any

import jax
import optax
from jax.typing import ArrayLike

from jaxopt_study.optimizers.combine import call_update
from jaxopt_study.optimizers.transform import number, transformation
from jaxopt_study.pytree import traceable
from jaxopt_study.types import PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    memory_size: int
    scale_init_precond: bool
    own_linesearch: bool

    def make(self, learning_rate: Any, linesearch: Any) -> optax.GradientTransformationExtraArgs:
        options = {} if self.own_linesearch else {"linesearch": linesearch}
        return optax.lbfgs(learning_rate, self.memory_size, self.scale_init_precond, **options)


_ZOOM = object()


def lbfgs(
    learning_rate: ArrayLike | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = _ZOOM,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a zoom line search, as `optax.lbfgs`: `d = -M g`, M from the last steps and gradients.

    Two optimizers that are made alike share one compilation, which those of optax do not.

    Args:
      learning_rate: a factor of the direction, or None for the line search alone; a number is a leaf.
      memory_size: how many steps are remembered.
      scale_init_precond: whether M starts from the curvature of the last step.
      linesearch: of optax; the default is that of `optax.lbfgs`, None is no search.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose update takes the keywords `value`, `grad` and
      `value_fn`, which `minimize` gives.

    Raises:
      ValueError: if `memory_size` is less than 1.

    Source: D. C. Liu and J. Nocedal, On the limited memory BFGS method, 1989.

    Example:
      >>> import jaxopt_study as jos
      >>> bowl = lambda p: jnp.sum((p - jnp.array([1.0, 2.0])) ** 2)
      >>> result = jos.minimize(bowl, jnp.zeros(2), jos.lbfgs(), gtol=1e-4)
      >>> print(jnp.round(result.params, 3), bool(result.converged))
      [1. 2.] True
    """
    if memory_size < 1:
        raise ValueError(f"memory_size: expected a number >= 1, got {memory_size}")
    own = linesearch is _ZOOM
    rate = learning_rate
    if rate is not None and not callable(rate):
        rate = number("learning_rate", rate)
    bound = traceable((rate, None if own else linesearch))
    return transformation(_init, _update, *bound, _Options(memory_size, scale_init_precond, own))


def _init(bound: Any, /, params: PyTree) -> Any:
    rate, linesearch, options = bound
    return options.make(rate, linesearch).init(params)


def _update(
    bound: Any, /, updates: PyTree, state: Any, params: PyTree = None, **extra: Any
) -> tuple[PyTree, Any]:
    rate, linesearch, options = bound
    with jax.numpy_dtype_promotion("standard"):  # optax does not compute without
        return call_update(options.make(rate, linesearch), updates, state, params, **extra)
