"""What a step of the exact Newton solver costs beside its Hessian, alone and in a batch.

`step`: one update at n = 100 against forming the same Hessian and one symmetric eigendecomposition of it.
`batch`: under `vmap` over 1000 starts, the share of the trust-region subproblem: the time of the update, of
Hessians and eigendecompositions, and of the subproblem alone, in its eigenvectors. In turns, float64.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.optimizers.newton_exact import value_gradient_hessian
from jaxopt_study.trust_region import spectral_step

STARTS = 1000


def rosenbrock(x: Array) -> Array:
    """The chained Rosenbrock function."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def dense(x: Array) -> Array:
    """One whose Hessian is full and costs what a fit's does: of mixed variables."""
    i = jnp.arange(x.size, dtype=x.dtype)
    mixed = jnp.cos(i[:, None] * i[None, :] / 7) @ x
    return jax.nn.logsumexp(mixed) + 0.5 * jnp.sum(x**2) + 0.05 * jnp.sum(mixed**4) / x.size


OBJECTIVES: dict[str, Callable[[Array], Array]] = {"chained Rosenbrock": rosenbrock, "dense": dense}


def parts(fn: Callable[[Array], Array]) -> dict[str, Callable[[Array], Any]]:
    """An update; what it cannot do without; the subproblem alone."""
    optimizer = jos.newton(solver="exact")

    def update(x: Array) -> Any:
        step, state = optimizer.update(None, optimizer.init(x), x, value_fn=fn)
        return x + step, state.info

    def needed(x: Array) -> Any:
        value, gradient, hessian = value_gradient_hessian(fn, x)
        return value, gradient, jnp.linalg.eigh(hessian, symmetrize_input=False)

    return {"update": update, "Hessian and eigh": needed}


def subproblem(curvature: Array, slope: Array) -> Array:
    """A radius that binds."""
    return spectral_step(curvature, slope, jnp.ones((), slope.dtype)).along


def run(rounds: int) -> None:
    """Measure and print."""
    print(machine())
    print(f"float64, {rounds} rounds in turns")
    for name, fn in OBJECTIVES.items():
        x = 0.1 * jax.random.normal(jax.random.key(0), (100,))
        timed = take_turns(_compiled(parts(fn), x), rounds)
        update, needed = timed["update"], timed["Hessian and eigh"]
        print(
            f"step, {name}, n = 100: update {1e3 * update.median:.2f} ms, Hessian and eigh "
            f"{1e3 * needed.median:.2f} ms: {ratio(update, needed):.2f} times as long"
        )
    for size in (2, 10, 30):
        xs = 0.5 * jax.random.normal(jax.random.key(1), (STARTS, size))
        batched = {key: jax.vmap(part) for key, part in parts(rosenbrock).items()}
        contestants = _compiled(batched, xs)
        _, slopes, (curvatures, bases) = contestants["Hessian and eigh"]()
        along = jnp.einsum("bij,bi->bj", bases, slopes)
        alone = jax.jit(jax.vmap(subproblem))
        contestants["subproblem"] = functools.partial(alone, curvatures, along)
        timed = take_turns(contestants, rounds)
        update, needed, sub = timed["update"], timed["Hessian and eigh"], timed["subproblem"]
        print(
            f"batch of {STARTS}, n = {size}: update {1e3 * update.median:.2f} ms, Hessians and eigh "
            f"{1e3 * needed.median:.2f} ms, subproblem {1e3 * sub.median:.2f} ms: "
            f"{100 / ratio(update, sub):.0f} % of the update"
        )


def _compiled(made: dict[str, Callable[[Array], Any]], x: Array) -> dict[str, Callable[[], Any]]:
    return {name: functools.partial(jax.jit(part), x) for name, part in made.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    with jax.enable_x64(True):
        run(options.rounds)


if __name__ == "__main__":
    main()
