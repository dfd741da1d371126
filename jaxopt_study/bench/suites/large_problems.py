"""Two large least-squares problems: a million residuals, and a million parameters.

`10^6 residuals x 10`: a sum of three damped exponentials and an offset, in float64, whole solves to the same
minimum. `matrix-free`: a 784-1000-200-10 tanh network, 10⁶ float32 parameters, batch 128, by `solver="cg"`,
which never holds the Jacobian (it would have 1.2·10⁹ elements): its memory is to be below 12 copies of the
parameters, 47 MB.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench import peers, roofline
from jaxopt_study.bench.case import OURS, Bound, Case, Contestant, Planned
from jaxopt_study.bench.timer import one_call
from jaxopt_study.models import mlp
from jaxopt_study.pytree import size
from jaxopt_study.types import PyTree

STEPS = 5
ROWS = 1_000_000
WIDTHS = (784, 1000, 200, 10)
BATCH = 128
COPIES = "peak memory, data and all, over that of the parameters"


def decays(p: Array, t: Array, y: Array) -> Array:
    """Three damped exponentials: amplitudes, rates and frequencies, and an offset."""
    waves = [p[i] * jnp.exp(-p[i + 3] * t) * jnp.cos(p[i + 6] * t) for i in range(3)]
    return waves[0] + waves[1] + waves[2] + p[9] - y


def _tall_case(wanted: Callable[[str], bool]) -> Case:
    truth = jnp.array([3.0, 2.0, 1.0, 0.3, 0.5, 0.2, 1.0, 3.0, 7.0, 0.5])
    t = jnp.linspace(0.0, 5.0, ROWS)
    noise = 0.05 * jax.random.normal(jax.random.key(0), (ROWS,))
    args = (t, decays(truth, t, jnp.zeros(())) + noise)
    start = truth * 1.1
    objective = jos.LeastSquares(decays)
    lowest = float(jos.least_squares(objective, truth, args, ftol=0.0).value)

    def error(params: Any) -> float:
        return abs(float(objective(params, *args)) - lowest) / lowest

    solvers: dict[str, Callable[[Array], Array]] = {
        OURS: lambda params: jos.least_squares(objective, params, args, ftol=1e-8).params,
    }
    if wanted("optimistix"):
        solvers["optimistix"] = peers.optimistix_jitted(decays, args)(1e-8)
    if wanted("scipy"):
        solvers["scipy lm"] = peers.scipy_jitted(decays, args, 1e-8)
    words = "tolerance 1e-8; first call: from where the data were made"
    contestants = {}
    for name, solve in solvers.items():
        first, _ = one_call(functools.partial(solve, truth))  # is soon there
        contestants[name] = Contestant(functools.partial(solve, start), error, words, first_seconds=first)
    # MINPACK factors by itself, ours factors nothing that is large; Optimistix's QR of so few columns takes
    # with one thread as long as with two.
    return Case("solve", contestants, most_error=1e-6, rounds=2, blas=False)


def _matrix_free_case(wanted: Callable[[str], bool]) -> Case:
    del wanted  # nobody else's solver of this size holds no Jacobian
    key_x, key_y, key_p = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, (BATCH, WIDTHS[0]), jnp.float32)
    y = jax.nn.one_hot(jax.random.randint(key_y, (BATCH,), 0, WIDTHS[-1]), WIDTHS[-1], dtype=jnp.float32)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mlp.init(key_p, WIDTHS))

    def residual(params: PyTree, x: Array, y: Array) -> Array:
        return mlp.apply(params, x, "tanh") - y

    objective = jos.LeastSquares(residual)
    optimizer = jos.levenberg_marquardt(solver="cg")

    def solve(params: PyTree, x: Array, y: Array) -> jos.Result:
        return jos.minimize(objective, params, optimizer, (x, y), max_steps=STEPS)

    compiled = jax.jit(solve).lower(params, x, y).compile()
    first = float(objective(params, x, y))
    contestant = Contestant(
        work=lambda: compiled(params, x, y),
        error=lambda result: float(result.value) / first,
        settings=f"solver='cg', {size(params)} parameters, {STEPS} steps; error: the value over the first",
        units=lambda result: max(1, int(result.num_steps)),
        program=lambda: compiled,
        loops=True,
    )

    def copies(found: Any) -> float:
        del found
        asked = roofline.demands(compiled)
        return asked.peak / sum(leaf.nbytes for leaf in jax.tree.leaves(params)) if asked else math.nan

    figures = {COPIES: copies}
    return Case("step", {OURS: contestant}, most_error=1e-3, rounds=2, blas=False, figures=figures)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned("10^6 residuals x 10", _tall_case, claim={"optimistix": 2.0, "scipy lm": 2.0}),
        Planned(
            "matrix-free, 10^6 parameters",
            _matrix_free_case,
            "float32",
            figures={COPIES: Bound(at_most=12.0)},
        ),
    )
