"""What is minimized: a scalar function, or a sum of squares that second-order methods can see into.

What the value is, is said here; `linearize` and the trials of an optimizer compute it from
residuals that they have. Derivatives are in `derivatives` and `linearize`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.layout import joined
from jaxopt_study.losses import rho, rho_with_derivatives
from jaxopt_study.pytree import params_dtype
from jaxopt_study.types import Float, PyTree

CURVATURE_FLOOR = 0.1  # of the curvature that a reweighted linear loss would have


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """The objective `½ Σᵢ C² ρ(rᵢ² / C²)`, a scalar function that shows its residuals.

    With the loss `ρ(z) = z`, the default, this is half the sum of squares. Every optimizer runs on
    it: first-order methods and Newton see its value, Gauss-Newton and Levenberg-Marquardt its residuals.

    Attributes:
      residual_fn: `residual_fn(params, *args)` returns a pytree of real float arrays, the
        residuals r; a plain function, or a callable pytree.
      pointwise: promise that residual i uses only row i (of axis 0) of every array in `args`.
        The Jacobian then takes one backward pass a row instead of one forward pass a parameter
        (5 times cheaper on 500 residuals of a network with 41 parameters), unless there are many rows of
        at most 16 parameters. The promise is
        checked on a few rows by `minimize`, before the first solve; `residual_fn` is called with
        single rows, each keeping its leading axis, of length 1.
      loss: ρ, which makes outliers count less: `"linear"`, `"huber"`, `"soft_l1"`, `"cauchy"`,
        `"arctan"`, `"tukey"` (see `losses`), or a function of an array z ≥ 0, elementwise,
        that does not fall, with ρ(0) = 0 and ρ'(0) = 1, static.
      loss_scale: C > 0, the size from which on a residual is an outlier, in the unit of the
        residuals; SciPy's `f_scale`. Not used by the linear loss.
      sharding: how residuals lie over devices, a `jax.sharding.NamedSharding` of their leading axis,
        static. `minimize` takes it from the layout of `args`; give it where these are traced.

    Example:
      >>> line = LeastSquares(lambda p, x, y: p["a"] * x + p["b"] - y)
      >>> x = jnp.array([0.0, 1.0])
      >>> float(line({"a": 1.0, "b": 2.0}, x, jnp.array([2.0, 4.0])))
      0.5
    """

    residual_fn: Callable[..., PyTree]
    pointwise: bool = dataclasses.field(default=False, metadata={"static": True})
    loss: Any = dataclasses.field(default="linear", metadata={"static": True})
    loss_scale: Any = 1.0
    sharding: Any = dataclasses.field(default=None, metadata={"static": True})

    def residual(self, params: PyTree, *args: Any) -> Float[Array, " residuals"]:
        """All residuals in one vector: the leaves of `residual_fn`'s value, raveled in order.

        In the dtype of the parameters, whatever that of the data. Laid out over devices, in another
        order, see `layout.joined`.
        """
        return self.in_one(self.residual_fn(params, *args)).astype(params_dtype(params))

    def in_one(self, tree: PyTree) -> Float[Array, " residuals"]:
        """A tree like the value of `residual_fn` in one vector."""
        return joined([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)], self.sharding)

    def __call__(self, params: PyTree, *args: Any) -> Float[Array, ""]:
        """The value ½ Σ C² ρ(r² / C²)."""
        return 0.5 * jnp.sum(self.costs(self.residual(params, *args)))

    def costs(self, residual: Float[Array, " residuals"]) -> Float[Array, " residuals"]:
        """C² ρ(r² / C²) of each residual, twice what it adds to the value."""
        if self.loss == "linear":
            return residual**2
        scale = jnp.asarray(self.loss_scale, residual.dtype)
        return scale**2 * rho(self.loss, (residual / scale) ** 2)

    def falls(
        self, residual: Float[Array, " residuals"], other: Float[Array, " residuals"]
    ) -> Float[Array, " residuals"]:
        """`costs(residual) - costs(other)`, for squares as (r - r₊)(r + r₊), in which nothing cancels."""
        if self.loss == "linear":
            return (residual - other) * (residual + other)
        return self.costs(residual) - self.costs(other)

    def weigh(
        self, residual: Float[Array, " residuals"]
    ) -> tuple[Float[Array, " residuals"], Float[Array, " residuals"] | None]:
        """Residuals r̃ and factors s whose sum of squares is a model of the objective.

        The objective has the gradient `Jᵀ(ρ' r)` and, but for second derivatives of r, the curvature
        `Jᵀ diag(ρ' + 2zρ'') J`. With `s² = ρ' + 2zρ''` and `r̃ = ρ' r / s` these are those of ½‖r̃‖² with
        the Jacobian `diag(s) J`. The curvature of an outlier may be zero or negative (Huber's is zero);
        s² is kept above a tenth of ρ', the curvature by which iterative reweighting replaces it.

        Returns:
          r̃ and s; the residuals themselves and None for the linear loss.

        Source: Triggs, McLauchlan, Hartley and Fitzgibbon, Bundle adjustment, 2000, section 4.3.
        """
        if self.loss == "linear":
            return residual, None
        # A square that overflows belongs to the farthest outlier; ∞ · 0 in its curvature would be NaN.
        z = jnp.minimum(
            (residual / jnp.asarray(self.loss_scale, residual.dtype)) ** 2, jnp.finfo(residual.dtype).max / 4
        )
        _, slope, curvature = rho_with_derivatives(self.loss, z)
        square = jnp.maximum(slope + 2 * z * curvature, CURVATURE_FLOOR * slope)
        factor = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        nothing = square <= 0  # beyond the reach of a loss like Tukey's
        return (
            jnp.where(nothing, 0.0, slope * residual / factor),
            jnp.where(nothing, 0.0, factor),
        )

    def weighted(
        self, rows: Float[Array, "*rows residuals"], factor: Float[Array, " residuals"] | None
    ) -> Float[Array, "*rows residuals"]:
        """What belongs to each residual, as its derivatives, times the factors of `weigh`.

        Not by multiplication alone: the derivative of what does not count may be infinite.
        """
        if factor is None:
            return rows
        factors = jnp.broadcast_to(factor, rows.shape)
        return jnp.where(factors == 0, 0.0, rows * factors)


def with_loss(residual_fn: Any, loss: Any, loss_scale: Any) -> LeastSquares:
    """A residual function, or a `LeastSquares` without a loss of its own, with this loss.

    Raises:
      ValueError: if a `LeastSquares` has a loss and this is another.
    """
    if not isinstance(residual_fn, LeastSquares):
        return LeastSquares(residual_fn, loss=loss, loss_scale=loss_scale)
    if loss == "linear":
        return residual_fn
    if residual_fn.loss not in ("linear", loss):
        raise ValueError(f"loss: is {loss!r} here, but {residual_fn.loss!r} in the LeastSquares")
    return dataclasses.replace(residual_fn, loss=loss, loss_scale=loss_scale)


def as_least_squares(residual_fn: Any, method: str, loss: Any = None) -> LeastSquares:
    """What a method for sums of squares was given, as a `LeastSquares`; `loss` replaces its own.

    Raises:
      TypeError: it was given nothing, because the objective is a scalar function.
    """
    if residual_fn is None:
        raise TypeError(
            f"residual_fn: {method} needs the residuals of a sum of squares; minimize a "
            "jaxopt_study.LeastSquares, or choose an optimizer for scalar functions"
        )
    objective = residual_fn if isinstance(residual_fn, LeastSquares) else LeastSquares(residual_fn)
    return objective if loss is None else dataclasses.replace(objective, loss=loss)


def check_objective(objective: Any, params: PyTree, args: tuple) -> None:
    """Check, without computing it, that an objective is one real number, or real residuals.

    Raises:
      ValueError: if not.
    """
    if isinstance(objective, LeastSquares):
        leaves = jax.tree.leaves(jax.eval_shape(objective.residual_fn, params, *args))
        if not any(leaf.size for leaf in leaves):
            raise ValueError("objective: residual_fn returns no residuals")
        others = [leaf.dtype for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)]
        if others:
            raise ValueError(f"objective: expected real float residuals, got dtype {others[0]}")
        return
    out = jax.eval_shape(objective, params, *args)
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(f"objective: expected a real float scalar, got a {type(out).__name__}")
    if out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        got = f"shape {out.shape} and dtype {out.dtype}"
        raise ValueError(f"objective: expected a real float scalar, got {got} (residuals? use LeastSquares)")
