"""What many fits say about their parameters: as for a single one, from JᵀJ where that is good enough.

Where it is not, the fits go through the SVD, as a single one always does, some at a time.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.bounds import sides
from jaxopt_study.derivatives import THIN, residual_and_columns, residual_and_jacobian, thin_gram
from jaxopt_study.fit import uncertainty
from jaxopt_study.fit.answers import at_solution
from jaxopt_study.fit.axes import in_axes
from jaxopt_study.fit.curve_fit import assemble
from jaxopt_study.fit.fit import Fit
from jaxopt_study.pytree import ravel_leaves
from jaxopt_study.solvers.implicit import only_where
from jaxopt_study.types import PyTree

SVD_BLOCK = 64  # fits at a time whose information has to be found by the SVD


@functools.partial(jax.jit, static_argnums=(0, 1))
def measure_all(
    block: int, own_whitening: bool, curve: Any, whitening: Any, params: PyTree, cost: Array, ends: tuple
) -> Fit:
    """The `Fit` of every solution.

    Args:
      block: how many at a time.
      own_whitening: whether `whitening` has a leading axis of fits.
      curve, whitening: of all fits, see `batch_curve.Curves`.
      params, cost, ends: the solutions; see `curve_fit.assemble`.
    """
    fits = cost.shape[0]
    data = (curve, whitening)
    has_axis = (curve.has_axis, jax.tree.map(lambda _: own_whitening, whitening))

    def one_of(varying: Any) -> Any:
        return jax.tree.map(lambda has, one, all_: one if has else all_, has_axis, varying, data)

    def quickly(inputs: tuple) -> tuple:
        varying, params, cost = inputs
        curve, whitening = one_of(varying)
        return _at_solution(curve, params, cost, (curve.x, curve.y, whitening))

    def slowly(inputs: tuple) -> tuple:
        varying, params, cost = inputs
        curve, whitening = one_of(varying)
        return at_solution(curve, params, cost, (curve.x, curve.y, whitening))

    # What is shared is not cut into rows; zeros stand in for it.
    rows = jax.tree.map(lambda has, leaf: leaf if has else jnp.zeros(fits), has_axis, data)
    known, good = jax.lax.map(quickly, (rows, params, cost), batch_size=min(block, fits))

    order = jnp.argsort(good)  # those that are not good come first
    width = min(SVD_BLOCK, fits)

    # A loop of as many turns as are needed has no reverse mode: what it finds is a constant.
    still = jax.lax.stop_gradient((rows, params, cost))

    def some(i: Array, known: tuple) -> tuple:
        place = jnp.minimum(i * width + jnp.arange(width), fits - 1)
        few = jax.tree.map(lambda leaf: leaf[order[place]], still)
        return jax.tree.map(lambda all_, part: all_.at[order[place]].set(part), known, jax.vmap(slowly)(few))

    blocks = (jnp.sum(~good) + width - 1) // width
    constant = jax.lax.fori_loop(0, blocks, some, jax.lax.stop_gradient(known))
    known = jax.tree.map(functools.partial(_constant_unless, good), constant, known)

    def whole(varying: Any, params: PyTree, cost: Array, ends: tuple, known: tuple) -> Fit:
        return assemble(one_of(varying)[0], params, cost, ends, known)

    return jax.vmap(whole, out_axes=_out_axes(curve))(rows, params, cost, ends, known)


def _constant_unless(good: Array, constant: Array, known: Array) -> Array:
    """`known` where it is good, else `constant`, whose tangents are NaN: it was not differentiated."""
    chosen = jnp.where(good.reshape(-1, *[1] * (known.ndim - 1)), known, constant)
    return jax.vmap(only_where)(good, chosen) if jnp.issubdtype(known.dtype, jnp.floating) else chosen


def _out_axes(curve: Any) -> Any:
    fields = {field.name: 0 for field in dataclasses.fields(Fit)}
    return Fit(**{**fields, "curve": in_axes(curve.has_axis)})


def _at_solution(curve: Any, params: PyTree, cost: Array, args: tuple) -> tuple[tuple, Array]:
    """As `answers.at_solution`, from JᵀJ, and whether that is good enough."""
    at_bound = jnp.zeros(ravel_leaves(params).size, jnp.int8)
    if curve.bounds is not None:
        at_bound = ravel_leaves(sides(curve.bounds, params))
    if at_bound.size <= THIN:
        residuals, columns = residual_and_columns(curve.objective, params, args)
        gram, _ = thin_gram(columns, residuals)
    else:
        residuals, jacobian_t = residual_and_jacobian(curve.objective, params, args)
        gram = jacobian_t @ jacobian_t.T
    found, good = uncertainty.information_of_gram(gram, at_bound != 0)
    points = jnp.sum(curve.present, dtype=jnp.int32)
    of_noise = uncertainty.noise(curve, residuals, cost, found.rank, points - found.rank)
    return (residuals, found, of_noise, at_bound), good
