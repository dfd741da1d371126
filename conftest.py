"""What holds for tests and for the examples in docstrings: compiled programs are kept, names are there.

Nearly all the time of a run goes into compiling. Programs that are the same are compiled once, for both
workers, for the next run (of 90 tests a second one took a quarter of the time) and for other clones. The
folder is the user's cache, `~/.cache/jaxopt_study`, and may be deleted at any time.
"""

import os
import runpy
from pathlib import Path

_caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
# Run by its path: tests/conftest.py has to come before the package is imported.
_name = runpy.run_path(str(Path(__file__).parent / "jaxopt_study/study/processor.py"))["processor_name"]()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_caches / "jaxopt_study" / "tests" / _name))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# As in pyproject.toml, for the processes that tests start: whether an entry was written in full is luck.
_half_written = "ignore:Error reading persistent compilation cache entry"
os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _half_written]))

# Workers fill the cores: a BLAS with threads of its own only makes them wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_threads, "1")

import jax
import jax.numpy as jnp
import optax
import pytest

# Files whose examples take some ten seconds to compile: what they show is tested under tests/ too.
SLOW_PAGES = {"README.md", "fitting.md", "fitting_odes.md", "odes.md", "roots.md"}
SLOW_MODULES = {"dogleg.py", "find_roots.py", "levenberg_marquardt.py", "newton.py"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW_PAGES | SLOW_MODULES:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of `-n`: the tests of a file stay together, because they share programs and results."""
    if config.option.dist != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True, scope="module")
def _few_programs_at_once():
    """Every program holds maps of memory, of which Linux allows a process 65,530; beyond, XLA crashes."""
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


X64 = jax.config.jax_enable_x64


def pytest_collection_finish():
    """Every file under tests/ is imported to look for examples; none may change all others' precision."""
    if jax.config.jax_enable_x64 != X64:
        raise pytest.UsageError("a test file changes jax_enable_x64 when it is imported")


@pytest.fixture(autouse=True)
def _precision_is_the_test_s_own():
    """A page of the docs that enables x64 leaves it as it was for the next one."""
    yield
    jax.config.update("jax_enable_x64", X64)


@pytest.fixture(autouse=True)
def _names(doctest_namespace):
    doctest_namespace.update(jax=jax, jnp=jnp, optax=optax)
