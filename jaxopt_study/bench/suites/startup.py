"""What it costs to begin: the import, the time to a first result, and a study's second run.

Every time is that of a new process. A study that was run before finds its compiled programs on the disk: the
seconds of XLA's compiler are told, and those from the start of the process to the first step.
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxopt_study.bench.case import OURS, Case, Contestant, Planned
from jaxopt_study.bench.new_process import environment

IMPORTS = {"jax and optax alone": "import jax, optax", OURS: "import jax, optax, jaxopt_study"}
BOWL = "import jax.numpy as jnp; f = lambda p: jnp.sum((p - 1.0) ** 2); p = jnp.zeros(10)"
FIRST = {
    OURS: f"{BOWL}; import jaxopt_study as jos; r = jos.minimize(f, p, jos.adam(0.1)); print(float(r.value))",
    "optax, a loop by hand": (
        f"{BOWL}; import jax, optax; o = optax.adam(0.1)\n"
        "def body(c, _):\n"
        "    v, g = jax.value_and_grad(f)(c[0]); u, s = o.update(g, c[1])\n"
        "    return (optax.apply_updates(c[0], u), s), v\n"
        "c, _ = jax.jit(lambda p: jax.lax.scan(body, (p, o.init(p)), None, length=1000))(p)\n"
        "print(float(f(c[0])))"
    ),
}


def seconds_of(statement: str, bytecode: str) -> float:
    """Run a new Python that keeps its bytecode in a folder; what it printed, as a number, or 0."""
    done = subprocess.run(
        [sys.executable, "-c", statement],
        check=True,
        capture_output=True,
        text=True,
        env=environment(bytecode),
    )
    return float(done.stdout or 0.0)


def _case(statements: dict[str, str], words: str, unit: str, wanted: Callable[[str], bool]) -> Case:
    del wanted
    folder = tempfile.TemporaryDirectory()
    for statement in statements.values():
        seconds_of(statement, folder.name)  # writes the bytecode, as an installed package has it
    contestants = {
        name: Contestant(functools.partial(seconds_of, statement, folder.name), float, words)
        for name, statement in statements.items()
    }
    return Case(unit, contestants, most_error=1e-6, rounds=7, cold=True, keep=folder)


STUDY = '''
"""Rosenbrock's function, by Levenberg-Marquardt."""

from typing import Literal

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.problems import rosenbrock


@study.config
class Config:
    damping: float = 1e-3
    seed: int = 0
    max_steps: int = study.static(100)
    dtype: Literal["float32", "float64"] = study.static("float64")


def init(config, key):
    problem = rosenbrock.least_squares()
    optimizer = jos.levenberg_marquardt(config.damping)
    return jos.start(problem.objective, problem.init, optimizer, problem.data, max_steps=config.max_steps)


def advance(config, carry, n):
    return jos.advance(carry, n)


def outcome(config, carry):
    result = jos.finish(carry)
    return study.Outcome(result.status, result.num_steps, result.value)
'''


def _run_study(folder: Path, cache: Path | None) -> dict[str, Any]:
    """Run it in a new process; with a fresh cache if none is given. What its record says."""
    with tempfile.TemporaryDirectory() as empty:
        kept = environment(folder / "bytecode", cache or empty)
        command = [sys.executable, "-m", "jaxopt_study.cli", "run", "study.toml", "--quiet", "--no-plots"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=kept)
    return json.loads((folder / done.stdout.strip() / "result.json").read_text())


def _study_case(what: str, wanted: Callable[[str], bool]) -> Case:
    del wanted
    folder = tempfile.TemporaryDirectory()
    home = Path(folder.name)
    (home / "study.py").write_text(STUDY)
    (home / "study.toml").write_text('study = "study.py"\n')
    _run_study(home, home / "cache")

    def contestant(cache: Path | None, words: str) -> Contestant:
        return Contestant(functools.partial(_run_study, home, cache), _value_of, words)

    contestants = {
        OURS: contestant(home / "cache", "the second run and all that follow"),
        "with an empty cache": contestant(None, "the first run"),
    }
    clock = lambda told: float(told["start"][what])  # noqa: E731
    return Case("run", contestants, most_error=1e-6, rounds=1, cold=True, clock=clock, keep=folder)


def _value_of(told: dict[str, Any]) -> float:
    (variant,) = told["variants"].values()
    return float(variant["value"])


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned("import", functools.partial(_case, IMPORTS, "a new process", "start"), "float32"),
        Planned(
            "to a first result",
            functools.partial(_case, FIRST, "a new process; 1000 Adam steps; error: the value", "start"),
            "float32",
        ),
        Planned(
            "a study, XLA's compiler",
            functools.partial(_study_case, "backend_compile_seconds"),
            claim={"with an empty cache": 5.0},
        ),
        Planned("a study, from start to first step", functools.partial(_study_case, "seconds")),
    )
