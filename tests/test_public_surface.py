"""What `import jaxopt_study` brings, what it costs, and that all of it is documented."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxopt_study as jos

HEAVY = [
    "beartype",
    "chex",
    "diffrax",
    "matplotlib",
    "msgspec",
    "pyarrow",
    "rich",
    "scipy",
    "sklearn",
    "tyro",
]
SCRIPT = """
import json, sys
import jax, optax
before = set(sys.modules)
import jaxopt_study
from jax._src import xla_bridge
print(json.dumps({
    "heavy": sorted(set(%s) & (set(sys.modules) - before)),
    "backends": xla_bridge.backends_are_initialized(),
    "x64": jax.config.jax_enable_x64,
}))
"""


@pytest.mark.slow
def test_importing_starts_no_backend_changes_no_setting_and_loads_nothing_heavy():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT % HEAVY],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(jos.__file__).parent.parent,
    )
    assert json.loads(run.stdout) == {"heavy": [], "backends": False, "x64": False}


def test_all_names_are_there_and_sorted():
    assert sorted(jos.__all__) == list(jos.__all__)
    assert all(hasattr(jos, name) for name in jos.__all__)


@pytest.mark.parametrize("name", [name for name in jos.__all__ if not name.startswith("__")])
def test_every_public_name_is_documented_and_every_function_by_an_example(name):
    thing = getattr(jos, name)
    assert thing.__doc__
    if inspect.isclass(thing):
        return
    doc = inspect.getdoc(thing)
    assert ">>>" in doc, f"{name} has no example"
    if "same arguments" not in doc:
        assert "Args:" in doc, f"{name} does not say what its arguments are"


def modules():
    return [module.name for module in pkgutil.walk_packages(jos.__path__, "jaxopt_study.")]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith(("__main__", ".conftest"))])
def test_every_module_says_at_its_top_what_it_is_for(name):
    assert (importlib.import_module(name).__doc__ or "").strip()
