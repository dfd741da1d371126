"""The Config as a pytree, and what a TOML may say."""

from pathlib import Path
from typing import Literal

import jax
import pytest

from jaxopt_study import study
from jaxopt_study.study.config import field_docs
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.flags import apply_flags, flags_help

DTYPE = Literal["float32", "float64"]


def configs_of(path, *flags):
    return apply_flags(load_configs(read_config_file(path))[1], flags)


def only(path, *flags):
    (config,) = configs_of(path, *flags).values()
    return config


def message_of(path, *flags):
    with pytest.raises(study.StudyInputError) as caught:
        configs_of(path, *flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def make(**members):
    hints = {"seed": int, "dtype": DTYPE, **members.pop("hints", {})}
    members = {"seed": 0, "dtype": study.static("float64"), **members}
    return study.config(type("Config", (), {"__annotations__": hints, **members}))


def test_numbers_are_leaves_and_the_rest_is_structure(write_toml):
    config = only(write_toml())
    assert jax.tree.leaves(config) == [0.25, 4.0, -2.0, 0.0, 1e-6, 0]
    other = only(write_toml(), "--learning-rate", "3", "--seed", "8")
    assert jax.tree.structure(config) == jax.tree.structure(other)
    assert jax.tree.structure(config) != jax.tree.structure(only(write_toml(), "--max-steps", "7"))
    hash(jax.tree.structure(config))


@pytest.mark.parametrize("kind", [str, bool, Path, Literal["a"], float | str, tuple[float, bool]])
def test_a_leaf_that_is_no_number_is_refused_by_name(kind):
    with pytest.raises(TypeError, match=r"Config\.method: only numbers can be leaves"):
        make(hints={"method": kind}, method=None)


def test_a_static_field_that_cannot_be_hashed_is_refused_by_name():
    with pytest.raises(TypeError, match=r"Config\.widths: .* hashable"):
        make(hints={"widths": list[int]}, widths=study.static())
    with pytest.raises((TypeError, ValueError), match="widths"):
        make(hints={"widths": tuple}, widths=study.static([1]))


@pytest.mark.parametrize("wrong", [{"seed": study.static(0)}, {"hints": {"seed": float}}])
def test_a_config_without_a_whole_leaf_seed_is_refused(wrong):
    with pytest.raises(TypeError, match=r"Config\.seed"):
        make(**wrong)


@pytest.mark.parametrize("wrong", [Literal["float16"], Literal["float32", "bfloat16"], str])
def test_a_config_without_a_static_dtype_is_refused(wrong):
    with pytest.raises(TypeError, match=r"Config\.dtype"):
        make(hints={"dtype": wrong})


def test_a_field_named_like_a_flag_of_the_command_is_refused():
    with pytest.raises(TypeError, match=r"Config\.quiet"):
        make(hints={"quiet": float}, quiet=0.0)


def test_field_docs_are_the_strings_below_the_fields(write_toml):
    docs = field_docs(type(only(write_toml())))
    assert docs["learning_rate"] == "Step length [m], not a square bracket of markup."
    assert "noise" not in docs


def test_flags_win_over_variants_and_variants_over_the_file_and_the_file_over_defaults(write_toml):
    path = write_toml(
        """
        [config]
        noise = 1
        target = 0.5
        max_steps = 20
        [variants.short]
        max_steps = 5
        [variants.signs]
        optimizer = "signs"
        """
    )
    configs = configs_of(path)
    assert list(configs) == ["short", "signs"]
    short, signs = configs.values()
    assert (short.max_steps, signs.max_steps) == (5, 20)
    assert (short.optimizer, signs.optimizer) == ("descent", "signs")
    assert (short.learning_rate, short.noise, type(short.noise)) == (0.25, 1.0, float)
    for config in configs_of(path, "--max_steps=9", "--start", "-1", "1e2", "--noise", "2").values():
        assert (config.max_steps, config.start, config.noise, config.target) == (9, (-1.0, 100.0), 2.0, 0.5)


def test_a_file_without_variants_has_one_that_is_named_like_the_study(write_toml):
    assert list(configs_of(write_toml())) == ["bowl"]


def test_a_whole_number_as_a_default_is_a_float_all_the_same(write_study, write_toml):
    path = write_study([("noise: float = 0.0", "noise: float = 0"), ("(4.0, -2.0)", "(4, -2)")])
    config = only(write_toml(study=path))
    assert [type(leaf) for leaf in jax.tree.leaves(config)] == [float] * 5 + [int]


def test_a_path_is_relative_to_where_it_was_written(write_toml, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    toys = Path(__file__).parent / "toys"
    assert only(write_toml()).data == toys / "bowl.csv"
    path = write_toml('[config]\ndata = "../data/a.csv"')
    assert only(path).data == tmp_path / "data" / "a.csv"
    assert only(path, "--seed", "1").data == tmp_path / "data" / "a.csv"
    assert only(path, "--data", "b.csv").data == tmp_path / "elsewhere" / "b.csv"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[config]\nlearning_rte = 1", 'config.learning_rte: unknown key (did you mean "learning_rate"?)'),
        ('[config]\nlearning_rate = "fast"', 'config.learning_rate: expected a float, got the str "fast"'),
        ("[config]\nlearning_rate = true", "config.learning_rate: expected a float, got the bool True"),
        ("[config]\nlearning_rate = 0", "config.learning_rate: expected a float > 0.0, got the int 0"),
        ("[config]\nmax_steps = 2.5", "config.max_steps: expected an int, got the float 2.5"),
        ("[config]\nlanes = -1", "config.lanes: expected an int >= 0, got the int -1"),
        ("[config]\nstart = [1.0]", "config.start: expected an array of length 2, got the list [1.0]"),
        ('[config]\nstart = [1, "x"]', 'config.start: expected a float at [1], got the str "x"'),
        ('[config]\noptimizer = "adm"', 'config.optimizer: expected one of "descent", "signs", got "adm"'),
        ('[variants.a]\noptimizer = "adm"', "variants.a.optimizer: expected one of"),
        ("[variants.a]\nsede = 1", 'variants.a.sede: unknown key (did you mean "seed"?)'),
        (
            "[config]\nmax_steps = -1",
            "config.max_steps: expected a whole number from 0 to 2,147,483,646, got -1",
        ),
        ("[config]\nmax_steps = 3000000000", "config.max_steps: expected a whole number from 0 to"),
        ('[config]\ndtype = "float32"\nseed = 3000000000', "config.seed: 3000000000 needs more than"),
        ("variants = 3", "variants: expected a table"),
        ("[variants]", "variants: has no table"),
        ("[variants]\na = 3", "variants.a: expected a table"),
        ("[swep]", 'swep: unknown key (did you mean "sweep"?)'),
        ("[varaints.a]", 'varaints: unknown key (did you mean "variants"?)'),
        ("[config", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_toml_is_one_line_with_its_file_and_key(write_toml, text, says):
    path = write_toml(text)
    assert message_of(path).startswith(f"{path}: {says}")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--learning-rte", "1"], '--learning-rte: unknown flag (did you mean "--learning-rate"?)'),
        (["--learning-rate", "fast"], "--learning-rate: could not convert string to float: 'fast'"),
        (["--learning-rate=-1"], "--learning-rate: expected a float > 0.0, got the float -1.0"),
        (["--optimizer", "adm"], "invalid choice 'adm' for argument '--optimizer'"),
        (["--start", "1"], "Missing value for argument '--start'"),
        (["--max-steps", "2.5"], "--max-steps: invalid literal for int()"),
        (["--dtype", "float32", "--seed", "3000000000"], "--seed: 3000000000 needs more than the 32 bits"),
        (["stray"], "Unrecognized options: stray"),
    ],
)
def test_a_mistake_in_a_flag_is_one_line_with_its_flag(write_toml, flags, says):
    assert message_of(write_toml(), *flags).startswith(says)


def test_a_missing_file_is_one_line(tmp_path, write_toml):
    assert message_of(tmp_path / "no.toml") == f"{tmp_path / 'no.toml'}: no such file"
    path = write_toml(study=Path("gone.py"))
    assert message_of(path) == f"{path}: study: no such file: gone.py"
    path.write_text("study = 3")
    assert message_of(path).startswith(f"{path}: study: expected the path")


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        (("def advance(", "def advances("), "lacks the function advance"),
        (("def init(", "def run("), "has run and advance"),
        (("class Config", "class Settings"), "lacks the class Config"),
        (("@study.config", "import dataclasses\n@dataclasses.dataclass"), "not decorated with @study.config"),
        (("import msgspec", "import no_such_package"), "needs the module no_such_package"),
        (("def init(", "def init)("), "unmatched ')'"),
    ],
)
def test_a_study_that_lacks_something_is_one_line(write_study, write_toml, replace, says):
    path = write_study([replace])
    message = message_of(write_toml(study=path))
    assert message.startswith(str(path))
    assert says in message


def test_a_field_without_a_default_must_be_in_the_file(write_study, write_toml):
    path = write_study([('study.static(Path("bowl.csv"))', "study.static()")])
    toml = write_toml(study=path)
    assert message_of(toml) == f"{toml}: config.data: missing, and it has no default"
    assert only(write_toml('[config]\ndata = "a.csv"', study=path)).data.name == "a.csv"


def test_help_shows_every_flag_with_its_doc_and_value_in_two_groups(write_toml):
    text = flags_help(only(write_toml("[config]\nnoise = 0.125")))
    leaves, _, static = text.partition("static options")
    assert "leaves options" in leaves
    assert "Step length [m], not a square bracket of markup." in leaves
    assert "0.125" in leaves
    assert "--optimizer" in static


def test_string_annotations_work(write_study, write_toml):
    text = Path(write_study()).read_text()
    doc, rest = text.split('"""\n', 2)[0], text.split('"""\n', 1)[1]
    path = write_study(name="strings")
    path.write_text(f'{doc}"""\nfrom __future__ import annotations\n{rest}')
    assert only(write_toml("[config]\nnoise = 1", study=path)).noise == 1.0
