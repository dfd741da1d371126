"""Functions that a command names: `MODULE:FUNCTION` or `FILE.py:FUNCTION`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxopt_study.study.protocol import StudyInputError


def load_function(words: str, where_from: str, example: str) -> Callable[..., Any]:
    """The function that `MODULE:FUNCTION` or `FILE.py:FUNCTION` names.

    Modules are looked for on the path and in the working folder.

    Args:
      words: what a person wrote.
      where_from: where they wrote it, for messages.
      example: how it might be written.

    Raises:
      StudyInputError: it is not written so, there is none, or it cannot be imported.
    """
    where, colon, name = words.rpartition(":")
    if not colon or not where or not name:
        raise StudyInputError(f"{where_from}: expected MODULE:FUNCTION, as {example}, got {words!r}")
    module = _load_file(Path(where), where_from) if where.endswith(".py") else _import(where, where_from)
    function = getattr(module, name, None)
    if function is None:
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise StudyInputError(
            f"{where_from}: {where} has no {name!r}; there are: {', '.join(there) or 'none'}"
        )
    if not callable(function):
        raise StudyInputError(f"{where_from}: {words} is not a function")
    return function


def _import(name: str, where_from: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise StudyInputError(
                f"{where_from}: no module {error.name!r}, on the path or in {here}"
            ) from None
        raise
    except (TypeError, ValueError):  # "..x", ""
        raise StudyInputError(f"{where_from}: {name!r} is not the name of a module") from None
    finally:
        sys.path.remove(here)


def _load_file(path: Path, where_from: str) -> ModuleType:
    if not path.is_file():
        raise StudyInputError(f"{where_from}: {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise StudyInputError(f"{where_from}: {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
