"""A study's `Config`: a frozen dataclass that is a pytree, numbers traced and structure static.

This file makes the class and checks its declaration, once, where it is declared. Values from a
TOML are `config_file`'s, values from the command line `flags`'.
"""

import ast
import dataclasses
import enum
import inspect
import itertools
import pathlib
import textwrap
import types
import typing
from typing import Any, TypeVar

import jax

T = TypeVar("T")

# Flags of `jaxopt-study run` and `sweep` themselves.
RESERVED = frozenset(
    {"help", "h", "out", "plots", "no_plots", "quiet", "version", "checkpoint_seconds"}
    | {"devices", "distributed", "tensorboard"}
    | {"axis", "zip_axes", "draw", "draw_by", "draw_seed", "keep_trace", "side_by_side", "executor"}
)


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def config(cls: type[T]) -> type[T]:
    """Make a study's `Config` from a class of annotated fields.

    A plain field is a *leaf*: a number, or a tuple of numbers, that is traced, so that changing it
    compiles nothing and a sweep may map over it. A field whose default is `study.static(...)` is
    *static*: hashable, and part of the compiled program. Every Config has a leaf `seed: int` and a
    static `dtype`, "float32" or "float64", which the run applies before it traces anything.

    The string below a field is its documentation on the command line.

    Args:
      cls: the class to decorate.

    Returns:
      The same class, a frozen dataclass whose fields are given by keyword, registered with
      `jax.tree_util.register_dataclass`.

    Raises:
      TypeError: a leaf is not a number, a static field is not hashable, `seed` or `dtype` is
        missing or not what it must be, or a field is named like a flag of the command.

    Example:
      >>> from typing import Literal
      >>> from jaxopt_study import study
      >>> @study.config
      ... class Config:
      ...     learning_rate: float = 5e-4
      ...     seed: int = 0
      ...     max_steps: int = study.static(1000)
      ...     dtype: Literal["float32", "float64"] = study.static("float64")
      >>> jax.tree.leaves(Config(learning_rate=0.1))
      [0.1, 0]
    """
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    hints = typing.get_type_hints(made, include_extras=True)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    for field in fields:
        where = f"{cls.__name__}.{field.name}"
        if field.name in RESERVED:
            raise TypeError(f"{where}: --{field.name} is a flag of the command itself; take another name")
        _check_static(where, field, hints) if is_static(field) else _check_leaf(where, hints[field.name])
        if _is_optional(hints[field.name]) and field.default is not None:
            raise TypeError(f"{where}: what may be None must have None as its default, TOML has no null")
    _check_required(cls.__name__, {field.name: field for field in fields}, hints)
    jax.tree_util.register_dataclass(
        made,
        data_fields=[field.name for field in fields if not is_static(field)],
        meta_fields=[field.name for field in fields if is_static(field)],
    )
    made.__study_config__ = True  # type: ignore[attr-defined]  # how load_study knows it
    return made


def static(default: Any = dataclasses.MISSING) -> Any:
    """Mark a field of a Config as static: structure, not a number to trace.

    Args:
      default: the field's default, hashable; without one, every TOML must give the field.

    Returns:
      What a dataclass takes as the field's default.
    """
    return dataclasses.field(default=default, metadata={"static": True})


def is_static(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field of a Config was marked with `static`."""
    return bool(field.metadata.get("static", False))


def field_docs(cls: type) -> dict[str, str]:
    """The documentation of each field of a class: the string literal below it.

    Args:
      cls: a class whose source can be read.

    Returns:
      One line by field name, for those that have one.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, SyntaxError):  # made in an interactive session: no source, so no docs
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    docs = {}
    for field, below in itertools.pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _is_optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _not_a_number(hint: Any) -> Any:
    """The first part of a type that is a name or a switch, not a number; None if there is none."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return _not_a_number(typing.get_args(hint)[0])
    if origin is not None or isinstance(hint, types.UnionType):
        found = (_not_a_number(part) for part in typing.get_args(hint) if part is not Ellipsis)
        return next((part for part in found if part is not None), None)
    names = (str, bytes, bool, pathlib.PurePath, enum.Enum)
    return hint if isinstance(hint, type) and issubclass(hint, names) else None


def _check_leaf(where: str, hint: Any) -> None:
    wrong = _not_a_number(hint)
    if wrong is not None:
        name = getattr(wrong, "__name__", str(wrong)).replace("typing.", "")
        raise TypeError(f"{where}: only numbers can be leaves, not {name}; write `= study.static(...)`")


def _check_static(where: str, field: "dataclasses.Field[Any]", hints: dict[str, Any]) -> None:
    hint = hints[field.name]
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    if (typing.get_origin(bare) or bare) in (list, dict, set):
        raise TypeError(f"{where}: a static field must be hashable; use a tuple")
    try:
        hash(field.default)
    except TypeError:
        raise TypeError(f"{where}: the default of a static field must be hashable; use a tuple") from None


def _check_required(name: str, fields: "dict[str, dataclasses.Field[Any]]", hints: dict[str, Any]) -> None:
    seed, dtype = hints.get("seed"), hints.get("dtype")
    seed = typing.get_args(seed)[0] if typing.get_origin(seed) is typing.Annotated else seed
    if seed is not int or is_static(fields["seed"]):
        raise TypeError(f"{name}.seed: every Config has a leaf `seed: int = 0`")
    choices = set(typing.get_args(dtype)) if typing.get_origin(dtype) is typing.Literal else set()
    if not choices or not choices <= {"float32", "float64"} or not is_static(fields["dtype"]):
        wanted = '`dtype: Literal["float32", "float64"] = study.static("float64")`'
        raise TypeError(f"{name}.dtype: every Config has {wanted}")
