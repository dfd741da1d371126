"""The studies of this repository, and how to run one without its record."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxopt_study import study
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.protocol import to_host

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def load():
    """A study and its Configs, from `configs/<name>.toml` as it stands, with some fields changed."""

    @functools.cache  # every execution of a study's module makes another Config, which compiles anew
    def as_it_stands(name):
        return load_configs(read_config_file(ROOT / "configs" / f"{name}.toml"))

    def load(name, **changes):
        loaded, configs = as_it_stands(name)
        return loaded, {label: dataclasses.replace(config, **changes) for label, config in configs.items()}

    return load


@pytest.fixture(scope="session")
def run():
    """Run one Config to its end, or in chunks; compiled once a study."""
    programs = {}

    def run(loaded, config, chunks=(2**20,)):
        if loaded.path not in programs:
            parts = [loaded.run] if loaded.run else loaded.steps
            programs[loaded.path] = [jax.jit(part) for part in parts]
        with jax.enable_x64(config.dtype == "float64"):
            first, *rest = programs[loaded.path]
            reached = first(config, jax.random.key(config.seed))
            if rest:
                advance, outcome = rest
                for n in chunks:
                    reached = advance(config, reached, np.int32(n))
                reached = outcome(config, reached)
        return to_host(reached)

    return run


@pytest.fixture(scope="session")
def recorded():
    """An outcome as `plot` and `summary` are given it."""

    def recorded(config, outcome, seconds=1.0):
        return study.Recorded(config, outcome, study.Timing(1.0, seconds))

    return recorded
