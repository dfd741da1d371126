"""`audit_adjoint`: which gradient of an ODE can be believed, and what each costs.

Every adjoint is asked for the gradient of one number, and compared with differences of solves at a much
tighter tolerance, in float64.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import differentiate
from jaxopt_study.audit.flat import Runner
from jaxopt_study.audit.sampling import sample
from jaxopt_study.ode.solve import Field, solve_ode
from jaxopt_study.pytree import check_real, ravel
from jaxopt_study.types import PyTree

ADJOINTS = ("auto", "checkpoint", "direct", "forward", "backsolve")
MOST_ELEMENTS = 32  # beyond, as many random directions are looked along
TIGHT = 1e-12
SMALL = 1e-3  # the size of an element that is zero, in that of others
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class AdjointRow:
    """One adjoint.

    Attributes:
      adjoint: its name, as `solve_ode` takes it.
      error: largest difference from the reference over directions, relative to the largest of the reference;
        NaN if the gradient is not finite.
      first_seconds: the first gradient, compilation included.
      seconds: a gradient after that, the median.
      bytes: what the compiled gradient needs besides arguments and results.
      failure: why there is no gradient; empty if there is one.
    """

    adjoint: str
    error: float
    first_seconds: float
    seconds: float
    bytes: int
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class AdjointAudit:
    """What `audit_adjoint` found; `print` shows it as a table.

    Attributes:
      rows: one an adjoint.
      directions: along how many directions of parameters and initial state gradients were compared.
      reference_error: the error that the differences may have, relative to the largest.
      recommendation: in words.
    """

    rows: tuple[AdjointRow, ...]
    directions: int
    reference_error: float
    recommendation: str

    def __getitem__(self, adjoint: str) -> AdjointRow:
        """The row of one adjoint."""
        return next(row for row in self.rows if row.adjoint == adjoint)

    def __str__(self) -> str:
        """The table."""
        lines = [f"{'adjoint':<12}{'error':>10}{'gradient':>12}{'first call':>12}{'memory':>12}"]
        for row in self.rows:
            if row.failure:
                lines.append(f"{row.adjoint:<12}{row.failure}")
                continue
            error = "not finite" if np.isnan(row.error) else f"{row.error:.1e}"
            lines.append(
                f"{row.adjoint:<12}{error:>10}{row.seconds * 1e3:>9.3f} ms{row.first_seconds:>10.2f} s"
                f"{row.bytes / 1024:>8.0f} KiB"
            )
        lines.append(
            f"reference: differences along {self.directions} directions, good to {self.reference_error:.0e}"
        )
        lines.append(self.recommendation)
        return "\n".join(lines)


def audit_adjoint(
    field: Field,
    y0: PyTree,
    ts: Any,
    params: PyTree = None,
    *,
    loss: Callable[[PyTree], Any] | None = None,
    adjoints: Sequence[str] = ADJOINTS,
    enough: float = 1e-4,
    **options: Any,
) -> AdjointAudit:
    """Compare the gradients of all adjoints with differences, and say which to use.

    `error = max_v |∇L·v - δL(v)| / max_v |δL(v)|`, where v is an element times its own size, and δL are
    extrapolated differences of solves with rtol and atol of 1e-12, in float64. Not for use inside a trace; it
    makes some fifty tight solves an element.

    Args:
      field: `field(t, y, params) -> dy/dt`.
      y0: the initial state, a pytree of real float arrays; differentiated too.
      ts: times, as in `solve_ode`.
      params: a pytree whose leaves are all real floats, or None.
      loss: of the states at ts, a pytree with a leading axis of times, to a number; by default ½Σy².
      adjoints: which ones.
      enough: an error up to which an adjoint may be recommended.
      options: what else `solve_ode` takes: `solver`, `rtol`, `atol`, `max_steps`, `first_step`.

    Returns:
      An `AdjointAudit`.

    Raises:
      TypeError: if y0 or params have leaves that are not real floats.
      ValueError: if an adjoint is unknown.

    Example:
      >>> import jaxopt_study as jos
      >>> decay = lambda t, y, rate: -rate * y
      >>> y0, ts = jnp.array([1.0]), jnp.array([0.0, 1.0])
      >>> audit = jos.audit_adjoint(decay, y0, ts, 0.5, adjoints=["auto"], rtol=1e-6)
      >>> audit["auto"].error < 1e-4
      True
    """
    unknown = sorted(set(adjoints) - set(ADJOINTS))
    if unknown:
        raise ValueError(f"adjoints: expected some of {', '.join(ADJOINTS)}, got {', '.join(unknown)}")
    y0 = check_real("y0", y0)
    params = check_real("params", params) if jax.tree.leaves(params) else params
    measure = _half_square if loss is None else loss
    inputs, unravel = ravel((params, y0))
    directions = _directions(np.asarray(inputs, np.float64))
    reference, doubt = _differences(field, inputs, unravel, ts, measure, options, directions)
    rows = tuple(
        _row(name, field, inputs, unravel, ts, measure, options, directions, reference) for name in adjoints
    )
    return AdjointAudit(rows, len(directions), doubt, _recommend(rows, doubt, enough))


def _half_square(ys: PyTree) -> Array:
    return 0.5 * sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(ys)), jnp.zeros(()))


def _directions(at: np.ndarray) -> np.ndarray:
    """Along the elements, or at random, each in proportion to itself: 1e-6 and 3e7 are both parameters."""
    moving = np.abs(at[at != 0])
    size = np.where(at != 0, np.abs(at), SMALL * (min(1.0, float(np.median(moving))) if moving.size else 1.0))
    if at.size <= MOST_ELEMENTS:
        return np.diag(size)
    drawn = np.random.default_rng(0).normal(size=(MOST_ELEMENTS, at.size))
    return size * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _differences(
    field: Field, inputs: Array, unravel: Any, ts: Any, measure: Any, options: dict, directions: np.ndarray
) -> tuple[np.ndarray, float]:
    """Slopes along the directions, and their error relative to the largest."""
    at = np.asarray(inputs, np.float64)
    tight = options | {"rtol": TIGHT, "atol": TIGHT, "max_steps": 100 * options.get("max_steps", 4096)}
    with jax.enable_x64(True):

        def value(flat: Array) -> Array:
            params, y0 = _in_float64(unravel, flat, inputs.dtype)
            ys = solve_ode(field, y0, jnp.asarray(ts, jnp.float64), params, **tight).ys
            return jnp.reshape(measure(ys), 1)

        samples, _ = sample(Runner(value, np.float64), at[None], directions[None], TIGHT)
    found = differentiate(samples)
    slopes, errors = found.value[:, 0], found.error[:, 0]
    return slopes, float(np.max(errors)) / max(float(np.max(np.abs(slopes))), np.finfo(float).tiny)


def _in_float64(unravel: Any, flat: Array, dtype: Any) -> Any:
    """The inputs as they were, but in float64."""
    like = jax.eval_shape(unravel, jax.ShapeDtypeStruct(flat.shape, dtype))
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = jnp.split(flat, ends) if leaves else []
    return jax.tree.unflatten(
        structure, [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
    )


def _row(
    name: Any,
    field: Field,
    inputs: Array,
    unravel: Any,
    ts: Any,
    measure: Any,
    options: dict,
    directions: np.ndarray,
    reference: np.ndarray,
) -> AdjointRow:
    def value(flat: Array) -> Array:
        params, y0 = unravel(flat)
        return measure(solve_ode(field, y0, ts, params, adjoint=name, **options).ys)

    take = jax.jacfwd(value) if name == "forward" else jax.grad(value)
    began = time.perf_counter()
    try:
        compiled = jax.jit(take).lower(inputs).compile()
    except (TypeError, ValueError, NotImplementedError) as why:
        return AdjointRow(name, np.nan, np.nan, np.nan, 0, f"none: {str(why).splitlines()[0]}")
    gradient = np.asarray(jax.block_until_ready(compiled(inputs)), np.float64)
    first = time.perf_counter() - began
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(compiled(inputs))
        seconds.append(time.perf_counter() - began)
    slopes = directions @ gradient
    error = float(np.max(np.abs(slopes - reference))) / max(
        float(np.max(np.abs(reference))), np.finfo(float).tiny
    )
    analysis = compiled.memory_analysis()
    return AdjointRow(
        name, error, first, float(np.median(seconds)), int(getattr(analysis, "temp_size_in_bytes", 0))
    )


def _recommend(rows: Sequence[AdjointRow], doubt: float, enough: float) -> str:
    allowed = max(enough, 10 * doubt)
    wrong = [row for row in rows if not row.failure and not row.error <= allowed]
    # What may be wrong elsewhere without a sign of it is not recommended for being right here.
    right = [row for row in rows if not row.failure and row.error <= allowed and row.adjoint != "backsolve"]
    words = _warn(wrong)
    if not right:
        return f"No adjoint to recommend agrees with differences to {allowed:.0e}: tighten rtol, atol.{words}"
    auto = next((row for row in right if row.adjoint == "auto"), None)
    fastest = min(right, key=lambda row: row.seconds)
    if auto is not None and auto.seconds <= 1.5 * fastest.seconds:
        return f'Use adjoint="auto": right, fast, and differentiable in every mode.{words}'
    than = "" if auto is None else f", {auto.seconds / fastest.seconds:.1f} times as fast as auto"
    return f'Use adjoint="{fastest.adjoint}": right{than}.{words}'


def _warn(wrong: Sequence[AdjointRow]) -> str:
    amounts = {
        row.adjoint: "is not finite" if np.isnan(row.error) else f"is off by {row.error:.1g} of the gradient"
        for row in wrong
    }
    return "".join(f' Do not use "{name}": it {amount}.' for name, amount in amounts.items())
