"""A function of any pytrees as one from a vector to a vector, and the programs that an audit runs of it.

Nothing here is mapped by `vmap`, so that a rule which is wrong only there is not taken for wrong
elsewhere: many points go through one compiled loop.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import Floats

AT_ONCE = 2**23  # elements of results that one call gives

# What a function raises that looks at its numbers while it is traced.
NEEDS_NUMBERS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array among the arguments or outputs: its name as Python would write it, and where it is."""

    name: str
    argument: int
    start: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def slice(self) -> slice:
        """Its elements in the vector."""
        return slice(self.start, self.start + self.size)

    def element(self, index: int) -> str:
        """The name of an element, by its number in the vector."""
        if not self.shape:
            return self.name
        place = np.unravel_index(index - self.start, self.shape)
        return f"{self.name}[{', '.join(str(int(i)) for i in place)}]"


@dataclasses.dataclass(frozen=True)
class FlatFunction:
    """The function, its point and its leaves.

    Attributes:
      leaves_at: from a vector of inputs to the outputs that have derivatives, each raveled.
      whole: the same, of the arguments.
      args: the arguments.
      x: the point, shape `(inputs,)`.
      inputs, outputs: the leaves of both.
      eps: the rounding error of the coarsest dtype among them.
      dtype: of the vectors.
    """

    leaves_at: Callable[[Array], list[Array]]
    whole: Callable[..., list[Array]]
    args: tuple
    x: Floats
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    eps: float
    dtype: Any

    def __call__(self, x: Array) -> Array:
        """The outputs as one real vector, a complex one as its real and then its imaginary part."""
        return real_vector(self.leaves_at(x))

    def complex_step(self, x: Array, direction: Array) -> Array:
        """The derivative along a direction by a step into the complex plane: no difference, no cancellation.

        Source: Squire and Trapp, Using complex variables to estimate derivatives, 1998.
        """
        tiny = jnp.asarray(jnp.finfo(x.dtype).tiny ** 0.5, x.dtype)
        if any(leaf.name.startswith(("real of", "imaginary of")) for leaf in self.outputs):
            raise TypeError("complex outputs have no derivative by complex steps")
        parts = self.leaves_at(jax.lax.complex(x, tiny * direction))
        return jnp.concatenate([jnp.imag(part).astype(x.dtype) for part in parts]) / tiny


def real_vector(leaves: Sequence[Array]) -> Array:
    """Real arrays as one vector, complex ones as real and imaginary parts."""
    parts = []
    for leaf in leaves:
        parts += [jnp.real(leaf), jnp.imag(leaf)] if jnp.iscomplexobj(leaf) else [leaf]
    return jnp.concatenate(parts)


def flatten(fn: Callable[..., Any], args: tuple) -> FlatFunction:
    """Make a flat function.

    Raises:
      TypeError: if no argument is a real float, or one is complex.
      ValueError: if there are no outputs to differentiate, or an argument is not finite.
    """
    leaves, tree = jax.tree.flatten(args)
    moving: list[Leaf] = []
    where_moving = []
    start = 0
    for position, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(args)):
        dtype = _dtype(leaf)
        where = "args" + jax.tree_util.keystr(path)
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"{where}: expected real floats, got dtype {dtype}; pass real and imaginary parts"
            )
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or not np.size(leaf):
            continue
        if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
            raise ValueError(f"{where}: is not finite; there is no derivative to check")
        moving.append(Leaf(where, path[0].idx, start, np.shape(leaf), dtype))
        where_moving.append(position)
        start += moving[-1].size
    if not moving:
        raise TypeError("args: hold no real float array with elements, so there is no derivative to check")
    dtype = jnp.result_type(*(leaf.dtype for leaf in moving))

    def whole(*args: Any) -> list[Array]:
        out = [jnp.asarray(leaf) for leaf in jax.tree.leaves(fn(*args))]
        return [jnp.ravel(leaf) for leaf in out if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def flat(x: Array) -> list[Array]:
        filled = list(leaves)
        for index, leaf in zip(where_moving, moving, strict=True):
            part = x[leaf.slice].reshape(leaf.shape)
            filled[index] = part if jnp.iscomplexobj(x) else part.astype(leaf.dtype)
        return whole(*jax.tree.unflatten(tree, filled))

    x = np.concatenate([np.ravel(np.asarray(leaves[i], np.float64)) for i in where_moving])
    outputs = _outputs(fn, args)
    if not sum(leaf.size for leaf in outputs):
        raise ValueError("fn: returns no real float array with elements, so there is no derivative to check")
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in (*moving, *outputs))
    return FlatFunction(flat, whole, args, x, tuple(moving), tuple(outputs), eps, dtype)


def _outputs(fn: Callable[..., Any], args: tuple) -> list[Leaf]:
    try:
        out = jax.eval_shape(fn, *args)
    except NEEDS_NUMBERS:
        out = fn(*args)
    found, start = [], 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(out):
        dtype = jnp.result_type(leaf)
        parts = ("real of ", "imaginary of ") if jnp.issubdtype(dtype, jnp.complexfloating) else ("",)
        if not jnp.issubdtype(dtype, jnp.inexact):
            continue
        for part in parts:
            name = f"{part}output{jax.tree_util.keystr(path)}"
            found.append(Leaf(name, -1, start, np.shape(leaf), jnp.finfo(dtype).dtype))
            start += found[-1].size
    return found


def _dtype(leaf: Any) -> Any:
    try:
        return jnp.result_type(leaf)
    except TypeError:
        return None


class Runner:
    """Runs a function at many points, one after the other: compiled, or plainly where that cannot be.

    Args:
      fn: takes vectors and returns one.
      dtype: of the vectors.
    """

    def __init__(self, fn: Callable[..., Array], dtype: Any):
        self._fn, self._dtype = fn, np.dtype(dtype)
        self._program = jax.jit(
            lambda xs: jax.lax.map(lambda x: fn(*x), xs), compiler_options=compile_quickly()
        )
        self._outputs: int | None = None
        self._compiled = True

    def __call__(self, *points: Floats) -> Floats:
        """The results, of shape `(points, outputs)`, in float64."""
        xs = tuple(np.asarray(point, self._dtype) for point in points)
        if self._compiled:
            try:
                return self._pieces(xs)
            except NEEDS_NUMBERS:
                self._compiled = False
        each = [self._fn(*(jnp.asarray(x[i]) for x in xs)) for i in range(len(xs[0]))]
        return np.stack([np.asarray(out, np.float64) for out in each])

    def _pieces(self, xs: tuple[np.ndarray, ...]) -> Floats:
        number = len(xs[0])
        if self._outputs is None:
            shapes = (jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in xs)
            self._outputs = jax.eval_shape(self._fn, *shapes).size
        at_once = min(number, max(1, AT_ONCE // max(self._outputs, 1)))
        pieces = []
        for start in range(0, number, at_once):
            piece = [x[start : start + at_once] for x in xs]
            short = at_once - len(piece[0])
            if short:  # one shape is one program
                piece = [np.concatenate([p, np.repeat(p[-1:], short, axis=0)]) for p in piece]
            pieces.append(np.asarray(self._program(tuple(piece)), np.float64)[: at_once - short])
        return np.concatenate(pieces)


def compile_quickly() -> dict[str, Any] | None:
    """Options for programs that run once: on a CPU, compiling them is most of an audit."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
