"""Robertson's reaction: three rates over nine decades, recovered from seven decades of time.

    A -> B (k1),   2 B -> B + C (k2),   B + C -> A + C (k3)

B is gone as fast as it is made, so that explicit methods would need millions of steps. The equations are
solved by an implicit method, differentiated by forward sensitivities, and fitted by Levenberg-Marquardt;
the rates in logarithms, and the concentrations too, because their errors are relative.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec

import jaxopt_study as jos
from jaxopt_study import study

Positive = Annotated[float, msgspec.Meta(gt=0)]
NAMES = ("k1", "k2", "k3")
SPECIES = ("A", "B", "C")
COLORS = ("#34588c", "#b8860b", "#a23b3b")


@study.config
class Config:
    """Which reaction, how it was measured, and where to start."""

    rates: tuple[float, float, float] = (0.04, 3e7, 1e4)
    """The truth: k1, k2 and k3."""
    start_factors: tuple[float, float, float] = (8.0, 0.1, 8.0)
    """The first guess is the truth times these."""
    first_time: Positive = 1e-2
    """Of the measurements."""
    last_time: Positive = 1e5
    """Of the measurements."""
    noise: Positive = 0.03
    """Relative error of a concentration, its standard deviation."""
    rtol: Positive = 1e-7
    """Relative tolerance of the solver; the absolute one is a ten thousandth of it."""
    seed: int = 0
    """Of the noise."""
    adjoint: Literal["auto", "direct", "forward"] = study.static("auto")
    """How solutions are differentiated."""
    points: Annotated[int, msgspec.Meta(ge=4)] = study.static(29)
    """Number of times, evenly spaced in logarithm."""
    solver: Literal["kvaerno3", "kvaerno5"] = study.static("kvaerno5")
    """The implicit method."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(200)
    """Steps of the fit after which to give up."""
    dtype: Literal["float64"] = study.static("float64")
    """Precision of everything: concentrations go down to 1e-8."""


def field(t: Any, c: Any, log_rates: dict[str, Any]) -> Any:
    del t
    k1, k2, k3 = (jnp.exp(log_rates[name]) for name in NAMES)
    made, used, back = k1 * c[0], k2 * c[1] ** 2, k3 * c[1] * c[2]
    return jnp.stack([back - made, made - back - used, used])


def logarithms(c: Any, log_rates: dict[str, Any]) -> Any:
    del log_rates
    return jnp.log(c)


def beginning(dtype: Any = None) -> Any:
    """All of it is A."""
    return jnp.array([1.0, 0.0, 0.0], dtype)


def truth(config: Config) -> dict[str, Any]:
    return {name: jnp.log(rate) for name, rate in zip(NAMES, config.rates, strict=True)}


def times(config: Config, points: int) -> Any:
    share = jnp.linspace(0.0, 1.0, points)
    return jnp.exp(
        jnp.log(config.first_time) + share * (jnp.log(config.last_time) - jnp.log(config.first_time))
    )


def solution(config: Config, log_rates: dict[str, Any], ts: Any) -> Any:
    return jos.solve_ode(
        field,
        beginning(),
        ts,
        log_rates,
        t0=0.0,
        solver=config.solver,
        rtol=config.rtol,
        atol=1e-4 * config.rtol,
    ).ys


def measure(config: Config, key: Any) -> tuple[Any, Any]:
    """Times, and the logarithms of what was measured."""
    ts = times(config, config.points)
    clean = solution(config, truth(config), ts)
    return ts, jnp.log(clean) + config.noise * jax.random.normal(key, clean.shape)


def run(config: Config, key: Any) -> study.Outcome:
    ts, seen = measure(config, key)
    start = {
        name: value + jnp.log(f)
        for (name, value), f in zip(truth(config).items(), config.start_factors, strict=True)
    }
    fit = jos.fit_ode(
        field,
        ts,
        seen,
        start,
        beginning(),
        t0=0.0,
        observe=logarithms,
        solver=config.solver,
        rtol=config.rtol,
        atol=1e-4 * config.rtol,
        adjoint=config.adjoint,
        max_steps=config.max_steps,
        # The cost is smooth down to the solver's errors only.
        ftol=10 * config.rtol,
        xtol=10 * config.rtol,
    )
    lower, upper = fit.confidence_interval(0.95)
    values = {name: jnp.exp(value) for name, value in fit.params.items()}
    for word, ends in (("start", start), ("lower", lower), ("upper", upper)):
        values |= {f"{name}_{word}": jnp.exp(value) for name, value in ends.items()}
    values |= {f"{name}_relative_error": fit.stderr[name] for name in NAMES}
    values["noise"] = jnp.sqrt(fit.dispersion)
    values |= {"measured_times": ts, "measured": jnp.exp(seen)}
    fine = times(config, 200)
    band = fit.predict(fine, 0.95)
    before = solution(config, start, fine)
    traces = {"time": fine}
    for place, name in enumerate(SPECIES):
        traces |= {f"{name}_start": before[:, place]}
        for word, curve in zip(("fit", "lower", "upper"), band, strict=True):
            traces[f"{name}_{word}"] = jnp.exp(curve[:, place])
    return study.Outcome(fit.status, fit.num_steps, fit.cost, values, traces)


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Each rate with its interval, and how far from the truth it is."""
    said: dict[str, float | str] = {}
    for label, record in records.items():
        values = record.outcome.values
        for name, true in zip(NAMES, record.config.rates, strict=True):
            interval = f"[{values[f'{name}_lower']:.4g}, {values[f'{name}_upper']:.4g}]"
            said[f"{label}_{name}"] = (
                f"{values[name]:.4g} {interval}, {values[name] / true - 1:+.2%} of {true:g}"
            )
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    record = next(iter(records.values()))
    return {"concentrations": _concentrations(record), "rates": _rates(record)}


def _concentrations(record: study.Recorded) -> Any:
    from matplotlib import pyplot as plt

    values, traces = record.outcome.values, record.outcome.traces
    figure, axes = plt.subplots(3, 1, figsize=(8.5, 7.5), sharex=True, layout="constrained")
    for place, (ax, name, color) in enumerate(zip(axes, SPECIES, COLORS, strict=True)):
        t = traces["time"]
        ax.fill_between(t, traces[f"{name}_lower"], traces[f"{name}_upper"], color=color, alpha=0.25, lw=0)
        ax.plot(t, traces[f"{name}_start"], color="0.55", lw=1.4, ls="--", label="start")
        ax.plot(t, traces[f"{name}_fit"], color=color, lw=2, label="fit")
        measured = values["measured"][:, place]
        ax.plot(
            values["measured_times"],
            measured,
            "o",
            color="0.2",
            ms=4.5,
            mec="white",
            mew=0.6,
            label="measured",
        )
        ax.set(xscale="log", ylabel=name, xlim=(t[0], t[-1]))
        if name != "A":
            ax.set_yscale("log")
        ax.grid(alpha=0.25, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, ncols=3, fontsize=9)
    axes[-1].set_xlabel("time")
    axes[0].set_title("Robertson's reaction: concentrations, from the first guess and as fitted", loc="left")
    return figure


def _rates(record: study.Recorded) -> Any:
    from matplotlib import pyplot as plt

    values = record.outcome.values
    figure, (far, near) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    for place, (name, true, color) in enumerate(zip(NAMES, record.config.rates, COLORS, strict=True)):
        begin, found, low, high = (
            float(values[key]) / true for key in (f"{name}_start", name, f"{name}_lower", f"{name}_upper")
        )
        far.annotate(
            "", (found, place), (begin, place), arrowprops={"arrowstyle": "->", "color": color, "lw": 1.6}
        )
        far.plot(begin, place, "o", color="white", mec=color, ms=7)
        ends = [[100 * (found - low)], [100 * (high - found)]]
        near.errorbar(100 * (found - 1), place, xerr=ends, fmt="o", color=color, ms=6, capsize=3)
    far.set(xscale="log", xlabel="rate / truth: from the first guess to the fit")
    near.set(xlabel="fit − truth [%], 95 % intervals")
    for ax in (far, near):
        ax.set(ylim=(-0.6, 2.6), yticks=range(3), yticklabels=NAMES)
        ax.invert_yaxis()
        ax.axvline(1.0 if ax is far else 0.0, color="0.3", lw=1.0)
        ax.grid(alpha=0.25, lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure
