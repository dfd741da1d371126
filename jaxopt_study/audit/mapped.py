"""Values and derivatives under `vmap` against the same one by one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.audit.differences import Floats
from jaxopt_study.audit.flat import NEEDS_NUMBERS, FlatFunction, Leaf, compile_quickly, real_vector
from jaxopt_study.audit.judge import tolerance
from jaxopt_study.audit.report import Finding
from jaxopt_study.audit.sampling import groups_of, largest_of_group

LANES = 3
ALONE = 6  # leaves that are mapped over alone


def check_vmap(
    flat: FlatFunction,
    attempt: Callable[[str, Callable[[], Any]], Any],
    seen: Callable[[str, str, float], None],
    faults: list[Finding],
    notes: list[str],
    second_order: bool,
    draw: np.random.Generator,
) -> None:
    """Map over all arrays, and over each alone, because a batching rule sees which are mapped.

    Args:
      flat: the function.
      attempt: runs what may raise.
      seen, faults, notes: where to put what is found.
      second_order: compare products with the Hessian too.
      draw: random numbers.
    """
    function, args = flat.whole, flat.args
    lanes = [_moved(flat, args, draw, lane) for lane in range(LANES)]
    tangents = _moved(flat, args, draw, None)
    number = sum(leaf.size for leaf in flat.outputs)
    weights = draw.choice([-1.0, 1.0], number) * draw.uniform(0.5, 1.5, number)
    parts = _parts(function, tangents, weights, flat.dtype, second_order)
    try:
        parts = _working(parts, args)
    except NEEDS_NUMBERS:
        notes.append("vmap: the function looks at its numbers while it is traced")
        return
    quickly = compile_quickly()

    def every(*args: Any) -> dict[str, Array]:
        return {name: part(*args) for name, part in parts.items()}

    together = jax.jit(every, compiler_options=quickly)
    leaves = jax.tree.leaves(args)
    moving = [i for i, leaf in enumerate(leaves) if _is_float(leaf)]
    alone = [[i] for i in moving[:ALONE]] if len(moving) > 1 else []
    for chosen in (moving, *alone):
        check_lanes(flat, together, every, lanes, chosen, attempt, seen, faults)


def check_lanes(
    flat: FlatFunction,
    together: Callable[..., dict[str, Array]],
    every: Callable[..., dict[str, Array]],
    lanes: list[tuple],
    chosen: list[int],
    attempt: Callable[[str, Callable[[], Any]], Any],
    seen: Callable[[str, str, float], None],
    faults: list[Finding],
) -> None:
    """Map over the leaves of these numbers, and compare with one after the other."""
    given, tree = jax.tree.flatten(flat.args)
    per_lane = [jax.tree.leaves(lane) for lane in lanes]
    one_by_one = []
    for lane in per_lane:
        mixed = [lane[i] if i in chosen else leaf for i, leaf in enumerate(given)]
        one_by_one.append(jax.tree.map(np.asarray, together(*jax.tree.unflatten(tree, mixed))))
    stacked = [
        np.stack([np.asarray(lane[i]) for lane in per_lane]) if i in chosen else leaf
        for i, leaf in enumerate(given)
    ]
    axes = jax.tree.unflatten(tree, [0 if i in chosen else None for i in range(len(given))])
    program = jax.jit(jax.vmap(every, axes), compiler_options=compile_quickly())
    mapped = attempt("vmap", lambda: program(*jax.tree.unflatten(tree, stacked)))
    if mapped is None:
        return
    floats = [i for i, leaf in enumerate(given) if _is_float(leaf)]
    moved = [flat.inputs[floats.index(i)] for i in chosen]
    for part, many in mapped.items():
        loop = np.stack([np.asarray(lane[part], np.float64) for lane in one_by_one])
        _compare(part, np.asarray(many, np.float64), loop, moved, flat, seen, faults)


def _working(parts: dict[str, Callable[..., Array]], args: tuple) -> dict[str, Callable[..., Array]]:
    """Those that can be computed without vmap; why the others cannot has been found already."""
    out = {}
    for name, part in parts.items():
        try:
            program = jax.make_jaxpr(part)(*args)
        except NEEDS_NUMBERS:
            raise
        except Exception:  # whatever a rule raises
            continue
        if "custom_lin[" not in str(program):  # forward mode of what has a rule for reverse mode only
            out[name] = part
    return out


def _parts(
    function: Callable[..., list[Array]], tangents: Any, weights: Floats, dtype: Any, second_order: bool
) -> dict[str, Callable[..., Array]]:
    def total(*args: Any) -> Array:
        out = real_vector(function(*args))
        return jnp.sum(jnp.asarray(weights, out.dtype) * out)

    def floats(*args: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
        leaves, tree = jax.tree.flatten(args)
        where = [i for i, leaf in enumerate(leaves) if _is_float(leaf)]

        def fill(moving: list[Array]) -> Any:
            filled = list(leaves)
            for i, leaf in zip(where, moving, strict=True):
                filled[i] = leaf
            return jax.tree.unflatten(tree, filled)

        return [jnp.asarray(leaves[i]) for i in where], fill

    along = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tangents) if _is_float(leaf)]

    def forward(*args: Any) -> Array:
        moving, fill = floats(*args)
        return jax.jvp(lambda m: real_vector(function(*fill(m))), (moving,), (along,))[1]

    def gradient(moving: list[Array], fill: Callable[[list[Array]], Any]) -> list[Array]:
        return jax.grad(lambda m: total(*fill(m)))(moving)

    def reverse(*args: Any) -> Array:
        moving, fill = floats(*args)
        return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in gradient(moving, fill)])

    def second(*args: Any) -> Array:
        moving, fill = floats(*args)
        _, out = jax.jvp(lambda m: gradient(m, fill), (moving,), (along,))
        return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in out])

    parts: dict[str, Callable[..., Array]] = {
        "value": lambda *args: real_vector(function(*args)),
        "forward": forward,
        "reverse": reverse,
    }
    return {**parts, "second order": second} if second_order else parts


def _compare(
    part: str,
    many: Floats,
    loop: Floats,
    moved: list[Leaf],
    flat: FlatFunction,
    seen: Callable[[str, str, float], None],
    faults: list[Finding],
) -> None:
    names = "everything" if len(moved) == len(flat.inputs) else moved[0].name
    if many.shape != loop.shape:
        why = f"{part} under vmap over {names} has shape {many.shape[1:]}, one by one {loop.shape[1:]}"
        faults.append(Finding("vmap", "", part, f"{LANES} lanes", np.nan, np.nan, np.inf, np.inf, why))
        return
    with np.errstate(invalid="ignore"):
        off = np.where((many == loop) | (np.isnan(many) & np.isnan(loop)), 0.0, np.abs(many - loop))
    leaves = flat.outputs if part in ("value", "forward") else flat.inputs
    size = np.where(np.isfinite(loop), np.abs(loop), 0.0).max(axis=0, keepdims=True)
    size = largest_of_group(size, groups_of(leaves))
    # What cancels within a leaf leaves rounding errors of the size of other leaves.
    size = np.fmax(size, flat.eps**0.5 * size.max(initial=0.0))
    relative = np.where(np.isfinite(off), off / np.fmax(size, 1e-300), np.inf)
    for leaf in moved:
        seen(leaf.name, "vmap", float(relative.max(initial=0.0)))
    if not (relative > tolerance(flat.eps)).any():
        return
    lane, element = np.unravel_index(np.argmax(relative), relative.shape)
    leaf = next(leaf for leaf in leaves if leaf.start <= element < leaf.start + leaf.size)
    where = leaf.element(int(element))
    what = {"value": where, "forward": f"d {where}", "reverse": f"(gradient by {where})"}.get(
        part, f"(Hessian times a vector, {where})"
    )
    got, want = float(many[lane, element]), float(loop[lane, element])
    faults.append(
        Finding(
            "vmap", "", what, f"{lane + 1} of {LANES} lanes", got, want, 0.0, float(relative[lane, element]),
            f"{part} under vmap over {names} differs from one by one",
        )
    )  # fmt: skip


def _is_float(leaf: Any) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating)) and np.size(leaf) > 0
    except TypeError:
        return False


def _moved(flat: FlatFunction, args: tuple, draw: np.random.Generator, lane: int | None) -> tuple:
    """The arguments as given (lane 0), others near them, or (None) a direction."""

    def move(leaf: Any) -> Any:
        if not _is_float(leaf):
            return leaf
        dtype = jnp.result_type(leaf)
        numbers = np.asarray(leaf, np.float64)
        if lane == 0:
            return np.asarray(numbers, dtype)
        factor = draw.uniform(0.8, 1.2, numbers.shape)
        if lane is None:
            return np.asarray(draw.choice([-1.0, 1.0], numbers.shape) * factor, dtype)
        return np.asarray(np.where(numbers == 0, 0.1 * (factor - 1), numbers * factor), dtype)

    return jax.tree.map(move, args)
