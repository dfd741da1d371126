"""The training step of a neural ODE, and what gradients of ODEs cost.

The spiral of `ode_spiral`. Its tolerance is below float32's epsilon, and so each contestant's gradient is
compared with one in float64 at 1e-12, on 24 draws of network and pieces, of whose errors the median is told.
At the start of the training a solve takes 4 steps, later about ten; both are measured.
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
from jaxopt_study.bench.suites.ode_spiral import ATOL, RTOL, draws, loss, network, problem

DRAWS = 24
Step = Callable[[Any], Callable[[], Any]]  # of a problem, the work


@jax.jit
def _exactly(params: Any, ts: Any, seen: Any) -> Any:
    """The gradient, in float64."""
    return jax.grad(functools.partial(loss, rtol=1e-12, atol=1e-12, max_steps=4096))(params, ts, seen)


def _step_case(trained: bool, cold: bool, wanted: Callable[[str], bool]) -> Case:
    with jax.enable_x64(True):
        problems = draws(trained, *problem(trained), 1 if cold else DRAWS)
        # Of the numbers that the contestants are given, which are rounded to float32.
        exact = [_flat(_exactly(*jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), p))) for p in problems]

    def ours() -> Step:
        step = jax.jit(jax.value_and_grad(functools.partial(loss)))
        return lambda given: functools.partial(step, *given)

    def plain() -> Step:
        step = peers.diffrax_step(network, RTOL, ATOL)
        return lambda given: functools.partial(step, *given)

    makers: dict[str, tuple[Callable[[], Step], str]] = {
        OURS: (ours, "tsit5, one step size for the 20 pieces, adjoint='auto'"),
        "diffrax, plain loop": (plain, "Tsit5, PIDController, its default adjoint"),
    }
    if wanted("torchdiffeq") and not cold:
        for name, adjoint in (("torchdiffeq odeint", False), ("torchdiffeq odeint_adjoint", True)):
            makers[name] = (functools.partial(_theirs, adjoint), "dopri5, its default")

    def error_of(step: Step) -> Callable[[Any], float]:
        def error(found: Any) -> float:
            gradients = [found[1], *(step(given)()[1] for given in problems[1:])]
            return float(np.median([_relative(_flat(g), e) for g, e in zip(gradients, exact, strict=True)]))

        return error

    contestants = {}
    single: Any = jax.tree.map(jnp.asarray, problems[0])
    for name, (make, words) in makers.items():
        # In a case of first calls everything is made anew, and nothing of it is compiled.
        step = make()
        work = functools.partial(_call, make, single) if cold else step(single)
        contestants[name] = Contestant(work, error_of(step), f"{words}; rtol {RTOL}, atol {ATOL}")
    if cold:
        return Case("first call", contestants, rounds=2, cold=True)
    return Case("step", contestants, rounds=21)


def _theirs(adjoint: bool) -> Step:
    return lambda given: peers.torchdiffeq_step(adjoint, given, RTOL, ATOL)


def _call(make: Callable[[], Step], given: Any) -> Any:
    jax.clear_caches()
    return make()(given)()


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


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
