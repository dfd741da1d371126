"""Which solvers solve the problems of Moré, Garbow and Hillstrom, and which only say that they have.

Every problem is started from 1, 10 and 100 times its standard start, in float64. `jos.least_squares`
has its defaults, which are at most 1000 steps; the others are given tolerances of 1e-10 (Optimistix)
and 1e-12 (SciPy), and 1000 steps or evaluations. Where a solver ended is judged in 50 digits, by
nobody's tolerances:

| mark | verdict      | what it means                                                                 |
|------|--------------|-------------------------------------------------------------------------------|
| `=`  | `LOWEST`     | Σr² is the lowest known minimum to 6 digits; for a minimum of zero, at most   |
|      |              | 1e-12 of its value at the standard start                                      |
| `~`  | `LOCAL`      | Σr² is another published minimum to 6 digits (some are at infinity)           |
| `s`  | `STATIONARY` | none of those, but no column of the Jacobian has a cosine with the residuals  |
|      |              | of more than 1e-6: a minimum that nobody has published, or a saddle           |
| `x`  | `FAILED`     | anything else                                                                 |

The first two count as solved. A `!` is a false claim: a solver says that it converged where the verdict
is `FAILED`. A `?` is the reverse: it has solved the problem and does not say so. The number is that
of residual evaluations as the solver counts them.
"""

import argparse
import dataclasses
import enum
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jaxopt_study as jos
from jaxopt_study.bench import peers
from jaxopt_study.bench.extended_precision import extended, fifty_digits, jacobian
from jaxopt_study.bench.timer import machine
from jaxopt_study.problems.more_garbow_hillstrom import NONLINEAR_LEAST_SQUARES, OTHERS, start
from jaxopt_study.problems.problem import Problem

FACTORS = (1.0, 10.0, 100.0)
Solve = Callable[[Any], peers.Ended]


class Verdict(enum.Enum):
    """What an answer is worth, by its mark in the table."""

    LOWEST = "="
    LOCAL = "~"
    STATIONARY = "s"
    FAILED = "x"

    @property
    def solved(self) -> bool:
        """Whether a known minimum was found."""
        return self in (Verdict.LOWEST, Verdict.LOCAL)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One solver's run from one start.

    Attributes:
      ended: what the solver says.
      verdict: what is so.
      value: Σr² there, as the literature counts.
      cosine: the largest of a column of the Jacobian with the residuals there.
      curvature: the least eigenvalue of the Hessian of ½ Σr² there, scaled to have the diagonal of JᵀJ
        at 1: negative at a saddle, zero for what lies at infinity; None unless `STATIONARY`.
    """

    ended: peers.Ended
    verdict: Verdict
    value: float
    cosine: float
    curvature: float | None

    @property
    def false_claim(self) -> bool:
        """Whether it says that it converged and has not."""
        return self.ended.claims and self.verdict is Verdict.FAILED

    @property
    def cell(self) -> str:
        """The mark, the number of evaluations, and `!` or `?`."""
        wrong = "!" if self.false_claim else "?" if self.verdict.solved and not self.ended.claims else " "
        return f"{self.verdict.value}{self.ended.num_evals:>5}{wrong}"


class Judge:
    """The problem in 50 digits; what is common to its answers is computed once.

    Example:
      >>> from jaxopt_study.problems.more_garbow_hillstrom.small_systems import freudenstein_roth
      >>> judge = Judge(freudenstein_roth())
      >>> for params in ([5.0, 4.0], [11.412779, -0.89680525], [11.4, -0.9]):
      ...     print(judge(params)[0].name)
      LOWEST
      LOCAL
      FAILED
    """

    def __init__(self, problem: Problem) -> None:
        objective: Any = problem.objective
        residual = extended(objective.residual, problem.init, *problem.data)
        self.residual = lambda x: residual(x, *problem.data)
        with fifty_digits():
            self.at_start = _square(self.residual(problem.init))
        self.minima = sorted(2 * minimum for minimum in problem.minima)

    def __call__(self, params: Any) -> tuple[Verdict, float, float, float | None]:
        """The verdict on an answer; and Σr², cosine and curvature, as in `Outcome`."""
        nan = float("nan")
        if not np.all(np.isfinite(params)):
            return Verdict.FAILED, nan, nan, None
        with fifty_digits():
            residual = self.residual(params)
            value = _square(residual)
            cosine = _largest_cosine(jacobian(self.residual, params), residual)
            verdict = Verdict.STATIONARY if cosine <= 1e-6 else Verdict.FAILED
            for minimum in reversed(self.minima):
                allowed = 1e-12 * self.at_start if minimum == 0 else 1e-6 * minimum
                if abs(value - minimum) <= allowed:
                    verdict = Verdict.LOWEST if minimum == self.minima[0] else Verdict.LOCAL
            curvature = self._least_curvature(params) if verdict is Verdict.STATIONARY else None
            return verdict, float(value), float(cosine), curvature

    def _least_curvature(self, params: Any) -> float:
        gradient = lambda x: self.residual(x) @ jacobian(self.residual, x)  # noqa: E731
        columns = jacobian(self.residual, params)
        squares = np.sum(columns**2, axis=0)
        scale = np.array([square**0.5 if square > 0 else 1 for square in squares], dtype=object)
        hessian = jacobian(gradient, params) / np.outer(scale, scale)
        return float(np.linalg.eigvalsh(hessian.astype(float))[0])


def _square(residual: np.ndarray) -> Any:
    return np.dot(residual, residual)


def _largest_cosine(jacobian: np.ndarray, residual: np.ndarray) -> Any:
    """Zero columns, and residuals that are zero, are orthogonal to everything."""
    products, squares = residual @ jacobian, np.sum(jacobian**2, axis=0) * _square(residual)
    return max(abs(p) / s**0.5 if s > 0 else s for p, s in zip(products, squares, strict=True))


def jaxopt_study_to_the_end(objective: Any, args: tuple) -> Solve:
    """`jos.least_squares` with its defaults."""

    def run(params: Any) -> peers.Ended:
        result = jos.least_squares(objective, params, args)
        claims, reason = bool(result.converged), jos.Status(int(result.status)).name
        return peers.Ended(
            result.params, int(result.num_evals), claims, f"{reason}, {result.num_steps} steps"
        )

    return run


def solvers(problem: Problem) -> dict[str, Solve]:
    """A function of the start for each solver that is installed."""
    objective: Any = problem.objective
    found = {"jaxopt_study": jaxopt_study_to_the_end(objective, problem.data)}
    if peers.installed("optimistix"):
        found["optimistix LM"] = peers.optimistix_to_the_end(objective.residual, problem.data)
    if peers.installed("scipy"):
        for method in ("lm", "trf"):
            found[f"scipy {method}"] = peers.scipy_to_the_end(objective.residual, problem.data, method)
    return found


def run_problem(problem: Problem, factors: Sequence[float] = FACTORS) -> dict[str, list[Outcome]]:
    """Run every solver from every start, and judge.

    Args:
      problem: one of the collection.
      factors: of the standard start.

    Returns:
      For every solver, an `Outcome` a factor.
    """
    judge = Judge(problem)
    outcomes: dict[str, list[Outcome]] = {}
    for name, solve in solvers(problem).items():
        outcomes[name] = []
        for factor in factors:
            ended = solve(start(problem, factor))
            outcomes[name].append(Outcome(ended, *judge(np.asarray(ended.params))))
    return outcomes


def report(results: dict[str, dict[str, list[Outcome]]], factors: Sequence[float] = FACTORS) -> None:
    """Print the table, the totals, and one line on every answer that failed or was misreported."""
    _print_table(results, factors)
    _print_totals(results, factors)
    for name in next(iter(results.values())):
        for problem, outcomes in results.items():
            for factor, outcome in zip(factors, outcomes[name], strict=True):
                if not (outcome.verdict.solved and outcome.ended.claims):
                    print(f"{name}: {problem} x{factor:g}: {_in_words(outcome)}")


def _print_table(results: dict[str, dict[str, list[Outcome]]], factors: Sequence[float]) -> None:
    names = list(next(iter(results.values())))
    width = max(8 * len(factors), 16)
    print(" " * 27 + "".join(f"{name:<{width}}" for name in names))
    starts = "".join(f"{f'x{factor:g}':<8}" for factor in factors)
    print(" " * 27 + f"{starts:<{width}}" * len(names))
    for problem, outcomes in results.items():
        cells = ("".join(f"{outcome.cell:<8}" for outcome in outcomes[name]) for name in names)
        print(f"{problem:<27}" + "".join(f"{cell:<{width}}" for cell in cells))


def _print_totals(results: dict[str, dict[str, list[Outcome]]], factors: Sequence[float]) -> None:
    names = list(next(iter(results.values())))
    # Elsewhere giving up soon would be cheap.
    common = [
        (problem, k)
        for problem, outcomes in results.items()
        for k in range(len(factors))
        if all(outcomes[name][k].verdict.solved for name in names)
    ]
    heads = ["all", "stationary", "failed", "false claims", "unclaimed", "evaluations"]
    starts = "".join(f"{f'x{factor:g}':>6}" for factor in factors)
    print(f"\n{'solved from':<16}{starts}" + "".join(f"{head:>14}" for head in heads))
    for name in names:
        solved = [sum(runs[name][k].verdict.solved for runs in results.values()) for k in range(len(factors))]
        every = [outcome for runs in results.values() for outcome in runs[name]]
        verdicts = Counter(outcome.verdict for outcome in every)
        numbers = [
            sum(solved),
            verdicts[Verdict.STATIONARY],
            verdicts[Verdict.FAILED],
            sum(outcome.false_claim for outcome in every),
            sum(outcome.verdict.solved and not outcome.ended.claims for outcome in every),
            sum(results[problem][name][k].ended.num_evals for problem, k in common),
        ]
        print(f"{name:<16}" + "".join(f"{n:>6}" for n in solved) + "".join(f"{n:>14}" for n in numbers))
    print(f"(evaluations: over the {len(common)} starts that every solver solves)\n")


def _in_words(outcome: Outcome) -> str:
    claim = "FALSE CLAIM, " if outcome.false_claim else ""
    curved = f", curvature {outcome.curvature:.0e}" if outcome.curvature is not None else ""
    numbers = f"sum of squares {outcome.value:.9g}, cosine {outcome.cosine:.1e}{curved}"
    return f"{claim}{outcome.verdict.name}, {numbers}; says {outcome.ended.reason}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--others", action="store_true", help="the paper's other 17 problems instead")
    parser.add_argument("--check", action="store_true", help="fail if jaxopt_study claims what is not so")
    parser.add_argument("--only", nargs="+", metavar="PROBLEM", help="these problems of the collection")
    options = parser.parse_args()
    chosen = OTHERS if options.others else NONLINEAR_LEAST_SQUARES
    if options.only:
        every = {**NONLINEAR_LEAST_SQUARES, **OTHERS}
        unknown = [name for name in options.only if name not in every]
        if unknown:
            parser.error(f"unknown problems {unknown}; there are {', '.join(every)}")
        chosen = {name: every[name] for name in options.only}
    with jax.enable_x64(True):
        began = time.perf_counter()
        results = {name: run_problem(make()) for name, make in chosen.items()}
        versions = (f"{name} {peers.installed(name)}" for name in ("optimistix", "scipy", "mpmath"))
        print(f"{machine()}, {', '.join(versions)}; float64; {time.perf_counter() - began:.0f} s\n")
        report(results)
    ours = [outcome for outcomes in results.values() for outcome in outcomes["jaxopt_study"]]
    if options.check and any(outcome.false_claim for outcome in ours):
        sys.exit("jaxopt_study claims convergence where there is none")


if __name__ == "__main__":
    main()
