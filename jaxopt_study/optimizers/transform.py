"""What every optimizer here is made with: a transformation that is a pytree.

No method is in this file; combinators are in `combine`, the report of a step in `step_info`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from jaxopt_study.pytree import params_dtype, ravel_leaves, shown
from jaxopt_study.types import Float, PyTree


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


def elementwise(update: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an update: what comes out for an element depends on that element, and on numbers.

    Its state holds numbers, and pytrees like the parameters, so that they all may be vectors.
    """
    update.elementwise = True  # type: ignore[attr-defined]
    return update


def number(name: str, value: Any) -> ArrayLike:
    """A hyperparameter in one type: 1, 1.0 and `np.float64(1)` would each be compiled for anew.

    Raises:
      TypeError: if it is neither a real number nor an array of them, traced or not.

    >>> number("eps", 1)
    1.0
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    dtype = getattr(value, "dtype", object)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{name}: expected a real number, got {shown(value)}")
    return value


def positive(name: str, value: Any) -> ArrayLike:
    """`number`, of what has to be above zero; what is an array is not looked into.

    Raises:
      TypeError: as `number`.
      ValueError: if it is not positive.
    """
    value = number(name, value)
    if isinstance(value, float) and not value > 0:
        raise ValueError(f"{name}: expected a number > 0, got {value}")
    return value


def whole(name: str, value: Any, least: int = 0) -> ArrayLike:
    """`number`, of what is counted; what is an array is not looked into.

    Raises:
      TypeError: if it is neither a whole number nor an array of them, traced or not.
      ValueError: if it is less than `least`.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if value < least:
            raise ValueError(f"{name}: expected a whole number >= {least}, got {value}")
        return int(value)
    if not jnp.issubdtype(getattr(value, "dtype", object), jnp.integer):
        raise TypeError(f"{name}: expected a whole number, got {shown(value)}")
    return value


def check_solvable(params: PyTree, method: str) -> None:
    """Check that linear systems in the parameters can be solved.

    Raises:
      TypeError: the parameters are in half precision, or some are hidden by `optax.masked`.
      ValueError: a leaf has no elements. (XLA 0.10 loses the factorizations of LAPACK in a loop that
        carries such a leaf.)
    """
    nodes = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
    if any(isinstance(node, optax.MaskedNode) for node in nodes):
        raise TypeError(f"{method}: sees only a part of the parameters; use jaxopt_study.masked instead")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if np.size(leaf) == 0:
            where = "params" + jax.tree_util.keystr(path)
            raise ValueError(f"{where}: has no elements (shape {np.shape(leaf)}); leave it out for {method}")
    dtype = params_dtype(params)
    if jnp.finfo(dtype).bits < 32:
        raise TypeError(f"{method}: needs parameters in float32 or float64, got {dtype}")


def relative_gradient(params: PyTree, grads: PyTree, value: Float[Array, ""]) -> Float[Array, ""]:
    """`max |gᵢ| max(|θᵢ|, 1) / max(|f|, 1)`: how much, relatively, f changes with θ.

    Source: Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, 1983, eq. 7.2.5.
    """
    theta, gradient = ravel_leaves(params), ravel_leaves(grads)
    change = jnp.abs(gradient) * jnp.maximum(jnp.abs(theta), 1)
    return jnp.max(change, initial=0.0) / jnp.maximum(jnp.abs(value), 1)
