"""Performance and data profiles of optimizers over test functions, by evaluations and by seconds.

Every variant is an optimizer, of this package, of optax, Optimistix or SciPy, run on every function of a
collection from its usual start. A function counts as solved, to a tolerance τ, at the first evaluation with
`f - f* <= τ (f₀ - f*)`, f* being the lowest value that any variant found. Values, gradients and
Hessian-vector products cost one each. A *performance profile* (Dolan and Moré 2002) is the share of functions
that an optimizer solves in at most so many times what the best of all takes; a *data profile* (Moré and Wild
2009) the share that it solves in so many evaluations per variable and one.
"""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import msgspec
import numpy as np
import optax

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.bench import peers
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS
from jaxopt_study.problems.unconstrained import ANY_DIMENSION, SMALL

MOMENTS = 160  # entries of a trace
UNSOLVED = np.inf

# Rates that do best over the collections, of 10^-4, 10^-3, 10^-2, 10^-1, 1.
OURS: dict[str, Callable[[float], Any]] = {
    "jos newton": lambda rate: jos.newton(),
    "jos newton exact": lambda rate: jos.newton(solver="exact"),
    "jos newton cg": lambda rate: jos.newton(solver="cg"),
    "jos newton saddle-free": lambda rate: jos.newton(saddle_free=True),
    "jos newton line search": lambda rate: jos.newton(
        linesearch=optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")
    ),
    "jos lbfgs": lambda rate: jos.lbfgs(),
    "jos gauss_newton": lambda rate: jos.gauss_newton(),
    "jos levenberg_marquardt": lambda rate: jos.levenberg_marquardt(),
    "jos dogleg": lambda rate: jos.dogleg(),
    "jos sgd": jos.sgd,
    "jos momentum": lambda rate: jos.sgd(rate, momentum=0.9),
    "jos adagrad": jos.adagrad,
    "jos rmsprop": jos.rmsprop,
    "jos adam": jos.adam,
    "optax lion": optax.lion,
    "optax adabelief": optax.adabelief,
    "optax yogi": optax.yogi,
}
FOR_SUMS = ("jos gauss_newton", "jos levenberg_marquardt", "jos dogleg")
SCIPY = ("BFGS", "L-BFGS-B", "CG", "Newton-CG", "trust-krylov", "trust-exact")
OPTIMISTIX = ("BFGS", "LBFGS", "NonlinearCG")


@study.config
class Config:
    """An optimizer, and what it is run on."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """Of the methods that have one."""
    tolerance: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-6
    """τ, of the pictures and the summary."""
    seed: int = 0
    """Not used: nothing here is random."""
    method: str = study.static("jos newton")
    """`jos NAME`, `optax NAME`, `optimistix NAME` or `scipy NAME`."""
    collection: Literal["mgh", "cutest"] = study.static("mgh")
    """The 35 sums of squares of Moré, Garbow and Hillstrom, or 57 functions in the manner of CUTEst."""
    problems: Annotated[int, msgspec.Meta(ge=0)] = study.static(0)
    """So many of them, from the first; 0 for all."""
    max_evaluations: Annotated[int, msgspec.Meta(ge=10)] = study.static(10_000)
    """After which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def functions(config: Config) -> dict[str, Any]:
    chosen = (
        {**NONLINEAR_LEAST_SQUARES, **OTHERS} if config.collection == "mgh" else {**SMALL, **ANY_DIMENSION}
    )
    names = list(chosen)[: config.problems or None]
    return {name: chosen[name]() for name in names}


@study.on_host
def run(config: Config, key: Any) -> study.Outcome:
    del key
    library, _, name = config.method.partition(" ")
    known = {"jos": OURS, "optax": OURS, "scipy": SCIPY, "optimistix": OPTIMISTIX}
    if (
        library not in known
        or (name if library in ("scipy", "optimistix") else config.method) not in known[library]
    ):
        every = [*OURS, *(f"scipy {m}" for m in SCIPY), *(f"optimistix {m}" for m in OPTIMISTIX)]
        raise study.StudyInputError(f"method: {config.method!r} is none of {', '.join(every)}")
    problems = functions(config)
    moments = _moments(config.max_evaluations)
    if library in ("scipy", "optimistix") and peers.installed(library) is None:
        status = np.full(len(problems), jos.Status.NON_FINITE_START)
        none = np.full((len(problems), MOMENTS), np.nan)
        return _outcome(problems, status, none, np.full(len(problems), np.nan), moments)
    rows, seconds, status = [], [], []
    for problem in problems.values():
        log, took = _measure(config, library, name, problem)
        place = np.searchsorted(log.evaluations, moments, side="right") - 1
        lowest = np.asarray(log.lowest or [np.nan])
        best = np.where(place >= 0, lowest[np.maximum(place, 0)], np.nan)
        rows.append(best)
        ended = min(log.evaluations[-1], config.max_evaluations) if log.evaluations else 0
        seconds.append(took / max(ended, 1))
        status.append(jos.Status.OUT_OF_STEPS)
        jax.clear_caches()
    return _outcome(problems, np.array(status), np.stack(rows), np.array(seconds), moments)


def _moments(most: int) -> np.ndarray:
    """MOMENTS whole numbers from 1, as evenly spread on a log scale as whole numbers can be."""
    numbers = [1]
    while len(numbers) < MOMENTS:
        left = MOMENTS - len(numbers)
        numbers.append(max(numbers[-1] + 1, round(numbers[-1] * (most / numbers[-1]) ** (1 / left))))
    return np.array(numbers, float)


def _outcome(problems: Any, status: Any, best: Any, seconds: Any, moments: Any) -> study.Outcome:
    sizes = np.array([problem.init.size for problem in problems.values()], float)
    first = np.array([float(p.objective(p.init, *p.data)) for p in problems.values()])
    finite = np.where(np.isfinite(best), best, np.inf)
    value = np.where(np.isfinite(finite.min(axis=1)), finite.min(axis=1), np.nan)
    lanes = np.broadcast_to(moments, best.shape)
    return study.Outcome(
        np.asarray(status, np.int32),
        np.zeros(len(problems), np.int32),
        value,
        values={"first": first, "variables": sizes, "seconds_per_evaluation": seconds},
        traces={"evaluations": np.array(lanes), "lowest": best},
    )


def _measure(config: Config, library: str, name: str, problem: Any) -> tuple[peers.Log, float]:
    """The log of a run, and the seconds of a warm one."""
    if library in ("scipy", "optimistix"):
        log = peers.scipy_log if library == "scipy" else peers.optimistix_log
        return log(problem.objective, problem.data, name, problem.init, config.max_evaluations)
    if config.method in FOR_SUMS and not isinstance(problem.objective, jos.LeastSquares):
        return peers.Log(), float("nan")
    optimizer = OURS[config.method](float(config.learning_rate))
    most = config.max_evaluations // 2  # a step takes a value and a gradient at least
    carry = jos.start(problem.objective, problem.init, optimizer, problem.data, max_steps=most, trace=True)
    end = jax.block_until_ready(jos.advance(carry, most))
    began = time.perf_counter()
    carry = jos.start(problem.objective, problem.init, optimizer, problem.data, max_steps=most, trace=True)
    jax.block_until_ready(jos.advance(carry, most))
    seconds = time.perf_counter() - began
    if hasattr(end.state.opt_state, "info") or _searches(end.state.opt_state):
        return _step_by_step(carry, problem.init.size, config.max_evaluations), seconds
    log = peers.Log()
    for value in np.asarray(end.state.trace.value)[: int(end.state.num_steps) + 1]:
        log.add(2, value)
    return log, seconds


def _step_by_step(carry: jos.Carry, size: int, most: int) -> peers.Log:
    """The log of an optimizer whose steps differ in what they evaluate."""
    log = peers.Log()
    log.add(1, float(carry.state.value))
    while int(carry.state.status) == jos.Status.RUNNING and log.evaluations[-1] < most:
        after = jos.advance(carry, 1)
        log.add(_cost(carry, after, size), float(after.state.value))
        carry = after
    return log


def _cost(before: jos.Carry, after: jos.Carry, size: int) -> int:
    """Evaluations of a step: values, gradients and products, a Jacobian being n products."""
    old, new = before.state.opt_state, after.state.opt_state
    counted = sum(_products(new)) - sum(_products(old))
    if _searches(new):
        # The line search hands over the last value and gradient that it saw.
        return counted + 2 * int(optax.tree_utils.tree_get(new, "info").num_linesearch_steps)
    if counted:
        return counted
    return int(after.state.num_evals - before.state.num_evals) + size


def _products(state: Any) -> list[int]:
    counts = jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, "products"))
    return [int(sum(node)) for node in counts if hasattr(node, "products")]


def _searches(state: Any) -> bool:
    info = optax.tree_utils.tree_get(state, "info", None)
    return hasattr(info, "num_linesearch_steps")


def costs(records: Mapping[str, study.Recorded]) -> dict[str, np.ndarray]:
    """Of every variant, the evaluations after which each function is solved; infinite where it is not."""
    some = next(iter(records.values()))
    first, tolerance = some.outcome.values["first"], some.config.tolerance
    lowest = np.nanmin([record.outcome.value for record in records.values()], axis=0)
    enough = lowest + tolerance * (first - lowest)
    found = {}
    for label, record in records.items():
        evaluations, values = record.outcome.traces["evaluations"], record.outcome.traces["lowest"]
        solved = values <= enough[:, None]  # False for NaN
        at = np.argmax(solved, axis=1)
        rows = np.arange(len(at))
        found[label] = np.where(solved[rows, at], evaluations[rows, at], UNSOLVED)
    return found


def seconds(records: Mapping[str, study.Recorded]) -> dict[str, np.ndarray]:
    """The same in seconds of a warm run, each evaluation taking its share."""
    return {
        label: cost * records[label].outcome.values["seconds_per_evaluation"]
        for label, cost in costs(records).items()
    }


def summary(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    """The table: solved, and the medians of evaluations and of milliseconds over all functions."""
    said: dict[str, Any] = {}
    taken, times = costs(records), seconds(records)
    for label in records:
        said[f"{label}: solved"] = int(np.isfinite(taken[label]).sum())
        said[f"{label}: median evaluations"] = float(np.median(taken[label]))
        said[f"{label}: median milliseconds"] = float(1e3 * np.median(times[label]))
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    sizes = next(iter(records.values())).outcome.values["variables"]
    per_variable = {label: cost / (sizes + 1) for label, cost in costs(records).items()}
    return {
        "performance_by_evaluations": draw(
            relative(costs(records)),
            "evaluations, as multiples of the best optimizer's",
            "Performance profile",
        ),
        "performance_by_seconds": draw(
            relative(seconds(records)),
            "seconds, as multiples of the fastest optimizer's",
            "Performance profile",
        ),
        "data_by_evaluations": draw(per_variable, "evaluations / (variables + 1)", "Data profile"),
    }


def relative(taken: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Multiples of what the best takes, function by function."""
    best = np.min(list(taken.values()), axis=0)
    usable = np.isfinite(best) & (best > 0)
    return {
        label: np.where(usable, cost / np.where(usable, best, 1.0), UNSOLVED) for label, cost in taken.items()
    }


def draw(taken: dict[str, np.ndarray], label: str, title: str) -> Any:
    """A curve an optimizer: the share of functions solved at so much or less."""
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(10, 5.6), layout="constrained")
    finite = np.concatenate([cost[np.isfinite(cost)] for cost in taken.values()])
    low, high = (finite.min(), finite.max() * 1.5) if finite.size else (1.0, 10.0)
    order = sorted(taken, key=lambda name: -_area(taken[name], low, high))
    colors = plt.get_cmap("tab10").colors
    for rank, name in enumerate(order):
        cost = np.sort(taken[name][np.isfinite(taken[name])])
        x = np.concatenate([[low], cost, [high]])
        y = np.concatenate([[0], np.arange(1, len(cost) + 1), [len(cost)]]) / len(taken[name])
        ours = name.startswith("jos")
        ax.step(
            x,
            y,
            where="post",
            color=colors[rank % 10],
            lw=2.4 if ours else 1.3,
            ls=("-", "--", ":")[rank // 10 % 3],
            label=f"{name} ({len(cost)})",
        )
    ax.set(xscale="log", xlim=(low, high), ylim=(0, 1.02), xlabel=label, ylabel="share of functions solved")
    ax.set_title(f"{title}, {len(next(iter(taken.values())))} functions")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right center", title="best first (solved)", fontsize=8)
    return figure


def _area(cost: np.ndarray, low: float, high: float) -> float:
    """Under the curve, on the log scale."""
    return float(np.sum(np.log(high / np.clip(cost[np.isfinite(cost)], low, high))))
