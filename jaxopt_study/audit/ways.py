"""Ways of differentiating the function that is audited: forward, reverse, and by complex steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import Differences, Floats
from jaxopt_study.audit.flat import FlatFunction, Runner
from jaxopt_study.audit.judge import tolerance
from jaxopt_study.audit.sampling import Way, each_line


def forward(flat: FlatFunction, project: Callable[[Array], Array], output: Callable[[int], str]) -> Way:
    """Forward mode, line by line."""

    def push(x: Array, v: Array) -> Array:
        return project(jax.jvp(flat, (x,), (v,))[1])

    return Way(
        "forward",
        Runner(lambda x: project(flat(x)), flat.dtype),
        each_line(Runner(push, flat.dtype)),
        output,
    )


def reverse(flat: FlatFunction, project: Callable[[Array], Array], output: Callable[[int], str]) -> Way:
    """Reverse mode: whole rows, and of them the elements along the lines."""

    def rows(x: Array) -> Array:
        # Row by row, and not by vmap, which is checked by itself.
        out, pull = jax.vjp(lambda x: project(flat(x)), x)
        return jnp.ravel(jax.lax.map(lambda w: pull(w)[0], jnp.eye(out.size, dtype=out.dtype)))

    run = Runner(rows, flat.dtype)

    def slopes(points: Floats, directions: Floats) -> Floats:
        matrix = run(points).reshape(len(points), -1, points.shape[1])
        with np.errstate(invalid="ignore"):
            # Not zero times what is not finite: an element that does not move has no part in the sum.
            along = directions[:, :, None, :]
            return (
                np.where(along == 0, 0.0, matrix[:, None] * along).sum(axis=-1).reshape(-1, matrix.shape[1])
            )

    return Way("reverse", Runner(lambda x: project(flat(x)), flat.dtype), slopes, output)


def complex_steps(
    flat: FlatFunction,
    project: Callable[[Array], Array],
    points: Floats,
    directions: Floats,
    truth: Differences,
) -> Floats | None:
    """Derivatives by complex steps, NaN at points where they are not what differences say.

    That is so for what is not analytic (`abs`, comparisons); and what has no complex version raises.
    """
    run = Runner(lambda x, v: project(flat.complex_step(x, v)), flat.dtype)
    lines = directions.shape[1]
    try:
        value = each_line(run)(points, directions)
    except Exception:  # whatever a function makes of complex numbers: it does not allow them
        return None
    with np.errstate(invalid="ignore"):
        near = np.abs(value - truth.value) <= 10 * truth.error + tolerance(flat.eps) * np.abs(truth.value)
        near |= ~np.isfinite(truth.error)
    for p in range(len(points)):
        block = slice(p * lines, (p + 1) * lines)
        if not near[block].all():
            value[block] = np.nan
    return value
