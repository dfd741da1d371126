"""A multilayer perceptron of any widths and activations.

The parameters are a list of layers, `{"w": (inputs, outputs), "b": (outputs,)}`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.types import Float, Key

Layer = dict[str, Array]
Activation = str | Callable[[Array], Array]

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "identity": lambda x: x,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "relu": jax.nn.relu,
        "gelu": jax.nn.gelu,
        "silu": jax.nn.silu,
        "softplus": jax.nn.softplus,
        "sin": jnp.sin,
    }
)


def init(key: Key[Array, ""], widths: Sequence[int], scale: float = 1.0) -> list[Layer]:
    """Glorot's uniform start: weights in ±`scale` √(6 / (inputs + outputs)), biases zero.

    Args:
      key: random key.
      widths: from the input to the output, `(2, 10, 1)` for 2 inputs, 10 hidden units, 1 output.
      scale: 1 is Glorot's choice, for activations of slope 1 at zero.

    Returns:
      One `{"w", "b"}` a layer.

    Raises:
      ValueError: if there are fewer than two widths, or one is not positive.

    Source:
      X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural
      networks, 2010, eq. 16.

    Example:
      >>> params = init(jax.random.key(0), (2, 10, 1))
      >>> print([layer["w"].shape for layer in params], sum(leaf.size for leaf in jax.tree.leaves(params)))
      [(2, 10), (10, 1)] 41
    """
    widths = tuple(widths)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths: expected two positive numbers or more, input to output, got {widths}")
    shapes = list(itertools.pairwise(widths))
    # One draw for all layers: compiling one a layer took most of the time that a study's start takes.
    draws = jax.random.uniform(key, (sum(i * o for i, o in shapes),), minval=-1.0, maxval=1.0)
    ends = itertools.accumulate(i * o for i, o in shapes)
    layers = []
    for (inputs, outputs), end in zip(shapes, ends, strict=True):
        limit = scale * (6.0 / (inputs + outputs)) ** 0.5
        w = limit * draws[end - inputs * outputs : end].reshape(inputs, outputs)
        layers.append({"w": w, "b": jnp.zeros(outputs)})
    return layers


def apply(
    params: Sequence[Mapping[str, Any]],
    x: Float[Array, "... inputs"],
    activation: Activation | Sequence[Activation] = "tanh",
) -> Float[Array, "... outputs"]:
    """`h ← σ(h w + b)`, layer after layer.

    Args:
      params: from `init`.
      x: inputs, along the last axis.
      activation: one for all hidden layers, the output then being linear; or one for every layer,
        the output's included. A name in `ACTIVATIONS`, or a function.

    Returns:
      Outputs, along the last axis.

    Raises:
      ValueError: if a name is unknown, or there is not one activation a layer.

    Example:
      >>> ones = [{"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}, {"w": jnp.ones((2, 1)), "b": jnp.zeros(1)}]
      >>> print(apply(ones, jnp.array([1.0, -3.0]), "relu"), apply(ones, jnp.ones(2), ["relu", "tanh"]))
      [0.] [0.99932...]
    """
    for layer, function in zip(params, _per_layer(activation, len(params)), strict=True):
        weighted = x @ layer["w"]
        x = function(weighted + jnp.broadcast_to(layer["b"], weighted.shape))
    return x


def _per_layer(activation: Activation | Sequence[Activation], layers: int) -> list[Callable[[Array], Array]]:
    if isinstance(activation, str) or callable(activation):
        names: list[Activation] = [activation] * (layers - 1) + ["identity"]
    else:
        names = list(activation)
    if len(names) != layers:
        raise ValueError(f"activation: expected one for each of the {layers} layers, got {len(names)}")
    for name in names:
        if isinstance(name, str) and name not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return [ACTIVATIONS[name] if isinstance(name, str) else name for name in names]
