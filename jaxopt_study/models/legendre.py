"""Legendre's third polynomial of a line: `y = a + b P₃(c + d x)`, `P₃(u) = (5u³ − 3u) / 2`.

P₃ comes twice, each with its derivative written by hand: `p3_vjp` as a backward pass (`jax.custom_vjp`,
reverse mode alone), `p3_jvp` as a rule for tangents (`jax.custom_jvp`, of which JAX makes the backward pass
and all higher derivatives). They are the pattern to follow for a function whose derivative JAX would not
find, or not well.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.types import Float

Params = dict[str, Float[Array, ""]]


def _p3(u: Array) -> Array:
    return 0.5 * (5 * u**3 - 3 * u)


def _slope(u: Array) -> Array:
    return 1.5 * (5 * u**2 - 1)


@jax.custom_vjp
def p3_vjp(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """`P₃(u) = (5u³ − 3u) / 2` with its backward pass: what comes in, times `P₃' = 3 (5u² − 1) / 2`.

    Args:
      u: of any shape.

    Returns:
      P₃(u), of the shape of `u`.

    Example:
      >>> print(jax.grad(p3_vjp)(jnp.array(1.0)))
      6.0
    """
    return _p3(u)


def _forward(u: Array) -> tuple[Array, Array]:
    return _p3(u), u


def _backward(u: Array, cotangent: Array) -> tuple[Array]:
    return (cotangent * _slope(u),)


p3_vjp.defvjp(_forward, _backward)


@jax.custom_jvp
def p3_jvp(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """`P₃(u) = (5u³ − 3u) / 2` with its rule for tangents: `P₃' u̇`, `P₃' = 3 (5u² − 1) / 2`.

    Args:
      u: of any shape.

    Returns:
      P₃(u), of the shape of `u`.

    Example:
      >>> print(jax.jvp(p3_jvp, (jnp.array(1.0),), (jnp.array(2.0),))[1])
      12.0
    """
    return _p3(u)


@p3_jvp.defjvp
def _tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (u,), (u_dot,) = primals, tangents
    return _p3(u), _slope(u) * u_dot


def init(a: ArrayLike = 0.0, b: ArrayLike = -1.0, c: ArrayLike = 0.0, d: ArrayLike = 0.3) -> Params:
    """Parameters from numbers.

    Args:
      a: what is added.
      b: what P₃ is multiplied by.
      c: where the line is at x = 0.
      d: the line's slope.

    Returns:
      The parameters a, b, c and d by name.

    Example:
      >>> print(init()["b"])
      -1.0
    """
    return {
        "a": jnp.asarray(a, float),
        "b": jnp.asarray(b, float),
        "c": jnp.asarray(c, float),
        "d": jnp.asarray(d, float),
    }


def apply(params: Params, x: Float[Array, "..."], backward_rule: bool = True) -> Float[Array, "..."]:
    """`y = a + b P₃(c + d x)`.

    Args:
      params: a, b, c and d by name.
      x: where to evaluate, of any shape.
      backward_rule: P₃ is `p3_vjp`, else `p3_jvp`.

    Returns:
      y, of the shape of `x`.

    Example:
      >>> print(apply(init(1.0, 2.0, 0.0, 1.0), jnp.array([0.0, 1.0])))
      [1. 3.]
    """
    p3 = p3_vjp if backward_rule else p3_jvp
    return params["a"] + params["b"] * p3(params["c"] + params["d"] * x)
