"""Classify irises with a multilayer perceptron, trained by four optimizers from the same starts.

Four measurements of a flower go in, scores of three species come out (R. A. Fisher 1936, 150
flowers). The value is the mean cross entropy on the flowers that are trained on; the others are held
out to count how many are recognized. Every lane is a start of its own, on the same flowers.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import mlp

LOOKS = {
    "momentum": ("momentum", "C0"),
    "adagrad": ("AdaGrad", "C2"),
    "rmsprop": ("RMSprop", "C3"),
    "adam": ("Adam", "C1"),
}


Activation = Literal["identity", "tanh", "sigmoid", "relu", "gelu", "silu", "softplus", "sin"]


@study.config
class Config:
    """An optimizer, the network, and how long to train."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1e-2
    """Step length, in the optimizer's own measure."""
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    """How much of past gradients `momentum` keeps."""
    seed: int = 0
    """Of the starts, and of which flowers are held out."""
    method: Literal["momentum", "adagrad", "rmsprop", "adam"] = study.static("adam")
    """How to train."""
    widths: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = study.static((4, 5, 7, 3))
    """From the 4 measurements to the 3 species."""
    activations: tuple[Activation, ...] = study.static(("tanh", "tanh", "identity"))
    """One a layer, the output's included, by its name in jaxopt_study.models.mlp."""
    held_out: Annotated[int, msgspec.Meta(ge=1, le=49)] = study.static(15)
    """Flowers of each species that are not trained on."""
    starts: Annotated[int, msgspec.Meta(ge=1)] = study.static(5)
    """How many starts, each trained by itself."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(1000)
    """Steps to take, each on all flowers that are trained on."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def make_optimizer(config: Config) -> Any:
    match config.method:
        case "momentum":
            return jos.sgd(config.learning_rate, momentum=config.momentum)
        case "adagrad":
            return jos.adagrad(config.learning_rate)
        case "rmsprop":
            return jos.rmsprop(config.learning_rate)
        case "adam":
            return jos.adam(config.learning_rate)


@functools.cache
def flowers() -> tuple[np.ndarray, np.ndarray]:
    """Measurements, standardized, by species: shape (3, 50, 4); and the species, (3, 50)."""
    from sklearn.datasets import load_iris

    x, species = load_iris(return_X_y=True)
    order = np.argsort(species, kind="stable")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x[order].reshape(3, -1, 4), species[order].reshape(3, -1)


def split(config: Config, key: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Flowers to train on and flowers held out, the same share of each species."""
    x, species = (jnp.asarray(array) for array in flowers())
    order = jnp.argsort(jax.random.uniform(key, species.shape), axis=1)
    x = jnp.take_along_axis(x, order[:, :, None], axis=1)
    train, held_out = slice(config.held_out, None), slice(config.held_out)
    return (x[:, train].reshape(-1, 4), species[:, train].ravel()), (
        x[:, held_out].reshape(-1, 4),
        species[:, held_out].ravel(),
    )


@functools.cache
def make_loss(activations: tuple[Activation, ...]) -> Callable[..., Any]:
    """The loss as one function object, and so one compilation, for each choice of activations."""

    def loss(params: Any, x: Any, species: Any) -> Any:
        log_probabilities = jax.nn.log_softmax(mlp.apply(params, x, activations))
        return -jnp.mean(jnp.take_along_axis(log_probabilities, species[:, None], axis=1))

    return loss


class Carry(NamedTuple):
    """All lanes between two chunks; `fit.setup` is common to them."""

    fit: jos.Carry
    held_out: tuple[jax.Array, jax.Array]


def init(config: Config, key: Any) -> Carry:
    check(config)
    split_key, start_key = jax.random.split(key)
    data, held_out = split(config, split_key)

    def start(key: Any) -> tuple[Any, Any]:
        carry = jos.start(
            make_loss(config.activations),
            mlp.init(key, config.widths),
            make_optimizer(config),
            data,
            max_steps=config.max_steps,
            trace=True,
        )
        return carry.setup, carry.state

    keys = jax.random.split(start_key, config.starts)
    setup, state = jax.vmap(start, out_axes=(None, 0))(keys)  # one setup for all lanes
    return Carry(jos.Carry(setup, state), held_out)


def check(config: Config) -> None:
    widths, layers = config.widths, len(config.widths) - 1
    if layers < 1 or (widths[0], widths[-1]) != (4, 3):
        raise study.StudyInputError(f"config.widths: expected 4 (measurements) to 3 (species), got {widths}")
    if len(config.activations) != layers:
        got = len(config.activations)
        raise study.StudyInputError(
            f"config.activations: expected one for each of {layers} layers, got {got}"
        )


def advance(config: Config, carry: Carry, n: Any) -> Carry:
    del config
    setup = carry.fit.setup
    # One lane after the other: under vmap every step would select among whole traces.
    state = jax.lax.map(lambda state: jos.advance(jos.Carry(setup, state), n).state, carry.fit.state)
    return Carry(jos.Carry(setup, state), carry.held_out)


def outcome(config: Config, carry: Carry) -> study.Outcome:
    result = jos.finish(carry.fit)

    def accuracy(params: Any, data: tuple[Any, Any]) -> Any:
        x, species = data
        return jnp.mean(
            jnp.argmax(mlp.apply(params, x, config.activations), axis=-1) == species, dtype=x.dtype
        )

    values = {
        "accuracy": jax.vmap(accuracy, in_axes=(0, None))(result.params, carry.held_out),
        "training_accuracy": jax.vmap(accuracy, in_axes=(0, None))(result.params, carry.fit.setup.args),
    }
    return study.Outcome(result.status, result.num_steps, result.value, values, {"loss": result.trace.value})


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Held-out accuracy, the mean over starts."""
    return {
        f"accuracy of {label}": float(np.mean(one.outcome.values["accuracy"]))
        for label, one in records.items()
    }


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for record in records.values():
        name, color = LOOKS[record.config.method]
        losses = record.outcome.traces["loss"]
        steps = np.arange(1, losses.shape[1])
        accuracy = np.mean(record.outcome.values["accuracy"])
        label = f"{name}: {accuracy:.1%} of held-out flowers right"
        ax.plot(steps, losses[:, 1:].T, color=color, lw=0.7, alpha=0.35)
        ax.plot(steps, np.median(losses[:, 1:], axis=0), color=color, lw=2.2, label=label)
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="mean cross entropy, training")
    ax.set_title("Classifying irises: every start, and their median")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower left")
    return {"loss": figure}
