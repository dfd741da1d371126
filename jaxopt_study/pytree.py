"""Pytrees as the rest of the package sees them: functions as pytrees, parameters as one vector.

The floor below the first: nothing here knows what an objective or an optimizer is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from jaxopt_study.types import Float, PyTree, Shaped

_FLOATS = frozenset(map(jnp.dtype, ("float32", "float64")))
SHORT = 4096  # elements: of longer vectors, a copy side by side costs more than another pass


def traceable(tree: Any) -> Any:
    """Turn every plain function in a pytree into a `jax.tree_util.Partial` of no arguments.

    A `Partial` is a pytree without leaves whose function is static, so that the tree may be an
    argument of a jitted function, which then compiles once per function *object*. Functions that
    are pytrees already (a `Partial`, an Equinox module) are left as they are and are traced.

    >>> jax.tree.leaves(traceable({"rate": 0.1, "schedule": jnp.sin}))
    [0.1]
    """
    leaves, structure = jax.tree.flatten(tree)
    if not any(map(callable, leaves)):
        return tree
    return jax.tree.unflatten(structure, [Partial(leaf) if callable(leaf) else leaf for leaf in leaves])


def ravel(tree: PyTree) -> tuple[Shaped[Array, " n"], Callable[[Array], PyTree]]:
    """All leaves in one vector, and the function that undoes it (casting to each leaf's dtype)."""
    return ravel_pytree(tree)


def ravel_leaves(tree: PyTree) -> Shaped[Array, " n"]:
    """All leaves in one vector, one way: cheaper to trace than `ravel`."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def size(tree: PyTree) -> int:
    """The number of elements of all leaves together."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(tree))


def add(params: PyTree, updates: PyTree) -> PyTree:
    """`params + updates` in the dtypes of `params`, as `optax.apply_updates` does."""
    return jax.tree.map(lambda p, u: jnp.asarray(p + u).astype(jnp.asarray(p).dtype), params, updates)


def params_dtype(params: PyTree) -> Any:
    """The dtype in which all leaves of `params` can be one vector, and in which they are optimized."""
    return jnp.result_type(*jax.tree.leaves(params))


def norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm of all leaves together; it does not overflow where the leaves do not.

    >>> print(f"{norm({'a': jnp.array([3e30], 'float32'), 'b': jnp.array([4e30], 'float32')}):.3e}")
    5.000e+30
    """
    return norms(ravel_leaves(tree))[0]


def norms(*vectors: Float[Array, " n"]) -> Float[Array, " vectors"]:
    """Euclidean norm of each vector, of several at the price of one where they are short.

    Nothing overflows where the vectors do not. In float32 a vector is scaled by its largest element,
    because squares overflow from 1e19 and vanish below 1e-23: numbers in SI units do that. In float64 that
    would cost more than the sum, and a second sum, of smaller numbers, stands by: in the same pass, or of a
    long vector in another one, where the first is not finite.

    >>> print(norms(jnp.array([3.0, 4.0]), jnp.zeros(2)))
    [5. 0.]
    """
    wide = jnp.finfo(vectors[0].dtype).maxexp >= 1024
    small = 2.0**-600
    if vectors[0].size > SHORT and wide:
        return jnp.stack([_long_norm(vector, small) for vector in vectors])
    if len(vectors) > 1 and vectors[0].size > SHORT:
        return jnp.concatenate([norms(vector) for vector in vectors])
    rows = jnp.stack(vectors)
    if wide:
        sums = jnp.sum(jnp.concatenate([rows, small * rows]) ** 2, axis=1)
        plain, standby = jnp.split(sums, 2)
        finite = jnp.isfinite(plain)
        return jnp.sqrt(jnp.where(finite, plain, standby)) * jnp.where(finite, 1.0, 1 / small)
    largest = jnp.max(jnp.abs(rows), axis=1, initial=0.0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((rows / unit[:, None]) ** 2, axis=1))


def _long_norm(vector: Float[Array, " n"], small: float) -> Float[Array, ""]:
    square = jnp.sum(vector * vector)
    finite = jnp.isfinite(square)
    square = jax.lax.cond(finite, lambda: square, lambda: jnp.sum((small * vector) ** 2))
    return jnp.sqrt(square) * jnp.where(finite, 1.0, 1 / small)


def check_real(name: str, tree: PyTree, *, keep_numpy: bool = False) -> PyTree:
    """Return `tree` with its leaves as arrays of a real float dtype, none of them weakly typed.

    Args:
      name: what it is called in messages.
      tree: numbers and arrays.
      keep_numpy: whether arrays of NumPy stay on the host, as copies, for a jitted function, which takes
        them in a tenth of the time of `jnp.asarray`.

    Raises:
      TypeError: for a leaf of another kind, named by its path.
      ValueError: for a tree without leaves.
    """
    arrays = jax.tree.leaves(tree)
    if not arrays:
        raise ValueError(f"{name}: expected a pytree of real float arrays, got {shown(tree)}, with no leaves")
    if all(_is_strong(leaf) for leaf in arrays):
        return tree  # as it is: in a small fit the conversions below would take longer than the solve
    if keep_numpy and all(_is_strong(leaf) or _is_strong_numpy(leaf) for leaf in arrays):
        return jax.tree.map(owned, tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = name + jax.tree_util.keystr(path)
        if isinstance(leaf, str | bytes):  # NumPy would read it as the name of a dtype
            raise TypeError(
                f"{where}: expected a real float array, got {shown(leaf)}, a {type(leaf).__name__}"
            )
        try:
            dtype = jnp.result_type(_native(leaf))
        except TypeError as error:
            got = f"dtype {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
            raise TypeError(f"{where}: expected a real float array, got {got}") from error
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{where}: expected a real float array, got dtype {dtype}")

    def strong(leaf: Any) -> Any:
        leaf = _native(leaf)
        if _is_strong(leaf):
            return leaf
        on_host = keep_numpy and (not isinstance(leaf, Array) or _may_move(leaf))
        # A weak type would be lost in the first step, and a second program compiled for the second.
        return (np if on_host else jnp).array(leaf, jnp.result_type(leaf))

    return jax.tree.map(strong, tree)


def _may_move(leaf: Array) -> bool:
    """Whether an array can go through the host: a few numbers that a CPU has, and nobody has put there.

    To make a strong type of a weak one by JAX is two programs more to compile before a first solve.
    """
    if isinstance(leaf, jax.core.Tracer) or leaf.size > SHORT or leaf.committed:
        return False
    return jax.default_backend() == "cpu"


def as_array(leaf: Any) -> Any:
    """An array of JAX, or a copy of one of NumPy in a dtype that JAX has, see `check_real`.

    A copy, because a program on the CPU reads the memory of NumPy's arrays itself, and after the call has
    returned: whoever filled them with the next data in the meantime would fit those, or some of both.

    Raises:
      TypeError: if it is no array of numbers.

    >>> type(as_array(np.ones(3))).__name__, as_array(np.ones(3)).dtype == jnp.ones(3).dtype
    ('ndarray', True)
    """
    if (
        isinstance(leaf, np.ndarray)
        and leaf.dtype.kind in "biufc"
        and not isinstance(leaf, np.ma.MaskedArray)
    ):
        leaf = _native(leaf)
        return np.array(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf if isinstance(leaf, Array) else jnp.asarray(leaf)


def owned(leaf: Any) -> Any:
    """A copy of an array of NumPy, see `as_array`: `jnp.asarray` makes none where it is given a dtype."""
    return np.array(leaf) if isinstance(leaf, np.ndarray) else leaf


def shown(value: Any) -> str:
    """A value as messages name it, in one short line: arrays by dtype and shape.

    >>> shown(1j), shown(np.ones(3)), shown({"a": list(range(100))})
    ('1j', 'an array of dtype float64 and shape (3,)', 'a dict')
    """
    if hasattr(value, "dtype") and np.ndim(value):
        return f"an array of dtype {value.dtype} and shape {tuple(value.shape)}"
    words = repr(value)
    return words if len(words) <= 40 and "\n" not in words else f"a {type(value).__name__}"


def _native(leaf: Any) -> Any:
    """Numbers of NumPy in this machine's order of bytes, and no wider than JAX has them."""
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype.kind not in "iufc":
        return leaf
    widest = {"g": np.float64, "G": np.complex128}
    return leaf.astype(widest.get(leaf.dtype.char, leaf.dtype.newbyteorder("=")), copy=False)


def _is_strong(leaf: Any) -> bool:
    return isinstance(leaf, Array) and leaf.dtype in _FLOATS and not leaf.weak_type


def _is_strong_numpy(leaf: Any) -> bool:
    is_numpy = isinstance(leaf, np.ndarray) and leaf.dtype.isnative and leaf.dtype in _FLOATS
    return is_numpy and leaf.dtype == jax.dtypes.canonicalize_dtype(leaf.dtype)
