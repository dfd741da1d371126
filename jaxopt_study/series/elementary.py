"""Elementary functions of a series, each by the differential equation that it satisfies.

What is not here (log, atan, erf, lgamma, ...) has a derivative that is computed by what is, and the
interpreter integrates that. A rule takes the coefficients u and y₀, the value at t = 0 that JAX itself
computes, and gives the coefficients of y.

Griewank and Walther, Evaluating Derivatives, 2nd ed. (2008), section 13.2.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxopt_study.series.series import (
    LOW,
    Series,
    ahead,
    coefficients,
    constant,
    differentiate,
    divide,
    finished,
    indices,
    integrate,
    multiply,
    primal,
    recurrence,
    sum_of,
)

Rule = Callable[..., Array]


def exp(u: Array, first: Array) -> Array:
    """y' = y u'."""
    return growth(u, first)


def growth(exponent: Array, first: Array) -> Array:
    """y' = y v', from any y₀: k y_k = Σ j v_j y_{k−j}."""
    push = differentiate(exponent)
    return recurrence(first, jnp.zeros_like(push), lambda y, i: y * push, lambda total, k: total / k)


def exp2(u: Array, first: Array) -> Array:
    """2ᵘ = exp(u log 2)."""
    return growth(u * np.log(2.0).astype(u.dtype), first)


def expm1(u: Array, first: Array) -> Array:
    """exp but for the first coefficient, in which nothing may cancel."""
    return jnp.concatenate([first[None], growth(u, jnp.exp(u[0]))[1:]])


def turning(u: Array, cosine: Array, sine: Array, sign: int) -> tuple[Array, Array]:
    """The pair c' = sign · s u', s' = c u' from its values at t = 0: cos and sin, or cosh and sinh."""
    push = differentiate(u)
    pair = recurrence(
        jnp.stack([cosine, sine]),
        jnp.zeros((push.shape[0], 2, *push.shape[1:]), push.dtype),
        lambda y, i: jnp.stack([sign * y[:, 1] * push, y[:, 0] * push], axis=1),
        lambda total, k: total / k,
    )
    return pair[:, 0], pair[:, 1]


def sin(u: Array, first: Array) -> Array:
    """s' = c u'."""
    return turning(u, jnp.cos(u[0]), first, -1)[1]


def cos(u: Array, first: Array) -> Array:
    """c' = −s u'."""
    return turning(u, first, jnp.sin(u[0]), -1)[0]


def sinh(u: Array, first: Array) -> Array:
    """s' = c u'."""
    return turning(u, jnp.cosh(u[0]), first, 1)[1]


def cosh(u: Array, first: Array) -> Array:
    """c' = s u'."""
    return turning(u, first, jnp.sinh(u[0]), 1)[0]


def riccati(u: Array, first: Array, slope: Array, linear: int, square: int) -> Array:
    """y' = q u', q = constant + linear · y + square · y², given y₀ and q₀.

    q₀ comes from outside because 1 − tanh² cancels: at 7 it has lost six digits, at 20 all of them.
    """
    push = differentiate(u)
    if len(push) <= LOW:
        ys, qs = [first], [slope]
        for k in range(1, len(push) + 1):
            ys.append(sum_of(q * push[k - 1 - j] for j, q in enumerate(qs)) / k)
            qs.append(linear * ys[k] + square * sum_of(y * ys[k - j] for j, y in enumerate(ys)))
        return finished(ys)

    # `to_y` and `to_q` hold what is known of the coming coefficients, the next one in front; `ys` holds
    # y_j at j, and zeros where they are not known yet.
    def step(carry: tuple[Array, Array, Array], k: Any) -> tuple[tuple[Array, Array, Array], Array]:
        to_y, to_q, ys = carry
        y = to_y[0] / k
        more = lax.dynamic_update_index_in_dim(ys, y, k.astype(int), 0)
        # y_k meets all y_j with j < k twice and itself once.
        to_q = to_q + y[None] * (ys + more)
        q = linear * y + square * to_q[0]
        return (ahead(to_y) + q[None] * push, ahead(to_q), more), y

    start = (slope[None] * push, jnp.zeros_like(push), constant(first, push.shape[0] - 1))
    _, rest = lax.scan(step, start, indices(push, 1).ravel())
    return jnp.concatenate([first[None], rest])


def tanh(u: Array, first: Array) -> Array:
    """y' = (1 − y²) u'."""
    return riccati(u, first, _sech_squared(u[0]), 0, -1)


def logistic(u: Array, first: Array) -> Array:
    """y' = (y − y²) u'."""
    return riccati(u, first, _sech_squared(u[0] / 2) / 4, 1, -1)


def tan(u: Array, first: Array) -> Array:
    """y' = (1 + y²) u'."""
    return riccati(u, first, 1 + first**2, 0, 1)


def _sech_squared(x: Array) -> Array:
    if jnp.iscomplexobj(x):
        return 1 / jnp.cosh(x) ** 2
    e = jnp.exp(-2 * jnp.abs(x))  # no cosh, which overflows
    return 4 * e / (1 + e) ** 2


def power(u: Array, first: Array, exponent: Any) -> Array:
    """uᵖ for a p that does not vary: k u₀ y_k = Σ_i (p (k−i) − i) u_{k−i} y_i.

    Where u₀ is 0, the leading term p (p−1) ... (p−k+1) u₀^(p−k) u₁ᵏ / k! of every coefficient: exact for
    u = u₁ t, so that √t has an infinite slope at 0 and t^2.5 has two derivatives that are 0.
    """
    p = jnp.asarray(exponent, u.dtype)
    p = p[None] if p.ndim else p
    is_zero, ks, rest = u[:1] == 0, indices(u[1:], 1), u[1:]
    away = recurrence(
        first,
        jnp.zeros_like(rest),
        lambda y, i: y * ((p * ks - i) * rest),
        lambda total, k: total / (k * jnp.where(is_zero[0], 1, u[0])),
    )
    binomials = jnp.cumprod(jnp.broadcast_to((p - (ks - 1)) / ks, rest.shape), axis=0)
    # 0^(p−k), but finite where it is not chosen: a gradient would multiply it by 0.
    scale = jnp.where(p == ks, 1, jnp.where(is_zero & (jnp.real(p) < ks), jnp.inf, 0))
    leading = jnp.where(binomials == 0, 0, binomials * scale.astype(u.dtype) * u[1:2] ** ks)
    return jnp.where(is_zero, jnp.concatenate([first[None], leading]), away)


def sqrt(u: Array, first: Array) -> Array:
    """u to the 1/2."""
    return power(u, first, 0.5)


def cbrt(u: Array, first: Array) -> Array:
    """u to the 1/3."""
    return power(u, first, 1.0 / 3.0)


def rsqrt(u: Array, first: Array) -> Array:
    """u to the −1/2."""
    return power(u, first, -0.5)


def integer_power(u: Array, first: Array, exponent: int) -> Array:
    """uⁿ by repeated squaring: exact at 0, and for polynomials."""
    if exponent < 0:
        below = integer_power(u, u[0] ** -exponent, -exponent)
        return divide(constant(jnp.ones_like(first), u.shape[0] - 1), below, first)
    result, square = None, u
    remaining = exponent
    while remaining:
        if remaining & 1:
            result = square if result is None else multiply(result, square)
        remaining >>= 1
        if remaining:
            square = multiply(square, square)
    if result is None:
        return constant(first, u.shape[0] - 1)
    return result.at[0].set(first)


def traced_power(u: Array, first: Array, exponent: Array) -> Array:
    """uᵖ for a p that is known only when the program runs, and may be a whole number then."""
    y, is_zero = power(u, first, exponent), u[:1] == 0
    exponent = exponent[None] if exponent.ndim else exponent
    one, delta = constant(jnp.ones_like(u[0]), u.shape[0] - 1), u.at[0].set(0)

    def step(carry: tuple[Array, Array], n: Any) -> tuple[tuple[Array, Array], None]:
        y, power_of_delta = carry
        power_of_delta = multiply(power_of_delta, delta)
        return (jnp.where(is_zero & (exponent == n), power_of_delta, y), power_of_delta), None

    (y, _), _ = lax.scan(step, (y, one), indices(u[1:], 1).ravel())
    return y


def varying_power(u: Array, p: Array, first: Array) -> Array:
    """uᵖ = exp(p log u); where u₀ is 0, that for a p that does not vary, as everywhere in JAX."""
    away = growth(multiply(p, logarithm(u.at[0].set(_not_zero(u[0])))), first)
    return jnp.where(u[:1] == 0, power(u, first, p[0]), away)


def _not_zero(base: Array) -> Array:
    """JAX takes the logarithm of a base of 0 for 0: the slope of 0ˣ is 0."""
    return jnp.where(base == 0, 1, base)


def logarithm(u: Array) -> Array:
    """y' = u' / u."""
    return integrate(jnp.log(u[0]), divide(differentiate(u), u[:-1], u[1] / u[0]))


def absolute(u: Array, first: Array) -> Array:
    """|u|, whose slope at 0 is that on the right, as everywhere in JAX."""
    return jnp.concatenate([first[None], jnp.where(u[:1] >= 0, u[1:], -u[1:])])


def larger(a: Array, b: Array, first: Array) -> Array:
    """max(a, b), the mean of the two where they are equal, as everywhere in JAX."""
    return _either(a[:1] > b[:1], a, a[:1] < b[:1], b, first)


def smaller(a: Array, b: Array, first: Array) -> Array:
    """min(a, b)."""
    return _either(a[:1] < b[:1], a, a[:1] > b[:1], b, first)


def _either(is_a: Array, a: Array, is_b: Array, b: Array, first: Array) -> Array:
    rest = jnp.where(is_a, a[1:], jnp.where(is_b, b[1:], (a[1:] + b[1:]) / 2))
    return jnp.concatenate([first[None], rest])


# One argument, by the primitive's name.
RULES: dict[str, Rule] = {
    "cbrt": cbrt,
    "cos": cos,
    "cosh": cosh,
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "logistic": logistic,
    "rsqrt": rsqrt,
    "sin": sin,
    "sinh": sinh,
    "sqrt": sqrt,
    "tan": tan,
    "tanh": tanh,
}


def rule(
    name: str, params: dict[str, Any], values: list[Any], shape: tuple[int, ...], order: int
) -> Callable[[Array], Array] | None:
    """The rule of a primitive for these operands, as a function of the value at t = 0; None without one.

    Args:
      name: the primitive's.
      params: the primitive's.
      values: its operands.
      shape: of the result; an operand may be a scalar all the same.
      order: of the series.
    """
    if name in RULES:
        return lambda y0: RULES[name](values[0].coefficients, y0)
    if name not in _OTHERS or (name == "abs" and jnp.iscomplexobj(primal(values[0]))):
        return None
    if name == "pow" and not isinstance(values[1], Series):
        base = values[0].coefficients
        if _is_number(values[1]):
            return _known_power(base, np.asarray(values[1]).item())
        return lambda y0: traced_power(_spread(base, shape), y0, jnp.broadcast_to(values[1], shape))
    us = [_spread(coefficients(value, order), shape) for value in values]
    match name:
        case "abs":
            return lambda y0: absolute(us[0], y0)
        case "square":
            return lambda y0: multiply(us[0], us[0]).at[0].set(y0)
        case "integer_pow":
            return lambda y0: integer_power(us[0], y0, params["y"])
        case "max":
            return lambda y0: larger(us[0], us[1], y0)
        case "min":
            return lambda y0: smaller(us[0], us[1], y0)
        case "pow" if not isinstance(values[0], Series):
            return lambda y0: growth(us[1] * jnp.log(_not_zero(us[0][0])), y0)
        case "pow":
            return lambda y0: varying_power(us[0], us[1], y0)
        case "div" if isinstance(values[1], Series):
            return lambda y0: divide(us[0], us[1], y0)
        case _:
            return lambda y0: us[0] / us[1][:1]


_OTHERS = frozenset({"abs", "div", "integer_pow", "max", "min", "pow", "square"})


def _spread(u: Array, shape: tuple[int, ...]) -> Array:
    """The same coefficients for every element along an axis of which it has one."""
    missing = (1,) * (len(shape) - u.ndim + 1)
    return jnp.broadcast_to(u.reshape(u.shape[0], *missing, *u.shape[1:]), (u.shape[0], *shape))


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and not isinstance(value, jax.core.Tracer)


def _known_power(base: Array, exponent: Any) -> Callable[[Array], Array]:
    if not isinstance(exponent, complex) and float(exponent).is_integer():
        return lambda y0: integer_power(base, y0, int(exponent))
    return lambda y0: power(base, y0, exponent)
