"""From the command line to `Config`s: every field is a flag, and flags win in every variant.

tyro parses them; this file makes its errors one line each and its help two groups, leaves and
static. The command's own flags (`--out`, `--quiet`) are the business of `cli`.
"""

import contextlib
import dataclasses
import io
import itertools
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxopt_study.study.config import field_docs, is_static
from jaxopt_study.study.config_file import absolute, check_range, convert, did_you_mean
from jaxopt_study.study.protocol import StudyInputError

ABOUT = {
    "leaves": "Numbers: changing one compiles nothing anew, a sweep can map over it.",
    "static": "Structure: every value has a compiled program of its own.",
}


def apply_flags(configs: Mapping[str, Any], argv: Sequence[str]) -> dict[str, Any]:
    """Override fields of every variant's Config by flags.

    Args:
      configs: Configs by variant's label.
      argv: the flags, `["--learning-rate", "0.1", ...]`; a relative path is relative to the
        working directory.

    Returns:
      The Configs after the flags, by the same labels.

    Raises:
      StudyInputError: a flag is unknown, or its value is not of the field's type.
    """
    if not argv:
        return dict(configs)
    return {label: _apply(config, argv) for label, config in configs.items()}


def flags_help(config: Any) -> str:
    """The help of a study's flags: documentation, type and default, in two groups."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        _parse(config, ["--help"])
    _, _, groups = out.getvalue().partition("\n\n")  # what stands before is tyro's usage line
    return groups


def _apply(config: Any, argv: Sequence[str]) -> Any:
    names = [field.name for field in dataclasses.fields(config)]
    for flag in argv:
        name = flag.removeprefix("--").partition("=")[0].partition(".")[0].replace("-", "_")
        if flag.startswith("--") and name not in names and name.removeprefix("no_") not in names:
            near = did_you_mean(name, names, lambda near: f"--{near.replace('_', '-')}")
            raise StudyInputError(f"{flag.partition('=')[0]}: unknown flag{near}")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            values = _parse(config, argv)
    except SystemExit:
        raise StudyInputError(_first_line(errors.getvalue())) from None
    hints = typing.get_type_hints(type(config), include_extras=True)
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        values[name] = absolute(convert(value, hints[name], flag), Path.cwd())
    changed = dataclasses.replace(config, **values)
    check_range(changed, "--")
    return changed


def _parse(config: Any, argv: Sequence[str]) -> dict[str, Any]:
    """Every field's value after the flags; tyro prints and exits where they are wrong."""
    import tyro

    hints = typing.get_type_hints(type(config), include_extras=True)
    docs = field_docs(type(config))
    groups: dict[str, list[Any]] = {"leaves": [], "static": []}
    for field in dataclasses.fields(config):
        help_text = tyro.conf.arg(help=docs.get(field.name, ""))
        kind: Any = Annotated.__class_getitem__((hints[field.name], help_text))  # type: ignore[attr-defined]
        value = dataclasses.field(default=getattr(config, field.name))
        groups["static" if is_static(field) else "leaves"].append((field.name, kind, value))
    fields: list[Any] = []
    for name, members in groups.items():
        group: Any = dataclasses.make_dataclass(name, members, frozen=True)
        group.__doc__ = ABOUT[name]
        fields.append((name, group, dataclasses.field(default=group())))
    flags: Any = dataclasses.make_dataclass("Flags", fields, frozen=True)
    flags.__doc__ = ""
    parsed: Any = tyro.cli(
        flags,
        args=list(argv),
        prog="jaxopt-study run CONFIG",
        description="",
        config=(tyro.conf.OmitArgPrefixes,),  # a group is a heading, not a part of the flag's name
    )
    return {
        name: getattr(getattr(parsed, group), name)
        for group, members in groups.items()
        for name, _, _ in members
    }


def _first_line(box: str) -> str:
    """The error in one of tyro's boxes, as one line: what stands between its title and the next rule."""
    _, *rows = [row for row in (line.strip(" │") for line in box.splitlines()) if row] or [""]
    texts = [row.strip("-─╰╯") for row in rows]
    if texts and not texts[0]:  # without UTF-8 a rule stands below the title
        del texts[0]
    error = itertools.takewhile(bool, texts)
    return " ".join(" ".join(error).split()).removeprefix("Error parsing ").replace(" .", ".")
