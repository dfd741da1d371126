"""`find_roots`: all roots in a box, by Newton's method from many starts, with known roots taken away.

The first round starts everywhere. In every later one the function is divided by the distance from the roots
known so far, so that they attract nobody, and what is found is polished on the function itself.
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
from jaxopt_study.optimizers.transform import number
from jaxopt_study.pytree import check_real, ravel, ravel_leaves, traceable
from jaxopt_study.result import is_converged
from jaxopt_study.solvers import root_ending
from jaxopt_study.solvers.find_root import RootNumbers, check_square, tolerances_for
from jaxopt_study.solvers.implicit import root_of, solve_regular
from jaxopt_study.solvers.root_newton import NewtonOptions
from jaxopt_study.types import Bool, Float, PyTree

FIRST_RADIUS = 0.1  # of the trust region, relative to the box: a start is to find a root near it
DEFLATE = 1e-2  # squared reach of what takes a root away, in widths of the box
OUTSIDE = 1e-9  # of the box's width, by which a root may miss it and be on its edge


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


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Options:
    max_roots: int
    starts: int
    rounds: int
    newton: NewtonOptions


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
    if not isinstance(args, tuple):
        raise TypeError(f"args: expected a tuple, got {type(args).__name__} (for one argument write `(x,)`)")
    for name, value in (("max_roots", max_roots), ("starts", starts), ("rounds", rounds)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
    lower, upper = _check_box(bounds)
    options = _Options(int(max_roots), int(starts), int(rounds), NewtonOptions())
    numbers = RootNumbers(ftol, xtol, None, None, FIRST_RADIUS, max_steps)
    numbers = RootNumbers(**{n: None if v is None else number(n, v) for n, v in numbers._asdict().items()})
    return _find_all(options, traceable(fn), lower, upper, args, key, numbers, apart)


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
    options: _Options,
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
        return _search(of_unit, low, width, key, numbers, gap, options)

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


def _search(
    fn: Any,
    low: Float[Array, " n"],
    width: Float[Array, " n"],
    key: Array | None,
    numbers: RootNumbers,
    gap: Float[Array, ""],
    options: _Options,
) -> tuple[Array, tuple]:
    n, dtype = low.size, low.dtype
    shift = jnp.full(n, 0.5, dtype) if key is None else jax.random.uniform(key, (n,), dtype)
    points = _fill(options.rounds * options.starts, shift).reshape(options.rounds, options.starts, n)

    def newton(fn: Any, u: Array) -> Any:
        tolerances = tolerances_for(jnp.ones_like(u), numbers)
        radius = jnp.asarray(numbers.radius, dtype)
        return root_ending.solve(fn, u, radius, numbers.max_steps, tolerances, options.newton, examine=False)

    def in_box(u: Array) -> Bool[Array, ""]:
        return jnp.all((u >= -OUTSIDE) & (u <= 1 + OUTSIDE))

    rooms = options.max_roots
    known = (
        jnp.full((rooms, n), jnp.inf, dtype),
        jnp.full(rooms, jnp.inf, dtype),
        jnp.zeros(rooms, jnp.int32),
        jnp.zeros(rooms, bool),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )

    def search_round(carry: tuple, starts: Array) -> tuple[tuple, tuple[Array, Array]]:
        known, typical = carry
        places, _, _, _, count, _ = known

        def stage(starts: Array, take_away: Array) -> tuple[Array, Any]:
            ends = jax.vmap(functools.partial(newton, functools.partial(deflated, take_away)))(starts)
            return jnp.where(jnp.isfinite(ends.x), ends.x, starts), ends

        def deflated(take_away: Array, u: Array) -> Array:
            squares = jnp.sum((u[None] - jnp.where(jnp.isfinite(places), places, 0.0)) ** 2, axis=1)
            used = take_away & (jnp.arange(rooms) < count)
            factor = jnp.where(used, 1 + DEFLATE / jnp.where(used & (squares > 0), squares, 1.0), 1.0)
            return fn(u) * jnp.prod(factor)

        # One program for both: first with the known roots taken away, then as it is.
        _, stages = jax.lax.scan(stage, starts, jnp.array([True, False]))
        ends = jax.tree.map(lambda leaf: leaf[-1], stages)
        good = is_converged(ends.status) & jax.vmap(in_box)(ends.x)
        sizes = jnp.max(jnp.abs(ends.residual), axis=1)
        # Beside the columns of J met on the first round's ways: the polish has seen none but its end's.
        typical = jnp.where(typical > 0, typical, jnp.min(jnp.median(stages.largest[0], axis=0)))
        slopes = ends.model.grad_norm / jnp.where(ends.size > 0, ends.size, 1.0)
        shallow = (slopes <= jnp.finfo(dtype).eps ** 0.5 * typical) & (ends.size > 0)
        known = _merge(known, ends.x, sizes, ends.model.singular | shallow, good, gap)
        return (known, typical), (jnp.sum(good, dtype=jnp.int32), jnp.sum(stages.num_evals, dtype=jnp.int32))

    begun = known, jnp.zeros((), dtype)
    (known, _), (converged, evals) = jax.lax.scan(search_round, begun, points)
    places, sizes, hits, singular, count, overflow = known
    # By the first coordinate, then the second; roots whose first is the same to the clusters' width are
    # sorted by the next.
    rounded = jnp.round(places / gap)
    order = jnp.lexsort(tuple(rounded[:, i] for i in reversed(range(n))))
    used = jnp.arange(rooms) < count
    # Infinite where there is none.
    places = low[None] + width[None] * jnp.where(jnp.isfinite(places), places, jnp.nan)
    rest = (
        count,
        jnp.where(used, sizes[order], jnp.nan),
        hits[order],
        singular[order],
        overflow,
        jnp.sum(converged),
        jnp.sum(evals, dtype=jnp.int32),
    )
    return places[order], rest


def _merge(
    known: tuple,
    ends: Float[Array, "starts n"],
    sizes: Float[Array, " starts"],
    singular: Bool[Array, " starts"],
    good: Bool[Array, " starts"],
    gap: Float[Array, ""],
) -> tuple:
    """Count every end for the root that it is near to, or make it a new one; the best stands for all."""
    rooms = known[0].shape[0]

    def one(known: tuple, end: tuple) -> tuple[tuple, None]:
        places, best, hits, flags, count, overflow = known
        u, size, flag, is_root = end
        far = jnp.max(jnp.abs(places - u[None]), axis=1)
        near = jnp.argmin(far)
        seen = far[near] <= gap
        slot = jnp.where(seen, near, jnp.minimum(count, rooms - 1))
        room = seen | (count < rooms)
        better = is_root & room & (~seen | (size < best[near]))
        places = places.at[slot].set(jnp.where(better, u, places[slot]))
        best = best.at[slot].set(jnp.where(better, size, best[slot]))
        flags = flags.at[slot].set(jnp.where(better, flag, flags[slot]))
        hits = hits.at[slot].add(is_root & room)
        return (
            places,
            best,
            hits,
            flags,
            count + (is_root & ~seen & room),
            overflow | (is_root & ~room),
        ), None

    return jax.lax.scan(one, known, (ends, sizes, singular, good))[0]


def _fill(points: int, shift: Float[Array, " n"]) -> Float[Array, "points n"]:
    """Points that fill the unit cube evenly: `frac(shift + i α)`, αⱼ = φ⁻ʲ with φⁿ⁺¹ = φ + 1."""
    n = shift.size
    phi = 2.0
    for _ in range(50):
        phi = (1 + phi) ** (1 / (n + 1))
    alpha = np.mod(phi ** -np.arange(1.0, n + 1), 1.0)
    steps = np.mod(np.arange(1.0, points + 1)[:, None] * alpha, 1.0)  # in float64 on the host
    return jnp.mod(shift[None] + jnp.asarray(steps, shift.dtype), 1.0)
