"""Images of single emitters, photon by photon: how precisely their positions are found.

Every spot is a round Gaussian on a flat background, counted with Poisson's noise. All are fitted in one call
of `least_squares_batch`, by least squares or by maximum likelihood on deviance residuals (Fisher's
scoring). The standard deviations of the errors stand beside the bound of Cramér and Rao, which no unbiased
estimator can be below: the inverse of `Σ ∇μ ∇μᵀ / μ`.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

import jaxopt_study as jos
from jaxopt_study import study
from jaxopt_study.deviance import poisson_deviance_residual
from jaxopt_study.models import gaussian_spot
from jaxopt_study.pytree import ravel
from jaxopt_study.result import is_converged

NAMES = ("amplitude", "background", "width", "x", "y")  # in the order of a raveled dict
SHOWN = {"x": "x [pixels]", "width": "width [pixels]", "amplitude": "amplitude [photons]"}


@study.config
class Config:
    """Which spots, and how to fit them."""

    amplitude: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    """Height of the peak above the background, photons a pixel."""
    background: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Photons a pixel."""
    widths: tuple[float, float] = (1.0, 2.0)
    """The least and the largest standard deviation of a spot, pixels."""
    damping: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Of Levenberg-Marquardt at its start."""
    seed: int = 0
    """Of positions, photons and starts."""
    estimator: Literal["likelihood", "least_squares"] = study.static("likelihood")
    """What is minimized: the deviance, or the sum of squares without weights."""
    spots: Annotated[int, msgspec.Meta(ge=1)] = study.static(100_000)
    """How many."""
    classes: Annotated[int, msgspec.Meta(ge=2)] = study.static(10)
    """Widths between the two, each with as many spots."""
    pixels: Annotated[int, msgspec.Meta(ge=5)] = study.static(15)
    """Of an image, along each side."""
    max_steps: Annotated[int, msgspec.Meta(ge=1)] = study.static(100)
    """Steps of a fit after which to give up."""
    dtype: Literal["float32", "float64"] = study.static("float32")
    """Precision of everything."""


def squares(params: dict[str, Any], image: Any) -> Any:
    return gaussian_spot.apply(params, gaussian_spot.pixels(image.shape, image.dtype)) - image


def deviance(params: dict[str, Any], image: Any) -> Any:
    model = gaussian_spot.apply(params, gaussian_spot.pixels(image.shape, image.dtype))
    return poisson_deviance_residual(model, image)


def make_spots(config: Config, key: Any) -> tuple[dict[str, Any], Any]:
    """The truth of every spot, and its photons; the class of spot k is `k % classes`."""
    keys = jax.random.split(key, 3)
    count = (config.spots,)
    middle = (config.pixels - 1) / 2
    place = functools.partial(jax.random.uniform, shape=count, minval=middle - 0.5, maxval=middle + 0.5)
    share = (jnp.arange(config.spots) % config.classes) / (config.classes - 1.0)
    low, high = config.widths
    truth = {
        "amplitude": jnp.full(count, config.amplitude),
        "background": jnp.full(count, config.background),
        "width": (low + (high - low) * share).astype(config.dtype),
        "x": place(keys[0]),
        "y": place(keys[1]),
    }
    truth = {name: jnp.asarray(value, config.dtype) for name, value in truth.items()}
    grid = gaussian_spot.pixels((config.pixels, config.pixels), config.dtype)

    def photons(inputs: tuple[Any, Any]) -> Any:
        params, key = inputs
        return jax.random.poisson(key, gaussian_spot.apply(params, grid)).astype(config.dtype)

    # Some at a time: drawing goes on until the slowest pixel is done, and stays in the cache.
    return truth, jax.lax.map(photons, (truth, jax.random.split(keys[2], config.spots)), batch_size=64)


def information_bound(config: Config, truth: dict[str, Any]) -> Any:
    """The least variance of every parameter of a spot, the order as raveled."""
    grid = gaussian_spot.pixels((config.pixels, config.pixels), config.dtype)
    flat, unravel = ravel(truth)
    jacobian = jax.jacfwd(lambda theta: gaussian_spot.apply(unravel(theta), grid).ravel())(flat)
    light = gaussian_spot.apply(truth, grid).ravel()
    size = jnp.sqrt(jnp.sum(jacobian**2 / light[:, None], axis=0))
    scaled = jacobian / size[None, :]  # columns of one size: the inverse is then safe in float32
    return jnp.diagonal(jnp.linalg.inv(scaled.T @ (scaled / light[:, None]))) / size**2


def init(config: Config, key: Any) -> dict[str, Any]:
    """The images, and nothing found yet."""
    truth, images = make_spots(config, key)
    count = (config.spots,)
    return {
        "truth": truth,
        "images": images,
        "found": jax.tree.map(jnp.zeros_like, truth),
        "value": jnp.zeros(count, config.dtype),
        "status": jnp.full(count, jos.Status.RUNNING, jnp.int32),
        "num_steps": jnp.zeros(count, jnp.int32),
    }


def advance(config: Config, carry: dict[str, Any], n: Any) -> dict[str, Any]:
    """Fit all spots, in one call, whatever n is."""

    def fit() -> dict[str, Any]:
        result = jos.least_squares_batch(
            deviance if config.estimator == "likelihood" else squares,
            gaussian_spot.guess(carry["images"]),
            (carry["images"],),
            damping=config.damping,
            max_steps=config.max_steps,
        )
        ends = {name: getattr(result, name) for name in ("value", "status", "num_steps")}
        return {**carry, "found": result.params, **ends}

    return jax.lax.cond(n > 0, fit, lambda: carry)


def outcome(config: Config, carry: dict[str, Any]) -> study.Outcome:
    truth = carry["truth"]
    errors = jnp.stack([carry["found"][name] - truth[name] for name in NAMES], axis=1)
    usable = is_converged(carry["status"])
    # The bound is averaged over some spots of a class: it hardly depends on where in its pixel one is.
    few = min(config.spots, 20 * config.classes)
    bound = jax.vmap(functools.partial(information_bound, config))(jax.tree.map(lambda t: t[:few], truth))
    precision, limit, bias = [], [], []
    for k in range(config.classes):
        of_class, good = errors[k :: config.classes], usable[k :: config.classes, None]
        many = jnp.sum(good)
        mean = jnp.sum(jnp.where(good, of_class, 0.0), axis=0) / many
        square = jnp.sum(jnp.where(good, (of_class - mean[None, :]) ** 2, 0.0), axis=0)
        precision.append(jnp.sqrt(square / (many - 1)))
        bias.append(mean)
        limit.append(jnp.sqrt(jnp.mean(bound[k :: config.classes], axis=0)))
    values = {"converged": jnp.mean(usable), "width": truth["width"][: config.classes]}
    values["steps_mean"] = jnp.mean(carry["num_steps"].astype(config.dtype))
    for place, name in enumerate(NAMES):
        values[f"precision_{name}"] = jnp.stack(precision)[:, place]
        values[f"bound_{name}"] = jnp.stack(limit)[:, place]
        values[f"bias_{name}"] = jnp.stack(bias)[:, place]
    values["worst_excess_over_bound"] = jnp.max(jnp.stack(precision) / jnp.stack(limit)) - 1
    lost = jnp.argmax(~usable)  # a spot that did not converge, if there is one, else the first
    steps = jnp.max(carry["num_steps"])
    number = jnp.arange(config.max_steps + 1)
    going = jnp.sum(carry["num_steps"][None, :] >= number[:, None], axis=1).astype(config.dtype)
    traces = {"fits_with_so_many_steps": jnp.where(number <= steps, going, jnp.nan)}
    return study.Outcome(carry["status"][lost], steps, jnp.sum(carry["value"]), values, traces)


def summary(records: Mapping[str, study.Recorded]) -> dict[str, float | str]:
    """Fits per second of every variant, and how far the standard deviations are above the bound."""
    said: dict[str, float | str] = {}
    for label, record in records.items():
        said[f"{label}_fits_per_second"] = record.config.spots / record.timing.run_seconds
        said[f"{label}_worst_excess_over_bound"] = float(record.outcome.values["worst_excess_over_bound"])
    return said


def plot(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4.2 * len(SHOWN), 4.2), layout="constrained")
    for ax, (name, words) in zip(axes, SHOWN.items(), strict=True):
        for index, (label, record) in enumerate(records.items()):
            values = record.outcome.values
            ax.plot(
                values["width"],
                values[f"precision_{name}"],
                "o",
                color=f"C{index}",
                label=label.replace("_", " "),
            )
        ax.plot(values["width"], values[f"bound_{name}"], color="0.3", label="Cramér-Rao bound")
        ax.set(xlabel="width of the spot [pixels]", ylabel=f"standard deviation of {words}", ylim=(0, None))
        ax.grid(alpha=0.3)
    axes[0].legend()
    config = next(iter(records.values())).config
    figure.suptitle(
        f"{config.spots} spots, {config.amplitude:g} photons on {config.background:g}: precision and limit"
    )
    return {"precision": figure, **_ratios(records)}


def _ratios(records: Mapping[str, study.Recorded]) -> dict[str, Any]:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for index, (label, record) in enumerate(records.items()):
        values = record.outcome.values
        for mark, name in zip("osx+^", NAMES, strict=True):
            ratio = np.asarray(values[f"precision_{name}"]) / np.asarray(values[f"bound_{name}"])
            ax.plot(
                values["width"], ratio, mark, color=f"C{index}", label=f"{label.replace('_', ' ')}: {name}"
            )
    ax.axhline(1.0, color="0.3")
    ax.axhspan(0.95, 1.05, color="0.9", zorder=0)
    ax.set(xlabel="width of the spot [pixels]", ylabel="standard deviation / Cramér-Rao bound")
    figure.legend(fontsize="small", loc="outside right upper")
    ax.grid(alpha=0.3)
    return {"ratio_to_bound": figure}
