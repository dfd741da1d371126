"""Coefficients of truncated power series, stacked along a leading axis, and their arithmetic.

A function here takes and gives arrays of shape `(order + 1, *shape)`: entry k is the coefficient of tᵏ. A
recurrence is a `lax.scan` over the order, so that what XLA has to compile does not grow with it (written
out, order 20 of exp compiles five times longer and runs no faster). Low orders are written out: they run up
to four times as fast.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# The highest order that is written out. At 4 the gradient of a network of exact gelu compiles twice as long
# as with scans, of tanh as long; at 6 it would be four times, and more for deep ones.
LOW = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """A value that varies along the line: Σ coefficients[k] tᵏ.

    Attributes:
      coefficients: shape `(order + 1, *shape)`.
      number: the same for two series that are computed in the same way, to whatever order.
    """

    coefficients: Array
    number: int

    @property
    def primal(self) -> Array:
        """The value at t = 0."""
        return self.coefficients[0]

    def truncate(self, order: int) -> Any:
        """The same to a lower order; to order 0 it is a plain array."""
        return Series(self.coefficients[: order + 1], self.number) if order else self.primal


@dataclasses.dataclass(frozen=True)
class Pending:
    """A value that depends on a series which is still being computed.

    Attributes:
      primal: the value at t = 0.
      on: the numbers of what it waits for.
    """

    primal: Any
    on: frozenset[int]


def pending(values: Iterable[Any]) -> frozenset[int]:
    """What any of these values waits for."""
    return frozenset().union(*(value.on for value in values if isinstance(value, Pending)))


def primal(value: Any) -> Any:
    """The value at t = 0 of a series, pending or not, or of a constant."""
    return value.primal if isinstance(value, Series | Pending) else value


def coefficients(value: Any, order: int) -> Array:
    """The coefficients of a series or of a constant."""
    return value.coefficients if isinstance(value, Series) else constant(value, order)


def constant(value: Any, order: int) -> Array:
    """Coefficients of what does not vary.

    >>> print(constant(3.0, 2))
    [3. 0. 0.]
    """
    value = jnp.asarray(value)
    return jnp.concatenate([value[None], jnp.zeros((order, *value.shape), value.dtype)])


def indices(like: Array, start: int = 0) -> np.ndarray:
    """`start`, `start` + 1, ... along the leading axis, in the real dtype of `like`."""
    real = jnp.finfo(like.dtype).dtype if jnp.issubdtype(like.dtype, np.inexact) else like.dtype
    numbers = np.arange(start, start + like.shape[0]).astype(real)
    return numbers.reshape((-1,) + (1,) * (like.ndim - 1))


def differentiate(u: Array) -> Array:
    """Coefficients of du/dt, one fewer.

    >>> print(differentiate(jnp.array([7.0, 3.0, 5.0])))
    [ 3. 10.]
    """
    return u[1:] * indices(u[1:], 1)


def integrate(initial: Array, slope: Array) -> Array:
    """Coefficients of the series that starts at `initial` and has the derivative `slope`, one more.

    >>> print(integrate(jnp.array(7.0), jnp.array([3.0, 10.0])))
    [7. 3. 5.]
    """
    return jnp.concatenate([initial[None], slope / indices(slope, 1)])


def convolve(product: Callable[[Any, Any], Array], a: Array, b: Array) -> Array:
    """Cauchy's product of two series, under any bilinear product of their coefficients.

    >>> print(convolve(jnp.multiply, jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, -1.0, 1.0])))
    [1. 0. 0.]
    """
    one_with_all = jax.vmap(product, in_axes=(None, 0))
    order = len(a) - 1
    if order <= LOW:
        products = [one_with_all(a_k, b[: order + 1 - k]) for k, a_k in enumerate(a)]
        return finished([sum_of(products[j][k - j] for j in range(k + 1)) for k in range(order + 1)])

    def step(carry: tuple[Array, Array], a_k: Array) -> tuple[tuple[Array, Array], None]:
        total, late = carry
        return (total + one_with_all(a_k, late), behind(late)), None

    shape = jax.eval_shape(one_with_all, a[0], b)
    return lax.scan(step, (jnp.zeros(shape.shape, shape.dtype), b), a)[0][0]


def multiply(a: Array, b: Array) -> Array:
    """Cauchy's product.

    >>> print(multiply(jnp.array([1.0, 2.0, 0.0]), jnp.array([1.0, 2.0, 0.0])))
    [1. 4. 4.]
    """
    return convolve(jnp.multiply, a, b)


def recurrence(
    first: Array,
    waiting: Array,
    push: Callable[[Array, Any], Array],
    settle: Callable[[Array, Any], Array],
) -> Array:
    """Coefficients that depend on the earlier ones linearly: y_k = settle(what was pushed to k, k).

    Args:
      first: y₀.
      waiting: what y₁, y₂, ... get from elsewhere, shape `(order, ...)`.
      push: `push(y_i, i)` is what y_i adds to y_{i+1}, y_{i+2}, ..., of the shape of `waiting`; y_i has
        a leading axis of 1.
      settle: `settle(sum, k)` is y_k.
    """

    def step(carry: tuple[Array, Array], k: Any) -> tuple[tuple[Array, Array], Array]:
        waiting, last = carry
        waiting = waiting + push(last[None], k - 1)
        y = settle(waiting[0], k)
        return (ahead(waiting), y), y

    ks = indices(waiting, 1).ravel()
    if len(ks) <= LOW:
        ys, pushed = [first], []
        for at, k in enumerate(ks):
            pushed.append(push(ys[-1][None], k - 1))
            ys.append(settle(sum_of([waiting[at], *(row[at - i] for i, row in enumerate(pushed))]), k))
        return finished(ys)
    _, rest = lax.scan(step, (waiting, first), ks)
    return jnp.concatenate([first[None], rest])


def sum_of(terms: Iterable[Array]) -> Array:
    """Their sum, from the first to the last."""
    return functools.reduce(jnp.add, terms)


def finished(rows: list[Array]) -> Array:
    """Coefficients that were written out, as an array that XLA computes once.

    It would fuse products of products into kernels that compute the inner ones again for every element of the
    outer.
    """
    return lax.optimization_barrier(jnp.stack(rows))


def ahead(u: Array) -> Array:
    """All entries moved forward by one, a zero at the end."""
    return jnp.concatenate([u[1:], jnp.zeros_like(u[:1])])


def behind(u: Array) -> Array:
    """All entries moved back by one, a zero in front."""
    return jnp.concatenate([jnp.zeros_like(u[:1]), u[:-1]])


def divide(a: Array, b: Array, first: Array) -> Array:
    """a / b, whose value at t = 0 is `first`: y_k = (a_k − Σ_{j≥1} b_j y_{k−j}) / b₀.

    >>> print(divide(jnp.array([1.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]), jnp.array(1.0)))
    [ 1. -1.  1.]
    """
    return recurrence(first, a[1:], lambda y, i: -(y * b[1:]), lambda total, k: total / b[0])
