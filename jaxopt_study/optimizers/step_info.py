"""The report of an optimizer that accepts and refuses its own steps."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_study.types import Bool, Float, Int

_NUMBERS = (
    "value",
    "grad_norm",
    "gradient_test",
    "actual",
    "predicted",
    "rounding",
    "gain_ratio",
    "step_norm",
    "coordinate_norm",
    "params_norm",
    "damping",
)
_COUNTS = (
    "trials",
    "num_evals",
    "accepted",
    "rank_deficient",
    "at_rounding",
    "orthogonal",
    "vanished",
    "way_down",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepInfo:
    """What an optimizer that accepts or refuses its own steps reports, in `state.info`.

    The fields are packed into two arrays, because in a loop over small problems every array that
    is carried costs as much as the arithmetic. They are read by name, as arrays of the batch's shape:

    | name             | what it is                                                               |
    |------------------|--------------------------------------------------------------------------|
    | `value`          | the objective at `params + update`                                       |
    | `grad_norm`      | norm of the gradient at `params`, before the update; of its projection,  |
    |                  | where there are bounds                                                   |
    | `gradient_test`  | what `gtol` is compared with, at `params`: the largest cosine between    |
    |                  | the residuals and a column of the Jacobian, or its like, see `newton`    |
    | `actual`         | by how much the update lowers the value                                  |
    | `predicted`      | by how much the model said it would                                      |
    | `rounding`       | by how much rounding errors may change the value                         |
    | `gain_ratio`     | actual over predicted; -1 if that is not a number                        |
    | `step_norm`      | length of the update, in the metric of the method's trust region         |
    | `coordinate_norm`| length of the step that each parameter would take by itself, undamped    |
    | `params_norm`    | length of `params` in that metric                                        |
    | `damping`        | the damping of the last trial; 0 for methods without                     |
    | `trials`         | how many points were tried, int32                                        |
    | `num_evals`      | evaluations of the objective, `trials` and the linearization, int32      |
    | `accepted`       | whether one was taken; if not, the update is zero                        |
    | `rank_deficient` | whether the curvature, JᵀJ or the Hessian, was singular to working       |
    |                  | precision                                                                |
    | `at_rounding`    | whether already the first trial promised a reduction so small that       |
    |                  | rounding errors of the value hide it: then a trial that changes the      |
    |                  | value by no more is taken                                                |
    | `orthogonal`     | whether the step came from an orthogonal factorization, not Cholesky     |
    | `vanished`       | whether a parameter that once counted no longer does, see `Linearization`|
    | `way_down`       | whether there is a direction of negative curvature at `params`, though    |
    |                  | the gradient may be zero: a point that is no minimum, and no end         |

    Attributes:
      numbers: the floats, shape `(11,)`, NaN where nothing was measured.
      counts: the integers and flags, shape `(8,)`, int32.
    """

    numbers: Any
    counts: Any

    value = property(lambda self: self._number("value"))
    grad_norm = property(lambda self: self._number("grad_norm"))
    gradient_test = property(lambda self: self._number("gradient_test"))
    actual = property(lambda self: self._number("actual"))
    predicted = property(lambda self: self._number("predicted"))
    rounding = property(lambda self: self._number("rounding"))
    gain_ratio = property(lambda self: self._number("gain_ratio"))
    step_norm = property(lambda self: self._number("step_norm"))
    coordinate_norm = property(lambda self: self._number("coordinate_norm"))
    params_norm = property(lambda self: self._number("params_norm"))
    damping = property(lambda self: self._number("damping"))
    trials = property(lambda self: self._count("trials"))
    num_evals = property(lambda self: self._count("num_evals"))
    accepted = property(lambda self: self._count("accepted") != 0)
    rank_deficient = property(lambda self: self._count("rank_deficient") != 0)
    at_rounding = property(lambda self: self._count("at_rounding") != 0)
    orthogonal = property(lambda self: self._count("orthogonal") != 0)
    vanished = property(lambda self: self._count("vanished") != 0)
    way_down = property(lambda self: self._count("way_down") != 0)

    def lengthened(
        self,
        found: Bool[Array, ""],
        value: Float[Array, ""],
        step_norm: Float[Array, ""],
        tried: Int[Array, ""],
    ) -> "StepInfo":
        """The report of a step that was made longer, where that was found to be better."""
        longer = {"value": value, "actual": self.actual + self.value - value, "step_norm": step_norm}
        numbers, counts = self.numbers, self.counts
        for name, number in longer.items():
            place = _NUMBERS.index(name)
            numbers = numbers.at[place].set(jnp.where(found, number, numbers[place]))
        for name in ("trials", "num_evals"):
            counts = counts.at[_COUNTS.index(name)].add(tried)
        return StepInfo(numbers, counts)

    def _number(self, name: str) -> Float[Array, "..."]:
        return self.numbers[..., _NUMBERS.index(name)]

    def _count(self, name: str) -> Int[Array, "..."]:
        return self.counts[..., _COUNTS.index(name)]


class Evaluations(NamedTuple):
    """What an optimizer has evaluated since its `init`, int32 each.

    Attributes:
      values: the objective alone, at trial points.
      gradients: the gradient, with the value that comes with it.
      products: Hessian-vector products; a Hessian is as many as there are parameters.
    """

    values: Any
    gradients: Any
    products: Any

    def plus(self, values: Any, gradients: Any, products: Any) -> "Evaluations":
        """With so many more."""
        more = (values, gradients, products)
        return Evaluations(*(old + new for old, new in zip(self, more, strict=True)))


def no_evaluations() -> Evaluations:
    """Nothing yet."""
    return Evaluations(*(jnp.zeros((), jnp.int32) for _ in range(3)))


def step_info(dtype: Any, **known: ArrayLike) -> StepInfo:
    """A report of what is known: other numbers are NaN, other counts and flags zero.

    >>> report = step_info("float32", value=2.0, accepted=True)
    >>> print(report.value, report.accepted, report.damping, report.trials)
    2.0 True nan 0
    """
    unknown = set(known) - {*_NUMBERS, *_COUNTS}
    if unknown:
        raise TypeError(f"step_info: no field is called {', '.join(sorted(unknown))}")
    numbers = [jnp.asarray(known.get(name, jnp.nan), dtype) for name in _NUMBERS]
    counts = [jnp.asarray(known.get(name, 0), jnp.int32) for name in _COUNTS]
    return StepInfo(jnp.stack(numbers), jnp.stack(counts))


def unmeasured(dtype: Any) -> StepInfo:
    """The report before anything was measured: no number is known, nothing was accepted."""
    return StepInfo(jnp.full(len(_NUMBERS), jnp.nan, dtype), jnp.zeros(len(_COUNTS), jnp.int32))
