"""Second derivatives: products, Hessians, their diagonals; and gradients example by example."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.derivatives import number_of_rows
from jaxopt_study.pytree import check_real, ravel, size
from jaxopt_study.sparsity import compressed
from jaxopt_study.sparsity.coloring import Coloring, color_diagonal, color_hessian
from jaxopt_study.sparsity.detect import detect
from jaxopt_study.types import PyTree


def hvp(fn: Callable[..., Array], params: PyTree, vector: PyTree, *args: Any) -> PyTree:
    """The product of a Hessian and a vector, for about the price of two gradients.

    `∇²fn(params) v`, the derivative of the gradient along v (forward over reverse).

    Args:
      fn: `fn(params, *args)` returns a real float scalar.
      params: pytree of real float arrays.
      vector: v, a pytree like `params`.
      args: what `fn` takes besides.

    Returns:
      A pytree like `params`.

    Raises:
      ValueError: if `vector` is not like `params`.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Example:
      >>> print(hvp(lambda x: jnp.sum(x**3), jnp.array([1.0, 2.0]), jnp.array([1.0, 10.0])))
      [  6. 120.]
    """
    params = check_real("params", params)
    like, given = str(jax.tree.structure(params)), str(jax.tree.structure(vector))
    if like != given:
        raise ValueError(f"vector: expected a pytree like params, {like}, got {given}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(vector), strict=True)
    for (path, leaf), along in pairs:
        if np.shape(leaf) != np.shape(along):
            where = "vector" + jax.tree_util.keystr(path)
            raise ValueError(
                f"{where}: expected the shape of params, {np.shape(leaf)}, got {np.shape(along)}"
            )
    vector = jax.tree.map(lambda leaf, along: jnp.asarray(along, leaf.dtype), params, vector)
    return jax.jvp(lambda p: jax.grad(fn)(p, *args), (params,), (vector,))[1]


def hessian(
    fn: Callable[..., Array], mode: Literal["dense", "sparse"] = "dense", *, sparsity: Any = None
) -> Callable[..., Any]:
    """The Hessian of a function with respect to its first argument.

    `H[i, j] = ∂²fn(params, *args) / ∂paramsᵢ ∂paramsⱼ`

    Args:
      fn: `fn(params, *args)` returns a real float scalar.
      mode: `"dense"` (one Hessian-vector product a parameter) or `"sparse"` (one a color).
      sparsity: for `"sparse"`, the places that can be other than zero, as of `jacobian`; one of each two
        that are mirror images is enough.

    Returns:
      A function of `(params, *args)`. Dense: as of `jax.hessian`, a pytree like the parameters of pytrees
      like the parameters. Sparse: one `jax.experimental.sparse.BCOO` of shape `(params, params)`.

    Raises:
      ValueError: for an unknown mode, or a pattern that lacks an entry.
      TypeError: if `params` are not real floats.

    Source: Coleman and Moré, Estimation of sparse Hessian matrices and graph coloring problems, 1984.

    Example:
      >>> chain = lambda x: jnp.sum((x[1:] - x[:-1] ** 2) ** 2)
      >>> print(hessian(chain)(jnp.array([1.0, 2.0])))
      [[ 4. -4.]
       [-4.  2.]]
      >>> print(hessian(chain, mode="sparse")(jnp.ones(1000)).nse)
      2998
    """
    if mode not in ("dense", "sparse"):
        raise ValueError(f"mode: expected 'dense' or 'sparse', got {mode!r}")
    if sparsity is not None and mode != "sparse":
        raise ValueError("sparsity: only mode='sparse' has a use for it, got mode='dense'")
    if mode == "sparse":
        return compressed.derivative(
            jax.grad(fn),
            lambda p, args: hessian_coloring(fn, p, *args, sparsity=sparsity),
            sparsity is not None,
        )
    return lambda params, *args: jax.jacfwd(jax.grad(fn))(check_real("params", params), *args)


def hessian_coloring(fn: Callable[..., Array], params: PyTree, *args: Any, sparsity: Any = None) -> Coloring:
    """The pattern of a sparse Hessian, and which of its columns are had in one product.

    Args:
      fn, sparsity: as of `hessian`.
      params: pytree of real float arrays; only shapes count.
      args: what `fn` takes besides.

    Returns:
      A `Coloring`; `.passes` is how many products `hessian(fn, mode="sparse")` takes.

    Example:
      >>> arrow = lambda x: x[0] * jnp.sum(x**2)
      >>> hessian_coloring(arrow, jnp.ones(1000)).passes
      2
    """
    if sparsity is None:
        return color_hessian(detect(jax.grad(fn), params, args))
    return color_hessian(compressed.as_sparsity(sparsity, (size(params), size(params))))


def hessian_diagonal(fn: Callable[..., Array], params: PyTree, *args: Any) -> PyTree:
    """The diagonal of a Hessian, exactly, in as many products as a coloring of it needs.

    `∂²fn(params) / ∂paramsⱼ²`: parameters that share no entry of the Hessian are taken in one product.
    One product for a separable function, three for one with five bands; where everything depends
    on everything, one a parameter, and `hessian_diagonal_estimate` is cheaper.

    Args:
      fn: `fn(params, *args)` returns a real float scalar.
      params: pytree of real float arrays.
      args: what `fn` takes besides.

    Returns:
      A pytree like `params`.

    Example:
      >>> print(hessian_diagonal(lambda x: jnp.sum(x[1:] * x[:-1] ** 3), jnp.array([1.0, 2.0, 3.0])))
      [12. 36.  0.]
    """
    params = check_real("params", params)
    coloring = color_diagonal(detect(jax.grad(fn), params, args))
    theta, flat = compressed.flat_function(jax.grad(fn), params, args)
    _, unravel = ravel(params)
    return unravel(compressed.jacobian_entries(flat, theta, coloring)[1])


class DiagonalEstimate(NamedTuple):
    """An estimate of a diagonal.

    Attributes:
      value: the estimate, like the parameters.
      stderr: its standard error, element by element; zero where the matrix has nothing beside the diagonal.
    """

    value: PyTree
    stderr: PyTree


def hessian_diagonal_estimate(
    fn: Callable[..., Array], params: PyTree, *args: Any, key: Array, samples: int = 32
) -> DiagonalEstimate:
    """Hutchinson's estimate of the diagonal of a Hessian, with its standard error.

    The mean of `z ∘ (∇²fn z)` over vectors z of random signs. Its variance is the sum of squares of the row
    beside the diagonal, over `samples`.

    Args:
      fn: `fn(params, *args)` returns a real float scalar.
      params: pytree of real float arrays.
      args: what `fn` takes besides.
      key: a random key.
      samples: how many products with the Hessian are made, at least 2.

    Returns:
      A `DiagonalEstimate`.

    Raises:
      ValueError: for fewer than 2 samples.

    Source: Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, 2007.

    Example:
      >>> coupled = lambda x: jnp.sum(x**4) + 0.1 * jnp.sum(x) ** 2
      >>> estimate = hessian_diagonal_estimate(coupled, jnp.ones(4), key=jax.random.key(0), samples=200)
      >>> bool(jnp.all(jnp.abs(estimate.value - 12.2) < 4 * estimate.stderr))
      True
    """
    if samples < 2:
        raise ValueError(f"samples: expected at least 2, for a standard error, got {samples}")
    params = check_real("params", params)
    theta, flat = compressed.flat_function(jax.grad(fn), params, args)
    _, unravel = ravel(params)
    _, push = jax.linearize(flat, theta)

    def one(key: Array) -> Array:
        signs = jax.random.rademacher(key, theta.shape, theta.dtype)
        return signs * push(signs)

    draws = jax.lax.map(one, jax.random.split(key, samples))
    stderr = jnp.std(draws, axis=0, ddof=1) / np.sqrt(samples)
    return DiagonalEstimate(unravel(jnp.mean(draws, axis=0)), unravel(stderr.astype(theta.dtype)))


def per_example_grads(fn: Callable[..., Array], params: PyTree, *args: Any) -> PyTree:
    """The gradient of every example's loss.

    Args:
      fn: `fn(params, *example)` returns a real float scalar, the loss of one example.
      params: pytree of real float arrays.
      args: what `fn` takes besides, for all examples: pytrees of arrays with one row an example.

    Returns:
      A pytree like `params`, every leaf with the examples as its first axis.

    Raises:
      ValueError: if the arrays in `args` have no common rows.

    Example:
      >>> def loss(w, x, y):
      ...     return (x @ w - y) ** 2
      >>> x, y = jnp.eye(2), jnp.array([1.0, 3.0])
      >>> print(per_example_grads(loss, jnp.zeros(2), x, y))
      [[-2. -0.]
       [-0. -6.]]
    """
    params = check_real("params", params)
    number_of_rows(args, "per_example_grads")
    return jax.vmap(lambda example: jax.grad(fn)(params, *example))(args)
