"""Minimizers of scalar objectives: which problems they solve, and for how many evaluations.

Two collections, both as scalars, in float64. `mgh`: the 35 problems of Moré, Garbow and Hillstrom from 1, 10
and 100 times their standard start, judged in 50 digits as in `robustness`. `cutest`: the 57 in the manner of
CUTEst from their usual start; solved is what ends within 1e-6 of `f₀ - f*` of the lowest value that anyone
found, or is known to exist.

Every minimizer has its own stopping tests: `jos.newton` its defaults, the others tolerances of 1e-10. Values,
gradients and Hessian-vector products are counted apart, and a Hessian is n products. Peers that are not
installed are left out.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.suites.robustness import FACTORS, Judge, Verdict
from jaxopt_study.bench.timer import machine
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS, start
from jaxopt_study.problems.problem import Problem
from jaxopt_study.problems.unconstrained import ANY_DIMENSION, SMALL

SOLVED = 1e-6  # of the distance from the start's value to the lowest
MAX_STEPS = 5000  # of ours, as of the others
MGH = {**NONLINEAR_LEAST_SQUARES, **OTHERS}
CUTEST = {**SMALL, **ANY_DIMENSION}


@dataclasses.dataclass(frozen=True)
class Run:
    """One minimizer's run from one start.

    Attributes:
      ended: what it says, and what it took.
      value: the objective where it ended.
      solved: whether that is good enough.
      stationary: whether it is at least a point without a slope, known to no one, or at infinity.
    """

    ended: peers.Minimized
    value: float
    solved: bool
    stationary: bool = False

    @property
    def false_claim(self) -> bool:
        """Whether it says that it converged and has not."""
        return self.ended.claims and not self.solved and not self.stationary


def newton_to_the_end(objective: Any, args: tuple, **options: Any) -> peers.Minimize:
    """`jos.minimize` with `jos.newton` and its defaults."""
    optimizer = jos.newton(**options)

    def run(params: Any) -> peers.Minimized:
        result = jos.minimize(objective, params, optimizer, args, max_steps=MAX_STEPS)
        counted = jax.device_get(result.opt_state.evaluations)
        reason = f"{jos.Status(int(result.status)).name}, {int(result.num_steps)} steps"
        # `minimize` evaluates the start besides.
        return peers.Minimized(
            np.asarray(result.params),
            int(counted.values) + 1,
            int(counted.gradients),
            int(counted.products),
            bool(result.converged),
            reason,
        )

    return run


NAMES = ("newton", "newton exact", "newton cg", "optimistix BFGS", "optax lbfgs", "scipy trust-exact")


def minimizers(problem: Problem, only: Sequence[str] | None = None) -> dict[str, peers.Minimize]:
    """A function of the start for each minimizer that is installed."""
    objective: Any = problem.objective
    make: dict[str, tuple[str | None, Callable[[], peers.Minimize]]] = {
        "newton": (None, lambda: newton_to_the_end(objective, problem.data)),
        "newton exact": (None, lambda: newton_to_the_end(objective, problem.data, solver="exact")),
        "newton cg": (None, lambda: newton_to_the_end(objective, problem.data, solver="cg")),
        "optimistix BFGS": ("optimistix", lambda: peers.optimistix_bfgs(objective, problem.data)),
        "optax lbfgs": ("optax", lambda: peers.optax_lbfgs(objective, problem.data)),
        "scipy trust-exact": ("scipy", lambda: peers.scipy_minimize(objective, problem.data)),
    }
    wanted = make if only is None else {name: make[name] for name in only}
    return {
        name: build() for name, (package, build) in wanted.items() if not package or peers.installed(package)
    }


def run_mgh(
    name: str, only: Sequence[str] | None = None, factors: Sequence[float] = FACTORS
) -> dict[str, list[Run]]:
    """Every minimizer on a problem of the 35, from every start, judged in 50 digits."""
    problem = MGH[name]()
    judge = Judge(problem)
    runs: dict[str, list[Run]] = {}
    for solver, minimize in minimizers(problem, only).items():
        runs[solver] = []
        for factor in factors:
            ended = minimize(start(problem, factor))
            verdict, square, _, _ = judge(np.asarray(ended.params))
            runs[solver].append(Run(ended, 0.5 * square, verdict.solved, verdict is Verdict.STATIONARY))
    return runs


def run_cutest(name: str, only: Sequence[str] | None = None) -> dict[str, list[Run]]:
    """Every minimizer on a problem in the manner of CUTEst."""
    problem = CUTEST[name]()
    value = jax.jit(problem.objective)
    first = float(value(problem.init, *problem.data))
    ended = {solver: minimize(problem.init) for solver, minimize in minimizers(problem, only).items()}
    values = {solver: float(value(run.params, *problem.data)) for solver, run in ended.items()}
    lowest = min([v for v in values.values() if np.isfinite(v)] + list(problem.minima))
    enough = lowest + SOLVED * (first - lowest)
    return {solver: [Run(run, values[solver], values[solver] <= enough)] for solver, run in ended.items()}


def report(results: Mapping[str, dict[str, list[Run]]]) -> None:
    """Print a line a problem and the totals."""
    names = list(next(iter(results.values())))
    print(" " * 28 + "".join(f"{name:>20}" for name in names))
    for problem, runs in results.items():
        cells = []
        for name in names:
            cells.append(" ".join(_cell(run) for run in runs[name]))
        print(f"{problem:<28}" + "".join(f"{cell:>20}" for cell in cells))
    starts = len(next(iter(results.values()))[names[0]])
    print(
        f"\n{'':<20}{'solved':>18}{'values':>9}{'gradients':>11}{'products':>10}{'all':>8}{'all, if':>9}"
        f"{'false':>7}"
    )
    common = [
        (problem, k)
        for problem, runs in results.items()
        for k in range(starts)
        if all(runs[name][k].solved for name in names)
    ]
    for name in names:
        every = [run for runs in results.values() for run in runs[name]]
        solved = [sum(runs[name][k].solved for runs in results.values()) for k in range(starts)]
        both = [results[problem][name][k].ended for problem, k in common]
        counts = [
            [getattr(e, kind) for e in both] for kind in ("values", "gradients", "products", "evaluations")
        ]
        medians = [float(np.median(c)) if c else float("nan") for c in counts]
        unsolved_too = np.median([r.ended.evaluations if r.solved else np.inf for r in every])
        false = sum(run.false_claim for run in every)
        print(
            f"{name:<20}{'/'.join(map(str, solved)):>18}{medians[0]:>9.1f}{medians[1]:>11.1f}"
            f"{medians[2]:>10.1f}{medians[3]:>8.1f}{unsolved_too:>9.1f}{false:>7}"
        )
    print(
        f"(medians over the {len(common)} starts that every minimizer solves; 'all, if': over all starts, "
        "infinite where not solved; 'false': says that it converged where the gradient is not zero; of "
        "cutest, where another was lower)"
    )


def _cell(run: Run) -> str:
    wrong = "!" if run.false_claim else ""
    return f"{'' if run.solved else 'x'}{run.ended.evaluations}{wrong}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection", choices=("mgh", "cutest"))
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--solvers", nargs="+", metavar="NAME", choices=NAMES, help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    known = MGH if options.collection == "mgh" else CUTEST
    for name in options.problems or ():
        if name not in known:
            parser.error(f"no problem {name!r}; there are: {', '.join(known)}")
    with jax.enable_x64(True):
        began = time.perf_counter()
        run = run_mgh if options.collection == "mgh" else run_cutest
        results = {}
        for name in options.problems or known:
            results[name] = run(name, options.solvers)
            cells = (" ".join(map(_cell, runs)) for runs in results[name].values())
            print(f"{name:<28}" + "".join(f"{cell:>20}" for cell in cells), file=sys.stderr, flush=True)
            jax.clear_caches()
        versions = (f"{name} {peers.installed(name)}" for name in ("optax", "optimistix", "scipy"))
        print(f"{machine()}, {', '.join(versions)}; float64; {time.perf_counter() - began:.0f} s\n")
        report(results)


if __name__ == "__main__":
    main()
