"""From a TOML to checked `Config`s, one for each variant: defaults, then [config], then [variants.X].

Every mistake is a `StudyInputError` of one line that names the file and the key. Flags of the
command line come after this file, in `flags`.
"""

import ast
import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import jax

from jaxopt_study.study.config import is_static
from jaxopt_study.study.protocol import Study, StudyInputError, load_study

MOST_STEPS = 2**31 - 1  # steps are counted in int32, and a trace has one entry more
TOP_LEVEL = ("study", "config", "variants", "sweep", "search", "executor", "devices", "processes")


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """A TOML, read but not yet checked against its study.

    Attributes:
      path: the TOML, as the person named it.
      study_path: the study's file.
      base: the table [config].
      variants: the tables [variants.X] by label; one empty table labeled by the study's name
        where the file has none.
      sweep: the table [sweep], which `run` does not look into; see `axes`.
      search: the table [search]; see `search`.
      executor: the table [executor]; see `executor`.
      devices: over how many a run is divided, in each process, None for no division; see `devices`.
      processes: by how many processes a recorded run was made, None for one.
    """

    path: Path
    study_path: Path
    base: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    sweep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    search: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    executor: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    devices: int | None = None
    processes: int | None = None

    @property
    def title(self) -> str:
        """The first line of the study's docstring, read without executing the study."""
        try:
            tree = ast.parse(self.study_path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise StudyInputError(f"{self.study_path}:{error.lineno}: {error.msg}") from None
        return (ast.get_docstring(tree) or self.study_path.stem).splitlines()[0].strip()


def read_config_file(path: Path | str) -> ConfigFile:
    """Read a study's TOML and check its top level.

    Args:
      path: the TOML; the study that it names is relative to the TOML's folder.

    Returns:
      The `ConfigFile`.

    Raises:
      StudyInputError: the file is missing or not TOML, has an unknown key at its top level, or
        names a study that is not there.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyInputError(f"{path}: no such file") from None
    except OSError as error:
        raise StudyInputError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyInputError(f"{path}: not valid TOML: {error}") from None
    check_keys(table, TOP_LEVEL, f"{path}: ")
    study = table.get("study")
    if not isinstance(study, str):
        raise StudyInputError(f'{path}: study: expected the path of a study, such as "../experiments/x.py"')
    study_path = path.parent / study
    if not study_path.is_file():
        raise StudyInputError(f"{path}: study: no such file: {study}")
    base, variants = table.get("config", {}), table.get("variants", {study_path.stem: {}})
    rest = {key: table.get(key, {}) for key in ("sweep", "search", "executor")}
    for key, value in {"config": base, "variants": variants, **rest}.items():
        if not isinstance(value, dict):
            raise StudyInputError(f"{path}: {key}: expected a table [{key}]")
    counts: dict[str, Any] = {name: table.get(name) for name in ("devices", "processes")}
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise StudyInputError(f"{path}: {name}: expected a whole number > 0, got {count!r}")
    if not variants:
        raise StudyInputError(f"{path}: variants: has no table [variants.NAME]")
    for label, value in variants.items():
        if not isinstance(value, dict):
            raise StudyInputError(f"{path}: variants.{label}: expected a table [variants.{label}]")
    return ConfigFile(path, study_path, base, variants, **rest, **counts)


def load_configs(file: ConfigFile) -> tuple[Study, dict[str, Any]]:
    """Load the study that a TOML names, and make the Config of each variant.

    Args:
      file: from `read_config_file`.

    Returns:
      The `Study`, and its Configs by variant's label, in the file's order.

    Raises:
      StudyInputError: a key is unknown or missing, or a value has the wrong type.
    """
    study = load_study(file.study_path)
    return study, {label: _make_config(study, file, label) for label in file.variants}


def _make_config(study: Study, file: ConfigFile, label: str) -> Any:
    hints = typing.get_type_hints(study.Config, include_extras=True)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(study.Config):
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
        if field.name in values and not is_static(field):  # `noise: float = 0` is a float all the same
            where = f"{study.path}: Config.{field.name}"
            values[field.name] = convert(values[field.name], hints[field.name], where)
    values = {name: absolute(value, study.path.parent) for name, value in values.items()}
    tables = (("config", file.base), (f"variants.{label}", file.variants[label]))
    for prefix, table in tables:
        check_keys(table, hints, f"{file.path}: {prefix}.")
        for key, value in table.items():
            where = f"{file.path}: {prefix}.{key}"
            values[key] = absolute(convert(value, hints[key], where), file.path.parent)
    for key in hints:
        if key not in values:
            raise StudyInputError(f"{file.path}: config.{key}: missing, and it has no default")
    made = study.Config(**values)
    check_range(made, f"{file.path}: config.")
    return made


def check_keys(table: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise a `StudyInputError` for the first key that is not known, with the nearest that is."""
    known = list(known)
    for key in table:
        if key not in known:
            raise StudyInputError(f"{where}{key}: unknown key{did_you_mean(key, known)}")


def did_you_mean(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """The nearest known name as ` (did you mean "x"?)`, or nothing.

    >>> did_you_mean("learning_rte", ["seed", "learning_rate"])
    ' (did you mean "learning_rate"?)'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{show(near[0])}"?)' if near else ""


def convert(value: Any, hint: Any, where: str) -> Any:
    """Check a value against a field's type and constraints.

    Args:
      value: as TOML or a flag gave it.
      hint: the field's annotation; `Annotated[int, msgspec.Meta(gt=0)]` constrains it.
      where: how the message of an error begins: file and key.

    Returns:
      The value in the field's type: tuples for arrays, a float for a whole number.

    Raises:
      StudyInputError: the value does not fit.
    """
    import msgspec

    def decode(kind: type, given: Any) -> Any:
        if issubclass(kind, PurePath) and isinstance(given, str | kind):
            return kind(given)
        raise ValueError(f"Expected `{kind.__name__}`, got `{type(given).__name__}`")

    try:
        return msgspec.convert(value, hint, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise StudyInputError(f"{where}: {_explain(str(error), value, hint)}") from None


def _explain(message: str, value: Any, hint: Any) -> str:
    """msgspec's message with the value in it: `expected a float, got the str "fast"`."""
    message, _, at = message.partition(" - at `$")
    for index in re.findall(r"\[(\d+)\]", at):
        value = value[int(index)]
    shown = f'"{value}"' if isinstance(value, str | PurePath) else str(value)
    place = f" at {at.rstrip('`')}" if at else ""
    if message.startswith("Invalid enum value"):
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        choices = ", ".join(f'"{choice}"' for choice in typing.get_args(bare))
        return f"expected one of {choices}{place}, got {shown}"
    expected, _, _ = message.removeprefix("Expected ").partition(", got")
    expected = expected.replace("`", "").replace(" | null", " or nothing")
    article = "an" if expected[0] in "aeiou" else "a"
    return f"expected {article} {expected}{place}, got the {type(value).__name__} {shown}"


def absolute(value: Any, folder: Path) -> Any:
    """The value with every relative path in it made absolute, from a folder."""
    if isinstance(value, Path):
        return (folder / value.expanduser()).resolve()
    if type(value) is tuple:
        return tuple(absolute(item, folder) for item in value)
    return value


def check_range(config: Any, where: str) -> None:
    """Raise a `StudyInputError` for a `max_steps`, or an integer leaf, that there is no room for."""
    steps = getattr(config, "max_steps", None)
    if isinstance(steps, int) and not 0 <= steps < MOST_STEPS:
        raise StudyInputError(
            f"{where}max_steps: expected a whole number from 0 to {MOST_STEPS - 1:,}, got {steps:,}"
        )
    bits = 64 if config.dtype == "float64" else 32
    for path, leaf in jax.tree_util.tree_leaves_with_path(config):
        if isinstance(leaf, int) and not -(2 ** (bits - 1)) <= leaf < 2 ** (bits - 1):
            key = jax.tree_util.keystr(path).lstrip(".")
            room = f"the {bits} bits of {config.dtype}"
            raise StudyInputError(f"{where}{key}: {leaf} needs more than {room}")
