"""A run on the host: compiling once, going on in chunks, being interrupted."""

import dataclasses
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxopt_study import study
from jaxopt_study.result import Status
from jaxopt_study.study import run
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.flags import apply_flags
from jaxopt_study.study.program import compile_study
from jaxopt_study.study.protocol import to_host
from jaxopt_study.study.seen import median

LONG = ["--max-steps", "1000", "--target", "0", "--learning-rate", "1e-4"]


@pytest.fixture
def load(write_toml):
    def load(text="", flags=(), **more):
        loaded, configs = load_configs(read_config_file(write_toml(text, **more)))
        return loaded, apply_flags(configs, flags)

    return load


def compile_only(loaded, configs):
    ((_, program),) = compile_study(loaded, configs)
    return program


def never():
    return False


def advance_all(program, *chunks):
    carry = program.carry
    with jax.enable_x64(program.config.dtype == "float64"):
        for n in chunks:
            carry = program.advance(carry, np.int32(n))
        return to_host(program.outcome(carry))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, tuple(one), tuple(other))


def test_no_chunk_compiles_anything_anew(load, monkeypatch):
    monkeypatch.setattr(run, "SECONDS_PER_CHUNK", 1e-9)  # a chunk a step
    loaded, configs = load("[variants.a]\n[variants.b]\nnoise = 1.0\nseed = 4", LONG)
    seen, traced = [], loaded.init.__globals__["TRACED"]
    for label, program in compile_study(loaded, configs):
        run.drive(program, label, seen.append, never)
    assert len(seen) == 2 * (1 + 1000 + 1)
    assert traced["advance"] == 1  # b differs from a in leaves alone
    assert traced["init"] == 1
    assert traced["outcome"] <= 3  # at most: its shapes, all of it, and what progress looks at


def test_chunks_grow_until_they_last_long_enough(load):
    loaded, configs = load(flags=LONG)
    seen = []
    run.drive(compile_only(loaded, configs), "bowl", seen.append, never)
    assert [one.steps for one in seen][:4] == [0, 1, 17, 273]
    assert [one.ended for one in seen] == [False] * (len(seen) - 1) + [True]


def test_where_chunks_end_changes_no_bit(load):
    loaded, configs = load(flags=[*LONG, "--lanes", "3", "--noise", "1"])
    program = compile_only(loaded, configs)
    whole = advance_all(program, 2**30)
    assert_same(whole, advance_all(program, *[1] * 1000))
    assert_same(whole, advance_all(program, *[7] * 143))
    assert_same(whole, advance_all(program, 0, 1000, 5))


def test_dtype_is_applied_around_the_study_and_not_beyond_it(load):
    before = jax.config.jax_enable_x64
    loaded, configs = load("[variants.single]\ndtype = 'float32'\n[variants.double]")
    kinds = []
    for label, program in compile_study(loaded, configs):
        record = run.drive(program, label, lambda seen: None, never)
        kinds.append([str(record.outcome.value.dtype), str(record.outcome.traces["loss"].dtype)])
    assert kinds == [["float32"] * 2, ["float64"] * 2]
    assert jax.config.jax_enable_x64 == before


def test_the_value_is_what_the_mathematics_says(load):
    loaded, configs = load()  # x halves at every step: the loss is 20 / 4**k
    record = run.drive(compile_only(loaded, configs), "bowl", lambda seen: None, never)
    steps = 13
    assert record.outcome.status == Status.TARGET_REACHED
    assert record.outcome.num_steps == steps
    np.testing.assert_array_equal(
        record.outcome.traces["loss"][: steps + 1], 20 / 4.0 ** np.arange(steps + 1)
    )
    assert np.isnan(record.outcome.traces["loss"][steps + 1 :]).all()


def test_a_lane_that_is_not_finite_touches_no_other(load):
    loaded, configs = load(flags=["--lanes", "2"])
    program = compile_only(loaded, configs)
    x, status = np.array(program.carry.x), np.array(program.carry.status)
    x[0], status[0] = np.nan, Status.NON_FINITE_START
    carry = program.carry._replace(x=x, status=status)
    outcome = advance_all(dataclasses.replace(program, carry=carry), 1000)
    assert outcome.status.tolist() == [Status.NON_FINITE_START, Status.TARGET_REACHED]
    assert outcome.num_steps.tolist() == [0, 13]


def test_an_interrupt_keeps_the_last_finished_chunk(load):
    loaded, configs = load(flags=LONG)
    asked = iter([False, False, True])
    record = run.drive(compile_only(loaded, configs), "bowl", lambda seen: None, lambda: next(asked))
    assert record.outcome.status == Status.RUNNING
    assert record.outcome.num_steps == 1 + 16 + 256
    loss = record.outcome.traces["loss"]
    assert np.isfinite(loss[:274]).all()
    assert np.isnan(loss[274:]).all()


def test_the_first_interrupt_is_heard_and_the_second_raises():
    before = signal.getsignal(signal.SIGINT)
    with run.hear_interrupts() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_while_recording_leaves_no_half_file(load, write_study, tmp_path, only_record):
    path = write_study(
        append="""

class Slow:
    def savefig(self, file, **options):
        import signal
        file.write(b"half")
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

def plot(records):
    return {"slow": Slow()}
"""
    )
    loaded, configs = load(study=path)
    with pytest.raises(KeyboardInterrupt):
        run.run_study(loaded, configs, tmp_path / "runs", quiet=True)
    folder, result = only_record()
    assert sorted(file.name for file in folder.iterdir()) == ["config.toml", "result.json", "trace.parquet"]
    assert result["interrupted"] is False  # the run itself had ended


def test_a_fault_in_a_summary_loses_no_result(load, write_study, tmp_path, only_record):
    path = write_study(append='\ndef summary(records):\n    raise RuntimeError("a fault")\n')
    loaded, configs = load(study=path)
    with pytest.raises(RuntimeError, match="a fault"):
        run.run_study(loaded, configs, tmp_path / "runs", quiet=True)
    assert only_record()[1]["variants"]["other"]["num_steps"] == 13


def test_a_one_shot_study_is_compiled_apart_from_its_run(load, tmp_path, only_record):
    toys = Path(__file__).parent / "toys"
    loaded, configs = load("[config]\nheight = 2.5", study=toys / "closed_form.py")
    report = run.run_study(loaded, configs, tmp_path / "runs", quiet=True)
    record = report.records["closed_form"]
    assert (record.outcome.value, record.outcome.value.dtype) == (2.5, np.float32)
    assert record.timing.compile_seconds > record.timing.run_seconds > 0
    folder, _ = only_record()
    assert sorted(file.name for file in folder.iterdir()) == ["config.toml", "result.json"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("carry.status, carry.step,", "carry.status, 1.0 * carry.step,", "outcome.num_steps has dtype"),
        ("loss(carry.x), {", "carry.x, {", "outcome.value has shape"),
        ('{"loss": carry.loss,', '{"loss": carry.loss[..., 1:],', "the traces differ in length"),
        ('{"loss": carry.loss,', '{"step": carry.loss,', "trace 'step' has the name of another column"),
        ('{"loss": carry.loss,', '{"loss": carry.x[0],', "trace 'loss' has shape"),
        ("return study.Outcome(\n", "return (\n", "not a study.Outcome"),
    ],
)
def test_an_outcome_of_the_wrong_shape_is_refused_before_anything_is_written(
    load, write_study, tmp_path, old, new, says
):
    loaded, configs = load(study=write_study([(old, new)]))
    with pytest.raises(TypeError, match=says):
        run.run_study(loaded, configs, tmp_path / "runs", quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_carry_that_begins_weakly_typed_compiles_before_the_run(load, write_study):
    # A Python number in the carry is weakly typed, what advance returns is not.
    path = write_study([("return Carry(x, jnp.zeros(shape, jnp.int32)", "return Carry(x, 0")])
    loaded, configs = load(study=path, flags=LONG)
    program = compile_only(loaded, configs)
    traced = loaded.init.__globals__["TRACED"]
    before = dict(traced)
    advance_all(program, 1, 1, 5)
    assert dict(traced) == before


def test_the_median_survives_lanes_that_are_not_finite():
    assert median([np.nan, 2.0, np.inf]) == 2.0
    assert median(np.inf) == np.inf
    assert np.isnan(median([np.nan, np.nan]))


def test_a_study_module_needs_nothing_but_the_protocol():
    assert study.Outcome(0, 0, 0.0).traces == {}
    assert issubclass(study.StudyInputError, ValueError)
