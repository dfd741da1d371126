"""How every test runs: in float64, with ranks that must agree, and with the package's types checked.

`precision` runs a test twice, in float64 and in JAX's own default, float32.
"""

import sys
import types

import beartype
import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from hypothesis import settings

# Before anything imports the package: its annotations are then checked on every call, with an int where a
# float is wanted allowed, as PEP 484 has it. The hook imports the checker by its name.
_checker = types.ModuleType("_checker_of_annotations")
_checker.check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker
jaxtyping.install_import_hook("jaxopt_study", f"{_checker.__name__}.check")

# One example a test function is traced and compiled anew: no deadline, and the same examples every time.
settings.register_profile("jax", deadline=None, derandomize=True, database=None)
settings.load_profile("jax")


@pytest.fixture(autouse=True)
def _strict_jax():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(params=["float64", "float32"])
def precision(request, _strict_jax):
    """The default float dtype of this leg; float32 as JAX has it by default, without x64."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def key():
    """A random key, the same in every run."""
    return jax.random.key(20240229)


class CountedFunction:
    """`.fn` is the function, `.count` how often Python ran it: under `jit`, how often it was traced."""

    def __init__(self, fn):
        self.count = 0

        def counted(*args, **kwargs):
            self.count += 1
            return fn(*args, **kwargs)

        self.fn = counted


@pytest.fixture
def count_traces():
    """A wrapper that counts: `counted = count_traces(fn)`, then `counted.fn` and `counted.count`."""
    return CountedFunction
