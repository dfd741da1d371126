"""How many points of a sweep to run side by side, from the program of one.

Side by side (`vmap`), a kernel is launched once for all lanes; but both branches of a `cond` are
computed, and what all lanes hold has to fit the cache. Both are seen in the jaxpr of one lane, so
nothing has to be compiled to decide, and the choice is the same on every machine of a kind.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core as jax_core

# Fitted on one core of an EPYC to a network of 41 parameters on 500 points by Adam and by
# Levenberg-Marquardt, and to a bowl of two: seconds a launched operation, and seconds a flop.
LAUNCH = 1e-7
FLOP = 2.5e-10
CACHE_BYTES = 4 * 2**20  # of all lanes of a chunk
WIDEST = 1024  # beyond, a launch costs nothing against the work
# An accelerator waits for launches (some microseconds each) and not for flops, and has memory for many.
ACCELERATOR_LAUNCH = 5e-6
ACCELERATOR_FLOP = 1e-12
ACCELERATOR_BYTES = 2 * 2**30
ACCELERATOR_WIDEST = 16_384


class Cost(NamedTuple):
    """Of one step of one lane: operations, flops, and bytes of the largest array."""

    operations: float
    flops: float
    largest: float


def choose_width(advance: Any, carry_bytes: float, accelerator: bool = False) -> int:
    """How many lanes to run side by side; 1 where one at a time is quicker.

    Args:
      advance: the closed jaxpr of one lane.
      carry_bytes: what a lane holds between steps.
      accelerator: whether they run on anything but a CPU.
    """
    launch, flop = (ACCELERATOR_LAUNCH, ACCELERATOR_FLOP) if accelerator else (LAUNCH, FLOP)
    room, widest = (ACCELERATOR_BYTES, ACCELERATOR_WIDEST) if accelerator else (CACHE_BYTES, WIDEST)
    alone = cost_of(advance.jaxpr, min)
    beside = cost_of(advance.jaxpr, sum)
    lane_bytes = carry_bytes + 4 * beside.largest
    width = int(min(max(room / max(lane_bytes, 1.0), 1), widest))
    width = 2 ** int(math.log2(width))
    time_alone = launch * alone.operations + flop * alone.flops
    time_beside = launch * beside.operations / width + flop * beside.flops
    return width if time_beside < time_alone else 1


def cost_of(jaxpr: Any, branches: Callable[[Any], float]) -> Cost:
    """The cost of a jaxpr, loops counted once; of a `cond` the cheapest branch (`min`) or all (`sum`)."""
    operations = flops = largest = 0.0
    for equation in jaxpr.eqns:
        inner = [cost_of(_open(sub), branches) for sub in jax_core.jaxprs_in_params(equation.params)]
        if equation.primitive.name == "cond" and inner:
            # One branch is taken, the one that is cheap as a whole.
            times = [LAUNCH * cost.operations + FLOP * cost.flops for cost in inner]
            chosen = [inner[times.index(min(times))]] if branches is min else inner
            inner = chosen
        for cost in inner:
            operations, flops = operations + cost.operations, flops + cost.flops
            largest = max(largest, cost.largest)
        if not inner:
            operations, flops = operations + 1, flops + _flops(equation)
            largest = max([largest, *(_bytes(out.aval) for out in equation.outvars)])
    return Cost(operations, flops, largest)


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _bytes(aval: Any) -> float:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 8.0
    return float(math.prod(aval.shape) * dtype.itemsize)


def _flops(equation: Any) -> float:
    name = equation.primitive.name
    shapes: list[Any] = [getattr(var.aval, "shape", ()) for var in equation.invars]
    size = sum(math.prod(getattr(var.aval, "shape", ())) for var in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return float(size * math.prod(shapes[0][axis] for axis in contracted))
    if name in ("cholesky", "triangular_solve", "lu", "qr", "geqrf", "householder_product", "svd", "eigh"):
        longest = max(shapes, key=math.prod)
        rows, columns = (longest[-2], longest[-1]) if len(longest) > 1 else (1, 1)
        factor = {"svd": 20.0, "eigh": 10.0, "cholesky": 0.3}.get(name, 2.0)
        return factor * math.prod(longest) * min(rows, columns)
    if name in ("tanh", "exp", "log", "sin", "cos", "logistic", "erf", "pow"):
        return 8.0 * size
    return float(size)
