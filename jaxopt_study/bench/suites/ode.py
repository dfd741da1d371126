"""The training step of a neural ODE, and what gradients of ODEs cost.

The spiral: 20 pieces of 10 times, a 2-50-2 tanh network on y³, float32, rtol 1e-7, atol 1e-9, as in the
example of torchdiffeq: below float32's epsilon, and so each contestant's gradient is compared with one in
float64 at 1e-12. At the start of the training a solve takes 4 steps, later about ten; both are measured.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.models import mlp

ROTATION = np.array([[-0.1, 2.0], [-2.0, -0.1]])
RTOL, ATOL = 1e-7, 1e-9
PIECES, LENGTH, TIMES, END = 20, 10, 1000, 25.0
CALLS = 10  # a turn


def network(t: Any, y: Any, params: Any) -> Any:
    """The field that is learned."""
    del t
    return mlp.apply(params, y**3)


def loss(params: Any, ts: Any, seen: Any, **options: Any) -> Any:
    """Mean absolute error of the pieces, all of them one state with one step size."""
    options = {"rtol": RTOL, "atol": ATOL, "max_steps": 256} | options
    return jnp.mean(jnp.abs(jos.solve_ode(network, seen[0], ts, params, **options).ys - seen))


def spiral() -> tuple[np.ndarray, np.ndarray]:
    """The times and states of the whole trajectory, in float64."""
    ts = np.linspace(0.0, END, TIMES)
    field = lambda t, y, a: y**3 @ a.T  # noqa: E731
    made = jos.solve_ode(
        field, jnp.array([2.0, 0.0]), ts, jnp.asarray(ROTATION), solver="dopri8", rtol=1e-10, atol=1e-12
    )
    return ts, np.asarray(made.ys)


def problem(trained: bool) -> tuple[Any, Any, Any]:
    """Parameters, times and pieces, in float64: a network as it is drawn, or after 2000 steps of RMSprop."""
    ts, states = spiral()
    begins = np.random.default_rng(0).choice(TIMES - LENGTH, PIECES, replace=False)
    seen = jnp.asarray(states[begins[None, :] + np.arange(LENGTH)[:, None]])
    first: Any = jnp.asarray(ts[:LENGTH])
    params = mlp.init(jax.random.key(0), (2, 50, 2), 0.5)
    if trained:
        everything = jnp.asarray(states)

        def batch(step: Any, key: Any) -> Any:
            starts = jax.random.choice(
                jax.random.fold_in(key, step), TIMES - LENGTH, (PIECES,), replace=False
            )
            return first, everything[starts[None, :] + jnp.arange(LENGTH)[:, None]]

        optimizer = jos.rmsprop(1e-3, decay=0.99)
        coarse = functools.partial(loss, rtol=1e-5, atol=1e-6)
        params = jos.minimize(coarse, params, optimizer, batch_fn=batch, max_steps=2000).params
    return params, first, seen


def _step_case(trained: bool, cold: bool, wanted: Callable[[str], bool]) -> Case:
    with jax.enable_x64(True):
        params, ts, seen = problem(trained)
        exactly = functools.partial(loss, rtol=1e-12, atol=1e-12, max_steps=4096)
        exact = _flat(jax.jit(jax.grad(exactly))(params, ts, seen))
    single: Any = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), (params, ts, seen))

    def ours() -> Callable[[], Any]:
        return functools.partial(jax.jit(jax.value_and_grad(functools.partial(loss))), *single)

    def plain() -> Callable[[], Any]:
        return functools.partial(peers.diffrax_step(network, RTOL, ATOL), *single)

    makers: dict[str, tuple[Callable[[], Callable[[], Any]], str]] = {
        OURS: (ours, "tsit5, one step size for the 20 pieces, adjoint='auto'"),
        "diffrax, plain loop": (plain, "Tsit5, PIDController, its default adjoint"),
    }
    if wanted("torchdiffeq") and not cold:
        for name, adjoint in (("torchdiffeq odeint", False), ("torchdiffeq odeint_adjoint", True)):
            makers[name] = (functools.partial(_theirs, adjoint, single), "dopri5, its default")

    def error(found: Any) -> float:
        return float(np.linalg.norm(_flat(found[1]) - exact) / np.linalg.norm(exact))

    contestants = {}
    for name, (make, words) in makers.items():
        # In a case of first calls everything is made anew, and nothing of it is compiled.
        work = functools.partial(_call, make) if cold else make()
        contestants[name] = Contestant(work, error, f"{words}; rtol {RTOL}, atol {ATOL}")
    if cold:
        return Case("first call", contestants, rounds=2, cold=True)
    return Case("step", contestants, rounds=21)


def _theirs(adjoint: bool, single: Any) -> Callable[[], Any]:
    return peers.torchdiffeq_step(adjoint, single, RTOL, ATOL)


def _call(make: Callable[[], Callable[[], Any]]) -> Any:
    jax.clear_caches()
    return make()()


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def _memory_case(steps: int, wanted: Callable[[str], bool]) -> Case:
    del wanted

    def value(params: Any) -> Any:
        field = lambda t, y, p: jnp.tanh(y @ p) @ p.T - y  # noqa: E731
        start, ts = jnp.ones((20, 2)), jnp.array([0.0, 1.0])
        options: dict[str, Any] = {"step": 1.0 / steps, "max_steps": steps + 1, "adjoint": "checkpoint"}
        return jnp.sum(jos.solve_ode(field, start, ts, params, **options).ys)

    at = jnp.full((2, 5), 0.5)
    compiled = jax.jit(jax.grad(value)).lower(at).compile()
    contestant = Contestant(
        work=functools.partial(compiled, at),
        error=lambda gradient: float(~np.all(np.isfinite(gradient))),
        settings="adjoint='checkpoint', a constant step; error: whether the gradient is finite",
        units=steps,
        program=lambda: compiled,
        loops=True,
    )
    return Case("step", {OURS: contestant}, most_error=0.5, rounds=9, size=steps)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    claim = {"torchdiffeq odeint_adjoint": 60.0, "torchdiffeq odeint": 15.0, "diffrax, plain loop": 1.5}
    return (
        Planned("spiral, drawn network", functools.partial(_step_case, False, False), "float32", claim),
        Planned("spiral, trained network", functools.partial(_step_case, True, False), "float32", claim),
        Planned(
            "spiral, the first call",
            functools.partial(_step_case, False, True),
            "float32",
            {"diffrax, plain loop": 2.0},
        ),
        *(
            Planned(f"memory of checkpoint, {steps} steps", functools.partial(_memory_case, steps), "float32")
            for steps in (1_000, 10_000)
        ),
    )
