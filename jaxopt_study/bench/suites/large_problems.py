"""Two large least-squares problems: a million residuals, and a million parameters.

`tall`: 10⁶ residuals × 10 parameters, float64: a sum of three damped exponentials and an offset, against
Optimistix and SciPy, whole solves to the same minimum. `matrix_free`: a 784-1000-200-10 tanh network, 10⁶
float32 parameters, batch 128, by `solver="cg"`, which never holds the Jacobian (it would have 1.2·10⁹
elements): the peak of memory in copies of the parameters, as XLA plans it and as the system sees it.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.models import mlp
from jaxopt_study.pytree import size
from jaxopt_study.types import PyTree

ROWS = 1_000_000
WIDTHS = (784, 1000, 200, 10)
BATCH = 128


def decays(p: Array, t: Array, y: Array) -> Array:
    """Three damped exponentials: amplitudes, rates and frequencies, and an offset."""
    waves = [p[i] * jnp.exp(-p[i + 3] * t) * jnp.cos(p[i + 6] * t) for i in range(3)]
    return waves[0] + waves[1] + waves[2] + p[9] - y


def run_tall(rounds: int = 3) -> None:
    """Measure and print whole solves of the tall problem."""
    truth = jnp.array([3.0, 2.0, 1.0, 0.3, 0.5, 0.2, 1.0, 3.0, 7.0, 0.5])
    t = jnp.linspace(0.0, 5.0, ROWS)
    noise = 0.05 * jax.random.normal(jax.random.key(0), (ROWS,))
    args = (t, decays(truth, t, jnp.zeros(())) + noise)
    start = truth * 1.1
    objective = jos.LeastSquares(decays)
    contestants: dict[str, Callable[[], Any]] = {
        "jaxopt_study": lambda: jos.least_squares(objective, start, args, ftol=1e-8).params
    }
    if peers.installed("optimistix"):
        theirs = peers.optimistix_jitted(decays, args, 1e-8)
        contestants["optimistix"] = lambda: theirs(start)
    if peers.installed("scipy"):
        minpack = peers.scipy_jitted(decays, args, 1e-8)
        contestants["scipy lm"] = lambda: minpack(start)
    timed = take_turns(contestants, rounds)
    print(f"tall: {ROWS} residuals x {truth.size} parameters, float64, {rounds} rounds in turns")
    ours = timed["jaxopt_study"]
    for name, one in timed.items():
        value = float(objective(one.result, *args))
        print(f"  {name:<14}{one.median:8.2f} s {ratio(one, ours):6.1f}x ours   value {value:.9e}")


def run_matrix_free(steps: int = 5) -> None:
    """Measure and print the memory of matrix-free steps."""
    key_x, key_y, key_p = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, (BATCH, WIDTHS[0]), jnp.float32)
    y = jax.nn.one_hot(jax.random.randint(key_y, (BATCH,), 0, WIDTHS[-1]), WIDTHS[-1], dtype=jnp.float32)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mlp.init(key_p, WIDTHS))
    count = size(params)

    def residual(params: PyTree, x: Array, y: Array) -> Array:
        return mlp.apply(params, x, "tanh") - y

    objective = jos.LeastSquares(residual)
    optimizer = jos.levenberg_marquardt(solver="cg")

    def solve(params: PyTree, x: Array, y: Array) -> jos.Result:
        return jos.minimize(objective, params, optimizer, (x, y), max_steps=steps)

    compiled = jax.jit(solve).lower(params, x, y).compile()
    planned: Any = compiled.memory_analysis()
    copy = 4 * count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    result = jax.block_until_ready(compiled(params, x, y))
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total = planned.temp_size_in_bytes + planned.argument_size_in_bytes + planned.output_size_in_bytes
    print(f"matrix_free: {count} parameters, float32, batch {BATCH}, {int(result.num_steps)} steps")
    print(f"  value {float(objective(params, x, y)):.3f} -> {float(result.value):.3e}, {took:.1f} s")
    print(
        f"  copies of the parameters: {planned.temp_size_in_bytes / copy:.1f} temporary, "
        f"{total / copy:.1f} with arguments and results; the process grew by {(after - before) / copy:.1f}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("tall", "matrix_free"), help="both if not given")
    options = parser.parse_args()
    print(machine())
    if options.only != "tall":
        run_matrix_free()
    if options.only != "matrix_free":
        with jax.enable_x64(True):
            run_tall()


if __name__ == "__main__":
    main()
