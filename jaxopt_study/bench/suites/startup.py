"""What it costs to begin: the import, and the time to a first result.

Every time is that of a new process.
"""

import functools
import subprocess
import sys
from collections.abc import Callable

from jaxopt_study.bench.case import OURS, Case, Contestant, Planned

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


def seconds_of(statement: str) -> float:
    """Run a new Python; what it printed, as a number, or 0."""
    done = subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True, text=True)
    return float(done.stdout or 0.0)


def _case(statements: dict[str, str], words: str, unit: str, wanted: Callable[[str], bool]) -> Case:
    del wanted
    for statement in statements.values():
        seconds_of(statement)  # writes the bytecode
    contestants = {
        name: Contestant(functools.partial(seconds_of, statement), float, words)
        for name, statement in statements.items()
    }
    return Case(unit, contestants, most_error=1e-6, rounds=7, cold=True)


def cases() -> tuple[Planned, ...]:
    """The comparisons of this module."""
    return (
        Planned("import", functools.partial(_case, IMPORTS, "a new process", "start"), "float32"),
        Planned(
            "to a first result",
            functools.partial(_case, FIRST, "a new process; 1000 Adam steps; error: the value", "start"),
            "float32",
        ),
    )
