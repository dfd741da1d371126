"""Which entries of a Jacobian or Hessian can be other than zero, read off the program of its derivative.

The derivative is traced, never evaluated: an entry that is zero at some points only is in the
pattern, so that it holds for all of them. What custom rules say is in the traced derivative.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.modes import forward_works, reverse_works
from jaxopt_study.pytree import ravel
from jaxopt_study.sparsity import index_sets
from jaxopt_study.sparsity.move import is_concrete
from jaxopt_study.sparsity.propagate import Known, Traced, propagate
from jaxopt_study.types import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Sparsity:
    """The places of a matrix that can be other than zero, ordered by rows, then columns.

    Attributes:
      rows, columns: of each place, int32, shape `(places,)`.
      shape: of the matrix.
    """

    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]

    @property
    def places(self) -> int:
        """How many places there are."""
        return len(self.rows)

    @property
    def transposed(self) -> "Sparsity":
        """That of the transposed matrix."""
        return from_places(self.columns, self.rows, self.shape[::-1])

    def todense(self) -> np.ndarray:
        """True where an entry can be other than zero."""
        dense = np.zeros(self.shape, bool)
        dense[self.rows, self.columns] = True
        return dense

    def __repr__(self) -> str:
        return f"Sparsity({self.places} places of {self.shape[0]} × {self.shape[1]})"


def from_places(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Sparsity:
    """A `Sparsity` from places in any order, as often as they come."""
    rows, columns = index_sets.from_entries(np.asarray(rows), np.asarray(columns), *shape).entries()
    return Sparsity(rows.astype(np.int32), columns.astype(np.int32), shape)


def detect(fn: Callable[..., PyTree], params: PyTree, args: tuple) -> Sparsity:
    """The pattern of the Jacobian of `fn(params, *args)` with respect to `params`, both raveled.

    Integers and booleans in `args` are taken as they are where they have numbers (they say where
    things are); all other numbers may become different ones.

    Args:
      fn: returns a pytree of real float arrays.
      params: pytree of real float arrays.
      args: what `fn` takes besides.

    Returns:
      A `Sparsity` of shape `(outputs, params)`.

    Raises:
      ValueError: if too much depends on everything for a pattern to be written down.
    """
    theta, unravel = ravel(params)

    def flat(theta: jax.Array, args: tuple) -> jax.Array:
        return ravel(fn(unravel(theta), *args))[0]

    def push(theta: jax.Array, args: tuple, tangent: jax.Array) -> jax.Array:
        return jax.jvp(lambda t: flat(t, args), (theta,), (tangent,))[1]

    def pull(theta: jax.Array, args: tuple, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(lambda t: flat(t, args), theta)[1](cotangent)[0]

    outputs = jax.eval_shape(flat, theta, args)
    forward = forward_works(lambda t: flat(t, args), theta)
    columns = theta if forward else outputs
    program = jax.make_jaxpr(push if forward else pull)(theta, args, columns)
    known = [Traced(), *map(_argument, jax.tree.leaves(args)), Traced(index_sets.identity(columns.size))]
    with jax.ensure_compile_time_eval():
        (out,) = propagate(program.jaxpr, program.consts, known)
    sets = out.sets
    if sets is None:
        sets = index_sets.empty(outputs.size if forward else theta.size, columns.size)
    if sets.count > 4 * index_sets.MOST:
        raise ValueError(
            f"sparse: {sets.count} entries of the {outputs.size} × {theta.size} Jacobian can be "
            "other than zero, as far as the program tells; give the pattern by sparsity=, or use another mode"
        )
    places = sets.entries()
    return from_places(*(places if forward else places[::-1]), (outputs.size, theta.size))


def sides(flat: Callable[[jax.Array], jax.Array], theta: jax.Array) -> Literal["columns", "rows", "auto"]:
    """What the Jacobian of a function can be had by: columns (forward mode), rows (reverse), or either."""
    if not forward_works(flat, theta):
        return "rows"
    return "auto" if reverse_works(flat, theta) else "columns"


def _argument(leaf: Any) -> Traced:
    return Traced(None, Known(lambda: leaf)) if is_structure(leaf) else Traced()


def is_structure(leaf: Any) -> bool:
    """Whether an argument says where things are: integers and booleans that have numbers."""
    dtype = jnp.result_type(leaf)
    return is_concrete(leaf) and (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_))
