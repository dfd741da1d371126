"""Whatever stands in a TOML, the command ends in a record or in one line: never in a traceback."""

from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxopt_study import cli

TOYS = Path(__file__).parent / "toys"
numbers = st.integers(-(2**70), 2**70) | st.integers(-3, 30) | st.floats() | st.booleans()
leaves = numbers | st.text(max_size=6) | st.dates()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["learning_rate", "start", "start.1", "noise", "target", "seed", "lanes", "optimizer", "max_steps"]
FIELDS += ["data", "dtype", "lane", ""]
CALLS = ["linspace", "logspace", "range", "uniform", "loguniform", "integers", "space"]
calls = st.dictionaries(
    st.sampled_from(CALLS), st.lists(st.integers(-2, 9), max_size=4), min_size=1, max_size=1
)
good = {
    "learning_rate": [0.1, 0.2],
    "seed": {"range": [0, 3]},
    "lanes": [0, 2],
    "noise": {"uniform": [0, 1]},
}
axes = st.dictionaries(st.sampled_from(FIELDS), calls | values, max_size=2)
axes |= st.sampled_from([{key: value} for key, value in good.items()])
options = st.dictionaries(
    st.sampled_from(["zip", "order", "samples", "sampler", "sample_seed", "trace", "sweep"]),
    values,
    max_size=1,
)
sweeps = st.builds(lambda axes, options: {**options, "axes": axes}, axes, options) | values
searches = st.builds(
    lambda method, more: {"method": method, **more},
    st.sampled_from(["halving", "optuna", "grid"]),
    st.dictionaries(st.sampled_from(["eta", "first", "trials", "together", "seed"]), values, max_size=2),
)
executors = st.dictionaries(
    st.sampled_from(["kind", "tasks", "retries", "parameters", "x"]), values, max_size=2
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "config": st.dictionaries(st.sampled_from(FIELDS), values, max_size=2) | values,
        "variants": st.dictionaries(st.text(max_size=5), st.just({}) | values, max_size=2) | values,
        "sweep": sweeps,
        "search": searches | values,
        "executor": executors | values,
        "other": values,
    },
)


@pytest.fixture
def no_computation(monkeypatch):
    """Everything but the mathematics: what is read, checked and planned."""
    monkeypatch.setattr("jaxopt_study.study.sweep_command.run_sweep", _no_run)
    monkeypatch.setattr("jaxopt_study.study.run.run_study", _no_run)


def _no_run(*words, **more):
    raise _Fine


class _Fine(Exception):
    pass


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["sweep", "run"]), configs)
def test_no_toml_whatever_ends_in_a_traceback(no_computation, tmp_path, capsys, command, table):
    path = tmp_path / "any.toml"
    study = (TOYS / "bowl.py").as_posix()
    path.write_text(tomli_w.dumps({"study": study, **table}), encoding="utf-8")
    try:
        code = cli.main([command, str(path), "--out", str(tmp_path / "runs")])
    except _Fine:
        code = 2
    else:
        err = capsys.readouterr().err
        assert err.startswith("jaxopt-study: ")
        assert err.count("\n") == 1
    assert code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {"axes": axes}, optional={"samples": st.integers(1, 5), "trace": st.integers(0, 3)}
    ),
    st.none() | searches,
)
def test_no_sweep_whatever_ends_in_a_traceback(tmp_path, capsys, sweep, search):
    table = {"study": (TOYS / "bowl.py").as_posix(), "config": {"max_steps": 5}, "sweep": sweep}
    if search is not None:
        small = {"trials": 4, "together": 2} if search["method"] == "optuna" else {}
        table["search"] = {**search, **small}
    path = tmp_path / "any.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    code = cli.main(["sweep", str(path), "--quiet", "--out", str(tmp_path / "runs")])
    captured = capsys.readouterr()
    assert code in (0, 2), captured.err
    if code == 0:
        assert (Path(captured.out.strip()) / "points.parquet").exists()
