"""Functions of as many variables as wanted: chains of neighbors, and all coupled with one.

Banded and arrow-shaped Hessians, quadratics of any condition, quartics whose Hessian is singular at the
solution, negative curvature from the start. The names are those of the CUTEst collection.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float

Vector = Float[Array, " n"]
Value = Float[Array, ""]


def arwhead(n: int = 100) -> Problem:
    """`Σ (xᵢ² + xₙ²)² - 4xᵢ + 3`, an arrow."""
    return _problem(_arwhead, jnp.ones(_at_least(n, 2)), (0.0,))


def bdqrtic(n: int = 100) -> Problem:
    """`Σ (3 - 4xᵢ)² + (xᵢ² + 2xᵢ₊₁² + 3xᵢ₊₂² + 4xᵢ₊₃² + 5xₙ²)²`."""
    return _problem(_bdqrtic, jnp.ones(_at_least(n, 5)))


def chainwoo(n: int = 100) -> Problem:
    """Wood's function in a chain, with very many local minima; lowest at 1."""
    start = jnp.array([-3.0, -1.0, -3.0, -1.0] + [-2.0, 0.0] * ((_even(n, 4) - 4) // 2))
    return _problem(_chainwoo, start, (1.0,))


def cosine(n: int = 100) -> Problem:
    """`Σ cos(xᵢ² - xᵢ₊₁/2)`; lowest at 1 - n."""
    return _problem(_cosine, jnp.ones(_at_least(n, 2)), (1.0 - n,))


def cragglvy(n: int = 100) -> Problem:
    """Cragg and Levy's function in a chain: powers up to the eighth, an exponential and a tangent."""
    return _problem(_cragglvy, jnp.full(_even(n, 4), 2.0).at[0].set(1.0))


def curly10(n: int = 100) -> Problem:
    """Quartics of the sums of 11 neighbors, from near a maximum; many minima, ill-conditioned."""
    return _problem(_curly10, 1e-4 * jnp.arange(1.0, _at_least(n, 11) + 1) / (n + 1))


def dixmaana(n: int = 90) -> Problem:
    """Dixon and Maany's A: quartic couplings over a third of the variables; lowest at 1."""
    return _dixmaan(n, (1.0, 0.0, 0.125, 0.125), (0, 0, 0, 0))


def dixmaane(n: int = 90) -> Problem:
    """Dixon and Maany's E: as A, with curvatures that grow as i/n; lowest at 1."""
    return _dixmaan(n, (1.0, 0.0, 0.125, 0.125), (1, 0, 0, 1))


def dixmaanj(n: int = 90) -> Problem:
    """Dixon and Maany's J: as E, with couplings of neighbors and curvatures as (i/n)²; lowest at 1."""
    return _dixmaan(n, (1.0, 0.0625, 0.0625, 0.0625), (2, 0, 0, 2))


def dixon3dq(n: int = 100) -> Problem:
    """`(x₁-1)² + Σ (xⱼ - xⱼ₊₁)² + (xₙ-1)²`, a quadratic that information crosses slowly."""
    return _problem(_dixon3dq, -jnp.ones(_at_least(n, 3)), (0.0,))


def dqdrtic(n: int = 100) -> Problem:
    """`Σ xᵢ² + 100xᵢ₊₁² + 100xᵢ₊₂²`, a diagonal quadratic."""
    return _problem(_dqdrtic, jnp.full(_at_least(n, 3), 3.0), (0.0,))


def edensch(n: int = 100) -> Problem:
    """`16 + Σ (xᵢ-2)⁴ + (xᵢxᵢ₊₁ - 2xᵢ₊₁)² + (xᵢ₊₁+1)²`."""
    return _problem(_edensch, jnp.full(_at_least(n, 2), 8.0))


def eg2(n: int = 100) -> Problem:
    """`Σ sin(x₁ + xᵢ² - 1) + ½ sin(xₙ²)`; lowest at ½ - n."""
    return _problem(_eg2, jnp.zeros(_at_least(n, 2)), (0.5 - n,))


def engval1(n: int = 100) -> Problem:
    """`Σ (xᵢ² + xᵢ₊₁²)² - 4xᵢ + 3`."""
    return _problem(_engval1, jnp.full(_at_least(n, 2), 2.0))


def extrosnb(n: int = 100) -> Problem:
    """`(x₁-1)² + 100 Σ (xᵢ - xᵢ₋₁²)²`: Rosenbrock's valley, once around every corner."""
    return _problem(_extrosnb, -jnp.ones(_at_least(n, 2)), (0.0,))


def fletchcr(n: int = 100) -> Problem:
    """`100 Σ (xᵢ₊₁ - xᵢ + 1 - xᵢ²)²`: the solution is found one variable after the other."""
    return _problem(_fletchcr, jnp.zeros(_at_least(n, 2)), (0.0,))


def freuroth(n: int = 100) -> Problem:
    """Freudenstein and Roth's two cubics in a chain."""
    return _problem(_freuroth, jnp.zeros(_at_least(n, 2)).at[:2].set(jnp.array([0.5, -2.0])))


def genrose(n: int = 100) -> Problem:
    """`1 + Σ 100 (xᵢ - xᵢ₋₁²)² + (xᵢ-1)²`, Rosenbrock's valleys in a chain; lowest at 1."""
    return _problem(_genrose, jnp.arange(1.0, _at_least(n, 2) + 1) / (n + 1), (1.0,))


def hilberta(n: int = 8) -> Problem:
    """`xᵀHx` with Hilbert's matrix, of condition 10¹⁰ for n = 8."""
    return _problem(_hilberta, jnp.full(_at_least(n, 1), -3.0), (0.0,))


def liarwhd(n: int = 100) -> Problem:
    """`Σ 4 (xᵢ² - x₁)² + (xᵢ-1)²`, an arrow."""
    return _problem(_liarwhd, jnp.full(_at_least(n, 1), 4.0), (0.0,))


def minsurf(n: int = 64) -> Problem:
    """The area of a surface over n inner points of a square, which hangs from a saddle at its border."""
    side = int(np.sqrt(n))
    if side < 1 or side**2 != n:
        raise ValueError(f"n: expected a square, got {n}")
    return _problem(_minsurf, jnp.zeros(n))


def noncvxun(n: int = 100) -> Problem:
    """`Σ y² + 4 cos y` over sums y of three variables; very many minima, a Hessian without structure."""
    return _problem(_noncvxun, jnp.arange(1.0, _at_least(n, 4) + 1))


def nondia(n: int = 100) -> Problem:
    """`(x₁-1)² + 100 Σ (x₁ - xᵢ²)²`, an arrow."""
    return _problem(_nondia, -jnp.ones(_at_least(n, 2)), (0.0,))


def nondquar(n: int = 100) -> Problem:
    """Quartics whose Hessian is singular at the solution, all coupled with the last variable."""
    signs = jnp.where(jnp.arange(_at_least(n, 3)) % 2 == 0, 1.0, -1.0)
    return _problem(_nondquar, signs, (0.0,))


def power(n: int = 100) -> Problem:
    """`(Σ i xᵢ²)²`: flat at the solution, with curvatures up to n apart."""
    return _problem(_power, jnp.ones(_at_least(n, 1)), (0.0,))


def quartc(n: int = 100) -> Problem:
    """`Σ (xᵢ - i)⁴`, whose Hessian is zero at the solution."""
    return _problem(_quartc, jnp.full(_at_least(n, 1), 2.0), (0.0,))


def schmvett(n: int = 100) -> Problem:
    """Schmidt and Vetters' rational, sine and exponential; lowest at -3 (n - 2)."""
    return _problem(_schmvett, jnp.full(_at_least(n, 3), 0.5), (-3.0 * (n - 2),))


def sinquad(n: int = 100) -> Problem:
    """Squares of sines and squares, all coupled with the first and the last variable."""
    return _problem(_sinquad, jnp.full(_at_least(n, 3), 0.1))


def sparsine(n: int = 100) -> Problem:
    """`½ Σ i (Σ sin xⱼ)²` over six scattered j, of condition 10⁴ and more."""
    return _problem(_sparsine, jnp.full(_at_least(n, 2), 0.5), (0.0,))


def tointgss(n: int = 100) -> Problem:
    """Toint's Gaussian: `Σ (10/(n+2) + xᵢ₊₂²) (2 - exp(-(xᵢ - xᵢ₊₁)² / (0.1 + xᵢ₊₂²)))`."""
    return _problem(_tointgss, jnp.full(_at_least(n, 3), 3.0))


def tquartic(n: int = 100) -> Problem:
    """`(x₁-1)² + Σ (x₁² - xᵢ²)²`, an arrow."""
    return _problem(_tquartic, jnp.full(_at_least(n, 2), 0.1), (0.0,))


def tridia(n: int = 100) -> Problem:
    """`(x₁-1)² + Σ i (2xᵢ - xᵢ₋₁)²`, a tridiagonal quadratic."""
    return _problem(_tridia, jnp.ones(_at_least(n, 2)), (0.0,))


def woods(n: int = 100) -> Problem:
    """Wood's function for every four variables."""
    if n < 4 or n % 4:
        raise ValueError(f"n: expected a positive multiple of 4, got {n}")
    return _problem(_woods, jnp.tile(jnp.array([-3.0, -1.0]), n // 2), (0.0,))


def _problem(fn: Callable[..., Any], init: Array, minima: tuple[float, ...] = ()) -> Problem:
    return Problem(fn, init, (), None, minima)


def _at_least(n: int, least: int) -> int:
    if n < least:
        raise ValueError(f"n: expected a number >= {least}, got {n}")
    return n


def _even(n: int, least: int) -> int:
    if n < least or n % 2:
        raise ValueError(f"n: expected an even number >= {least}, got {n}")
    return n


def _numbers(x: Vector) -> Vector:
    return jnp.arange(1, x.size + 1, dtype=x.dtype)


def _dixmaan(n: int, factors: tuple[float, ...], powers: tuple[int, ...]) -> Problem:
    if n < 3 or n % 3:
        raise ValueError(f"n: expected a positive multiple of 3, got {n}")
    i = np.arange(1, n + 1) / n
    weights = tuple(jnp.asarray(a * i**k) for a, k in zip(factors, powers, strict=True))
    return Problem(_dixmaan_value, jnp.full(n, 2.0), weights, None, (1.0,))


def _dixmaan_value(x: Vector, own: Vector, near: Vector, third: Vector, far: Vector) -> Value:
    m = x.size // 3
    y = x[1:]
    return (
        1
        + jnp.sum(own * x**2)
        + jnp.sum(near[:-1] * x[:-1] ** 2 * (y + y**2) ** 2)
        + jnp.sum(third[: 2 * m] * x[: 2 * m] ** 2 * x[m:] ** 4)
        + jnp.sum(far[:m] * x[:m] * x[2 * m :])
    )


def _arwhead(x: Vector) -> Value:
    return jnp.sum((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3)


def _bdqrtic(x: Vector) -> Value:
    s = x**2
    sums = s[:-4] + 2 * s[1:-3] + 3 * s[2:-2] + 4 * s[3:-1] + 5 * s[-1]
    return jnp.sum((3 - 4 * x[:-4]) ** 2 + sums**2)


def _chainwoo(x: Vector) -> Value:
    a, b, c, d = x[:-2:2], x[1:-2:2], x[2::2], x[3::2]
    return 1 + jnp.sum(_wood(a, b, c, d))


def _wood(a: Vector, b: Vector, c: Vector, d: Vector) -> Vector:
    return (
        100 * (b - a**2) ** 2
        + (1 - a) ** 2
        + 90 * (d - c**2) ** 2
        + (1 - c) ** 2
        + 10 * (b + d - 2) ** 2
        + 0.1 * (b - d) ** 2
    )


def _woods(x: Vector) -> Value:
    return jnp.sum(_wood(x[::4], x[1::4], x[2::4], x[3::4]))


def _cosine(x: Vector) -> Value:
    return jnp.sum(jnp.cos(x[:-1] ** 2 - 0.5 * x[1:]))


def _cragglvy(x: Vector) -> Value:
    a, b, c, d = x[:-2:2], x[1:-2:2], x[2::2], x[3::2]
    terms = (jnp.exp(a) - b) ** 4 + 100 * (b - c) ** 6 + jnp.tan(c - d) ** 4 + a**8 + (d - 1) ** 2
    return jnp.sum(terms)


def _curly10(x: Vector) -> Value:
    ends = jnp.cumsum(jnp.concatenate([jnp.zeros(1, x.dtype), x, jnp.zeros(10, x.dtype)]))
    q = ends[11:] - ends[:-11]
    return jnp.sum(q**4 - 20 * q**2 - 0.1 * q)


def _dixon3dq(x: Vector) -> Value:
    return (x[0] - 1) ** 2 + jnp.sum((x[1:-1] - x[2:]) ** 2) + (x[-1] - 1) ** 2


def _dqdrtic(x: Vector) -> Value:
    s = x**2
    return jnp.sum(s[:-2] + 100 * s[1:-1] + 100 * s[2:])


def _edensch(x: Vector) -> Value:
    a, b = x[:-1], x[1:]
    return 16 + jnp.sum((a - 2) ** 4 + (a * b - 2 * b) ** 2 + (b + 1) ** 2)


def _eg2(x: Vector) -> Value:
    return jnp.sum(jnp.sin(x[0] + x[:-1] ** 2 - 1)) + 0.5 * jnp.sin(x[-1] ** 2)


def _engval1(x: Vector) -> Value:
    return jnp.sum((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3)


def _extrosnb(x: Vector) -> Value:
    return (x[0] - 1) ** 2 + 100 * jnp.sum((x[1:] - x[:-1] ** 2) ** 2)


def _fletchcr(x: Vector) -> Value:
    return 100 * jnp.sum((x[1:] - x[:-1] + 1 - x[:-1] ** 2) ** 2)


def _freuroth(x: Vector) -> Value:
    a, b = x[:-1], x[1:]
    first = a - 13 + ((5 - b) * b - 2) * b
    second = a - 29 + ((b + 1) * b - 14) * b
    return jnp.sum(first**2 + second**2)


def _genrose(x: Vector) -> Value:
    return 1 + jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1) ** 2)


def _hilberta(x: Vector) -> Value:
    i = _numbers(x)
    return x @ ((1 / (i[:, None] + i[None, :] - 1)) @ x)


def _liarwhd(x: Vector) -> Value:
    return jnp.sum(4 * (x**2 - x[0]) ** 2 + (x - 1) ** 2)


def _minsurf(x: Vector) -> Value:
    side = int(np.sqrt(x.size))
    h = 1 / (side + 1)
    t = jnp.linspace(-1.0, 1.0, side + 2, dtype=x.dtype)
    border = t[:, None] ** 2 - t[None, :] ** 2
    z = border.at[1:-1, 1:-1].set(x.reshape(side, side))
    across, up = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    return h**2 * jnp.sum(jnp.sqrt(1 + (across**2 + up**2) / (2 * h**2)))


def _scattered(x: Vector, *factors: int) -> list[Vector]:
    i = np.arange(1, x.size + 1)
    return [x[(k * i - 1) % x.size] for k in factors]


def _noncvxun(x: Vector) -> Value:
    y = x + sum(_scattered(x, 2, 3), jnp.zeros_like(x))
    return jnp.sum(y**2 + 4 * jnp.cos(y))


def _nondia(x: Vector) -> Value:
    return (x[0] - 1) ** 2 + 100 * jnp.sum((x[0] - x[:-1] ** 2) ** 2)


def _nondquar(x: Vector) -> Value:
    quartics = jnp.sum((x[:-2] + x[1:-1] + x[-1]) ** 4)
    return (x[0] - x[1]) ** 2 + (x[-2] + x[-1]) ** 2 + quartics


def _power(x: Vector) -> Value:
    return jnp.sum(_numbers(x) * x**2) ** 2


def _quartc(x: Vector) -> Value:
    return jnp.sum((x - _numbers(x)) ** 4)


def _schmvett(x: Vector) -> Value:
    a, b, c = x[:-2], x[1:-1], x[2:]
    return -jnp.sum(
        1 / (1 + (a - b) ** 2) + jnp.sin(0.5 * (jnp.pi * b + c)) + jnp.exp(-(((a + c) / b - 2) ** 2))
    )


def _sinquad(x: Vector) -> Value:
    middle = jnp.sin(x[1:-1] - x[-1]) - x[0] ** 2 + x[1:-1] ** 2
    return (x[0] - 1) ** 4 + jnp.sum(middle**2) + (x[-1] ** 2 - x[0] ** 2) ** 2


def _sparsine(x: Vector) -> Value:
    sines = sum(map(jnp.sin, _scattered(x, 1, 2, 3, 5, 7, 11)), jnp.zeros_like(x))
    return 0.5 * jnp.sum(_numbers(x) * sines**2)


def _tointgss(x: Vector) -> Value:
    a, b, s = x[:-2], x[1:-1], x[2:] ** 2
    return jnp.sum((10 / (x.size) + s) * (2 - jnp.exp(-((a - b) ** 2) / (0.1 + s))))


def _tquartic(x: Vector) -> Value:
    return (x[0] - 1) ** 2 + jnp.sum((x[0] ** 2 - x[1:] ** 2) ** 2)


def _tridia(x: Vector) -> Value:
    i = _numbers(x)[1:]
    return (x[0] - 1) ** 2 + jnp.sum(i * (2 * x[1:] - x[:-1]) ** 2)
