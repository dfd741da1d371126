"""How near a program comes to what the machine can do: its limits, measured, and a program's demands.

A program that performs F floating-point operations and moves B bytes takes at least
max(F / peak, B / bandwidth) seconds (Williams, Waterman and Patterson 2009); the share of the limit is that
time over its own. What a program demands is XLA's own estimate for it, in which the body of a loop counts
once: it is asked about a program of one unit of work.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_study.bench.timer import take_turns

MATRIX = {"cpu": 2048, "default": 8192}  # rows of a square matrix
COPIED = {"cpu": 2**30, "default": 2**31}  # bytes, well beyond every cache


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the machine was seen to do.

    Attributes:
      dtype: of the numbers.
      flops: floating-point operations a second, of a large matrix product.
      bandwidth: bytes a second, read or written, of a large copy.
    """

    dtype: str
    flops: float
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Demands:
    """What one unit of work asks of the machine, as XLA counts it.

    Attributes:
      flops: floating-point operations.
      accessed: bytes read and written.
      peak: bytes of arguments, results and temporaries.
      temporary: of these, the temporaries.
    """

    flops: float
    accessed: float
    peak: int
    temporary: int


def measure_limits(dtype: str, rounds: int = 5) -> Limits:
    """Time a large matrix product and a large copy, in turns, on JAX's default device.

    Args:
      dtype: "float32" or "float64".
      rounds: how often.

    Returns:
      The best of the rounds: these are limits.
    """
    platform = jax.default_backend()
    with jax.enable_x64(dtype == "float64"):
        rows = MATRIX.get(platform, MATRIX["default"])
        matrix = jnp.ones((rows, rows), dtype)
        size = COPIED.get(platform, COPIED["default"]) // jnp.dtype(dtype).itemsize
        numbers = jnp.zeros(size, dtype)
        multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
        # One number read, one written, in place: a new array costs its pages besides.
        copy = jax.jit(lambda a: a + 1, donate_argnums=0)
        kept = [numbers]

        def copied() -> jax.Array:
            kept[:] = [copy(*kept)]
            return kept[0]

        timed = take_turns({"product": lambda: multiply(matrix), "copy": copied}, rounds, blas=False)
    product, moved = (float(timed[name].seconds.min()) for name in ("product", "copy"))
    return Limits(dtype, 2 * rows**3 / product, 2 * kept[0].nbytes / moved)


def demands(compiled: Any) -> Demands | None:
    """What a compiled program asks of the machine; None where the backend does not say.

    Args:
      compiled: from `jax.jit(fn).lower(...).compile()`.

    Example:
      >>> compiled = jax.jit(lambda a: a @ a).lower(jnp.ones((10, 10))).compile()
      >>> demands(compiled).flops >= 2000
      True
    """
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    if not cost or memory is None:
        return None
    cost = cost[0] if isinstance(cost, list) else cost
    temporary = int(memory.temp_size_in_bytes)
    peak = temporary + int(memory.argument_size_in_bytes) + int(memory.output_size_in_bytes)
    aliased = int(memory.alias_size_in_bytes)
    return Demands(
        float(cost.get("flops", 0.0)), float(cost.get("bytes accessed", 0.0)), peak - aliased, temporary
    )


def share_of_limit(asked: Demands, seconds: float, limits: Limits) -> float:
    """The least time that the machine needs, over the time that it took; 1 is the limit itself.

    >>> share_of_limit(Demands(1e9, 1e6, 0, 0), 0.5, Limits("float32", 1e10, 1e9))
    0.2
    """
    return max(asked.flops / limits.flops, asked.accessed / limits.bandwidth) / seconds
