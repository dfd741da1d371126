"""What a stream does with a block: one program, kept by model, shapes and options, for all of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.fit.batch_curve import prepare_batch
from jaxopt_study.fit.check_input import check_params, check_x
from jaxopt_study.fit.check_options import STEPS, check_options
from jaxopt_study.fit.curve_fit_batch import fit_curves
from jaxopt_study.fit.names import names_of
from jaxopt_study.optimizers.transform import number, whole
from jaxopt_study.pytree import traceable
from jaxopt_study.types import PyTree

# Of `curve_fit_batch`'s options, those that are part of the program, and their defaults.
STATIC: dict[str, Any] = {"loss": "linear", "absolute_sigma": False, "pointwise": False, "slots": "auto"}
# And numbers, which are not: of the curves, and of the iteration.
OF_CURVES: dict[str, Any] = {"loss_scale": 1.0, "sigma": None, "weights": None, "bounds": None}
OF_STEPS: dict[str, Any] = {
    "damping": 1e-3,
    "max_steps": 1000,
    "max_trials": 60,
    "ftol": None,
    "xtol": None,
    "gtol": None,
}
OTHERS = ("cost", "reduced_chi2", "status", "num_steps")


class Program(NamedTuple):
    """A block's work, but for the data.

    Attributes:
      static: options that are compiled in, hashable.
      model, start: pytrees; `start` is callable, or the parameters where all fits start.
      x: as given.
      numbers: options that are not compiled in.
      names: what the columns of parameters are called.
      whole: whether it matters that points are missing.
    """

    static: tuple
    model: Any
    start: Any
    x: PyTree
    numbers: dict[str, Any]
    names: list[str]
    whole: bool


def make_program(
    model_fn: Callable[..., Any],
    x: PyTree,
    params: PyTree | Callable[[Any], PyTree],
    shape: tuple[int, ...],
    dtype: Any,
    options: dict[str, Any],
) -> Program:
    """Check everything, before anything is fitted.

    Args:
      model_fn, x, params, options: as in `curve_fit_stream`.
      shape, dtype: of a data set.

    Raises:
      TypeError, ValueError: as `curve_fit_batch`; for options that are unknown, or of many fits.
    """
    for name in options:
        if name not in {**STATIC, **OF_CURVES, **OF_STEPS}:
            raise TypeError(f"{name}: curve_fit_stream takes no such option (x is shared, starts see params)")
    chosen = {name: options.get(name, default) for name, default in STATIC.items()}
    of_curves = {name: options.get(name, default) for name, default in OF_CURVES.items()}
    of_steps = {name: options.get(name, default) for name, default in OF_STEPS.items()}
    check_options(slots=chosen["slots"], **of_steps)
    size = int(np.prod(shape))
    is_covariance = _shape(of_curves["sigma"]) == (size, size) and size > 1
    for name in ("sigma", "weights"):
        given = _shape(of_curves[name])
        if len(given) > len(shape) and not (name == "sigma" and is_covariance):
            raise ValueError(f"{name}: expected those of one data set, of shape {shape}, got {given}")
    if is_covariance:
        of_curves["sigma"] = jnp.asarray(of_curves["sigma"], dtype)[None]
    x = check_x(x)
    some = jnp.zeros((1, *shape), dtype)
    starts, axes = (_unknown(params, some), 0) if callable(params) else (check_params(params), None)
    of_batch = {n: chosen[n] for n in ("loss", "absolute_sigma", "pointwise")}
    curve = prepare_batch(model_fn, x, some, starts, params_axes=axes, **of_curves, **of_batch).curve
    # In one form, however they were given: for another a program would be compiled anew.
    of_curves |= {"bounds": curve.bounds, "weights": None if curve.weights is None else curve.weights[0]}
    if curve.sigma is not None and not is_covariance:
        of_curves["sigma"] = curve.sigma[0]
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[int(axes == 0) :], dtype), starts)
    names = names_of(one)
    every = [word for name in names for word in (name, f"{name}_stderr")] + [*OTHERS]
    for name in every:
        if every.count(name) > 1:
            raise ValueError(
                f"params: two columns of the results would be called {name!r}; rename a parameter"
            )
    numbers = {**of_curves, **of_steps}
    for name in ("loss_scale", "damping", "ftol", "xtol", "gtol"):
        numbers[name] = None if numbers[name] is None else number(name, numbers[name])
    for name in STEPS:
        numbers[name] = whole(name, numbers[name])
    start = traceable(params) if callable(params) else starts
    return Program(tuple(chosen.items()), traceable(model_fn), start, x, numbers, names, is_covariance)


def _shape(given: Any) -> tuple[int, ...]:
    return () if given is None else np.shape(given)


def _unknown(start: Callable[[Any], PyTree], some: Any) -> PyTree:
    """Starts that nothing is known of but their shapes: no bound is wrong."""
    shapes = jax.eval_shape(start, some)
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), shapes)


def run_program(program: Program, data: np.ndarray, count: int, device: Any) -> dict[str, np.ndarray]:
    """The columns of the results of a block, in their order; of its first `count` data sets."""
    complete = not program.whole or not np.any(np.isnan(data[:count]))
    inputs = jax.device_put((program.model, program.start, program.x, data, program.numbers), device)
    params, errors, others = _fit_block((*program.static, ("complete", complete)), *inputs)
    values, errors = (_as_rows(tree) for tree in (params, errors))
    columns: dict[str, np.ndarray] = {}
    for name, value, error in zip(program.names, values, errors, strict=True):
        columns |= {name: value, f"{name}_stderr": error}
    columns |= dict(zip(OTHERS, map(np.asarray, others), strict=True))
    return {name: column[:count] for name, column in columns.items()}


@functools.partial(jax.jit, static_argnums=0)
def _fit_block(
    static: tuple, model: Any, start: Any, x: PyTree, y: Any, numbers: dict[str, Any]
) -> tuple[PyTree, PyTree, list[Any]]:
    options = dict(static)
    params, axes = start, None
    if callable(start):
        params, axes = start(y), 0
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, y.dtype), params)
    slots = options.pop("slots")
    of_curves = {name: numbers[name] for name in OF_CURVES}
    curves = prepare_batch(model, x, y, params, params_axes=axes, **of_curves, **options)
    done = fit_curves(curves, slots=slots, **{name: numbers[name] for name in OF_STEPS})
    return done.params, done.stderr, [getattr(done, name) for name in OTHERS]


def _as_rows(tree: PyTree) -> list[np.ndarray]:
    """A row for every element of the parameters, in the order of their names."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [row for leaf in leaves for row in leaf.reshape(len(leaf), -1).T]
