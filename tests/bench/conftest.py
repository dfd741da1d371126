import contextlib
import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from jaxopt_study import cli
from jaxopt_study.bench import run
from jaxopt_study.bench.case import OURS, Case, Contestant, Planned, Row


def toy_case(wanted):
    def sum_to(count):
        return Contestant(
            work=lambda: float(sum(range(count))),
            error=lambda total: abs(total - count * (count - 1) / 2),
            settings=f"{count} numbers",
        )

    contestants = {OURS: sum_to(20_000), "slow": sum_to(100_000)}
    contestants["wrong"] = Contestant(lambda: 0.0, lambda _: 1.0, "nothing")
    if wanted("scipy"):
        contestants["scipy"] = sum_to(20_000)
    return Case("sum", contestants, most_error=0.5, rounds=5)


def sized_case(size, wanted):
    del wanted
    double = jax.jit(lambda x: 2 * x)
    x = jnp.ones(size)
    one = Contestant(
        lambda: double(x),
        lambda y: float(abs(y - 2).max()),
        "doubled",
        program=lambda: double.lower(x).compile(),
    )
    return Case("doubling", {OURS: one, "again": one}, most_error=1e-6, rounds=3, size=size)


@contextlib.contextmanager
def only_toys():
    module = types.ModuleType("toy", "Sums, and doublings.")
    module.cases = lambda: (
        Planned("sums", toy_case, "float32", {"slow": 1.5}),
        *(Planned(f"doubled, {n}", lambda wanted, n=n: sized_case(n, wanted), "float32") for n in (10, 1000)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "jaxopt_study.bench.suites.toy", module)
        patch.setattr(run, "SUITES", {"toy": ("toy",)})
        yield


@pytest.fixture
def toy_suite():
    """A suite `toy` in place of all others."""
    with only_toys():
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of one case's results, and the baseline that was saved."""
    root = tmp_path_factory.mktemp("measured")
    flags = ["--only", "doubled, 10", "--quiet", "--out", str(root), "--save", str(root / "a.json")]
    with only_toys(), jax.enable_x64(True):
        assert cli.main(["bench", *flags]) == 0
    (folder,) = root.glob("bench-*")
    return folder, root / "a.json"


@pytest.fixture
def make_row():
    """A row with the fields that are given, the rest made up."""
    usual = Row(
        suite="toy",
        case="sums",
        contestant="peer",
        settings="its defaults",
        dtype="float64",
        unit="sum",
        size=None,
        first_seconds=0.5,
        seconds=1e-3,
        spread=0.02,
        ratio=2.0,
        uncertainty=0.01,
        claimed=None,
        error=1e-9,
        solved=True,
        evaluations=3,
        peak_bytes=1000,
        flops=1e6,
        bytes=1e5,
        limit=0.2,
        blas_threads=0,
        rounds=15,
    )
    return lambda **fields: dataclasses.replace(usual, **fields)
