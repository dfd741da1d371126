"""The state within a step, as weights of the step's rows: the continuous extension of a method.

Weights are functions of the part of the step that is over, θ in [0, 1]. Those of the default method are
evaluated for all rows at once; those of others are diffrax's interpolation, applied to a basis.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Extension = Callable[[Array], Array]

# a θ (θ - r) ((θ - u)(θ - v) + c), a column for each of the seven slopes: in factors, because in float32 the
# powers of θ would cancel to a few digits.
# Source: Ch. Tsitouras, Computers & Mathematics with Applications 62, 2011.
_TSIT5 = np.array(
    [
        [-1.0530884977290216, 1.3299890189751412, 0.71820142708581755, 0.71820142708581755, 0.0],
        [0.1017, 0.0, 1.0983284169124877, 1.0983284169124877, 0.0],
        [2.490627285651252793, 0.0, 1.192678227360308285, 1.192678227360308285, 0.0],
        [-16.54810288924490272, 0.0, 1.21712927295533244, 0.61620406037800089, 0.0],
        [47.37952196281928122, 0.0, 1.203071208372362603, 0.658047292653547382, 0.0],
        [-34.87065786149660974, 0.0, 1.2, 2 / 3, 0.0],
        [2.5, 0.0, 1.0, 0.6, 0.0],
    ]
).T
# θ² - 2uθ + q of the first three has no real roots.
_TSIT5[4, :3] = np.array([0.7139816917074209, 1.2949852507374631, 1.57803468208092486]) - _TSIT5[2, :3] ** 2


def extension_of(solver: Any, rows: int, slopes: int) -> Extension:
    """The weights of a one-step method of diffrax.

    Args:
      solver: the method.
      rows: of a step: state at its start and at its end, and slopes times its length.
      slopes: how many of the slopes its interpolation takes.

    Returns:
      From parts of the step, `(times,)`, to weights, `(times, rows)`.
    """
    import diffrax

    if isinstance(solver, diffrax.Euler | diffrax.ImplicitEuler):
        return functools.partial(_interpolated, _straight, rows, slopes)
    if solver.interpolation_cls is diffrax.Tsit5.interpolation_cls:
        return _tsit5
    return functools.partial(_interpolated, solver.interpolation_cls, rows, slopes)


def _tsit5(parts: Array) -> Array:
    factor, root, u, v, shift = jnp.asarray(np.pad(_TSIT5, ((0, 0), (2, 0))), parts.dtype)[:, None, :]
    at = parts[:, None]
    first = jnp.asarray(np.arange(9) == 0, parts.dtype)[None, :]
    return first + factor * at * (at - root) * ((at - u) * (at - v) + shift)


def _interpolated(interpolation: Any, rows: int, slopes: int, parts: Array) -> Array:
    basis = jnp.eye(rows, dtype=parts.dtype)
    zero, one = jnp.zeros((), parts.dtype), jnp.ones((), parts.dtype)
    local = interpolation(t0=zero, t1=one, y0=basis[0], y1=basis[1], k=basis[2 : 2 + slopes])
    return jax.vmap(local.evaluate)(parts)


def _straight(k: Any, **ends: Any) -> Any:
    import diffrax

    del k
    return diffrax.LocalLinearInterpolation(**ends)
