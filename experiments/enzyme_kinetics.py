"""Michaelis-Menten kinetics from measurements in a CSV, by Levenberg-Marquardt.

The rate of an enzyme's reaction against the concentration x of its substrate is v = vmax x / (k + x).
Any CSV with a row of column names can take the place of the data that the config names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.models import michaelis_menten
from jaxopt_study.study.table_file import read_columns


@study.config
class Config:
    """Which measurements to fit, and where to start."""

    start: tuple[float, float] = (200.0, 0.1)
    """First guess of (vmax, k), in the units of the two columns."""
    damping: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Of Levenberg-Marquardt at its start."""
    seed: int = 0
    """Not used: nothing here is random."""
    data: Path = study.static(Path("data/puromycin.csv"))
    """The CSV; its first row names the columns."""
    x: str = study.static("concentration")
    """Column of the substrate's concentrations."""
    y: str = study.static("rate")
    """Column of the rates."""
    group: str | None = study.static(None)
    """Column that says which rows belong together; all rows if not given."""
    only: str | None = study.static(None)
    """The value in that column of the rows to fit."""
    x_unit: str = study.static("ppm")
    """Unit of the concentrations, for the picture."""
    y_unit: str = study.static("counts/min²")
    """Unit of the rates, for the picture."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(100)
    """Steps after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def residual(params: dict[str, Any], x: Any, y: Any) -> Any:
    return michaelis_menten.apply(params, x) - y


def same(params: dict[str, Any]) -> dict[str, Any]:
    return params


def run(config: Config, key: Any) -> study.Outcome:
    del key
    x, y = read_points(config)
    result = jos.least_squares(
        residual,
        michaelis_menten.init(*config.start),
        (jnp.asarray(x), jnp.asarray(y)),
        optimizer=jos.levenberg_marquardt(config.damping),
        max_steps=config.max_steps,
        trace=same,
    )
    freedom = len(y) - 2
    return study.Outcome(
        result.status,
        result.num_steps,
        result.value,
        values={
            **result.params,
            "points": jnp.asarray(len(y)),
            "residual_std": jnp.sqrt(2.0 * result.value / freedom),  # value is half the sum of squares
        },
        traces={"half_sum_of_squares": result.trace.value, **result.trace.observed},
    )


def read_points(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The two columns, of the rows that belong to the group.

    Raises:
      StudyInputError: the file or a column is missing, a cell is not a finite number, or too few
        rows are left for two parameters.
    """
    path = config.data
    if (config.group is None) != (config.only is None):
        raise study.StudyInputError(
            f"{path}: config.group and config.only belong together: give both or neither"
        )
    where = None if config.group is None or config.only is None else (config.group, config.only)
    x, y = read_columns(path, [config.x, config.y], where=where)
    if len(y) < 3:
        which = "" if where is None else f' where column "{where[0]}" is "{where[1]}"'
        raise study.StudyInputError(f"{path}: {len(y)} rows{which}; two parameters take three or more")
    return x, y


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
    for index, (label, record) in enumerate(records.items()):
        config, values = record.config, record.outcome.values
        x, y = read_points(config)
        fine = np.linspace(0.0, 1.05 * x.max(), 300)
        name = f"{label}: vmax = {values['vmax']:.4g}, k = {values['k']:.3g}"
        ax.plot(fine, michaelis_menten.apply(values, fine), color=f"C{index}", label=name)
        ax.plot(x, y, "o", color=f"C{index}")
        ax.set(xlabel=f"{config.x} [{config.x_unit}]", ylabel=f"{config.y} [{config.y_unit}]")
    ax.set_title("Michaelis–Menten kinetics: measurements and fits")
    ax.set(xlim=(0, None), ylim=(0, None))
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    return {"curves": figure}
