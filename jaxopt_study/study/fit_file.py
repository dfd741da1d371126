"""`jaxopt-study fit`: a model fitted to two columns of a CSV, and the record of it.

What is put together here is what a person asked for: the words of `--start` and `--bounds` are read
by `fit_flags`, the columns by `table_file`; the fit is `jaxopt_study.curve_fit`, the files are
written by `record`.
"""

import dataclasses
import datetime
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxopt_study as jos
from jaxopt_study.study import record
from jaxopt_study.study.environment import describe_environment
from jaxopt_study.study.fit_flags import parse_bounds, parse_start
from jaxopt_study.study.load_function import load_function
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.table_file import read_columns
from jaxopt_study.version import __version__

EXAMPLE = "jaxopt_study.models.michaelis_menten:apply"


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """What a person asked for, in the words of the command line.

    Attributes:
      data: the CSV; its first row names the columns.
      model: `MODULE:FUNCTION` or `FILE.py:FUNCTION`, a function of (params, x).
      x, y, sigma: names of columns; no sigma is None. An empty cell of y is missing.
      start: `'Vm=100,K=0.1'`, every parameter with its first guess.
      bounds: `'K=0:1,Vm=0:'`, an empty side is no bound.
      loss, loss_scale: as in `curve_fit`.
      absolute_sigma: as in `curve_fit`.
      level: of the intervals and the band.
      dtype: precision of everything.
    """

    data: Path
    model: str
    x: str
    y: str
    start: str
    sigma: str | None = None
    bounds: str | None = None
    loss: str = "linear"
    loss_scale: float = 1.0
    absolute_sigma: bool = False
    level: float = 0.95
    dtype: str = "float64"


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What a fit left behind: its record's folder, the fit, the picture or None."""

    folder: Path
    fit: Any
    picture: Path | None


def fit_file(
    request: FitRequest, out_root: Path | str, *, quiet: bool = False, plots: bool = True
) -> FitReport:
    """Fit a model to a CSV, print the table and write the record.

    Nothing is written until the fit has been made.

    Args:
      request: what to fit.
      out_root: where the record's folder is made.
      quiet: print no table.
      plots: draw the picture.

    Returns:
      A `FitReport`.

    Raises:
      StudyInputError: for bad input, in one line.
    """
    out_root = Path(out_root)
    record.check_writable(out_root)
    if not 0 < request.level < 1:
        raise StudyInputError(f"--level: expected a probability within (0, 1), got {request.level}")
    with jax.enable_x64(request.dtype == "float64"):
        model = load_function(request.model, "--model", EXAMPLE)
        start = parse_start(request.start)
        bounds = parse_bounds(request.bounds, start)
        names = [request.x, request.y, *([request.sigma] if request.sigma else [])]
        x, y, *rest = read_columns(request.data, names, missing=(request.y,))
        sigma = rest[0] if rest else None
        before = time.perf_counter()
        fit = _fit(request, model, x, y, sigma, start, bounds)
        seconds = time.perf_counter() - before
        profile = fit.profile(request.level)
        folder = record.new_folder(out_root, "fit")
        _write_inputs(folder, request)
        record.write_result(folder, _result(request, fit, profile, seconds))
        text = f"{fit}\n"
        record.atomic_write(folder / "table.txt", lambda file: file.write(text.encode()))
        picture = None
        if plots and np.ndim(x) == 1:
            title = f"{request.model.rpartition(':')[2]}: {request.y} against {request.x}"
            kind = {"level": request.level, "xlabel": request.x, "ylabel": request.y, "title": title}
            picture = record.write_picture(folder, "fit", fit.plot(**kind))
    if not quiet:
        print(text)
        print(f"record: {folder}", flush=True)
        if picture is not None:
            print(f"picture: {picture}", flush=True)
    return FitReport(folder, fit, picture)


def _fit(
    request: FitRequest, model: Any, x: Any, y: Any, sigma: Any, start: Mapping[str, float], bounds: Any
) -> Any:
    params = {name: jax.numpy.asarray(value, request.dtype) for name, value in start.items()}
    data = [None if column is None else column.astype(request.dtype) for column in (x, y, sigma)]
    # What the person's own function says of wrong names is a KeyError; of a wrong signature, a TypeError.
    try:
        jax.eval_shape(model, params, data[0])
    except KeyError as error:
        raise StudyInputError(
            f"--start: {request.model} asks for a parameter {error}; --start has: {', '.join(start)}"
        ) from None
    except TypeError as error:
        raise StudyInputError(f"--model: {request.model}(params, x) fails: {error}") from None
    _check_all_used(request, model, params, data[0])
    try:
        return jos.curve_fit(
            model,
            data[0],
            data[1],
            params,
            sigma=data[2],
            absolute_sigma=request.absolute_sigma,
            bounds=bounds,
            loss=request.loss,
            loss_scale=request.loss_scale,
        )
    except (TypeError, ValueError) as error:
        raise StudyInputError(f"{request.data}: {error}") from None


def _check_all_used(request: FitRequest, model: Any, params: Mapping[str, Any], x: Any) -> None:
    """Refuse a name in --start that the model never looks at: it is a misspelling."""
    program = jax.make_jaxpr(model)(dict(params), x).jaxpr
    # Literals have no hash; variables are compared by identity.
    read = {id(one) for equation in program.eqns for one in equation.invars} | set(map(id, program.outvars))
    surplus = [name for name, one in zip(sorted(params), program.invars, strict=False) if id(one) not in read]
    if surplus:
        raise StudyInputError(f"--start: {request.model} does not use {', '.join(map(repr, surplus))}")


def _write_inputs(folder: Path, request: FitRequest) -> None:
    """Write `fit.toml`: what was asked for, and the command that repeats it."""
    import shlex

    import tomli_w

    fields = {
        field.name: getattr(request, field.name)
        for field in dataclasses.fields(request)
        if getattr(request, field.name) is not None
    }
    fields["data"] = str(request.data)
    words = ["jaxopt-study", "fit", str(request.data)]
    for name, value in fields.items():
        flag = f"--{name.replace('_', '-')}"
        if name != "data" and value is not False:
            words += [flag] if value is True else [flag, str(value)]
    head = (
        f"# Written by jaxopt_study {__version__}, every field as it was run, in {Path.cwd()}.\n"
        f"# To repeat the fit there: {shlex.join(words)}\n\n"
    )
    text = head + tomli_w.dumps({"fit": fields})
    record.atomic_write(folder / "fit.toml", lambda file: file.write(text.encode()))


def _result(request: FitRequest, fit: Any, profile: Any, seconds: float) -> dict[str, Any]:
    interval = fit.confidence_interval(request.level)
    parameters = {
        name: {
            "value": fit.params[name],
            "stderr": fit.stderr[name],
            "interval": [interval[0][name], interval[1][name]],
            "profile_interval": [profile[0][name], profile[1][name]],
            "at_bound": fit.at_bound[name],
        }
        for name in fit.params
    }
    return {
        "model": request.model,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "environment": describe_environment(request.data.resolve()),
        "status": record.status_names(fit.status).item(),
        "message": fit.message,
        "num_steps": fit.num_steps,
        "parameters": parameters,
        "order": sorted(fit.params),
        "covariance": fit.covariance,
        "level": request.level,
        "cost": fit.cost,
        "points": fit.num_points,
        "dof": fit.dof,
        "rank_deficient": fit.rank_deficient,
        "reduced_chi2": fit.reduced_chi2,
        "r_squared": fit.r_squared,
        "aic": fit.aic,
        "bic": fit.bic,
        "residuals": fit.residuals,
        "seconds": seconds,
        "dtype": request.dtype,
    }
