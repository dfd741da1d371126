"""The training step of a neural ODE, and what gradients of ODEs cost.

    python -m jaxopt_study.bench.suites.ode

The spiral: 20 pieces of 10 times, a 2-50-2 tanh network on y³, float32, rtol 1e-7, atol 1e-9, as in the
example of torchdiffeq: below float32's epsilon, and so each contestant's gradient is compared with one in
float64 at 1e-12. At the start of the training a solve takes 4 steps, later about ten; both are measured.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.models import mlp

ROTATION = np.array([[-0.1, 2.0], [-2.0, -0.1]])
RTOL, ATOL = 1e-7, 1e-9
PIECES, LENGTH, TIMES, END = 20, 10, 1000, 25.0
OURS = "solve_ode"
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


def run(rounds: int) -> None:
    """Measure and print."""
    print(machine())
    for trained in (False, True):
        training_step(trained, rounds)
    memory()
    with jax.enable_x64(True):
        print("\nAdjoints of Lotka-Volterra's equations, float64, rtol 1e-8:")
        print(_audit())


def training_step(trained: bool, rounds: int) -> None:
    """Our step against the others', each with the error of its gradient."""
    with jax.enable_x64(True):
        params, ts, seen = problem(trained)
        exact = jax.jit(jax.grad(functools.partial(loss, rtol=1e-12, atol=1e-12, max_steps=4096)))(
            params, ts, seen
        )
        exact = np.asarray(jax.flatten_util.ravel_pytree(exact)[0])
    single: Any = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), (params, ts, seen))
    ours, plain = jax.jit(jax.value_and_grad(loss)), peers.diffrax_step(network, RTOL, ATOL)
    contestants: dict[str, Any] = {OURS: lambda: ours(*single), "diffrax, plain loop": lambda: plain(*single)}
    if peers.installed("torchdiffeq"):
        for name, adjoint in (("torchdiffeq odeint", False), ("torchdiffeq odeint_adjoint", True)):
            contestants[name] = peers.torchdiffeq_step(adjoint, single, RTOL, ATOL)
    # Several calls a turn: the first after another contestant's turn finds cold caches.
    timed = take_turns({name: functools.partial(_often, work) for name, work in contestants.items()}, rounds)
    print(f"\nTraining step of the spiral, {'trained' if trained else 'first'} parameters, float32")
    print(f"{'':<28}{'ms':>9}{'of ours':>9}{'first call, s':>15}{'error of gradient':>19}")
    for name, one in timed.items():
        gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(one.result[1])])
        error = np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
        print(
            f"{name:<28}{one.median / CALLS * 1e3:9.3f}{ratio(one, timed[OURS]):9.1f}"
            f"{one.first_seconds:15.2f}{error:19.1e}"
        )


def _often(work: Any) -> Any:
    for _ in range(CALLS - 1):
        jax.block_until_ready(work())
    return work()


def memory() -> None:
    """What `checkpoint` needs at a thousand and at ten thousand steps, and what a step costs."""
    print("\nGradient by adjoint='checkpoint' with a constant step, batch of 20 in the plane:")

    def gradient(steps: int) -> Any:
        def value(params: Any) -> Any:
            field = lambda t, y, p: jnp.tanh(y @ p) @ p.T - y  # noqa: E731
            start, ts = jnp.ones((20, 2)), jnp.array([0.0, 1.0])
            options: dict[str, Any] = {"step": 1.0 / steps, "max_steps": steps + 1, "adjoint": "checkpoint"}
            return jnp.sum(jos.solve_ode(field, start, ts, params, **options).ys)

        return jax.jit(jax.grad(value)).lower(jnp.ones((2, 5))).compile()

    made = {steps: gradient(steps) for steps in (1_000, 10_000)}
    timed = take_turns(
        {str(steps): functools.partial(one, jnp.ones((2, 5))) for steps, one in made.items()}, 9
    )
    for steps, one in made.items():
        microseconds = timed[str(steps)].median / steps * 1e6
        print(
            f"  {steps:>6} steps: {one.memory_analysis().temp_size_in_bytes:>8} bytes, "
            f"{microseconds:.2f} µs a step"
        )


def _audit() -> Any:
    def predators(t: Any, y: Any, p: Any) -> Any:
        del t
        return jnp.stack([p[0] * y[0] - p[1] * y[0] * y[1], -p[2] * y[1] + p[3] * y[0] * y[1]])

    rates = jnp.array([0.55, 0.28, 0.8, 0.24])
    return jos.audit_adjoint(
        predators, jnp.array([3.0, 1.0]), np.linspace(0, 10, 11), rates, rtol=1e-8, atol=1e-10
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=51, help="how often each is timed")
    run(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
