"""The one table of optimizers: what each needs, and hyperparameters for a bowl and for Rosenbrock's valley.

A test that takes `entry` runs once for each, one that takes `kind` once for each kind: options of the same
method that change no structure are left out. `first_order` and `ours` are parts of the table too.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxopt_study as jos


@dataclasses.dataclass(frozen=True)
class Entry:
    """An optimizer under test.

    Attributes:
      name: of the test.
      make: the optimizer from its first hyperparameter (a learning rate or a damping), or from nothing.
      bowl, valley: that hyperparameter for the bowl, and for the valley; None where there is none.
      valley_steps: enough steps to come down the valley, to a value of 1e-3.
      needs: the extra without which it does not run.
      ours: whether it is a pytree of numbers.
    """

    name: str
    make: Callable
    bowl: float | None = None
    valley: float | None = None
    valley_steps: int = 200
    needs: str | None = None
    ours: bool = True

    def on(self, value):
        return self.make() if value is None else self.make(value)

    @property
    def for_bowl(self):
        return self.on(self.bowl)

    @property
    def for_valley(self):
        return self.on(self.valley)


CLIP = optax.clip_by_global_norm(10.0)  # static by identity: one object, one compilation

OPTIMIZERS = [
    Entry("sgd", jos.sgd, 0.1, 1e-3, 40_000),
    Entry("sgd_momentum", lambda rate: jos.sgd(rate, 0.9), 0.02, 3e-4, 20_000),
    Entry("sgd_nesterov", lambda rate: jos.sgd(rate, 0.9, nesterov=True), 0.02, 3e-4, 20_000),
    Entry("adagrad", jos.adagrad, 0.5, 0.5, 40_000),
    Entry("rmsprop", jos.rmsprop, 2e-3, 1e-3, 20_000),
    Entry("rmsprop_centered", lambda rate: jos.rmsprop(rate, centered=True, eps=1e-4), 2e-3, 3e-4, 40_000),
    Entry("rmsprop_momentum", lambda rate: jos.rmsprop(rate, momentum=0.5), 1e-3, 5e-4, 20_000),
    Entry("adam", jos.adam, 0.02, 0.02, 10_000),
    Entry("nadam", lambda rate: jos.adam(rate, nesterov=True), 0.02, 0.02, 10_000),
    Entry("optax_adam", optax.adam, 0.02, 0.02, 10_000, ours=False),
    Entry("chain", lambda rate: jos.chain(CLIP, jos.adam(rate)), 0.02, 0.02, 10_000),
    Entry("newton", jos.newton, 0.0, 0.0, needs="value_fn"),
    Entry("newton_cg", lambda d: jos.newton(d, solver="cg"), 0.0, 0.0, needs="value_fn"),
    Entry("newton_saddle_free", lambda d: jos.newton(d, saddle_free=True), 0.0, 0.0, needs="value_fn"),
    Entry("newton_plain", lambda: jos.newton(None), needs="value_fn"),
    Entry("gauss_newton", jos.gauss_newton, needs="residual_fn"),
    Entry("gauss_newton_cholesky", lambda: jos.gauss_newton(solver="cholesky"), needs="residual_fn"),
    Entry("gauss_newton_qr", lambda: jos.gauss_newton(solver="qr"), needs="residual_fn"),
    Entry("lm", jos.levenberg_marquardt, 1e-3, 1e-3, needs="residual_fn"),
    Entry(
        "lm_cholesky",
        lambda d: jos.levenberg_marquardt(d, solver="cholesky"),
        1e-3,
        1e-3,
        needs="residual_fn",
    ),
    Entry("dogleg", jos.dogleg, 1.0, 1.0, needs="residual_fn"),
    Entry(
        "lm_geodesic", lambda d: jos.levenberg_marquardt(d, geodesic=True), 1e-3, 1e-3, needs="residual_fn"
    ),
    Entry("lm_qr", lambda d: jos.levenberg_marquardt(d, solver="qr"), 1e-3, 1e-3, needs="residual_fn"),
    Entry(
        "lm_delayed",
        lambda d: jos.levenberg_marquardt(d, damping_rule="delayed"),
        1.0,
        1.0,
        needs="residual_fn",
    ),
]
BY_NAME = {entry.name: entry for entry in OPTIMIZERS}


def _part(chosen):
    return pytest.fixture(params=chosen, ids=[entry.name for entry in chosen])


@_part(OPTIMIZERS)
def entry(request):
    return request.param


@_part([entry for entry in OPTIMIZERS if entry.needs is None])
def first_order(request):
    return request.param


KINDS = (
    "sgd",
    "sgd_nesterov",
    "adagrad",
    "rmsprop_centered",
    "adam",
    "chain",
    "newton",
    "gauss_newton",
    "lm",
)


SIBLINGS = ("sgd_nesterov", "rmsprop_centered", "gauss_newton")  # of others that the quick run has


def _marked(name):
    marks = pytest.mark.slow if name in SIBLINGS else ()
    return pytest.param(BY_NAME[name], marks=marks, id=name)


@pytest.fixture(params=[_marked(name) for name in KINDS])
def kind(request):
    return request.param


@_part([entry for entry in OPTIMIZERS if entry.ours])
def ours(request):
    return request.param


class Point(NamedTuple):
    """Parameters of the bowl: a named tuple with a leaf of no dimension, nested in other containers."""

    height: object
    rest: object


def bowl_point(value=0.0, dtype=float):
    """Seven numbers in four leaves."""
    return Point(
        jnp.full((), value, dtype),
        {"a": jnp.full(3, value, dtype), "b": [jnp.full((1, 2), value, dtype), jnp.full((), value, dtype)]},
    )


CENTER = Point(-0.5, {"a": (1.0, -1.0, 0.25), "b": [((0.5, -0.75),), 1.5]})


def center(dtype=float):
    is_leaf = lambda node: isinstance(node, tuple) and not isinstance(node, Point)  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), CENTER, is_leaf=is_leaf)


def bowl_residual(params, center):
    """A bowl that is twice as steep along some leaves, with its bottom at `center`."""
    return jax.tree.map(
        lambda p, c, weight: weight * (p - c), params, center, Point(1.0, {"a": 2.0, "b": [1.5, 1.0]})
    )


def valley_residual(params):
    """Rosenbrock's valley: ½ ‖r‖² is 0 at (1, 1) and 12.1 at the start (-1.2, 1)."""
    return (1 - params["x"], 10 * (params["y"] - params["x"] ** 2))


def valley_start(dtype=float):
    return {"x": jnp.full((), -1.2, dtype), "y": jnp.full((), 1.0, dtype)}


@dataclasses.dataclass(frozen=True)
class Problems:
    """What the tests in this folder share (a conftest cannot be imported from)."""

    Entry = Entry
    Point = Point
    bowl_point = staticmethod(bowl_point)
    center = staticmethod(center)
    bowl = jos.LeastSquares(bowl_residual)
    valley = jos.LeastSquares(valley_residual)
    valley_start = staticmethod(valley_start)
    table = OPTIMIZERS
    named = BY_NAME

    @staticmethod
    def extras(objective, args=()):
        """All extras that any optimizer may want, as keywords of `update`."""
        return {"residual_fn": objective, "args": args, "value_fn": lambda p: objective(p, *args)}

    @classmethod
    def one_step(cls, optimizer, params, state, objective, args=()):
        """One step by hand, as a user of optax writes it."""
        grads = jax.grad(lambda p: objective(p, *args))(params)
        updates, state = optimizer.update(grads, state, params, **cls.extras(objective, args))
        return optax.apply_updates(params, updates), state


@pytest.fixture(scope="session")
def problems():
    return Problems


class Step:
    """One step in the valley, compiled once a structure of the optimizer; `.traced` counts how often."""

    def __init__(self):
        self.traced = 0
        self._of_a_pytree = jax.jit(self._step)
        self._of_functions = jax.jit(self._step, static_argnums=0)  # as optax makes them

    def _step(self, optimizer, params, state):
        self.traced += 1
        return Problems.one_step(optimizer, params, state, Problems.valley)

    def __call__(self, optimizer, carry):
        functions = any(callable(leaf) for leaf in jax.tree.leaves(optimizer))
        return (self._of_functions if functions else self._of_a_pytree)(optimizer, *carry)

    def path(self, optimizer, params, steps):
        """`(params, state)` at the start and after each of the steps, by a loop in Python."""
        carries = [(params, optimizer.init(params))]
        for _ in range(steps):
            carries.append(self(optimizer, carries[-1]))
        return carries


@pytest.fixture(scope="module")
def step():
    """What the tests of a file compare with shares its compiled programs."""
    return Step()
