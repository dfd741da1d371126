"""What a study is: the functions that its module gives, and what they hand over.

This file does not run a study (`run`), nor does it know of TOML (`config_file`) or of the record
(`record`): it is the agreement that those three and every `experiments/NAME.py` keep.
"""

import dataclasses
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class StudyInputError(ValueError):
    """What a person gave is wrong; the message is one line that names the key and the file.

    The command line prints it without a traceback and exits with code 2. A study raises it for
    its own input, from `init` or `run`, and then nothing is written.

    >>> raise StudyInputError('data.csv: column "rate" is missing')
    Traceback (most recent call last):
    jaxopt_study.study.protocol.StudyInputError: data.csv: column "rate" is missing
    """


class Outcome(NamedTuple):
    """Where a run stands, ended or not: a pytree of arrays.

    A run has lanes (starts, restarts, groups) where `status` has a shape; `()` is a single one.

    Attributes:
      status: a `Status` per lane, int, shape `lanes`; `RUNNING` while the lane has not ended.
      num_steps: steps taken, int, shape `lanes`.
      value: what is being minimized, float, shape `lanes`.
      values: anything else worth recording, small arrays by name.
      traces: columns of the trace by name, each of shape `lanes + (steps,)`; entry k is step k,
        entries after the lane's last step are NaN.
    """

    status: Any
    num_steps: Any
    value: Any
    values: Mapping[str, Any] = {}
    traces: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of wall time, compiling and running apart.

    Attributes:
      compile_seconds: tracing and compiling every function of the study, and the run of `init`.
      run_seconds: the calls of `advance` (or of `run`) alone, each waited for.
    """

    compile_seconds: float
    run_seconds: float


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One variant of a run, as it was recorded: what `plot` and `summary` are given.

    Attributes:
      config: the study's `Config` that was run.
      outcome: an `Outcome` of numpy arrays.
      timing: a `Timing`.
    """

    config: Any
    outcome: Outcome
    timing: Timing

    @property
    def seconds_per_step(self) -> float:
        """Seconds per step of the lane that took the most; NaN where none was taken."""
        steps = int(np.max(self.outcome.num_steps, initial=0))
        return self.timing.run_seconds / steps if steps else float("nan")


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's module, its parts by name.

    Either `init`, `advance` and `outcome` are there, or the one-shot `run`.

    Attributes:
      name: the file's name without `.py`.
      path: the file, absolute.
      title: the first line of the module's docstring.
      Config: the dataclass made by `study.config`.
      init: `init(config, key) -> carry`, pure and jittable.
      advance: `advance(config, carry, n) -> carry`, at most `n` more steps, `n` traced.
      outcome: `outcome(config, carry) -> Outcome`, at any time.
      run: `run(config, key) -> Outcome`, in one call; jitted, unless it is marked `on_host`.
      plot: `plot(records) -> dict` of matplotlib figures by name, or None.
      summary: `summary(records) -> dict` of numbers and strings by name, or None.
      devices: over how many devices of each process its arrays are laid out, None if they are not.
      processes: over how many processes, None if it is one.
    """

    name: str
    path: Path
    title: str
    Config: type[Any]
    init: Callable[..., Any] | None = None
    advance: Callable[..., Any] | None = None
    outcome: Callable[..., Any] | None = None
    run: Callable[..., Any] | None = None
    plot: Callable[..., Any] | None = None
    summary: Callable[..., Any] | None = None
    devices: int | None = None
    processes: int | None = None

    @property
    def steps(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        """`init`, `advance` and `outcome`, of a study that has them."""
        if self.init is None or self.advance is None or self.outcome is None:
            raise TypeError(f"{self.path}: gives run alone, which cannot be stopped midway")
        return self.init, self.advance, self.outcome


STEPS = ("init", "advance", "outcome")
ROW = ("point", "variant", "lane", "step")  # what a row of traces is of


def on_host(run: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the `run` of a study that is not to be jitted: it times others, or runs what is not JAX.

    It is called as it stands, with numbers; the outcome is checked afterwards.

    >>> on_host(lambda config, key: None).on_host
    True
    """
    run.on_host = True  # type: ignore[attr-defined]
    return run


def load_study(path: Path | str) -> Study:
    """Load a study's module from its file; every call executes the file anew.

    Args:
      path: the file, `experiments/NAME.py` or any other.

    Returns:
      The `Study`.

    Raises:
      StudyInputError: the file is missing, is not Python, imports what is not installed, or lacks
        `Config`, `init`, `advance` or `outcome` (or `run`).
    """
    path = Path(path)
    if not path.is_file():
        raise StudyInputError(f"{path}: no such file")
    module = _execute(path)
    _check_config(module, path)
    given = [name for name in (*STEPS, "run") if callable(getattr(module, name, None))]
    if given not in (list(STEPS), ["run"]):
        missing = ", ".join(name for name in STEPS if name not in given)
        if "run" in given:
            one = "give init, advance and outcome, or run alone"
            raise StudyInputError(f"{path}: has run and {given[0]}: {one}")
        raise StudyInputError(f"{path}: lacks the function {missing} (or give run alone)")
    doc = inspect.getdoc(module) or path.stem
    parts = {name: getattr(module, name, None) for name in (*STEPS, "run", "plot", "summary")}
    return Study(path.stem, path.resolve(), doc.splitlines()[0].strip(), module.Config, **parts)


def digest_of(study: Study) -> str:
    """A digest of the study's file, by which a change of it is noticed."""
    return hashlib.sha256(study.path.read_bytes()).hexdigest()


def _execute(path: Path) -> ModuleType:
    # String annotations are looked up in sys.modules, so the module must be there; the digest of
    # its path keeps it apart from installed modules and from studies of the same name elsewhere.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"_jaxopt_study_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StudyInputError(f"{path}: a study is a Python file, its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            raise StudyInputError(f"{error.filename}:{error.lineno}: {error.msg}") from error
        if isinstance(error, ModuleNotFoundError):
            hint = 'is it one of the extra "jaxopt_study[study]"?'
            raise StudyInputError(f"{path}: needs the module {error.name}, not installed: {hint}") from error
        raise
    return module


def _check_config(module: ModuleType, path: Path) -> None:
    cls = getattr(module, "Config", None)
    if cls is None:
        raise StudyInputError(f"{path}: lacks the class Config")
    if not getattr(cls, "__study_config__", False):
        raise StudyInputError(f"{path}: Config is not decorated with @study.config")


def check_outcome(study: Study, outcome: Any) -> None:
    """Check the shapes and dtypes of an `Outcome` against its contract, without computing it.

    Args:
      study: whose it is, for the message.
      outcome: arrays or `jax.ShapeDtypeStruct`s, from `jax.eval_shape`.

    Raises:
      TypeError: a field has another shape or dtype than `Outcome` says.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"{study.path}: the outcome is a {type(outcome).__name__}, not a study.Outcome")
    lanes = jnp.shape(outcome.status)
    for name, kind in (("status", jnp.integer), ("num_steps", jnp.integer), ("value", jnp.floating)):
        array = getattr(outcome, name)
        if not jnp.issubdtype(jnp.result_type(array), kind):
            raise TypeError(f"{study.path}: outcome.{name} has dtype {jnp.result_type(array)}")
        if jnp.shape(array) != lanes:
            raise TypeError(f"{study.path}: outcome.{name} has shape {jnp.shape(array)}, status has {lanes}")
    lengths = set()
    for name, array in outcome.traces.items():
        if name in ROW:
            raise TypeError(f"{study.path}: trace {name!r} has the name of another column of trace.parquet")
        if jnp.shape(array)[:-1] != lanes or jnp.ndim(array) != len(lanes) + 1:
            shape = f"shape {jnp.shape(array)}, not {lanes} + (steps,)"
            raise TypeError(f"{study.path}: trace {name!r} has {shape}")
        lengths.add(jnp.shape(array)[-1])
    if len(lengths) > 1:
        raise TypeError(f"{study.path}: the traces differ in length: {sorted(lengths)}")


def to_host(outcome: Outcome) -> Outcome:
    """The same outcome as numpy arrays."""
    return Outcome(*jax.tree.map(np.asarray, jax.device_get(tuple(outcome))))
