"""The training step of a neural ODE, and what gradients of ODEs cost.

The spiral of `ode_spiral`. Its tolerance is below float32's epsilon, and so each contestant's gradient is
compared with one in float64 at 1e-12, on 24 draws of network and pieces, of whose errors the median is told.
At the start of the training a solve takes 4 steps, later about ten; both are measured.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers, roofline
from jaxopt_study.bench.case import OURS, Bound, Case, Contestant, Planned
from jaxopt_study.bench.suites.ode_spiral import ATOL, RTOL, draws, loss, network, problem
from jaxopt_study.bench.timer import in_a_row, one_call

DRAWS = 24
FEW, MANY = 1_000, 10_000
MANY_STEPS = f"{OURS}, {MANY} steps"
GROWTH = f"temporary bytes of {MANY} steps over those of {FEW}"
Step = Callable[[Any], Callable[[], Any]]  # of a problem, the work


@jax.jit
def _exactly(params: Any, ts: Any, seen: Any) -> Any:
    """The gradient, in float64."""
    return jax.grad(functools.partial(loss, rtol=1e-12, atol=1e-12, max_steps=4096))(params, ts, seen)


def _step_case(trained: bool, wanted: Callable[[str], bool]) -> Case:
    problems, exact = _problems(trained, DRAWS)

    def error_of(step: Step) -> Callable[[Any], float]:
        def error(found: Any) -> float:
            gradients = [found[1], *(step(given)()[1] for given in problems[1:])]
            return float(np.median([_relative(_flat(g), e) for g, e in zip(gradients, exact, strict=True)]))

        return error

    contestants = {}
    for name, (_, words) in STEPS.items():
        if name.startswith("torch") and not wanted("torchdiffeq"):
            continue
        step, first = _step_of(name)
        contestants[name] = Contestant(
            step(_on_device(problems[0])),
            error_of(step),
            f"{words}; rtol {RTOL}, atol {ATOL}; first call: of the drawn network",
            first_seconds=first,
        )
    return Case("step", contestants, rounds=11, blas=[name for name in STEPS if name.startswith("torch")])


def _first_call_case(wanted: Callable[[str], bool]) -> Case:
    """Everything is made anew for a call, and nothing of it is compiled."""
    del wanted
    (given,), (exact,) = _problems(False, 1)

    def call(make: Callable[[], Step]) -> Any:
        jax.clear_caches()
        return make()(_on_device(given))()

    contestants = {
        name: Contestant(
            functools.partial(call, STEPS[name][0]),
            lambda found: _relative(_flat(found[1]), exact),
            f"{STEPS[name][1]}; rtol {RTOL}, atol {ATOL}",
        )
        for name in (OURS, PLAIN)
    }
    return Case("first call", contestants, rounds=3, cold=True)


def _problems(trained: bool, count: int) -> tuple[list[Any], list[np.ndarray]]:
    """In float32, and the exact gradients, of the numbers that the contestants are given."""
    with jax.enable_x64(True):
        problems = draws(trained, *problem(trained), count)
        return problems, [
            _flat(_exactly(*jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), given))) for given in problems
        ]


def _on_device(given: Any) -> Any:
    return jax.tree.map(jnp.asarray, given)


def _ours() -> Step:
    step = jax.jit(jax.value_and_grad(functools.partial(loss)))
    return lambda given: functools.partial(step, *given)


def _plain() -> Step:
    step = peers.diffrax_step(network, RTOL, ATOL)
    return lambda given: functools.partial(step, *given)


def _theirs(adjoint: bool) -> Step:
    return lambda given: peers.torchdiffeq_step(adjoint, given, RTOL, ATOL)


PLAIN = "diffrax, plain loop"
STEPS: dict[str, tuple[Callable[[], Step], str]] = {
    OURS: (_ours, "tsit5, one step size for the 20 pieces, adjoint='auto'"),
    PLAIN: (_plain, "Tsit5, PIDController, its default adjoint"),
    "torchdiffeq odeint": (functools.partial(_theirs, False), "dopri5, its default"),
    "torchdiffeq odeint_adjoint": (functools.partial(_theirs, True), "dopri5, its default"),
}


@functools.cache
def _step_of(name: str) -> tuple[Step, float]:
    """A step, one program for both networks, and the seconds of its first call."""
    step = STEPS[name][0]()
    with jax.enable_x64(True):
        (drawn,) = draws(False, *problem(False), 1)
    seconds, _ = one_call(step(_on_device(drawn)))
    return step, seconds


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def _checkpoint_case(wanted: Callable[[str], bool]) -> Case:
    """The gradient through a constant step, a thousand of them and ten thousand."""
    del wanted
    at = jnp.full((2, 5), 0.5)

    def value(steps: int, params: Any) -> Any:
        field = lambda t, y, p: jnp.tanh(y @ p) @ p.T - y  # noqa: E731
        start, ts = jnp.ones((20, 2)), jnp.array([0.0, 1.0])
        options: dict[str, Any] = {"step": 1.0 / steps, "max_steps": steps + 1, "adjoint": "checkpoint"}
        return jnp.sum(jos.solve_ode(field, start, ts, params, **options).ys)

    counts = {OURS: FEW, MANY_STEPS: MANY}
    compiled: dict[str, Any] = {}
    first: dict[str, float] = {}

    def called_once(steps: int) -> Any:
        program = jax.jit(jax.grad(functools.partial(value, steps))).lower(at).compile()
        jax.block_until_ready(program(at))
        return program

    for name, steps in counts.items():
        first[name], compiled[name] = one_call(functools.partial(called_once, steps))
    contestants = {
        name: Contestant(
            work=functools.partial(in_a_row, MANY // steps, functools.partial(compiled[name], at)),
            error=lambda gradient: float(~np.all(np.isfinite(gradient))),
            settings=f"adjoint='checkpoint', {steps} constant steps; error: whether the gradient is finite",
            units=MANY,
            program=functools.partial(compiled.__getitem__, name),
            loops=True,
            first_seconds=first[name],
        )
        for name, steps in counts.items()
    }

    def growth(found: Any) -> float:
        del found
        few, many = (roofline.demands(compiled[name]) for name in counts)
        return many.temporary / few.temporary if few and many else math.nan

    return Case("step", contestants, most_error=0.5, rounds=2, blas=False, figures={GROWTH: growth})


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    claim = {"torchdiffeq odeint_adjoint": 60.0, "torchdiffeq odeint": 15.0, PLAIN: 1.5}
    return (
        Planned("spiral, drawn network", functools.partial(_step_case, False), "float32", claim),
        Planned("spiral, trained network", functools.partial(_step_case, True), "float32", claim),
        Planned(
            "spiral, the first call",
            _first_call_case,
            "float32",
            {PLAIN: 2.0},
        ),
        Planned(
            "checkpoint, 1000 and 10000 steps",
            _checkpoint_case,
            "float32",
            at_most={MANY_STEPS: 1.3},
            figures={GROWTH: Bound(at_most=1.5)},
        ),
    )
