"""`jaxopt-study check`: the derivatives of a function, audited from the command line.

The audit itself is `jaxopt_study.check_derivatives`; here the words for its arguments are read.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import jaxopt_study as jos
from jaxopt_study.study.load_function import load_function
from jaxopt_study.study.protocol import StudyInputError

EXAMPLE = "jaxopt_study.models.polynomial:apply"
DRAWN = re.compile(r"(normal|uniform|zeros|ones)\(([\d,\s]*)\)")


@dataclasses.dataclass(frozen=True)
class CheckRequest:
    """What a person asked for, in the words of the command line.

    Attributes:
      function: `MODULE:FUNCTION` or `FILE.py:FUNCTION`.
      arguments: one for each of its arguments, see `parse_argument`; none is: as `args_from` says.
      args_from: the name of a function beside it that returns its arguments in a tuple.
      dtype: precision of the float arguments that words make.
      probe, second_order, seed: as in `check_derivatives`.
    """

    function: str
    arguments: Sequence[str] = ()
    args_from: str = "example_args"
    dtype: str = "float64"
    probe: bool = True
    second_order: bool = True
    seed: int = 0


def check_function(request: CheckRequest) -> jos.Report:
    """Audit the function and print the report.

    Raises:
      StudyInputError: for bad input, in one line.
    """
    with jax.enable_x64(request.dtype == "float64"):
        function = load_function(request.function, "FUNCTION", EXAMPLE)
        draw = np.random.default_rng(request.seed)
        if request.arguments:
            args = tuple(parse_argument(words, request.dtype, draw) for words in request.arguments)
        else:
            args = _example_args(request)
        try:
            report = jos.check_derivatives(
                function, *args, probe=request.probe, second_order=request.second_order, seed=request.seed
            )
        except (TypeError, ValueError) as error:  # what it says of its arguments, or the function of them
            raise StudyInputError(f"{request.function}: {error}") from error
    print(report)
    return report


def parse_argument(words: str, dtype: str, draw: np.random.Generator) -> Any:
    """An argument from JSON whose lists of numbers are arrays, and whose words are arrays to be drawn.

    A number with a point is a float and is differentiated by; an integer stays as it is.

    >>> draw = np.random.default_rng(0)
    >>> parse_argument("[1, 2.5]", "float64", draw)
    array([1. , 2.5])
    >>> sorted(parse_argument('{"w": "normal(3, 2)", "n": 4}', "float32", draw))
    ['n', 'w']

    Raises:
      StudyInputError: for anything else.
    """
    try:
        value = words if DRAWN.fullmatch(words.strip()) else json.loads(words)
    except json.JSONDecodeError:
        raise StudyInputError(
            f'argument {words!r}: expected JSON (0.5, [1.0, 2.0], {{"w": "normal(3,2)"}}) or one of '
            "normal(SHAPE), uniform(SHAPE), zeros(SHAPE), ones(SHAPE)"
        ) from None
    return _arrays(value, words, dtype, draw)


def _arrays(value: Any, words: str, dtype: str, draw: np.random.Generator) -> Any:
    if isinstance(value, dict):
        return {key: _arrays(item, words, dtype, draw) for key, item in value.items()}
    if isinstance(value, str):
        drawn = DRAWN.fullmatch(value.strip())
        if drawn is None:
            raise StudyInputError(f"argument {words!r}: {value!r} is not normal(SHAPE), uniform(SHAPE), ...")
        shape = tuple(int(length) for length in drawn[2].split(",") if length.strip())
        made = {
            "normal": draw.normal(size=shape),
            "uniform": draw.uniform(size=shape),
            "zeros": np.zeros(shape),
            "ones": np.ones(shape),
        }
        return np.asarray(made[drawn[1]], dtype)
    if isinstance(value, list):
        try:
            array = np.array(value)
        except ValueError:
            array = np.array(None)
        if array.dtype.kind not in "bif":
            return [_arrays(item, words, dtype, draw) for item in value]
        return array.astype(dtype) if array.dtype.kind == "f" else array
    if isinstance(value, float):
        return np.asarray(value, dtype)
    return value


def _example_args(request: CheckRequest) -> tuple:
    where = request.function.rpartition(":")[0]
    try:
        make = load_function(f"{where}:{request.args_from}", "--args-from", EXAMPLE)
    except StudyInputError as error:
        raise StudyInputError(
            f"{request.function}: no arguments were given, and {where} has no function "
            f"{request.args_from!r} that returns them; give them as in: "
            f"jaxopt-study check {request.function} 0.5 'normal(3,2)'"
        ) from error
    args = make()
    return args if isinstance(args, tuple) else (args,)
