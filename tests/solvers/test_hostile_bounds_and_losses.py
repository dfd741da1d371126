"""Residuals that misbehave, within bounds and under robust losses: every claim is checked in NumPy.

What `test_hostile` asks of free least squares is asked here of every combination; formulas and
derivatives are written twice, for JAX and by hand for the oracle.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_study as jos
from jaxopt_study.result import Status

pytestmark = pytest.mark.slow  # every example is traced and compiled anew

X = np.linspace(-1.0, 1.0, 6)
STEEP = 20.0


class Kind(NamedTuple):
    """Residuals of (p, x, level) with the functions of `np`, and their Jacobian in NumPy."""

    residual: object
    jacobian: object


def line(np, p, x):
    return p[0] * x + p[1] * x**2 + p[2] - np.sin(3 * x)


def line_jacobian(p, x, level):
    return np.stack([x, x**2, np.ones_like(x)], 1)


def columns(*of_x):
    return lambda p, x, level: np.stack([column(x) for column in of_x], 1)


ZERO, ONE = np.zeros_like, np.ones_like
KINDS = {
    "plain": Kind(lambda np, p, x, level: line(np, p, x), line_jacobian),
    "nan region": Kind(lambda np, p, x, level: np.where(p[0] > level, np.nan, line(np, p, x)), line_jacobian),
    "inf region": Kind(lambda np, p, x, level: np.where(p[1] > level, np.inf, line(np, p, x)), line_jacobian),
    "constant": Kind(lambda np, p, x, level: np.full_like(x, 1.0) * level, columns(ZERO, ZERO, ZERO)),
    "zero column": Kind(
        lambda np, p, x, level: p[0] * x + p[2] - np.sin(3 * x), columns(lambda x: x, ZERO, ONE)
    ),
    "duplicate": Kind(
        lambda np, p, x, level: (p[0] + p[1]) * x + p[2] - np.sin(3 * x),
        columns(lambda x: x, lambda x: x, ONE),
    ),
    "kink": Kind(
        lambda np, p, x, level: np.abs(line(np, p, x)) + level * np.abs(p[0]),
        lambda p, x, level: (
            np.sign(line(np, p, x))[:, None] * line_jacobian(p, x, level)
            + level * np.sign(p[0]) * np.array([1.0, 0.0, 0.0])
        ),
    ),
    "huge": Kind(
        lambda np, p, x, level: 1e100 * line(np, p, x),
        lambda p, x, level: 1e100 * line_jacobian(p, x, level),
    ),
    "square overflows": Kind(
        lambda np, p, x, level: 1e200 * line(np, p, x),
        lambda p, x, level: 1e200 * line_jacobian(p, x, level),
    ),
    "exponential overflows": Kind(
        lambda np, p, x, level: np.exp(STEEP * p[0] * x) + p[1] * x - p[2],
        lambda p, x, level: np.stack([STEEP * x * np.exp(STEEP * p[0] * x), x, -np.ones_like(x)], 1),
    ),
    "flat": Kind(
        lambda np, p, x, level: np.exp(-((p[0] - level) ** 2)) * np.ones_like(x),
        lambda p, x, level: (
            np.outer(ONE(x), [1, 0, 0]) * -2 * (p[0] - level) * np.exp(-((p[0] - level) ** 2))
        ),
    ),
    "one row": Kind(
        lambda np, p, x, level: np.where(x == x[0], line(np, p, x), 0.0),
        lambda p, x, level: np.where((x == x[0])[:, None], line_jacobian(p, x, level), 0.0),
    ),
    "an outlier": Kind(
        lambda np, p, x, level: line(np, p, x) + np.where(x == x[2], 1e160, 0.0), line_jacobian
    ),
}
NAMES = list(KINDS)


def residual_fn(params, x, kind, level):
    p = (params["a"], params["bc"][0], params["bc"][1])
    branches = [lambda k=k: k.residual(jnp, p, x, level) for k in KINDS.values()]
    return jax.lax.switch(kind, branches)


# ρ(z) and ρ'(z), by hand.
LOSSES = {
    "linear": (lambda z: z, np.ones_like),
    "huber": (
        lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
        lambda z: np.where(z <= 1, 1.0, 1 / np.sqrt(np.maximum(z, 1))),
    ),
    "soft_l1": (lambda z: 2 * z / (np.sqrt(1 + z) + 1), lambda z: 1 / np.sqrt(1 + z)),
    "cauchy": (np.log1p, lambda z: 1 / (1 + z)),
    "arctan": (np.arctan, lambda z: 1 / (1 + z * z)),
    "tukey": (
        lambda z: np.minimum(z, 1) - np.minimum(z, 1) ** 2 + np.minimum(z, 1) ** 3 / 3,
        lambda z: (1 - np.minimum(z, 1)) ** 2,
    ),
}


class Oracle:
    """The objective and its gradient within the box, in NumPy."""

    def __init__(self, kind, level, loss, scale, lower, upper):
        self.kind, self.level, self.scale = KINDS[kind], level, scale
        self.rho, self.slope = LOSSES[loss]
        self.loss = loss
        self.lower, self.upper = lower, upper

    def residual(self, p):
        return np.asarray(self.kind.residual(np, p, X, self.level))

    def value(self, p, margin=0.0):
        """With residuals larger by a margin, or smaller."""
        r = np.maximum(np.abs(self.residual(p)) + margin, 0.0)
        if self.loss == "linear":
            return 0.5 * np.sum(r * r)
        return 0.5 * self.scale**2 * np.sum(self.rho((r / self.scale) ** 2))

    def slopes(self, p):
        """The gradient where no bound holds, its cosines, and the step that each parameter would take."""
        r, jacobian = self.residual(p), self.kind.jacobian(p, X, self.level)
        weight = np.sqrt(self.slope((r / self.scale) ** 2))
        size = np.max(np.abs(jacobian)) or 1.0
        r, jacobian = weight * r, weight[:, None] * jacobian / size
        gradient = jacobian.T @ r
        held = ((p <= self.lower) & (gradient >= 0)) | ((p >= self.upper) & (gradient <= 0))
        gradient = np.where(held, 0.0, gradient)
        lengths = np.linalg.norm(jacobian, axis=0)
        safe = np.where(lengths > 0, lengths, 1.0)
        cosines = np.abs(gradient) / (safe * (np.linalg.norm(r) or 1.0))
        return cosines, -gradient / safe**2 / size

    def lowest_nearby(self, p):
        """The least value along the step of all parameters, and of each alone, projected."""
        _, step = self.slopes(p)
        directions = [step, *np.diag(step)]
        lengths = 10.0 ** -np.arange(9)
        points = [
            np.clip(p + t * d, self.lower, self.upper) for d, t in itertools.product(directions, lengths)
        ]
        values = [self.value(point) for point in points]
        return min([self.value(p), *[v for v in values if np.isfinite(v)]])


SOLVERS = {
    "lm": jos.levenberg_marquardt(),
    "dual": jos.levenberg_marquardt(solver="dual"),
    "cg": jos.levenberg_marquardt(solver="cg"),
    "geodesic": jos.levenberg_marquardt(geodesic=True),
    "dogleg": jos.dogleg(),
}
# Each loss compiles anew: every method has the linear one and another.
RUNS = [
    *itertools.product(SOLVERS, ["linear"]),
    *[("lm", "tukey"), ("dual", "arctan"), ("cg", "soft_l1"), ("geodesic", "cauchy"), ("dogleg", "huber")],
]
OBJECTIVES = {
    (loss, scale): jos.LeastSquares(residual_fn, loss=loss, loss_scale=scale)
    for loss in LOSSES
    for scale in (0.3, 30.0)
}

BOXES = {
    "free": lambda s: (-np.inf, np.inf),
    "tight": lambda s: (s - 0.05, s + 0.05),
    "wide": lambda s: (-50.0, 50.0),
    "from below": lambda s: (s, np.inf),
    "from above": lambda s: (-np.inf, s),
    "fixed": lambda s: (s, s),
}


def check(solver, loss, kind, level, scale, start, boxes):
    start = np.array(start)
    lower, upper = map(np.array, zip(*[BOXES[b](s) for b, s in zip(boxes, start, strict=True)], strict=True))
    tree = lambda v: {"a": jnp.asarray(v[0]), "bc": jnp.asarray(v[1:])}  # noqa: E731
    args = (jnp.asarray(X), jnp.int32(NAMES.index(kind)), jnp.asarray(level))
    result = jos.minimize(
        OBJECTIVES[loss, scale], tree(start), SOLVERS[solver], args, bounds=(tree(lower), tree(upper)),
        max_steps=80,
    )  # fmt: skip
    p = np.array([float(result.params["a"]), *np.asarray(result.params["bc"])])
    status = Status(int(result.status))
    with np.errstate(all="ignore"):
        oracle = Oracle(kind, level, loss, scale, lower, upper)
        first, last = oracle.value(start), oracle.value(p)
        best = oracle.lowest_nearby(p)
        cosines, _ = oracle.slopes(p)
        jacobian = oracle.kind.jacobian(p, X, level)
        # Of rounding errors in the terms that a residual is made of; an infinite one counts nothing.
        margin = 1e-14 * np.sum(np.abs(jacobian) * (np.abs(p) + 1), axis=1)
        margin = np.where(np.isfinite(margin), margin, 0.0)
        low, high = oracle.value(p, -margin), oracle.value(p, margin)
        # A step that is short by `xtol` may change a residual by this much: its square is as good as zero.
        tiny = 1e-20 * (np.sum((jacobian * p) ** 2, initial=1.0, where=np.isfinite(jacobian)))
    assert status not in (Status.RUNNING, Status.NON_FINITE)
    assert np.all(np.isfinite(p))
    assert np.all((lower <= p) & (p <= upper))
    assert (status == Status.NON_FINITE_START) == (not np.isfinite(first)), (status, first)
    if status == Status.NON_FINITE_START:
        np.testing.assert_array_equal(p, start)
        return status
    assert low * (1 - 1e-9) <= result.value <= high * (1 + 1e-9), (low, result.value, high)
    assert last <= first * (1 + 1e-14) + 1e-8 * tiny, (last, first)
    if result.converged:
        small = np.max(cosines) <= 1e-6
        assert small or last - best <= 1e-8 * last + tiny, (status.name, cosines, last, best)
    return status


@pytest.mark.parametrize(("solver", "loss"), RUNS)
@settings(max_examples=50)
@given(
    kind=st.sampled_from(NAMES),
    level=st.sampled_from([-1.0, -0.1, 0.3, 2.0]),
    scale=st.sampled_from([0.3, 30.0]),
    start=st.tuples(*[st.sampled_from([-3.0, -0.2, 0.0, 0.25, 1.0, 40.0])] * 3),
    boxes=st.tuples(*[st.sampled_from(list(BOXES))] * 3),
)
def test_nothing_is_claimed_that_is_not_so(solver, loss, kind, level, scale, start, boxes):
    with jax.enable_x64(True):
        check(solver, loss, kind, level, scale, start, boxes)


# Found by the test above: what each said was not so.
@pytest.mark.parametrize(
    ("solver", "loss", "kind", "level", "start", "boxes"),
    [
        ("lm", "linear", "inf region", -0.1, (-0.2, -0.2, 0.0), ("wide", "wide", "from below")),
        ("lm", "linear", "nan region", 0.3, (0.0, 1.0, -0.2), ("from below", "tight", "wide")),
        ("dogleg", "linear", "exponential overflows", 0.3, (-3.0, 0.25, 0.0), ("wide", "free", "from below")),
        ("cg", "linear", "flat", -1.0, (0.0, 0.25, -3.0), ("wide", "tight", "fixed")),
        ("cg", "linear", "exponential overflows", -0.1, (-3.0, 40.0, 1.0), ("fixed", "from above", "wide")),
        ("dual", "arctan", "square overflows", 2.0, (0.0, 1.0, 0.0), ("fixed", "free", "from above")),
        ("lm", "tukey", "inf region", -0.1, (-3.0, 0.25, 0.0), ("fixed", "wide", "tight")),
        ("lm", "tukey", "exponential overflows", -0.1, (40.0, -3.0, 40.0), ("tight", "wide", "from above")),
    ],
)
def test_claims_that_were_false_once(solver, loss, kind, level, start, boxes):
    """BUG if it fails: the edge of a region that is not finite, signs that cancel, or ∞ · 0."""
    check(solver, loss, kind, level, 0.3, start, boxes)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_residual_of_many_parameters_without_dimension_ends_on_its_bounds(solver):
    """m = 1 < n: what is free takes the residual to zero, and what is fixed stays."""
    objective = jos.LeastSquares(lambda p: p["a"] + 2 * p["b"] - p["c"] - 3.0, loss="huber")
    start = {"a": jnp.asarray(0.0), "b": jnp.asarray(0.5), "c": jnp.asarray(7.0)}
    bounds = ({"a": 0.0, "b": 0.5, "c": -jnp.inf}, {"a": 0.25, "b": 0.5, "c": jnp.inf})
    result = jos.minimize(objective, start, SOLVERS[solver], bounds=bounds)
    assert result.converged, result.message
    assert result.value < 1e-15
    assert result.params["b"] == 0.5
    assert 0 <= result.params["a"] <= 0.25
