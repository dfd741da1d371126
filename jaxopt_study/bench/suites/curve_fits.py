"""One curve with its standard errors, as people fit it at a prompt: a decay of three parameters, 100 points.

Against `scipy.optimize.curve_fit` with the derivative by hand, and lmfit's `Model`, which takes it by
differences. The error is the largest of parameters and standard errors, relative to SciPy's with tolerances
of 1e-15.

`the first call`: the same decay by `least_squares`, as anybody calls it first: traced, compiled and run,
against Optimistix. `compiling`: what JAX says of these seconds that tracing, lowering and XLA took; and the
same of ours inside of a user's own `jit`, where a program is made for speed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.study.compile_cache import COMPILED

TRUTH = {"a": 2.5, "k": 1.3, "c": 0.5}
START = {"a": 1.0, "k": 1.0, "c": 0.0}
ENOUGH = 1e-4
PROMPT, JITTED = "at a prompt", "jitted"
COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    COMPILED,
)


def decay(x: np.ndarray, a: float, k: float, c: float) -> np.ndarray:
    """The model in NumPy, as SciPy and lmfit take it."""
    return a * np.exp(-k * x) + c


def _columns(x: np.ndarray, a: float, k: float, c: float) -> np.ndarray:
    del c
    fall = np.exp(-k * x)
    return np.stack([fall, -a * x * fall, np.ones_like(x)], axis=1)


def _model(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return params["a"] * jnp.exp(-params["k"] * x) + params["c"]


def _case(wanted: Callable[[str], bool]) -> Case:
    x = np.linspace(0.0, 4.0, 100)
    y = decay(x, **TRUTH) + 0.02 * np.random.default_rng(0).standard_normal(x.size)
    inputs = (jnp.asarray(x), jnp.asarray(y), {name: np.asarray(value) for name, value in START.items()})
    by_scipy = peers.scipy_curve_fit(decay, _columns, x, y, tuple(START.values()))
    reference = np.concatenate(by_scipy(ftol=1e-15, xtol=1e-15, gtol=1e-15))

    def error(found: Any) -> float:
        both = [[part[name] for name in START] if isinstance(part, dict) else part for part in found]
        return float(np.max(np.abs(np.concatenate(both) / reference - 1.0)))

    def ours(x: jax.Array, y: jax.Array, start: dict[str, Any]) -> Any:
        fit = jos.curve_fit(_model, x, y, start)
        return fit.params, fit.stderr

    jitted = jax.jit(ours)
    contestants = {
        OURS: Contestant(lambda: ours(*inputs), error, "called as it is; defaults"),
        f"{OURS}, jitted": Contestant(lambda: jitted(*inputs), error, "inside jit; defaults"),
        "scipy curve_fit": Contestant(by_scipy, error, "the derivative by hand; defaults"),
    }
    if wanted("lmfit"):
        by_lmfit = peers.lmfit_model(decay, x, y, START)
        contestants["lmfit Model"] = Contestant(by_lmfit, error, "its defaults")
    return Case("fit", contestants, most_error=ENOUGH)


def _first_call(ways: tuple[str, ...], compiling: bool, wanted: Callable[[str], bool]) -> Case:
    x = jnp.linspace(0.0, 4.0, 100)
    y = _model({name: jnp.asarray(value) for name, value in TRUTH.items()}, x)
    start = {name: jnp.asarray(value) for name, value in START.items()}

    def residual(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        return _model(params, x) - y

    def anew(make: Callable[[], Callable[[Any], Any]]) -> Callable[[], tuple[Any, float]]:
        def work() -> tuple[Any, float]:
            jax.clear_caches()
            before = _compiler().seconds
            found = jax.block_until_ready(make()(start))
            return found, _compiler().seconds - before

        return work

    def error(found: tuple[dict[str, jax.Array], float]) -> float:
        return max(abs(float(found[0][name]) / value - 1.0) for name, value in TRUTH.items())

    def ours(start: Any) -> Any:
        return jos.least_squares(residual, start, (x, y)).params

    made = {
        PROMPT: Contestant(anew(lambda: ours), error, "called as it is; defaults"),
        JITTED: Contestant(anew(lambda: jax.jit(ours)), error, "inside jit; defaults"),
    }
    first, *others = ways
    contestants = {OURS: made[first], **{f"{OURS}, {way}": made[way] for way in others}}
    if wanted("optimistix"):
        theirs = lambda: peers.optimistix_jitted(residual, (x, y))(1e-8)  # noqa: E731
        contestants["optimistix"] = Contestant(anew(theirs), error, "jitted; tolerance 1e-8")
    clock = (lambda found: found[1]) if compiling else None
    return Case("first call", contestants, most_error=ENOUGH, rounds=4, cold=True, clock=clock)


class _Compiler:
    """The seconds that JAX spent on compiling so far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event in COMPILING:
            self.seconds += duration_secs


_compiler = functools.cache(_Compiler)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned("a curve and its errors, 100 points", _case),
        Planned("a fit, the first call", functools.partial(_first_call, (PROMPT, JITTED), False)),
        Planned(
            "a fit, compiling",
            functools.partial(_first_call, (PROMPT,), True),
            claim={"optimistix": 1.0},
        ),
        Planned(
            "a fit inside jit, compiling",
            functools.partial(_first_call, (JITTED,), True),
            claim={"optimistix": 1.0},
        ),
    )
