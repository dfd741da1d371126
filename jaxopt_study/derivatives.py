"""Jacobians of a residual, each way of taking them in one function.

All return the residual and the *transposed* Jacobian, of shape `(params, residuals)`: forward
mode makes its rows one after the other, and the product JᵀJ of a tall Jacobian is 1.5 times
faster from this layout (500 × 41, CPU). Parameters are one flat vector here.
"""

import contextlib
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr

from jaxopt_study.compiling import Task, is_outside_of_traces, jit_small
from jaxopt_study.layout import joined
from jaxopt_study.modes import by_forward, by_reverse, forward_works, reverse_works
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.programs import made_of
from jaxopt_study.pytree import params_dtype, ravel, ravel_leaves, size, traceable
from jaxopt_study.sparsity.coloring import color_jacobian
from jaxopt_study.sparsity.compressed import flat_function, jacobian_entries
from jaxopt_study.sparsity.detect import detect, sides
from jaxopt_study.types import Float, JacobianMode, PyTree

# Plain functions that `check_pointwise` has passed: a memo, like the cache of `jax.jit`.
_kept_promises: weakref.WeakSet[FunctionType] = weakref.WeakSet()

IN_CACHE = 2**18  # elements, 2 MiB in float64: larger Jacobians are worked on in pieces

FEW_PRODUCTS = 1200  # multiplications for JᵀJ; up to so many, they take no longer than to call a routine

FEW = 16  # parameters: what is on the way in a pass is there for all of them at once
NARROW = 4  # numbers a residual that may be on the way: of more, all passes at once would fill the memory
MANY_FOR_ROWS = 2**13  # elements of J of few parameters; of more, one pass a row takes twice as long
MANY = 512  # elements of J; of fewer, it takes longer to begin a branch than to take sines again

THIN = 8  # parameters; up to so many, columns apart and products written out pay in a batch

ResidualAndJacobian = tuple[Float[Array, " residuals"], Float[Array, "params residuals"]]


def residual_and_jacobian(
    objective: LeastSquares,
    params: PyTree,
    args: tuple,
    mode: JacobianMode = "auto",
    *,
    batched: bool = False,
) -> ResidualAndJacobian:
    """The residuals at `params` and their transposed Jacobian.

    Args:
      objective: the residuals.
      params: pytree of real float arrays.
      args: what `objective.residual_fn` takes besides.
      mode: `"forward"` (one pass a parameter), `"reverse"` (one pass a residual), `"pointwise"`
        (one backward pass a row of `args`), `"sparse"` (one pass a color of its pattern, which is found while
        tracing; see `jacobians`), or `"auto"`: pointwise if the objective promises it, unless there are many
        rows of few parameters; else forward if there are at least as many residuals as parameters, else
        reverse; but the other one where the residuals have only that.
      batched: whether this is going to be under `vmap`, where a branch is no branch.

    Returns:
      `(r, Jᵀ)`, of shapes `(residuals,)` and `(params, residuals)`, with `Jᵀ[j, i] = ∂rᵢ/∂θⱼ`.

    Raises:
      ValueError: if `mode` is unknown, or `"pointwise"` for an objective that does not promise to be
        so, or whose `args` have no common rows.
    """
    flat, unravel = ravel(params)

    def of_vector(theta: Array) -> Array:
        return objective.residual(unravel(theta), *args)

    if mode == "auto":
        mode = _by_shape(objective, params, args)
        if mode == "forward" and not forward_works(of_vector, flat):
            mode = "reverse"
        elif mode != "forward" and not reverse_works(of_vector, flat):
            mode = "forward"
    if mode == "pointwise":
        if not objective.pointwise:
            raise ValueError("jacobian: 'pointwise' needs the promise LeastSquares(..., pointwise=True)")
        return _pointwise(objective, params, args)
    if mode == "forward":
        return _forward(of_vector, flat, batched)
    if mode == "reverse":
        return by_reverse(of_vector, flat)
    if mode == "sparse":
        return _sparse(objective, params, args)
    raise ValueError(_unknown(mode))


def check_mode(mode: str) -> None:
    """Raise a `ValueError` unless `mode` is a way of taking Jacobians that this file knows."""
    if mode not in get_args(JacobianMode):
        raise ValueError(_unknown(mode))


def _unknown(mode: str) -> str:
    return f"jacobian: expected one of {get_args(JacobianMode)}, got {mode!r}"


def _by_shape(objective: LeastSquares, params: PyTree, args: tuple) -> JacobianMode:
    residuals, parameters = jax.eval_shape(objective.residual, params, *args).size, size(params)
    few_long = parameters <= FEW and residuals * parameters >= MANY_FOR_ROWS
    if objective.pointwise and (objective.sharding is not None or not few_long):
        return "pointwise"
    return "forward" if residuals >= parameters else "reverse"


def _forward(fn: Callable[[Array], Array], theta: Array, batched: bool) -> ResidualAndJacobian:
    basis = jnp.eye(theta.size, dtype=theta.dtype)
    program = jax.make_jaxpr(fn)(theta)
    elements = theta.size * program.out_avals[0].size
    if elements >= MANY and not batched and shares(program, theta.size):
        residual, push = jax.linearize(fn, theta)
        return residual, shared(theta, lambda push: jax.vmap(push)(basis), push)
    if elements > IN_CACHE:
        # All rows at once would compute what they have in common again for each of them, and go
        # through memory together: twice the time of one row after the other.
        residual, push = jax.linearize(fn, theta)
        return residual, jax.lax.map(push, basis)
    return by_forward(fn, theta)


def shares(program: ClosedJaxpr, params: int) -> bool:
    """Whether the passes of forward mode through a program are best made by `shared`.

    Few of them, and of a program without loops: what a loop has in common would be a tape of all its steps.
    """
    made = made_of(program.jaxpr)
    return params <= FEW and made.straight and made.widest <= NARROW * program.out_avals[0].size


def shared(theta: Array, passes: Callable[..., PyTree], *common: Any) -> PyTree:
    """`passes(*common)`, with what is common to the passes computed once; NaN unless `theta` is finite.

    What goes into a branch is computed before it. Without one the compiler joins every pass with all that it
    needs, and takes the same sine for each parameter again: 2 to 3 times as long for three damped waves of
    300 points. (It drops an `optimization_barrier` before it joins loops.)

    >>> print(shared(jnp.ones(2), lambda waves: 2 * waves, jnp.sin(jnp.zeros(2))))
    [0. 0.]
    """

    def not_a_number(*common: Any) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), jax.eval_shape(passes, *common))

    return jax.lax.cond(jnp.all(jnp.isfinite(theta)), passes, not_a_number, *common)


def _sparse(objective: LeastSquares, params: PyTree, args: tuple) -> ResidualAndJacobian:
    theta, flat = flat_function(objective.residual, params, args)
    pattern = detect(objective.residual, params, args)
    coloring = color_jacobian(pattern, sides(flat, theta))
    residual, found = jacobian_entries(flat, theta, coloring)
    nothing = jnp.zeros((theta.size, residual.size), residual.dtype)
    at = nothing.at[pattern.columns, pattern.rows]
    return residual, at.set(found.astype(residual.dtype), unique_indices=True)


def _pointwise(objective: LeastSquares, params: PyTree, args: tuple) -> ResidualAndJacobian:
    points = number_of_rows(args)

    def row(params: PyTree, row_args: tuple) -> tuple[Array, PyTree]:
        out = objective.residual_fn(params, *jax.tree.map(lambda a: a[None], row_args))
        return ravel_leaves(out), out

    def row_jacobian(row_args: tuple) -> tuple[PyTree, Array]:
        flat, pullback, out = jax.vjp(lambda p: row(p, row_args), params, has_aux=True)
        (rows,) = jax.vmap(pullback)(jnp.eye(flat.size, dtype=flat.dtype))
        return out, jnp.concatenate([leaf.reshape(flat.size, -1) for leaf in jax.tree.leaves(rows)], axis=1)

    out, rows = jax.vmap(row_jacobian, out_axes=(0, 2))(args)  # rows: (outputs of a row, params, points)
    # A row may give several residuals, in several leaves: put them in the order of `residual`,
    # leaf by leaf, so that r here and r at a trial point can be subtracted.
    per_leaf = [leaf.size // points for leaf in jax.tree.leaves(out)]
    blocks = jnp.split(rows, np.cumsum(per_leaf)[:-1], axis=0) if len(per_leaf) > 1 else [rows]
    jacobian_t = [jnp.transpose(block, (1, 2, 0)).reshape(rows.shape[1], -1) for block in blocks]
    residual = objective.in_one(out).astype(params_dtype(params))
    return residual, joined(jacobian_t, objective.sharding).astype(residual.dtype)


def gram_and_gradient(
    jacobian_t: Float[Array, "params residuals"], residual: Float[Array, " residuals"]
) -> tuple[Float[Array, "params params"], Float[Array, " params"]]:
    """`JᵀJ` and `Jᵀr` from the transposed Jacobian.

    A long Jacobian is taken in pieces that stay in the cache: 7 times faster than one product of
    matrices on 10⁶ × 10 (12 ms instead of 80). The products of a small one are summed where they are made:
    a routine for matrices would take half a microsecond to begin, as long as all of them.

    >>> gram, gradient = gram_and_gradient(jnp.ones((2, 3)), jnp.arange(3.0))
    >>> print(gram[0], gradient)
    [3. 3.] [3. 3.]
    """
    params, residuals = jacobian_t.shape
    if params**2 * residuals <= FEW_PRODUCTS:
        both = jnp.concatenate([jacobian_t, residual[None, :]])
        products = jnp.sum(both[:, None, :] * jacobian_t[None, :, :], axis=-1)
        return products[:-1], products[-1]
    if params * residuals <= IN_CACHE:
        return jacobian_t @ jacobian_t.T, jacobian_t @ residual
    length = max(512, IN_CACHE // (2 * params))
    pieces = residuals // length

    def add(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        piece = jax.lax.dynamic_slice_in_dim(jacobian_t, i * length, length, axis=1)
        part = jax.lax.dynamic_slice_in_dim(residual, i * length, length)
        return sums[0] + piece @ piece.T, sums[1] + piece @ part

    rest, rest_residual = jacobian_t[:, pieces * length :], residual[pieces * length :]
    return jax.lax.fori_loop(0, pieces, add, (rest @ rest.T, rest @ rest_residual))


def residual_and_columns(
    objective: LeastSquares, params: PyTree, args: tuple
) -> tuple[Float[Array, " residuals"], list[Float[Array, " residuals"]]]:
    """The residuals at `params` and the columns of their Jacobian, one pass a parameter, apart.

    For a handful of parameters, under `vmap`. A pass knows which leaf alone it moves, and what does not
    depend on that leaf costs nothing; the passes have the residual in common, which the compiler takes
    once. On 15 × 15 pixels and 5 scalars this halves the time of `residual_and_jacobian`.

    >>> objective = LeastSquares(lambda p, x: p["a"] * x + p["b"])
    >>> _, columns = residual_and_columns(objective, {"a": 2.0, "b": 1.0}, (jnp.arange(2.0),))
    >>> print(columns[0], columns[1])
    [0. 1.] [1. 1.]
    """
    flat, unravel = ravel(params)

    def of_vector(theta: Array) -> Array:
        return objective.residual(unravel(theta), *args)

    if not forward_works(of_vector, flat):
        residual, jacobian_t = by_reverse(of_vector, flat)
        return residual, list(jacobian_t)
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
    residual = objective.residual(params, *args)
    columns = []
    for place, leaf in enumerate(leaves):

        def along(moved: Array, place: int = place) -> Array:
            return objective.residual(
                jax.tree.unflatten(tree, [*leaves[:place], moved, *leaves[place + 1 :]]), *args
            )

        for direction in np.eye(leaf.size).reshape(leaf.size, *leaf.shape):
            residual, column = jax.jvp(along, (leaf,), (jnp.asarray(direction, leaf.dtype),))
            columns.append(column)
    return residual, columns


def thin_gram(
    columns: list[Float[Array, " residuals"]], residual: Float[Array, " residuals"]
) -> tuple[Float[Array, "params params"], Float[Array, " params"]]:
    """`JᵀJ` and `Jᵀr` from the columns of J: every product multiplied and summed by itself.

    For a handful of columns, under `vmap`: a product of small matrices goes through memory and a
    general routine a fit, which took twice the time of the Jacobian; these sums are fused.

    >>> gram, gradient = thin_gram([jnp.ones(3), jnp.arange(3.0)], jnp.arange(3.0))
    >>> print(gram[0], gradient)
    [3. 3.] [3. 5.]
    """
    size = len(columns)
    product = {(i, j): jnp.sum(columns[i] * columns[j]) for i in range(size) for j in range(i, size)}
    rows = [jnp.stack([product[min(i, j), max(i, j)] for j in range(size)]) for i in range(size)]
    return jnp.stack(rows), jnp.stack([jnp.sum(column * residual) for column in columns])


def number_of_rows(args: tuple, who: str = "pointwise") -> int:
    """The common length of axis 0 of all arrays in `args`, which `who` needs.

    Raises:
      ValueError: if an array has no axis, or another length than the first.
    """
    points = None
    for path, leaf in jax.tree_util.tree_leaves_with_path(args):
        shape = np.shape(leaf)
        where = "args" + jax.tree_util.keystr(path)
        if not shape:
            raise ValueError(f"{who}: {where} is a scalar; every array in args has to have rows")
        if points is None:
            points = shape[0]
        if shape[0] != points:
            raise ValueError(f"{who}: {where} has {shape[0]} rows where the first array has {points}")
    if not points:
        raise ValueError(f"{who}: args holds no rows")
    return points


def check_pointwise(objective: LeastSquares, params: PyTree, args: tuple[Any, ...], rows: int = 4) -> None:
    """Check on the first rows that residual i uses only row i of `args`.

    A call on a few rows together is compared with calls on one row each: the residuals, and their
    derivative in a random direction (where there is no forward mode, the residuals a little way along it).
    A function that has passed is not checked again. Inside a trace, where there are no numbers, random ones
    take their place while tracing; a function that closes over traced values cannot be checked there.

    Raises:
      ValueError: if they differ, or `args` has no common rows.
    """
    function = objective.residual_fn
    if isinstance(function, FunctionType) and function in _kept_promises:
        return
    few = jax.tree.map(lambda a: jnp.asarray(a)[: min(rows, number_of_rows(args))], args)
    inputs = (traceable(objective), params, few)
    # In the context a function's own constants are computed one by one, which takes long to trace.
    with contextlib.nullcontext() if is_outside_of_traces() else jax.ensure_compile_time_eval():
        together, apart = _together_and_apart(*jax.tree.map(_stand_in, inputs))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((together, apart))):
        return  # of what it closes over
    for left, right in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        # What a row gives has a leading axis of 1 that is an axis of rows when they come together.
        left, right = np.ravel(left), np.ravel(right)
        tolerance = 1e3 * float(jnp.finfo(left.dtype).eps)
        largest = np.max(np.abs(left), initial=0.0, where=np.isfinite(left))
        if left.size != right.size or not np.allclose(
            left, right, rtol=tolerance, atol=tolerance * largest, equal_nan=True
        ):
            raise ValueError(
                "pointwise=True: a residual uses more than its own row of args "
                "(its value or derivative changes when the rows are given one at a time)"
            )
    if isinstance(function, FunctionType):
        _kept_promises.add(function)


def _stand_in(leaf: Any) -> Any:
    """Numbers in place of a traced leaf; a leaf that is not traced stays as it is."""
    if not isinstance(leaf, jax.core.Tracer):
        return leaf
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    return np.random.default_rng(leaf.size).uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)


@jit_small(lambda *_: Task(()))  # of a few rows, once: to compile well takes longer than all calls
def _together_and_apart(objective: LeastSquares, params: PyTree, args: tuple) -> tuple[PyTree, PyTree]:
    draw = np.random.default_rng(0)  # on the host: compiling jax.random takes longer than all the rest
    direction = jax.tree.map(lambda leaf: jnp.asarray(draw.standard_normal(leaf.shape), leaf.dtype), params)

    flat, unravel = ravel(params)
    pushes = forward_works(lambda theta: objective.residual(unravel(theta), *args), flat)

    def push(args: tuple) -> tuple[PyTree, PyTree]:
        def residual(params: PyTree) -> PyTree:
            return objective.residual_fn(params, *args)

        if pushes:
            return jax.jvp(residual, (params,), (direction,))
        return residual(params), residual(
            jax.tree.map(lambda p, d: p + p.dtype.type(0.01) * d, params, direction)
        )

    return push(args), jax.vmap(lambda row: push(jax.tree.map(lambda a: a[None], row)))(args)
