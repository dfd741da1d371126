"""Sparse derivatives by compressed passes: as many products with the matrix as its coloring has colors."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.pytree import check_real, ravel
from jaxopt_study.sparsity.coloring import Coloring
from jaxopt_study.sparsity.detect import Sparsity, from_places, is_structure
from jaxopt_study.sparsity.move import is_concrete
from jaxopt_study.types import Float, PyTree, Shaped

TOGETHER = 2**22  # elements of all passes that are made side by side


def entries(
    product: Callable[[Array], Array], coloring: Coloring, dtype: Any, length: int
) -> Float[Array, " places"]:
    """The entries of a matrix at the places of its pattern, from products with sums of unit vectors.

    Args:
      product: the product of the matrix (by columns) or of its transpose (by rows) with a vector.
      coloring: which unit vectors are added up.
      dtype, length: of the vectors.

    Returns:
      The entries, in the order of the pattern.
    """
    if not coloring.sparsity.places:
        return jnp.zeros(0, dtype)
    colors = jnp.asarray(coloring.colors)

    def one(color: Array) -> Array:
        return product(jnp.where(colors == color, 1, 0).astype(dtype))

    passes = jnp.arange(coloring.passes, dtype=jnp.int32)
    at_once = max(1, TOGETHER // max(length, 1))
    several = (
        jax.vmap(one)(passes) if coloring.passes <= at_once else jax.lax.map(one, passes, batch_size=at_once)
    )
    return several[jnp.asarray(coloring.color), jnp.asarray(coloring.at)]


def jacobian_entries(
    fn: Callable[[Array], Array], theta: Shaped[Array, " n"], coloring: Coloring
) -> tuple[Array, Float[Array, " places"]]:
    """The value of a function of one vector, and the entries of its Jacobian."""
    if coloring.by == "columns":
        value, push = jax.linearize(fn, theta)
        return value, entries(push, coloring, theta.dtype, theta.size)
    value, pull = jax.vjp(fn, theta)
    return value, entries(lambda w: pull(w)[0], coloring, value.dtype, value.size)


def as_matrix(data: Array, sparsity: Sparsity) -> Any:
    """The entries as a `jax.experimental.sparse.BCOO`, its indices sorted and unique."""
    from jax.experimental.sparse import BCOO

    indices = jnp.asarray(np.stack([sparsity.rows, sparsity.columns], axis=1))
    return BCOO((data, indices), shape=sparsity.shape, indices_sorted=True, unique_indices=True)


def as_sparsity(given: Any, shape: tuple[int, int]) -> Sparsity:
    """The pattern that a person gave.

    Args:
      given: a `Sparsity`, a `BCOO`, a matrix of `scipy.sparse`, a pair `(rows, columns)` of index
        arrays, or a dense matrix, which counts where it is not zero.
      shape: what its shape has to be.

    Raises:
      ValueError: for another shape, or an index outside of it.
      TypeError: for something else.
    """
    if isinstance(given, Sparsity):
        found, rows, columns = given.shape, given.rows, given.columns
    elif hasattr(given, "tocoo"):
        coo = given.tocoo()
        found, (rows, columns) = coo.shape, coo.coords
    elif hasattr(given, "indices") and hasattr(given, "indices_sorted"):
        rows, columns = np.asarray(given.indices).reshape(-1, 2).T
        found = given.shape
        inside = (rows < found[0]) & (columns < found[1])  # a BCOO may be padded with places beyond its end
        rows, columns = rows[inside], columns[inside]
    elif isinstance(given, tuple | list) and len(given) == 2 and np.ndim(given[0]) == 1:
        found, (rows, columns) = shape, map(np.asarray, given)
    elif np.ndim(given) == 2:
        found, (rows, columns) = np.shape(given), np.nonzero(np.asarray(given))
    else:
        raise TypeError(
            "sparsity: expected a BCOO, a scipy.sparse matrix, a pair of index arrays or a dense matrix, "
            f"got {type(given).__name__}"
        )
    if tuple(found) != shape:
        raise ValueError(f"sparsity: the matrix has shape {shape}, the pattern {tuple(found)}")
    if len(rows) != len(columns):
        raise ValueError(f"sparsity: {len(rows)} rows for {len(columns)} columns; one of each is a place")
    for name, index, length in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if index.size and not (index.min() >= 0 and index.max() < length):
            outside = index.min() if index.min() < 0 else index.max()
            raise ValueError(f"sparsity: {name} {outside} is outside of 0 to {length - 1}")
    return from_places(rows, columns, shape)


def derivative(
    fn: Callable[..., PyTree], color: Callable[[PyTree, tuple], Coloring], check: bool
) -> Callable[..., Any]:
    """The sparse Jacobian of a function, with what was found out about it remembered between calls.

    Args:
      fn: `fn(params, *args)` returns a pytree of arrays.
      color: gives the coloring for `(params, args)`.
      check: whether the pattern was given and has to be checked, in the first call with numbers.

    Returns:
      A function of `(params, *args)` that returns a `BCOO`.
    """
    programs: dict[Any, tuple[Coloring, Callable[..., Any]]] = {}

    def make(params: PyTree, args: tuple) -> tuple[Coloring, Callable[..., Any]]:
        coloring = color(params, args)

        @jax.jit
        def program(params: PyTree, *args: Any) -> Array:
            theta, flat = flat_function(fn, params, args)
            return jacobian_entries(flat, theta, coloring)[1]

        return coloring, program

    def sparse(params: PyTree, *args: Any) -> Any:
        params = check_real("params", params)
        key = signature(params, args)
        first = key not in programs
        coloring, program = made = make(params, args) if first else programs[key]
        matrix = as_matrix(program(params, *args), coloring.sparsity)
        if not all(map(is_concrete, jax.tree.leaves((matrix.data, params, args)))):
            return matrix  # nothing is kept that may hold something traced
        if first and check:
            _check(fn, params, args, matrix, coloring)
        programs[key] = made
        return matrix

    return sparse


def _check(fn: Callable[..., PyTree], params: PyTree, args: tuple, matrix: Any, coloring: Coloring) -> None:
    """Compare a product with the matrix, and with the derivative of the function, in a random direction."""
    theta, flat = flat_function(fn, params, args)
    if coloring.by == "columns":
        vector = _draw(theta)
        product = jax.jvp(flat, (theta,), (vector,))[1]
        into, out_of = coloring.sparsity.rows, coloring.sparsity.columns
    else:
        value, pull = jax.vjp(flat, theta)
        vector = _draw(value)
        (product,) = pull(vector)
        into, out_of = coloring.sparsity.columns, coloring.sparsity.rows
    terms = np.asarray(matrix.data, np.float64) * np.asarray(vector, np.float64)[out_of]
    have = np.bincount(into, weights=terms, minlength=product.size)
    size_of_terms = np.bincount(into, weights=np.abs(terms), minlength=product.size)
    true = np.asarray(product, np.float64)
    tolerance = 1e4 * float(jnp.finfo(theta.dtype).eps)
    wrong = np.abs(have - true) > tolerance * (size_of_terms + np.abs(true))
    if wrong.any():
        line = "row" if coloring.by == "columns" else "column"
        raise ValueError(
            f"sparsity: the pattern lacks a place: {line} {int(np.argmax(wrong))} times a vector "
            f"is not what the derivative of the function gives ({int(wrong.sum())} such {line}s)"
        )


def _draw(like: Array) -> Array:
    return jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, like.shape), like.dtype)


def signature(params: PyTree, args: tuple) -> tuple:
    """What a pattern may depend on: structure, shapes, dtypes, and the numbers of integers and booleans."""
    leaves, tree = jax.tree.flatten((params, args))
    parts: list[tuple] = []
    for leaf in leaves:
        dtype = jnp.result_type(leaf)
        if is_structure(leaf):
            numbers = np.asarray(leaf)
            parts.append((numbers.shape, dtype, hashlib.sha256(numbers.tobytes()).digest()))
        else:
            parts.append((np.shape(leaf), dtype, is_concrete(leaf)))
    return tree, tuple(parts)


def flat_function(
    fn: Callable[..., PyTree], params: PyTree, args: tuple
) -> tuple[Array, Callable[[Array], Array]]:
    """The parameters as one vector, and the function from it to the outputs as one vector."""
    theta, unravel = ravel(params)
    return theta, lambda t: ravel(fn(unravel(t), *args))[0]
