"""A step of each first-order optimizer, and the loop around it, against optax and PyTorch.

`step`: update and apply, jitted and in place, on one array of 10³ to 10⁷ float32 parameters; the error is
that of the first step. `loop`: a thousand and more
Adam steps by `jos.minimize`, by a `lax.scan` written by hand that records the loss of every step, as
`minimize` looks at it, and by a Python loop over a jitted step.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.models import mlp
from jaxopt_study.types import PyTree

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
RATE = 1e-3
TRADED = 400_000  # elements that are updated between two trades
AS_OPTAX = "optax's defaults, a rate of 1e-3"
# ours, optax's, and PyTorch's class with its arguments
METHODS: dict[str, tuple[Any, Any, tuple[str, dict[str, Any]] | None]] = {
    "sgd": (jos.sgd(RATE), optax.sgd(RATE), ("SGD", {"lr": RATE})),
    "momentum": (jos.sgd(RATE, 0.9), optax.sgd(RATE, 0.9), ("SGD", {"lr": RATE, "momentum": 0.9})),
    "nesterov": (
        jos.sgd(RATE, 0.9, nesterov=True),
        optax.sgd(RATE, 0.9, nesterov=True),
        ("SGD", {"lr": RATE, "momentum": 0.9, "nesterov": True}),
    ),
    "adagrad": (
        jos.adagrad(RATE),
        optax.adagrad(RATE),
        ("Adagrad", {"lr": RATE, "initial_accumulator_value": 0.1, "eps": 1e-7}),
    ),
    "rmsprop": (jos.rmsprop(RATE), optax.rmsprop(RATE), None),  # PyTorch adds its epsilon elsewhere
    "adam": (jos.adam(RATE), optax.adam(RATE), ("Adam", {"lr": RATE})),
}


def _step_case(method: str, size: int, wanted: Callable[[str], bool]) -> Case:
    ours, theirs, torch_form = METHODS[method]
    draw = np.random.default_rng(0)
    params, grads = (jnp.asarray(draw.normal(size=size), jnp.float32) for _ in range(2))
    carries: list[list[Any]] = []

    def contestant(optimizer: optax.GradientTransformation) -> Contestant:
        def step(params: Array, state: Any, grads: Array) -> tuple[Any, Any]:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled, init = jax.jit(step, donate_argnums=(0, 1)), jax.jit(optimizer.init)
        carry = [jnp.array(params), init(params)]
        carries.append(carry)
        calls = itertools.count()

        def work() -> Array:
            if next(calls) % max(1, TRADED // size) == 0:
                _trade(carries)
            carry[:] = compiled(*carry, grads)
            return carry[0]

        return Contestant(
            work=work,
            error=lambda _: _difference(compiled(jnp.array(params), init(params), grads)[0], reference),
            settings=f"{AS_OPTAX}; parameters and state donated, and traded between the two",
            program=lambda: compiled.lower(params, init(params), grads).compile(),
        )

    contestants = {OURS: contestant(ours), "optax": contestant(theirs)}
    update = jax.jit(lambda params, grads: theirs.update(grads, theirs.init(params), params)[0])(
        params, grads
    )
    reference = np.asarray(params, np.float64) + np.asarray(update, np.float64)
    if torch_form and wanted("torch"):
        for fused in (False, True):
            made = peers.torch_step(*torch_form, np.asarray(params), np.asarray(grads), fused)
            if made is None:  # not every one has a fused form
                continue
            how = "fused, as its documentation advises for speed" if fused else "its defaults"
            contestants["torch, fused" if fused else "torch"] = _torch_contestant(made, how, reference)
    return Case("step", contestants, most_error=1e-6, rounds=21 if size < 10**7 else 9, size=size)


def _trade(carries: list[list[Any]]) -> None:
    """Let the contestants exchange their arrays, lest one has the better places in memory for good.

    (Of two that compile to the same instructions one took up to a sixth longer, all through a run.)
    """
    flat = [jax.tree.flatten(carry) for carry in carries]
    arrays = [[leaf for leaf in leaves if leaf.ndim] for leaves, _ in flat]
    for carry, (leaves, structure), others in zip(carries, flat, [*arrays[1:], arrays[0]], strict=True):
        new = iter(others)
        carry[:] = jax.tree.unflatten(structure, [next(new) if leaf.ndim else leaf for leaf in leaves])


def _torch_contestant(step: peers.TorchStep, how: str, reference: np.ndarray) -> Contestant:
    settings = f"optax's numbers, a rate of 1e-3; {how}"
    return Contestant(step, lambda _: _difference(step.fresh(), reference), settings)


def _difference(moved: Any, reference: np.ndarray) -> float:
    """The largest, relative to the largest parameter."""
    return float(np.max(np.abs(np.asarray(moved, np.float64) - reference)) / np.max(np.abs(reference)))


def _bowl(params: Array, weights: Array) -> Array:
    return jnp.sum(weights * params**2)


def _rosenbrock(params: PyTree) -> Array:
    return (1 - params["x"]) ** 2 + 100 * (params["y"] - params["x"] ** 2) ** 2


def _network(params: PyTree, x: Array, z: Array) -> Array:
    return jnp.mean((mlp.apply(params, x, "tanh")[:, 0] - z) ** 2)


def _problem(name: str) -> tuple[Callable[..., Array], PyTree, tuple, int]:
    """Objective, start, data and the number of steps."""
    if name == "rosenbrock":
        return _rosenbrock, {"x": jnp.array(-1.2), "y": jnp.array(1.0)}, (), 10_000
    if name == "network":
        key_x, key_p = jax.random.split(jax.random.key(0))
        x = jax.random.normal(key_x, (500, 2))
        return _network, mlp.init(key_p, (2, 10, 1)), (x, jnp.sin(x[:, 0]) * x[:, 1]), 1000
    size = int(name.removeprefix("bowl "))
    return _bowl, jnp.ones(size), (jnp.linspace(0.1, 1.0, size),), max(100, 1_000_000 // size)


def _loop_case(name: str, wanted: Callable[[str], bool]) -> Case:
    objective, params, args, steps = _problem(name)
    ours, theirs = jos.adam(RATE), optax.adam(RATE)

    def body(args: tuple, carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], Array]:
        params, state = carry
        value, grads = jax.value_and_grad(objective)(params, *args)
        updates, state = theirs.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    @functools.partial(jax.jit, static_argnums=2)
    def scan(params: PyTree, args: tuple, length: int) -> tuple[PyTree, Array]:
        carry, values = jax.lax.scan(
            functools.partial(body, args), (params, theirs.init(params)), None, length=length
        )
        return carry[0], values

    @jax.jit
    def minimized(params: PyTree, args: tuple) -> jos.Result:
        return jos.minimize(objective, params, ours, args, max_steps=steps)

    one = jax.jit(body)
    few = min(steps, 1000)  # of Python's loop, which takes as long a step for any number of them

    def python_loop() -> tuple[PyTree, Any]:
        carry, values = (params, theirs.init(params)), []
        for _ in range(few):
            carry, value = one(args, carry, None)
            values.append(value)
        return carry[0], values

    first = float(objective(params, *args))
    exact = {length: float(objective(scan(params, args, length)[0], *args)) for length in {steps, few}}

    def error(reached: PyTree, length: int = steps) -> float:
        wanted = exact[length]
        return abs(float(objective(reached, *args)) - wanted) / max(abs(wanted), 1e-6 * first)

    settings = f"adam({RATE}), {steps} steps, no tests of convergence"
    contestants = {
        OURS: Contestant(
            work=lambda: minimized(params, args),
            error=lambda result: error(result.params),
            settings=f"{settings}; jitted whole, as the scan is",
            units=steps,
            evaluations=lambda result: int(result.num_evals),
        ),
        "lax.scan": Contestant(
            lambda: scan(params, args, steps),
            lambda out: error(out[0]),
            f"{settings}; losses recorded",
            steps,
        ),
        "Python loop": Contestant(
            python_loop,
            lambda out: error(out[0], few),
            f"adam({RATE}), {few} steps; losses left on the device",
            few,
        ),
    }
    return Case("step", contestants, most_error=1e-3, rounds=9)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        *(
            Planned(
                f"{method}, {size:.0e} parameters".replace("e+0", "e"),
                functools.partial(_step_case, method, size),
                "float32",
                {"optax": 0.95},
            )
            for method in METHODS
            for size in SIZES
        ),
        *(
            Planned(
                f"loop: {name}",
                functools.partial(_loop_case, name),
                "float32",
                {"lax.scan": 0.9, **({"Python loop": 3.0} if small else {})},
            )
            for name, small in (
                ("rosenbrock", True),
                ("network", True),
                ("bowl 1000", True),
                ("bowl 100000", False),  # what is called takes longer than calling it
            )
        ),
    )
