"""Jacobians of any function of a pytree: dense by forward, reverse or pointwise passes, sparse by colors.

Those of residuals in the layout that least squares wants are in `derivatives`.
"""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.derivatives import check_pointwise, residual_and_jacobian
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.pytree import check_real, ravel, size
from jaxopt_study.sparsity import compressed
from jaxopt_study.sparsity.coloring import Coloring, color_jacobian
from jaxopt_study.sparsity.detect import detect, sides
from jaxopt_study.types import JacobianMode, PyTree


def jacobian(
    fn: Callable[..., PyTree], mode: JacobianMode = "auto", *, sparsity: Any = None
) -> Callable[..., Any]:
    """The Jacobian of a function with respect to its first argument.

    `J[i, j] = ∂fn(params, *args)ᵢ / ∂paramsⱼ`

    Args:
      fn: `fn(params, *args)` returns a pytree of real float arrays.
      mode: `"forward"` (one pass a parameter), `"reverse"` (one pass an output), `"pointwise"` (row i of the
        outputs uses row i of every array in `args` only: one backward pass a row; checked on a few rows),
        `"sparse"` (one pass a color, see below), or `"auto"`: forward if there are at least as many
        outputs as parameters, else reverse; the other one, where `fn` allows only that.
      sparsity: for `"sparse"`, the places that can be other than zero, if you know better: a `BCOO`, a
        matrix of `scipy.sparse`, a pair `(rows, columns)` of index arrays, or a dense matrix. If not
        given, they are read off the traced derivative, never off values; what it does with
        integers and booleans in `args` counts as structure. Under `jit` that happens once, outside
        it is remembered for as long as the function that is returned.

    Returns:
      A function of `(params, *args)`. Dense: as of `jax.jacfwd`, a pytree like the outputs of pytrees
      like the parameters, each leaf of shape `(*output.shape, *param.shape)`. Sparse: one
      `jax.experimental.sparse.BCOO` of shape `(outputs, params)`, both raveled as
      `jax.flatten_util.ravel_pytree` does, with sorted and unique indices.

    Raises:
      ValueError: for an unknown mode, a broken promise to be pointwise, or a pattern that lacks an entry (one
        product with a random vector, in the first call with numbers, finds that out).
      TypeError: if `params` are not real floats.

    Source: Curtis, Powell and Reid, On the estimation of sparse Jacobian matrices, 1974; Gebremedhin,
    Manne and Pothen, What color is your Jacobian?, 2005.

    Example:
      >>> def differences(x):
      ...     return x[1:] ** 2 - x[:-1]
      >>> print(jacobian(differences)(jnp.array([1.0, 2.0, 3.0])))
      [[-1.  4.  0.]
       [ 0. -1.  6.]]
      >>> matrix = jacobian(differences, mode="sparse")(jnp.ones(1000))
      >>> print(matrix.shape, matrix.nse)
      (999, 1000) 1998
    """
    if mode not in get_args(JacobianMode):
        raise ValueError(f"mode: expected one of {get_args(JacobianMode)}, got {mode!r}")
    if sparsity is not None and mode != "sparse":
        raise ValueError(f"sparsity: only mode='sparse' has a use for it, got mode={mode!r}")
    if mode == "sparse":
        return compressed.derivative(
            fn, lambda p, args: jacobian_coloring(fn, p, *args, sparsity=sparsity), check=sparsity is not None
        )

    def dense(params: PyTree, *args: Any) -> PyTree:
        params = check_real("params", params)
        if mode == "pointwise":
            return _pointwise(fn, params, args)
        if mode == "forward":
            return jax.jacfwd(fn)(params, *args)
        if mode == "reverse":
            return jax.jacrev(fn)(params, *args)
        return _either(fn, params, args)

    return dense


def jacobian_coloring(
    fn: Callable[..., PyTree], params: PyTree, *args: Any, sparsity: Any = None
) -> Coloring:
    """The pattern of a sparse Jacobian, and which of its rows or columns are had in one pass.

    Args:
      fn, sparsity: as of `jacobian`.
      params: pytree of real float arrays; only shapes count.
      args: what `fn` takes besides.

    Returns:
      A `Coloring`: `.passes` is how many passes `jacobian(fn, mode="sparse")` makes, `.by` of which kind,
      `.sparsity` the pattern.

    Example:
      >>> coloring = jacobian_coloring(lambda x: x[1:] * x[:-1], jnp.ones(1000))
      >>> print(coloring.passes, coloring.by, coloring.sparsity)
      2 columns Sparsity(1998 places of 999 × 1000)
    """
    if sparsity is None:
        pattern = detect(fn, params, args)
    else:
        outputs = size(jax.eval_shape(fn, params, *args))
        pattern = compressed.as_sparsity(sparsity, (outputs, size(params)))
    theta, flat = compressed.flat_function(fn, params, args)
    return color_jacobian(pattern, sides(flat, theta))


def _either(fn: Callable[..., PyTree], params: PyTree, args: tuple) -> PyTree:
    """The mode that takes fewer passes, or the one that works."""
    outputs = size(jax.eval_shape(fn, params, *args))
    first, second = (jax.jacfwd, jax.jacrev) if outputs >= size(params) else (jax.jacrev, jax.jacfwd)
    try:
        return first(fn)(params, *args)
    except (TypeError, ValueError) as error:  # of a rule in one direction, or of a while_loop
        words = str(error).lower()
        if "forward-mode" not in words and "reverse-mode" not in words:
            raise
        return second(fn)(params, *args)


def _pointwise(fn: Callable[..., PyTree], params: PyTree, args: tuple) -> PyTree:
    objective = LeastSquares(fn, pointwise=True)
    check_pointwise(objective, params, args)
    _, jacobian_t = residual_and_jacobian(objective, params, args, "pointwise")
    _, unravel = ravel(params)
    outputs, tree = jax.tree.flatten(jax.eval_shape(fn, params, *args))
    ends = np.cumsum([leaf.size for leaf in outputs])[:-1].tolist()
    blocks = jnp.split(jacobian_t.T, ends)
    return jax.tree.unflatten(
        tree,
        [
            jax.tree.map(
                lambda leaf, out=out: leaf.reshape(*out.shape, *leaf.shape[1:]), jax.vmap(unravel)(block)
            )
            for out, block in zip(outputs, blocks, strict=True)
        ],
    )
