"""Sparse Jacobians and Hessians by colors against dense ones: passes, time to plan and to compute, error.

The function is pentadiagonal: element i uses elements i-2 to i+2. At the size where a dense Jacobian still
fits, both are computed and compared, entry by entry; at ten times that size the sparse one alone.
Planning (the pattern, then the colors) happens once for each shape, and is timed apart.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench.timer import machine, ratio, take_turns
from jaxopt_study.sparsity.coloring import color_hessian, color_jacobian
from jaxopt_study.sparsity.detect import detect


def pentadiagonal(x: jax.Array) -> jax.Array:
    """A function whose Jacobian has five bands, one of them constant."""
    p = jnp.pad(x, 2)
    return p[:-4] + jnp.sin(p[1:-3]) * x + x**3 - jnp.exp(-p[3:-1]) + p[4:] ** 2


def energy(x: jax.Array) -> jax.Array:
    """A scalar whose Hessian has nine bands."""
    return jnp.sum(pentadiagonal(x) ** 2)


def run(size: int, large: int, rounds: int) -> None:
    """Measure and print.

    Args:
      size: elements where dense and sparse are compared.
      large: elements of the large one.
      rounds: how often each contestant is timed.
    """
    print(machine())
    for elements in (size, large):
        x = jnp.asarray(np.random.default_rng(0).normal(size=elements))
        for name, fn, color in (
            ("Jacobian", pentadiagonal, color_jacobian),
            ("Hessian", jax.grad(energy), color_hessian),
        ):
            began = time.perf_counter()
            pattern = detect(fn, x, ())
            between = time.perf_counter()
            coloring = color(pattern)
            ended = time.perf_counter()
            print(
                f"{name} of {elements}: pattern {between - began:.3f} s, colors {ended - between:.3f} s, "
                f"{pattern.places} places, {coloring.passes} passes"
            )
    x = jnp.asarray(np.random.default_rng(0).normal(size=size))
    _compare(x, rounds)
    _alone(jnp.asarray(np.random.default_rng(0).normal(size=large)), rounds)


def _compare(x: jax.Array, rounds: int) -> None:
    sparse = jos.jacobian(pentadiagonal, mode="sparse")
    dense = jax.jit(jax.jacfwd(pentadiagonal))
    # A tenth as many rounds of the slow one: it has no need of more, and takes seconds.
    timed = take_turns({"sparse": lambda: sparse(x).data, "dense": lambda: dense(x)}, max(3, rounds // 5))
    matrix, full = sparse(x), np.array(timed["dense"].result)
    rows, columns = np.asarray(matrix.indices).T
    error = float(np.abs(full[rows, columns] - np.asarray(matrix.data)).max())
    full[rows, columns] = 0.0
    print(
        f"at {x.size}: sparse {timed['sparse'].median * 1e3:.2f} ms, "
        f"dense {timed['dense'].median * 1e3:.0f} ms, "
        f"ratio {ratio(timed['dense'], timed['sparse']):.0f}; largest difference {error:.1e}, "
        f"largest entry outside of the pattern {np.abs(full).max():.1e}"
    )


def _alone(x: jax.Array, rounds: int) -> None:
    jacobian = jos.jacobian(pentadiagonal, mode="sparse")
    hessian = jos.hessian(energy, mode="sparse")
    value = jax.jit(pentadiagonal)
    timed = take_turns(
        {
            "value": lambda: value(x),
            "Jacobian": lambda: jacobian(x).data,
            "Hessian": lambda: hessian(x).data,
        },
        rounds,
    )
    for name, one in timed.items():
        print(
            f"at {x.size}: {name} {one.median * 1e3:.2f} ms, "
            f"{ratio(one, timed['value']):.1f} times the value, "
            f"first call {one.first_seconds:.2f} s"
        )
    vector = jnp.asarray(np.random.default_rng(1).normal(size=x.size))
    product = jax.jvp(pentadiagonal, (x,), (vector,))[1]
    off = float(jnp.abs(jacobian(x) @ vector - product).max() / jnp.abs(product).max())
    print(f"at {x.size}: the Jacobian times a vector is the derivative along it to {off:.1e}")


def main(argv: Any = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000, help="where dense is compared (10000)")
    parser.add_argument("--large", type=int, default=100_000, help="where sparse is alone (100000)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    options = parser.parse_args(argv)
    with jax.enable_x64(True):
        run(options.size, options.large, options.rounds)


if __name__ == "__main__":
    main()
