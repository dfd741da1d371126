"""Optimizers made of optimizers: `chain` and `masked`, which keep them pytrees.

`optax.chain` works too, but makes a closure, which compiles once per object. `optax.masked` and
`optax.multi_transform` hide leaves from an optimizer without filling them in again where it
evaluates the objective: second-order methods refuse that, and take `masked` instead.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_study.optimizers.step_info import StepInfo
from jaxopt_study.optimizers.transform import transformation
from jaxopt_study.optimizers.trial import NOTHING
from jaxopt_study.pytree import traceable
from jaxopt_study.types import PyTree


def chain(*optimizers: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Apply optimizers one after the other, each to the update of the one before.

    As `optax.chain`, but the numbers in `optimizers` are leaves of the result.

    Args:
      optimizers: of this package or of optax; extras are passed to those that take them.

    Returns:
      An optimizer whose state is the tuple of their states.

    Example:
      >>> optimizer = chain(optax.clip_by_global_norm(1.0), optax.scale(-0.1))
      >>> updates, _ = optimizer.update(jnp.array([30.0, 40.0]), optimizer.init(jnp.zeros(2)))
      >>> print(updates)
      [-0.06 -0.08]
    """
    return transformation(_chain_init, _chain_update, traceable(optimizers))


def _chain_init(bound: Any, /, params: PyTree) -> tuple:
    (optimizers,) = bound
    return tuple(optimizer.init(params) for optimizer in optimizers)


def _chain_update(
    bound: Any, /, updates: PyTree, state: tuple, params: PyTree = None, **extra: Any
) -> tuple[PyTree, tuple]:
    (optimizers,) = bound
    if len(state) != len(optimizers):
        raise ValueError(f"state: expected one for each of {len(optimizers)} optimizers, got {len(state)}")
    states = []
    for optimizer, old in zip(optimizers, state, strict=True):
        updates, new = call_update(optimizer, updates, old, params, **extra)
        states.append(new)
    return updates, tuple(states)


def call_update(
    optimizer: optax.GradientTransformation, updates: PyTree, state: Any, params: PyTree, **extra: Any
) -> tuple[PyTree, Any]:
    """`optimizer.update`, with the extras if it is of the kind that takes them."""
    if isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return optimizer.update(updates, state, params, **extra)
    return optimizer.update(updates, state, params)


def is_elementwise(optimizer: optax.GradientTransformation) -> bool:
    """Whether an optimizer is made of updates marked `elementwise`, with scalars for numbers."""
    update = optimizer.update
    function = getattr(update, "func", None)
    if function is _chain_update:
        return all(map(is_elementwise, update.args[0][0]))
    return getattr(function, "elementwise", False) and all(map(_is_scalar, update.args[0]))


def _is_scalar(bound: Any) -> bool:
    """Of a schedule, whether what it returns is one."""
    if callable(bound):
        bound = jax.eval_shape(bound, jax.ShapeDtypeStruct((), jnp.int32))
    return all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(bound))


class Frozen(NamedTuple):
    """What an optimizer inside `masked` sees in the place of a frozen leaf: a pytree of nothing."""


class MaskedState(NamedTuple):
    """State of `masked`: that of the optimizer inside, for the leaves it sees."""

    inner_state: Any

    @property
    def info(self) -> StepInfo | None:
        """The inner optimizer's report, if it makes one: gradients are those of the trained leaves."""
        return getattr(self.inner_state, "info", None)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Mask:
    """A pytree of bools, or a function of the parameters that returns one, made hashable."""

    flags: tuple[bool, ...]
    structure: Any
    function: Callable[[PyTree], PyTree] | None = None

    def trains(self, params: PyTree) -> PyTree:
        tree = self.function(params) if self.function else jax.tree.unflatten(self.structure, self.flags)
        return jax.tree.map(lambda flag, below: jax.tree.map(lambda _: bool(flag), below), tree, params)


def masked(
    optimizer: optax.GradientTransformation, mask: PyTree | Callable[[PyTree], PyTree]
) -> optax.GradientTransformationExtraArgs:
    """Optimize the leaves where `mask` is true; the others are constants, to the last bit.

    The optimizer inside never sees a frozen leaf: its state has no room for one, and the
    `residual_fn` and `value_fn` it is given are functions of the other leaves alone. (In
    `optax.masked` leaves outside the mask get their gradient as update, untouched.)

    Args:
      optimizer: what to apply.
      mask: a pytree of bools, like the parameters or a prefix of them, or a function from the
        parameters to one. Static.

    Returns:
      An optimizer whose update of a frozen leaf is zero.

    Raises:
      TypeError: if a leaf of `mask` is not a bool.
      ValueError: from `init`, if every leaf is frozen.

    Example:
      >>> params = {"slope": jnp.array(1.0), "intercept": jnp.array(0.0)}
      >>> optimizer = masked(optax.sgd(0.1), {"slope": True, "intercept": False})
      >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(updates["slope"], updates["intercept"])
      -0.1 -0.0
    """
    flags, structure = jax.tree.flatten(mask)
    if all(isinstance(flag, bool | np.bool_) for flag in flags):
        static = _Mask(tuple(bool(flag) for flag in flags), structure)
    elif callable(mask):
        static = _Mask((), None, mask)
    else:
        kinds = sorted({type(flag).__name__ for flag in flags})
        raise TypeError(f"mask: expected a function of params or a pytree of bools, got {', '.join(kinds)}")
    return transformation(_masked_init, _masked_update, traceable(optimizer), static)


def _kept(trains: PyTree, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda train, leaf: leaf if train else Frozen(), trains, tree)


def _masked_init(bound: Any, /, params: PyTree) -> MaskedState:
    optimizer, mask = bound
    trains = mask.trains(params)
    if not any(jax.tree.leaves(trains)):
        raise ValueError("mask: freezes every leaf of params; there is nothing to optimize")
    return MaskedState(optimizer.init(_kept(trains, params)))


def trained_leaves(optimizer: optax.GradientTransformation, params: PyTree) -> PyTree:
    """A bool for every leaf of `params`, whether the optimizer trains it; None for all, if not `masked`."""
    update = optimizer.update
    if getattr(update, "func", None) is not _masked_update:
        return None
    _, mask = update.args[0]
    return mask.trains(params)


def trained_part(optimizer: optax.GradientTransformation, tree: PyTree) -> PyTree:
    """The leaves that an optimizer trains: all of them, unless it is `masked`."""
    trains = trained_leaves(optimizer, tree)
    return tree if trains is None else _kept(trains, tree)


def _masked_update(
    bound: Any, /, updates: PyTree, state: MaskedState, params: PyTree = None, **extra: Any
) -> tuple[PyTree, MaskedState]:
    optimizer, mask = bound
    whole = updates if params is None else params
    trains = mask.trains(whole)

    def merge(kept: PyTree, frozen: PyTree) -> PyTree:
        def choose(train: bool, new: Any, old: Any) -> Any:
            return new if train else old

        return jax.tree.map(choose, trains, kept, frozen)

    def of_kept(fn: Callable[..., Any]) -> Callable[..., Any]:
        # An optax line search looks at the signature of `value_fn`: it has to see that of `fn`.
        return functools.wraps(fn)(lambda kept, *args, **kwargs: fn(merge(kept, params), *args, **kwargs))

    inner = {}
    for name, value in extra.items():
        if name == "residual_fn" and hasattr(value, "residual_fn"):
            inner[name] = dataclasses.replace(value, residual_fn=of_kept(value.residual_fn))
        elif name in ("residual_fn", "value_fn"):
            inner[name] = of_kept(value)
        elif name == "grad":
            inner[name] = _kept(trains, value)
        elif name == "bounds" and value is not None:
            inner[name] = tuple(_kept(trains, side) for side in value)
        else:
            inner[name] = value
    inner_params = None if params is None else _kept(trains, params)
    inner_updates = None if updates is None else _kept(trains, updates)
    new, inner_state = call_update(optimizer, inner_updates, state.inner_state, inner_params, **inner)
    return merge(new, jax.tree.map(lambda leaf: jnp.full_like(leaf, NOTHING), whole)), MaskedState(
        inner_state
    )
