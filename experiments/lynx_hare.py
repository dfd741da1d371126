"""Lynx and hare, 1900 to 1920: the equations of Lotka and Volterra fitted to pelts, with log-normal errors.

    d hare / dt = (growth - predation · lynx) · hare
    d lynx / dt = (conversion · hare - death) · lynx

The logarithms of both series are fitted by Levenberg-Marquardt, rates and first populations together, and all
six in logarithms, because they are positive. B. Carpenter (Predator-Prey Population Dynamics, 2018)
sampled the posterior of the same model: 0.55 ± 0.06, 0.028 ± 0.004, 0.80 ± 0.09 and 0.024 ± 0.004.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.study.table_file import read_columns

Positive = Annotated[float, msgspec.Meta(gt=0)]
RATES = ("growth", "predation", "death", "conversion")
SPECIES = ("hare", "lynx")
PUBLISHED = {
    "growth": (0.55, 0.06),
    "predation": (0.028, 0.004),
    "death": (0.80, 0.09),
    "conversion": (0.024, 0.004),
}
HARE, LYNX = "#b8860b", "#34588c"


@study.config
class Config:
    """Which pelts to fit, and where to start."""

    growth: Positive = 1.0
    """First guess of the growth of hares, 1/year."""
    predation: Positive = 0.05
    """First guess of how many hares a thousand lynx take, 1/year."""
    death: Positive = 1.0
    """First guess of the death of lynx, 1/year."""
    conversion: Positive = 0.05
    """First guess of how well lynx live on a thousand hares, 1/year."""
    seed: int = 0
    """Not used: nothing here is random."""
    data: Path = study.static(Path("data/lynx_hare.csv"))
    """The CSV, with columns year, lynx and hare."""
    ahead: Annotated[int, msgspec.Meta(ge=0)] = study.static(10)
    """Years after the last that are predicted."""
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = study.static(0.95)
    """Of intervals and bands."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(200)
    """Steps after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float64")
    """Precision of everything."""


def field(t: Any, population: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    del t
    hare, lynx = population["hare"], population["lynx"]
    growth, predation, death, conversion = (jnp.exp(params[name]) for name in RATES)
    return {"hare": (growth - predation * lynx) * hare, "lynx": (conversion * hare - death) * lynx}


def logarithms(population: dict[str, Any], params: dict[str, Any]) -> Any:
    """Log-normal errors are normal errors of these."""
    del params
    return jnp.log(jnp.stack([population["hare"], population["lynx"]]))


def first(params: dict[str, Any]) -> dict[str, Any]:
    return {"hare": jnp.exp(params["first_hare"]), "lynx": jnp.exp(params["first_lynx"])}


def fit(config: Config, years: Any, seen: Any) -> jos.Fit:
    """Fit all six in logarithms; `seen` has a row of hare and lynx a year."""
    start = {name: jnp.log(jnp.asarray(getattr(config, name), config.dtype)) for name in RATES}
    start |= {"first_hare": seen[0, 0], "first_lynx": seen[0, 1]}
    return jos.fit_ode(
        field, years - years[0], seen, start, first, observe=logarithms, max_steps=config.max_steps
    )


def run(config: Config, key: Any) -> study.Outcome:
    del key
    years, pelts = (jnp.asarray(column, config.dtype) for column in read_pelts(config))
    found = fit(config, years, jnp.log(pelts))
    lower, upper = found.confidence_interval(config.level)
    values = {name: jnp.exp(value) for name, value in found.params.items()}
    for word, ends in (("lower", lower), ("upper", upper)):
        values |= {f"{name}_{word}": jnp.exp(value) for name, value in ends.items()}
    values["sigma"] = jnp.sqrt(found.dispersion)
    since = jnp.linspace(0.0, years[-1] - years[0] + config.ahead, 400)
    traces = {"year": years[0] + since}
    for words, kind in (("", "confidence"), ("_of_pelts", "prediction")):
        curve, low, high = found.predict(since, config.level, kind=kind)
        for place, name in enumerate(SPECIES):
            traces[name] = jnp.exp(curve[:, place])
            traces[f"{name}_low{words}"] = jnp.exp(low[:, place])
            traces[f"{name}_high{words}"] = jnp.exp(high[:, place])
    return study.Outcome(found.status, found.num_steps, found.cost, values, traces)


def read_pelts(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Years, and a row of hare and lynx for each.

    Raises:
      StudyInputError: the file or a column is missing, a number is not positive, or there are too few.
    """
    years, hare, lynx = read_columns(config.data, ["year", "hare", "lynx"])
    pelts = np.stack([hare, lynx], axis=1)
    if len(years) < 4:
        raise study.StudyInputError(f"{config.data}: {len(years)} rows; six parameters take four or more")
    if not np.all(pelts > 0):
        raise study.StudyInputError(f"{config.data}: the errors are log-normal, so pelts have to be positive")
    return years, pelts


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    record = next(iter(records.values()))
    return {"populations": _populations(record), "rates": _rates(record)}


def _populations(record: study.Recorded) -> Any:
    from matplotlib import pyplot as plt

    traces, config = record.outcome.traces, record.config
    years, pelts = read_pelts(config)
    figure, axes = plt.subplots(2, 1, figsize=(9, 6.2), sharex=True, layout="constrained")
    x, share = traces["year"], f"{100 * config.level:g} %"
    for place, (ax, name, color) in enumerate(zip(axes, SPECIES, (HARE, LYNX), strict=True)):
        for words, alpha, what in (("_of_pelts", 0.13, "pelts"), ("", 0.3, "the curve")):
            low, high = traces[f"{name}_low{words}"], traces[f"{name}_high{words}"]
            ax.fill_between(x, low, high, color=color, alpha=alpha, lw=0, label=f"{share} of {what}")
        ax.plot(x, traces[name], color=color, lw=2, label="Lotka–Volterra")
        ax.plot(years, pelts[:, place], "o", color="0.2", ms=5, mec="white", mew=0.7, label="pelts", zorder=3)
        ax.axvline(years[-1], color="0.5", lw=0.8, ls=":")
        ax.set(
            ylabel=f"{name} [1000 pelts]", ylim=(0, 1.9 * np.max(pelts[:, place])), xlim=(x[0] - 0.5, x[-1])
        )
        ax.grid(alpha=0.25, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9, ncols=4, loc="upper left")
    axes[1].set_xlabel("year")
    axes[0].set_title(
        "Pelts of the Hudson's Bay Company, the fitted equations, and the years after", loc="left"
    )
    return figure


def _rates(record: study.Recorded) -> Any:
    from matplotlib import pyplot as plt

    values = record.outcome.values
    figure, axes = plt.subplots(1, len(RATES), figsize=(11, 2.6), layout="constrained")
    for ax, name in zip(axes, RATES, strict=True):
        middle, low, high = (float(values[key]) for key in (name, f"{name}_lower", f"{name}_upper"))
        ax.errorbar(middle, 1, xerr=[[middle - low], [high - middle]], fmt="o", color=LYNX, ms=6, capsize=3)
        mean, deviation = PUBLISHED[name]
        ax.errorbar(mean, 0, xerr=2 * deviation, fmt="s", color="0.5", ms=5, capsize=3)
        ax.set(ylim=(-0.7, 1.7), xlabel=name, yticks=[0, 1])
        ax.set_yticklabels(["posterior, ±2 sd", "this fit, 95 %"] if ax is axes[0] else [])
        ax.grid(alpha=0.25, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Each rate with its interval, in words."""
    values = next(iter(records.values())).outcome.values
    return {
        name: f"{values[name]:.3g} [{values[f'{name}_lower']:.3g}, {values[f'{name}_upper']:.3g}]"
        for name in RATES
    }
