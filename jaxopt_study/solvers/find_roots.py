"""`find_roots`: all roots in a box, by Newton's method from many starts, with known roots taken away.

How they are searched for is in `root_search`; here is what is asked, and what comes of it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.bounds import Bounds
from jaxopt_study.optimizers.transform import positive
from jaxopt_study.pytree import check_real, ravel, ravel_leaves, traceable
from jaxopt_study.solvers.implicit import root_of, solve_regular
from jaxopt_study.solvers.minimize_input import check_tuple
from jaxopt_study.solvers.root_input import RootNumbers, check_numbers, check_square
from jaxopt_study.solvers.root_newton import NewtonOptions
from jaxopt_study.solvers.root_search import FIRST_RADIUS, SearchOptions, search
from jaxopt_study.types import Float, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Roots:
    """Roots in a box, in the order of their coordinates, and then room for more.

    Attributes:
      params: a pytree like x with a leading axis of `max_roots`; NaN where there is no root.
      count: how many there are, int32.
      residual: the largest |fᵢ| at each, shape `(max_roots,)`.
      hits: from how many starts each was reached, shape `(max_roots,)`, int32. A root that was found once
        is a sign that there may be others.
      singular: whether the Jacobian is singular there, or next to nothing beside what it is elsewhere in the
        box: a root of higher order, or one of a continuum of them; shape `(max_roots,)`.
      overflow: whether there were more roots than room for them.
      num_starts: how many starts there were, and how many of them ended in a root in the box,
        `num_converged`, int32.
      num_evals: evaluations of the function in all, without those of Jacobians, int32.
    """

    params: Any
    count: Any
    residual: Any
    hits: Any
    singular: Any
    overflow: Any
    num_starts: Any
    num_converged: Any
    num_evals: Any

    @property
    def unseen(self) -> Float[Array, "..."]:
        """An estimate of the share of starts that would lead to a root not found yet.

        The share of those that led to roots reached only once (I. J. Good, The population frequencies of
        species, 1953): 0 where every root was reached again and again.
        """
        once = jnp.sum(self.hits == 1, axis=-1)
        return once / jnp.maximum(self.num_converged, 1)

    def __str__(self) -> str:
        """A table, one line a root; not inside a trace."""
        if np.ndim(self.count):
            return f"{np.size(self.count)} searches {np.shape(self.count)}: {np.asarray(self.count)} roots"
        count = int(self.count)
        lines = [
            f"{count} root{'' if count == 1 else 's'}"
            f"{' and more than there was room for' if self.overflow else ''}: {int(self.num_converged)} of "
            f"{int(self.num_starts)} starts ended in one, unseen about {float(self.unseen):.1%}"
        ]
        for i in range(count):
            point = np.asarray(ravel_leaves(jax.tree.map(lambda leaf, i=i: leaf[i], self.params)))
            text = ", ".join(f"{value:.6g}" for value in point)
            note = "  singular" if self.singular[i] else ""
            lines.append(f"  ({text})  |f| {float(self.residual[i]):.1e}  hits {int(self.hits[i])}{note}")
        return "\n".join(lines)


def find_roots(
    fn: Callable[..., PyTree],
    bounds: Bounds,
    args: tuple = (),
    *,
    max_roots: int = 32,
    starts: int = 256,
    rounds: int = 3,
    key: Array | None = None,
    max_steps: ArrayLike = 50,
    ftol: ArrayLike | None = None,
    xtol: ArrayLike | None = None,
    apart: ArrayLike | None = None,
) -> Roots:
    """Find all roots of `fn(x, *args)` in a box.

    Newton's method, see `find_root`, runs from `starts` points that fill the box evenly, all at once. What
    ends in the box is clustered. Further rounds take the known roots away: they solve
    `fn(x) Π (1 + 0.01 / ‖x - rₖ‖²) = 0`, in widths of the box, from as many other points, and polish what
    they find. No method can promise all roots; `Roots.unseen` and `hits` say how sure one may be, and
    more `starts` make it surer.

    Args:
      fn: a function of `(x, *args)` that returns as many real floats as x has.
      bounds: `(lower, upper)`, pytrees of real floats in the form of x, all finite.
      args: a tuple of further arguments, traced.
      max_roots: how many roots there is room for, static.
      starts: points a round, static.
      rounds: rounds in all, static; 1 for none with known roots taken away.
      key: moves the starting points at random; without it they are the same every time.
      max_steps, ftol, xtol: see `find_root`.
      apart: roots nearer to each other than this, relative to the box in every coordinate, are one; by
        default ε^⅓, 6e-6 in float64, 5e-3 in float32.

    Returns:
      `Roots`, padded to `max_roots`. Each root is differentiable as that of `find_root`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if bounds are not finite, not in order or do not match, or a number is not positive.

    Source: P. E. Farrell, Á. Birkisson and S. W. Funke, Deflation techniques for finding distinct solutions
      of nonlinear partial differential equations, 2015; starts by M. Roberts, The unreasonable
      effectiveness of quasirandom sequences, 2018.

    Example:
      >>> import jaxopt_study as jos
      >>> roots = jos.find_roots(lambda x: x**2 - 6 * x + 4, (-10.0, 10.0), starts=16)
      >>> print(roots.count, *(f"{root:.4f}" for root in roots.params[:2]))
      2 0.7639 5.2361
      >>> himmelblau = lambda p: (p[0]**2 + p[1] - 11)**2 + (p[0] + p[1]**2 - 7)**2
      >>> box = (jnp.full(2, -6.0), jnp.full(2, 6.0))
      >>> print(jos.find_roots(jax.grad(himmelblau), box, starts=64).count)      # stationary points
      9
    """
    if not callable(fn):
        raise TypeError(f"fn: expected a function of (x, *args), got {type(fn).__name__}")
    check_tuple(args)
    for name, value in (("max_roots", max_roots), ("starts", starts), ("rounds", rounds)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
    lower, upper = _check_box(bounds)
    options = SearchOptions(int(max_roots), int(starts), int(rounds), NewtonOptions())
    numbers = check_numbers(RootNumbers(ftol, xtol, None, None, FIRST_RADIUS, max_steps))
    gap = None if apart is None else positive("apart", apart)
    return _find_all(options, traceable(fn), lower, upper, args, key, numbers, gap)


def _check_box(bounds: Any) -> tuple[PyTree, PyTree]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"bounds: expected a pair (lower, upper), got {type(bounds).__name__}")
    lower, upper = check_real("bounds[0]", bounds[0]), check_real("bounds[1]", bounds[1])
    forms = [
        (jax.tree.structure(side), [leaf.shape for leaf in jax.tree.leaves(side)]) for side in (lower, upper)
    ]
    if forms[0] != forms[1]:
        raise ValueError(f"bounds: lower and upper differ in form: {forms[0]} and {forms[1]}")
    for low, high in zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
        if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
            continue
        if not np.all(np.isfinite(low) & np.isfinite(high) & (np.asarray(low) < np.asarray(high))):
            raise ValueError(f"bounds: expected finite numbers, lower < upper, got {low} and {high}")
    return lower, upper


@functools.partial(jax.jit, static_argnums=0)
def _find_all(
    options: SearchOptions,
    fn: Any,
    lower: PyTree,
    upper: PyTree,
    args: tuple,
    key: Array | None,
    numbers: RootNumbers,
    apart: Any,
) -> Roots:
    check_square(fn, lower, args)
    low, unravel = ravel(lower)
    high = ravel_leaves(upper)
    width = high - low
    dtype = low.dtype
    eps = float(jnp.finfo(dtype).eps)
    gap = jnp.asarray(eps ** (1 / 3) if apart is None else apart, dtype)

    def of_vector(theta: Array) -> Array:
        return ravel_leaves(fn(unravel(theta), *args)).astype(dtype)

    def of_unit(u: Array) -> Array:
        """f where the box is the cube (0, 1)ⁿ."""
        return of_vector(low + width * u)

    def found() -> tuple[Array, tuple]:
        return search(of_unit, low, width, key, numbers, gap, options)

    rooms = options.max_roots

    def conditions(places: Array) -> Array:
        """Zero at every root; and in empty rooms the identity, so that no NaN comes out of them."""
        used = jnp.all(jnp.isfinite(places), axis=1, keepdims=True)
        values = jax.vmap(of_vector)(jnp.where(used, places, low[None, :]))
        return jnp.where(used, values, places)

    places, rest = root_of(conditions, found, jnp.zeros((rooms, low.size), dtype), _solve_each)
    count, residual, hits, singular, overflow, converged, evals = rest
    return Roots(
        params=jax.vmap(unravel)(places),
        count=count,
        residual=residual,
        hits=hits,
        singular=singular,
        overflow=overflow,
        num_starts=jnp.asarray(options.starts * options.rounds, jnp.int32),
        num_converged=converged,
        num_evals=evals,
    )


def _solve_each(product: Any, target: Float[Array, "roots n"], roots: Any) -> Float[Array, "roots n"]:
    """The Jacobian of all roots together is one block a root: one product is enough for a column of all."""
    del roots
    n = target.shape[1]
    basis = jnp.broadcast_to(jnp.eye(n, dtype=target.dtype)[:, None, :], (n, *target.shape))
    columns = jax.vmap(product)(basis)  # (n, roots, n)
    blocks = jnp.transpose(columns, (1, 2, 0))
    return jax.vmap(lambda block, right: solve_regular(lambda v: block @ v, right))(blocks, target)
