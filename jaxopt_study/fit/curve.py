"""A model and the points that it is fitted to: what a fit solves, and what it knows afterwards.

Missing points are NaN in `y`, here and everywhere below: nothing is dropped, because shapes have
to be known before values are.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from jaxopt_study.objectives import LeastSquares
from jaxopt_study.types import Float, PyTree


class Factor(NamedTuple):
    """The lower Cholesky factor of the errors' covariance, shape `(points, points)`."""

    lower: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Curve:
    """The model, the data and how they are weighed.

    Attributes:
      model: `model(params, x) -> y`, a pytree; a `Partial` without leaves for a plain function.
      x: pytree of arrays.
      y: array of any shape; NaN is missing.
      sigma: None, standard deviations in the shape of `y`, or a covariance `(points, points)`.
      weights: None, or what the squared residuals are multiplied with, in the shape of `y`.
      bounds: None, or `(lower, upper)`, pytrees like the parameters.
      loss_scale: from which size on a residual is an outlier.
      loss: a name or a function, see `losses`.
      absolute_sigma: whether `sigma` is known, and not only up to a common factor.
      pointwise: whether a row of y uses only that row of x.
      sharding: how points lie over devices, see `LeastSquares`.
      shared: of a batch, the fields whose arrays all fits have in common, and which have no leading axis.
    """

    model: Any
    x: Any
    y: Any
    sigma: Any = None
    weights: Any = None
    bounds: Any = None
    loss_scale: Any = 1.0
    loss: Any = dataclasses.field(default="linear", metadata={"static": True})
    absolute_sigma: bool = dataclasses.field(default=False, metadata={"static": True})
    pointwise: bool = dataclasses.field(default=False, metadata={"static": True})
    sharding: Any = dataclasses.field(default=None, metadata={"static": True})
    shared: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    @property
    def has_axis(self) -> "Curve":
        """For every array of a batch whether it has a leading axis of fits: bools in their places."""
        fields = {}
        for field in dataclasses.fields(self):
            if not field.metadata.get("static"):
                has = field.name not in self.shared
                fields[field.name] = jax.tree.map(lambda _, has=has: has, getattr(self, field.name))
        return dataclasses.replace(self, **fields)

    @property
    def objective(self) -> LeastSquares:
        """The sum of squares; one static function for all curves, so that it compiles once a model."""
        return LeastSquares(
            Partial(residual, self.model),
            pointwise=self.pointwise,
            loss=self.loss,
            loss_scale=self.loss_scale,
            sharding=self.sharding,
        )

    @property
    def args(self) -> tuple:
        """What the objective's residual takes besides the parameters: all the data."""
        return self.x, self.y, self.whitening

    @property
    def present(self) -> Array:
        """Which points are not missing, bool in the shape of `y`."""
        return ~jnp.isnan(self.y)

    @property
    def whitening(self) -> Any:
        """What makes the errors alike and independent: None, factors in the shape of `y`, or a `Factor`.

        Missing points get a variance of 1 and no covariance, whatever was given for them. The factor
        of the covariance of the other points is then that of the matrix without them.
        """
        present = self.present
        if self.weights is not None:
            positive = present & (self.weights > 0)  # the derivative of √0 is infinite
            return jnp.where(positive, jnp.sqrt(jnp.where(positive, self.weights, 1.0)), 1.0)
        if self.sigma is None:
            return None
        if self.sigma.shape == self.y.shape:
            return 1.0 / jnp.where(present, self.sigma, 1.0)
        flat = present.ravel()
        both = flat[:, None] & flat[None, :]
        identity = jnp.eye(flat.size, dtype=self.sigma.dtype)
        return Factor(jnp.linalg.cholesky(jnp.where(both, self.sigma, identity)))


def residual(model: Any, params: PyTree, x: PyTree, y: Float[Array, "..."], whitening: Any) -> Array:
    """Model minus data, whitened; 0 where the data are missing. In the shape of `y`."""
    missing = jnp.isnan(y)
    difference = jnp.where(missing, 0.0, model(params, x) - jnp.where(missing, 0.0, y))
    if whitening is None:
        return difference
    if isinstance(whitening, Factor):
        flat = jax.scipy.linalg.solve_triangular(whitening.lower, difference.ravel(), lower=True)
        return flat.reshape(difference.shape)
    return difference * whitening
