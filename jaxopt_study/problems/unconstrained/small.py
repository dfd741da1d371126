"""Functions of two to four variables that are no sums of squares to the solver: a scalar, and a start.

Cliffs, narrow valleys, many local minima, singular Hessians at the solution; starts where the Hessian is
indefinite. The names are those of the CUTEst collection.
"""

import jax.numpy as jnp
from jax import Array

from jaxopt_study.problems.problem import Problem
from jaxopt_study.types import Float


def allinitu() -> Problem:
    """Four variables, squares of sines and of products; lowest at 5.7443849."""
    return _problem(_allinitu, [0.0, 0.0, 0.0, 0.0])


def brkmcc() -> Problem:
    """`(x-2)² + (y-1)² + 0.04 / (1 - x²/4 - y²) + 5 (x - 2y + 1)²`; lowest at 0.16904268."""
    return _problem(_brkmcc, [2.0, 2.0])


def cliff() -> Problem:
    """`((x-3)/100)² - (x-y) + exp(20 (x-y))`, a wall across a slope; lowest at 0.19978661."""
    return _problem(_cliff, [0.0, -1.0])


def cube() -> Problem:
    """`(x-1)² + 100 (y - x³)²`, a valley more curved than Rosenbrock's."""
    return _problem(_cube, [-1.2, 1.0], (0.0,))


def denschna() -> Problem:
    """`x⁴ + (x+y)² + (exp y - 1)²`."""
    return _problem(_denschna, [1.0, 1.0], (0.0,))


def denschnb() -> Problem:
    """`(x-2)² + ((x-2) y)² + (y+1)²`."""
    return _problem(_denschnb, [1.0, 1.0], (0.0,))


def denschnc() -> Problem:
    """`(x² + y² - 2)² + (exp(x-1) + y³ - 2)²`; a second minimum at 0.18335922."""
    return _problem(_denschnc, [2.0, 3.0], (0.0,))


def denschnd() -> Problem:
    """Three polynomials of degree up to four, squared; the Hessian is singular at the solution."""
    return _problem(_denschnd, [10.0, 10.0, 10.0], (0.0,))


def denschne() -> Problem:
    """`x² + (y + y²)² + (exp z - 1)²`, from where `exp z` is flat."""
    return _problem(_denschne, [2.0, 3.0, -8.0], (0.0,))


def denschnf() -> Problem:
    """Two conics that meet, squared."""
    return _problem(_denschnf, [2.0, 0.0], (0.0,))


def engval2() -> Problem:
    """Five polynomials of three variables, squared."""
    return _problem(_engval2, [1.0, 2.0, 0.0], (0.0,))


def expfit() -> Problem:
    """The line `t/4`, t = 1, …, 10, fitted by `a exp(b t/4)`; lowest at 0.24051059."""
    return _problem(_expfit, [0.0, 0.0])


def hairy() -> Problem:
    """Waves on two crossing valleys; lowest at 20."""
    return _problem(_hairy, [-5.0, -7.0], (20.0,))


def himmelbb() -> Problem:
    """`(x y (1-x) (1 - x - y (1-x)⁵))²`: flat in the whole neighborhood of its many zeros."""
    return _problem(_himmelbb, [-1.2, 1.0], (0.0,))


def himmelbg() -> Problem:
    """`exp(-x-y) (2x² + 3y²)`: falls to zero in the middle, and at infinity."""
    return _problem(_himmelbg, [0.5, 0.5], (0.0,))


def himmelbh() -> Problem:
    """`x³ + y² - 3x - 2y + 2`, from a point where the Hessian is singular."""
    return _problem(_himmelbh, [0.0, 2.0], (-1.0,))


def humps() -> Problem:
    """`(x² + y²)/20 + (sin 20x sin 20y)²`, tens of thousands of local minima from a start far away."""
    return _problem(_humps, [-506.0, -506.2], (0.0,))


def loghairy() -> Problem:
    """`log((100 + hairy)/100)`, which is concave from afar; lowest at `log 1.2`."""
    return _problem(_loghairy, [-500.0, -700.0], (0.1823215567939546,))


def maratosb() -> Problem:
    """`x + 10⁶ (x² + y² - 1)²`: along a circle that is a million times steeper."""
    return _problem(_maratosb, [1.1, 0.1])


def s308() -> Problem:
    """`(x² + xy + y²)² + sin² x + cos² y`; lowest at 0.77319906."""
    return _problem(_s308, [3.0, 0.1])


def sineval() -> Problem:
    """`10⁴ (y - sin x)² + x²/4`, a valley in waves."""
    return _problem(_sineval, [4.712389, -1.0], (0.0,))


def sisser() -> Problem:
    """`3x⁴ - 2x²y² + 3y⁴`, whose Hessian is zero at the solution."""
    return _problem(_sisser, [1.0, 0.1], (0.0,))


def snail() -> Problem:
    """A spiral valley: the way down turns once around the origin and more."""
    return _problem(_snail, [10.0, 10.0], (0.0,))


def zangwil2() -> Problem:
    """A quadratic; lowest at -18.2."""
    return _problem(_zangwil2, [3.0, 8.0], (-18.2,))


def _problem(fn: object, init: list[float], minima: tuple[float, ...] = ()) -> Problem:
    return Problem(fn, jnp.array(init), (), None, minima)  # type: ignore[arg-type]


Value = Float[Array, ""]


def _allinitu(p: Float[Array, "4"]) -> Value:
    a, b, c, d = p
    return (
        (c - 1)
        + a**2
        + b**2
        + (c + d) ** 2
        + jnp.sin(c) ** 2
        + a**2 * b**2
        + (d - 3)
        + jnp.sin(c) ** 2
        + (d - 1) ** 2
        + (b**2) ** 2
        + (c**2 + (d + a) ** 2) ** 2
        + (a - 4 + jnp.sin(d) ** 2 + b**2 * c**2) ** 2
        + jnp.sin(d) ** 4
    )


def _brkmcc(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x - 2) ** 2 + (y - 1) ** 2 + 0.04 / (1 - x**2 / 4 - y**2) + 5 * (x - 2 * y + 1) ** 2


def _cliff(p: Float[Array, "2"]) -> Value:
    x, y = p
    return ((x - 3) / 100) ** 2 - (x - y) + jnp.exp(20 * (x - y))


def _cube(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x - 1) ** 2 + 100 * (y - x**3) ** 2


def _denschna(p: Float[Array, "2"]) -> Value:
    x, y = p
    return x**4 + (x + y) ** 2 + (jnp.exp(y) - 1) ** 2


def _denschnb(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x - 2) ** 2 + ((x - 2) * y) ** 2 + (y + 1) ** 2


def _denschnc(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x**2 + y**2 - 2) ** 2 + (jnp.exp(x - 1) + y**3 - 2) ** 2


def _denschnd(p: Float[Array, "3"]) -> Value:
    x, y, z = p
    return (x**2 + y**3 - z**4) ** 2 + (2 * x * y * z) ** 2 + (2 * x * y - 3 * y * z + x * z) ** 2


def _denschne(p: Float[Array, "3"]) -> Value:
    x, y, z = p
    return x**2 + (y + y**2) ** 2 + (jnp.exp(z) - 1) ** 2


def _denschnf(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (2 * (x + y) ** 2 + (x - y) ** 2 - 8) ** 2 + (5 * x**2 + (y - 3) ** 2 - 9) ** 2


def _engval2(p: Float[Array, "3"]) -> Value:
    x, y, z = p
    return (
        (x**2 + y**2 + z**2 - 1) ** 2
        + (x**2 + y**2 + (z - 2) ** 2 - 1) ** 2
        + (x + y + z - 1) ** 2
        + (x + y - z + 1) ** 2
        + (3 * y**2 + x**3 + (5 * z - x + 1) ** 2 - 36) ** 2
    )


def _expfit(p: Float[Array, "2"]) -> Value:
    t = 0.25 * jnp.arange(1.0, 11.0)
    return jnp.sum((p[0] * jnp.exp(p[1] * t) - t) ** 2)


def _hairy(p: Float[Array, "2"]) -> Value:
    x, y = p
    waves = 30 * jnp.sin(7 * x) ** 2 * jnp.cos(7 * y) ** 2
    return waves + 100 * jnp.sqrt(0.01 + (x - y) ** 2) + 100 * jnp.sqrt(0.01 + x**2)


def _himmelbb(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x * y * (1 - x) * (1 - x - y * (1 - x) ** 5)) ** 2


def _himmelbg(p: Float[Array, "2"]) -> Value:
    x, y = p
    return jnp.exp(-x - y) * (2 * x**2 + 3 * y**2)


def _himmelbh(p: Float[Array, "2"]) -> Value:
    x, y = p
    return x**3 + y**2 - 3 * x - 2 * y + 2


def _humps(p: Float[Array, "2"]) -> Value:
    x, y = p
    return 0.05 * (x**2 + y**2) + (jnp.sin(20 * x) * jnp.sin(20 * y)) ** 2


def _loghairy(p: Float[Array, "2"]) -> Value:
    return jnp.log((100 + _hairy(p)) / 100)


def _maratosb(p: Float[Array, "2"]) -> Value:
    x, y = p
    return x + 1e6 * (x**2 + y**2 - 1) ** 2


def _s308(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (x**2 + x * y + y**2) ** 2 + jnp.sin(x) ** 2 + jnp.cos(y) ** 2


def _sineval(p: Float[Array, "2"]) -> Value:
    x, y = p
    return 1e4 * (y - jnp.sin(x)) ** 2 + x**2 / 4


def _sisser(p: Float[Array, "2"]) -> Value:
    x, y = p
    return 3 * x**4 - 2 * x**2 * y**2 + 3 * y**4


def _snail(p: Float[Array, "2"]) -> Value:
    square = p[0] ** 2 + p[1] ** 2
    radius = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    turn = radius - jnp.arctan2(p[1], p[0])
    wall = 0.5 * (10.5 + 9.5) - 0.5 * (10.5 - 9.5) * jnp.cos(turn)
    return jnp.where(square > 0, square / (1 + square) * wall, 0.0)


def _zangwil2(p: Float[Array, "2"]) -> Value:
    x, y = p
    return (16 * x**2 + 16 * y**2 - 8 * x * y - 56 * x - 256 * y + 991) / 15
