"""What a step of the exact Newton solver costs beside its Hessian, alone and in a batch.

`step`: one update at n = 100 against forming the same Hessian and one symmetric eigendecomposition of it.
`batch`: under `vmap` over 1000 starts, the share of the trust-region subproblem: the time of the update, of
Hessians and eigendecompositions, and of the subproblem alone, in its eigenvectors. In turns, float64.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import jaxopt_study as jos
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
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

    return {OURS: update, "Hessian and eigh": needed}


def subproblem(curvature: Array, slope: Array) -> Array:
    """A radius that binds."""
    return spectral_step(curvature, slope, jnp.ones((), slope.dtype)).along


def _step_case(name: str, wanted: Callable[[str], bool]) -> Case:
    del wanted
    x = 0.1 * jax.random.normal(jax.random.key(0), (100,))
    made = {key: jax.jit(part) for key, part in parts(OBJECTIVES[name]).items()}
    return _case({key: functools.partial(part, x) for key, part in made.items()})


def _batch_case(size: int, wanted: Callable[[str], bool]) -> Case:
    del wanted
    xs = 0.5 * jax.random.normal(jax.random.key(1), (STARTS, size))
    made = {key: jax.jit(jax.vmap(part)) for key, part in parts(rosenbrock).items()}
    work: dict[str, Callable[[], Any]] = {key: functools.partial(part, xs) for key, part in made.items()}
    _, slopes, (curvatures, bases) = work["Hessian and eigh"]()
    along = jnp.einsum("bij,bi->bj", bases, slopes)
    work["subproblem alone"] = functools.partial(jax.jit(jax.vmap(subproblem)), curvatures, along)
    return _case(work)


def _case(work: dict[str, Callable[[], Any]]) -> Case:
    words = "parts of the same step; no error, for they are no alternatives"
    contestants = {name: Contestant(one, lambda _: 0.0, words) for name, one in work.items()}
    return Case("step", contestants, rounds=11)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        *(
            Planned(
                f"a step, n = 100, {name}",
                functools.partial(_step_case, name),
                claim={"Hessian and eigh": round(1 / 1.5, 2)},
            )
            for name in OBJECTIVES
        ),
        *(
            Planned(
                f"a step at {STARTS} starts, n = {size}",
                functools.partial(_batch_case, size),
                at_most={"subproblem alone": 0.5},
            )
            for size in (2, 10, 30)
        ),
    )
