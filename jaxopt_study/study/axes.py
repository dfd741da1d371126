"""What a sweep varies: the axes of `[sweep]`, read, checked and multiplied to points.

How one axis is written is told in `axis`. Which Configs come of the points is `plan`'s business.
"""

import dataclasses
import itertools
import math
import re
import typing
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study.axis import LARGEST, Axis, read_axis
from jaxopt_study.study.config_file import absolute, check_keys, convert, did_you_mean
from jaxopt_study.study.protocol import StudyInputError

KEYS = ("axes", "order", "zip", "samples", "sampler", "sample_seed", "trace")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The table `[sweep]`, checked.

    Attributes:
      axes: in the order of the file.
      zipped: keys of axes that move together.
      samples: points drawn from the axes that are drawn, all of them together.
      sampler: "sobol" or "random".
      sample_seed: of what is drawn.
      trace: how many steps of each trace are kept.
    """

    axes: tuple[Axis, ...]
    zipped: tuple[tuple[str, ...], ...] = ()
    samples: int = 64
    sampler: str = "sobol"
    sample_seed: int = 0
    trace: int = 100

    @property
    def drawn(self) -> tuple[Axis, ...]:
        """The axes that are sampled."""
        return tuple(axis for axis in self.axes if axis.is_drawn)

    def to_toml(self) -> dict[str, Any]:
        """The table again, as `config.toml` of the record has it."""
        # TOML is written with tables last, and the order of the axes is that of the points.
        table: dict[str, Any] = {"order": [axis.key for axis in self.axes], "trace": self.trace}
        if self.zipped:
            table["zip"] = [list(keys) for keys in self.zipped]
        if self.drawn:
            table |= {"samples": self.samples, "sampler": self.sampler, "sample_seed": self.sample_seed}
        return {**table, "axes": {axis.key: axis.spec for axis in self.axes}}


def read_sweep(table: Mapping[str, Any], where: str) -> Sweep:
    """Check the table `[sweep]` of a TOML.

    Args:
      table: the table.
      where: how the message of an error begins.

    Raises:
      StudyInputError: an axis or an option is not what it can be.
    """
    check_keys(table, KEYS, f"{where}sweep.")
    axes = table.get("axes", {})
    if not isinstance(axes, dict) or not axes:
        raise StudyInputError(f"{where}sweep.axes: expected a table of axes, such as seed = [0, 1]")
    order = table.get("order", list(axes))
    if not _is_names(order) or sorted(order) != sorted(axes):
        raise StudyInputError(f"{where}sweep.order: expected every axis once, got {order!r}")
    made = tuple(read_axis(key, axes[key], f"{where}sweep.axes.{key}") for key in order)
    zipped = table.get("zip", [])
    zipped = [zipped] if zipped and all(isinstance(key, str) for key in _list(zipped)) else zipped
    if not isinstance(zipped, list) or not all(_is_names(keys) for keys in zipped):
        raise StudyInputError(f"{where}sweep.zip: expected lists of axes, got {zipped!r}")
    counts = {name: table.get(name, getattr(Sweep, name)) for name in ("samples", "sample_seed", "trace")}
    for name, count in counts.items():
        least = 1 if name == "samples" else 0
        if type(count) is not int or not least <= count <= LARGEST:
            expected = f"expected a whole number from {least} to {LARGEST:,}"
            raise StudyInputError(f"{where}sweep.{name}: {expected}, got {count!r}")
    sampler = table.get("sampler", Sweep.sampler)
    if sampler not in ("sobol", "random"):
        raise StudyInputError(f'{where}sweep.sampler: expected "sobol" or "random", got {sampler!r}')
    sweep = Sweep(made, tuple(map(tuple, zipped)), sampler=sampler, **counts)
    _check_zip(sweep, where)
    if math.prod(length for _, length in _blocks(sweep)) > LARGEST:
        raise StudyInputError(f"{where}sweep.axes: more than {LARGEST:,} points")
    return sweep


def typed_axes(sweep: Sweep, config_class: type, where: str, folder: Path) -> Sweep:
    """The same sweep with every axis's values in the type of its field.

    Raises:
      StudyInputError: there is no such field, or a value does not fit it.
    """
    hints = typing.get_type_hints(config_class, include_extras=True)
    _check_elements(sweep, where)
    axes = []
    for axis in sweep.axes:
        place = f"{where}sweep.axes.{axis.key}"
        hint = _hint_of(axis.key, hints, place)
        values, spec = axis.values, axis.spec
        if values is not None:
            values = tuple(absolute(convert(value, hint, place), folder) for value in values)
            # The record lies in another folder: it has paths as they were understood.
            spec = list(values) if isinstance(spec, list) else spec
        axes.append(Axis(axis.key, spec, values))
    for axis, column in zip(sweep.drawn, _sample(sweep).T if sweep.drawn else (), strict=True):
        place = f"{where}sweep.axes.{axis.key}"
        hint = _hint_of(axis.key, hints, place)
        kind, low, high = axis.draw
        scaled = [_scale(kind, low, high, float(u)) for u in column]
        values = tuple(convert(value, hint, place) for value in scaled)
        axes[axes.index(axis)] = dataclasses.replace(axis, values=values)
    return dataclasses.replace(sweep, axes=tuple(axes))


def points_of(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Every point of a sweep with `typed_axes`: values by key, the last axis fastest.

    >>> axes = (Axis("a", [1, 2], (1, 2)), Axis("b", [3, 4], (3, 4)))
    >>> [tuple(point.values()) for point in points_of(Sweep(axes))]
    [(1, 3), (1, 4), (2, 3), (2, 4)]
    """
    blocks = _blocks(sweep)
    order = [axis.key for axis in sweep.axes]
    for indices in itertools.product(*(range(length) for _, length in blocks)):
        point = {}
        for (axes, _), index in zip(blocks, indices, strict=True):
            point.update({axis.key: (axis.values or ())[index] for axis in axes})
        yield {key: point[key] for key in order}


def with_values(config: Any, point: Mapping[str, Any], where: str) -> Any:
    """The Config with a point's values in it; `field.index` replaces one element of a tuple."""
    changes: dict[str, Any] = {}
    for key, value in point.items():
        field, dot, index = key.partition(".")
        if not dot:
            changes[field] = value
            continue
        whole = changes.get(field, getattr(config, field))
        if not isinstance(whole, tuple) or int(index) >= len(whole):
            raise StudyInputError(f"{where}sweep.axes.{key}: {field} has no element {index}: {whole}")
        changes[field] = (*whole[: int(index)], value, *whole[int(index) + 1 :])
    return dataclasses.replace(config, **changes)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


def _is_names(keys: Any) -> bool:
    return isinstance(keys, list) and all(isinstance(key, str) for key in keys)


def _check_zip(sweep: Sweep, where: str) -> None:
    by_key = {axis.key: axis for axis in sweep.axes}
    seen: set[str] = set()
    for keys in sweep.zipped:
        for key in keys:
            if key not in by_key or by_key[key].is_drawn:
                raise StudyInputError(f"{where}sweep.zip: {key}: no axis with values of that name")
            if key in seen:
                raise StudyInputError(f"{where}sweep.zip: {key}: comes twice")
            seen.add(key)
        lengths = {key: len(by_key[key].values or ()) for key in keys}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise StudyInputError(f"{where}sweep.zip: axes of different lengths: {shown}")


def _check_elements(sweep: Sweep, where: str) -> None:
    """A tuple and one of its elements cannot both be swept: one would be without effect."""
    keys = [axis.key for axis in sweep.axes]
    for key in keys:
        field, dot, _ = key.partition(".")
        if dot and field in keys:
            raise StudyInputError(f"{where}sweep.axes.{key}: {field} is swept as a whole; leave one out")


def _blocks(sweep: Sweep) -> list[tuple[list[Axis], int]]:
    """Axes that move together, and how far, in the order of the first of each."""
    together = {key: number for number, keys in enumerate(sweep.zipped) for key in keys}
    blocks: dict[Any, list[Axis]] = {}
    for axis in sweep.axes:
        name = "drawn" if axis.is_drawn else together.get(axis.key, axis.key)
        blocks.setdefault(name, []).append(axis)
    return [
        (axes, sweep.samples if name == "drawn" else len(axes[0].values or ()))
        for name, axes in blocks.items()
    ]


def _hint_of(key: str, hints: Mapping[str, Any], where: str) -> Any:
    field, dot, index = key.partition(".")
    if field not in hints:
        raise StudyInputError(f"{where}: unknown key{did_you_mean(field, hints)}")
    hint = hints[field]
    if not dot:
        return hint
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    parts = typing.get_args(bare)
    if typing.get_origin(bare) is not tuple or not re.fullmatch(r"0|[1-9]\d{0,5}", index):
        raise StudyInputError(f"{where}: {field} is not a tuple, or {index!r} not the index of an element")
    if len(parts) == 2 and parts[1] is Ellipsis:
        return parts[0]
    if int(index) >= len(parts):
        raise StudyInputError(f"{where}: {field} has {len(parts)} elements, counted from 0")
    return parts[int(index)]


def _sample(sweep: Sweep) -> np.ndarray:
    """Numbers in [0, 1), one row a sample and one column a drawn axis."""
    shape = (sweep.samples, len(sweep.drawn))
    generator = np.random.default_rng(sweep.sample_seed)
    if sweep.sampler == "random":
        return generator.random(shape)
    from scipy.stats import qmc

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # balanced for powers of two; others are as good as random
        return qmc.Sobol(shape[1], rng=generator).random(shape[0])


def _scale(kind: str, low: float, high: float, u: float) -> float | int:
    if kind == "integers":
        return min(int(low) + int(u * (int(high) - int(low))), int(high) - 1)
    if kind == "loguniform":
        return min(max(float(math.exp(math.log(low) + u * (math.log(high) - math.log(low)))), low), high)
    return low + u * (high - low)
