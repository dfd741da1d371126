"""The functions that are audited stand beside the tests."""

import importlib.util
from pathlib import Path

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(f"audit_{name}", Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def planted():
    """`planted(seed, dtype)` is a function with one fault in its derivatives."""
    return _load("planted").planted


@pytest.fixture(scope="session")
def right():
    """`right()` is functions without fault, by name."""
    return _load("right").right
