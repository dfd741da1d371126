"""`Fit`: parameters with their uncertainties, and the questions that can be put to them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.fit import answers, predict
from jaxopt_study.fit.check_input import check_level, check_x
from jaxopt_study.fit.plot import plot
from jaxopt_study.fit.table import table
from jaxopt_study.result import describe, is_converged
from jaxopt_study.types import Bool, Float, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Fit:
    """A fitted model: a pytree of arrays. `print(fit)` is a table.

    `jax.vmap` makes a batch of it, whose fields have a leading axis; methods and properties then
    answer for every fit, and `fit[i]` is one of them.

    Parameters that stand on a bound (`at_bound`) are *held*: what is said of all others is said for
    these values of them, and their own standard errors are zero.

    Attributes:
      params: the estimates, a pytree like the start.
      stderr: their standard errors, a pytree like `params`; infinite for parameters that the data do
        not determine, NaN where there are no degrees of freedom to tell the size of the errors by.
      covariance: shape `(p, p)`, of the parameters raveled in the order of `jax.tree.leaves`.
      residuals: model minus data, divided by sigma (times √weights; times the inverse Cholesky
        factor of a covariance), in the shape of y; NaN where y is missing.
      cost: the objective, half the sum of squared residuals for the linear loss.
      dispersion: s², the variance of the errors in units of sigma²: `2 cost / dof`, or 1 if sigma
        is absolute; see `uncertainty.noise` for robust losses.
      dof: degrees of freedom, points less rank, int32.
      num_points: points that are not missing and have a weight above 0, int32.
      rank: of the Jacobian, over parameters that are not held, int32.
      rank_deficient: whether it is less than their number.
      at_bound: a pytree like `params`, int8: -1 at a lower bound (and where equal bounds fix a
        parameter), 1 at an upper one, else 0.
      status: how the fit ended, a `Status`.
      num_steps, num_evals: as in `Result`.
      curve: the model and the data, see `fit.curve.Curve`.
    """

    params: Any
    stderr: Any
    covariance: Any
    residuals: Any
    cost: Any
    dispersion: Any
    dof: Any
    num_points: Any
    rank: Any
    rank_deficient: Any
    at_bound: Any
    status: Any
    num_steps: Any
    num_evals: Any
    curve: Any

    @property
    def converged(self) -> Bool[Array, "..."]:
        """Whether a test of convergence holds, bool array."""
        return is_converged(self.status)

    @property
    def message(self) -> Any:
        """The status in words; an array of them for a batch."""
        return describe(self.status)

    @property
    def correlation(self) -> Float[Array, "..."]:
        """Correlations of the parameters, `(p, p)`; NaN with held or undetermined parameters."""
        return answers.correlation(self)

    @property
    def chi2(self) -> Float[Array, "..."]:
        """`χ² = 2 cost`, the sum of squared residuals for the linear loss."""
        return 2.0 * self.cost

    @property
    def reduced_chi2(self) -> Float[Array, "..."]:
        """`χ² / dof`; NaN without degrees of freedom."""
        freedom = jnp.maximum(self.dof, 1).astype(self.cost.dtype)
        return jnp.where(self.dof > 0, self.chi2 / freedom, jnp.nan)

    @property
    def r_squared(self) -> Float[Array, "..."]:
        """`1 - Σ (model - y)² / Σ (y - mean y)²`, not weighted, over points that are not missing."""
        return answers.r_squared(self)

    @property
    def aic(self) -> Float[Array, "..."]:
        """Akaike's criterion, `n ln(χ²/n) + 2k`, with k parameters that are not fixed."""
        return answers.criteria(self)[0]

    @property
    def bic(self) -> Float[Array, "..."]:
        """The Bayesian criterion, `n ln(χ²/n) + k ln n`."""
        return answers.criteria(self)[1]

    def __getitem__(self, index: Any) -> "Fit":
        """One fit of a batch, or some of them."""
        if np.ndim(self.status) == 0:
            raise TypeError("fit: this is one fit, not a batch of them")
        has_axis = answers.has_axis(self)
        picked = jax.tree.map(lambda has, leaf: leaf[index] if has else leaf, has_axis, self)
        if np.ndim(picked.status):
            return picked
        return dataclasses.replace(picked, curve=dataclasses.replace(picked.curve, shared=()))

    def confidence_interval(self, level: ArrayLike = 0.95) -> tuple[PyTree, PyTree]:
        """`estimate ± t · stderr`, which takes the model to be linear over that distance.

        Args:
          level: of confidence, within (0, 1).

        Returns:
          `(lower, upper)`, pytrees like `params`. t is Student's for `dof` degrees of freedom, and
          that of the normal distribution where sigma is absolute.

        Raises:
          ValueError: for another level.

        Example:
          >>> import jaxopt_study as jos
          >>> x, y = jnp.arange(4.0), jnp.array([1.0, 2.9, 5.1, 7.0])
          >>> fit = jos.curve_fit(lambda p, x: p["a"] + p["b"] * x, x, y, {"a": 0.0, "b": 1.0})
          >>> lower, upper = fit.confidence_interval(0.95)
          >>> print(f"{lower['b']:.2f} {upper['b']:.2f}")
          1.84 2.20
        """
        check_level(level)
        return answers.interval(self, level)

    def profile(self, level: ArrayLike = 0.95) -> tuple[PyTree, PyTree]:
        """Intervals by profile likelihood, which do without linearity.

        A value belongs to the interval of a parameter as long as the best fit with that value costs no
        more than `t² s² / 2` above the best fit of all. See `fit.profile`.

        Args:
          level: of confidence, within (0, 1).

        Returns:
          `(lower, upper)`, pytrees like `params`. An end is infinite where the cost never rises so far;
          the bound, where a bound comes first; NaN where the model stops being finite before the
          end, or where a fit with a lower cost than this one turned up.

        Raises:
          ValueError: for another level.

        Source:
          D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications, 1988.

        Example:
          >>> import jaxopt_study as jos
          >>> x, y = jnp.arange(4.0), jnp.array([1.0, 2.9, 5.1, 7.0])
          >>> fit = jos.curve_fit(lambda p, x: p["a"] + p["b"] * x, x, y, {"a": 0.0, "b": 1.0})
          >>> lower, upper = fit.profile(0.95)
          >>> print(f"{lower['b']:.2f} {upper['b']:.2f}")
          1.84 2.20
        """
        check_level(level)
        return answers.profile(self, level)

    def predict(
        self,
        x: PyTree,
        level: ArrayLike | None = None,
        *,
        kind: str = "confidence",
        sigma: ArrayLike | None = None,
    ) -> Any:
        """The model at x, alone or with a band.

        Args:
          x: like the x of the fit, with as many points as you like.
          level: None for the values alone, or the level of a pointwise band, within (0, 1).
          kind: `"confidence"`, where the curve is; `"prediction"`, where a new observation would be.
          sigma: standard deviations of new observations, in the meaning of the fit's own sigma,
            for a prediction band of a fit that had sigma or weights.

        Returns:
          y, or `(y, lower, upper)`. The band is `y ± t √(gᵀCg)`, by the delta method; plus
          `s² sigma²` under the root for predictions.

        Raises:
          ValueError: for another level or kind, or if sigma is needed and missing.

        Example:
          >>> import jaxopt_study as jos
          >>> x, y = jnp.arange(4.0), jnp.array([1.0, 2.9, 5.1, 7.0])
          >>> fit = jos.curve_fit(lambda p, x: p["a"] + p["b"] * x, x, y, {"a": 0.0, "b": 1.0})
          >>> y, lower, upper = fit.predict(jnp.array([4.0]), 0.95)
          >>> print(f"{y[0]:.2f} {lower[0]:.2f} {upper[0]:.2f}")
          9.05 8.55 9.55
        """
        x = check_x(x)
        if level is None:
            return answers.value(self, x)
        check_level(level)
        predict.check_kind(kind, self.curve, sigma)
        return answers.band(self, x, level, kind == "prediction", sigma)

    def plot(self, path: Any = None, **options: Any) -> Any:
        """Data, curve, band and residuals as a matplotlib figure; see `fit.plot.plot` for options.

        Args:
          path: also write the picture there.

        Returns:
          The figure.

        Raises:
          ValueError: unless x is one-dimensional, or has an axis of series in front, see there.
        """
        return plot(self, path, **options)

    def __str__(self) -> str:
        """The table; a summary for a batch."""
        return table(self)

    def __repr__(self) -> str:
        """The fields that are scalars, so that a traced or batched fit can be shown too."""
        shape = f", batch={np.shape(self.status)}" if np.ndim(self.status) else ""
        return f"Fit(params={self.params}, stderr={self.stderr}, status={self.status}{shape})"
