"""The solve as a function that JAX can differentiate, in forward and reverse mode, and again.

The tangent of the observed states is a linear map of the tangents of what they depend on: `linear_map` is
told how that is run forwards and transposed (`sensitivity`), and of what its own derivatives are taken
(`replay`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxopt_study.ode import linear_map
from jaxopt_study.ode.kept import Kept
from jaxopt_study.ode.march import March, march
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.ode.replay import replay
from jaxopt_study.ode.sensitivity import Moves, Sources, pulled, pushed
from jaxopt_study.types import PyTree


class Outcome(NamedTuple):
    """The states that carry derivatives, and the march, which carries none."""

    moves: Moves
    march: March


def flow(plan: Plan, theta: PyTree, y0: Array, t0: Array, ts: Array, numbers: Numbers) -> Outcome:
    """March, with derivatives with respect to the floats in theta, y0, t0 and ts."""
    floats, rebuild_from, others = _split(theta)

    @jax.custom_jvp
    def run(
        floats: list[Array], y0: Array, t0: Array, ts: Array, others: list[Any], numbers: Numbers
    ) -> Outcome:
        done = march(plan, rebuild_from(floats, others), y0, t0, ts, numbers)
        return Outcome(Moves(done.ys, done.kept.all_states), done)

    def rule(primals: tuple, tangents: tuple) -> tuple[Outcome, Outcome]:
        floats, y0, t0, ts, others, numbers = primals
        floats_move, y0_move, t0_move, ts_move, *_ = tangents
        out = run(*primals)
        kept = jax.lax.stop_gradient(out.march.kept)
        theta = rebuild_from(floats, others)
        y0_move = _instantiate(y0_move)
        if not _is_zero(t0_move):
            y0_move = y0_move - plan.field(t0, y0, theta) * t0_move
        sources = Sources(y0, floats)
        moved = Sources(y0_move, [_instantiate(x) for x in floats_move])
        numbers = jax.lax.stop_gradient(numbers)
        moves = _linear(plan, rebuild_from, sources, others, kept, t0, ts, numbers, moved)
        if not _is_zero(ts_move):
            slopes = jax.vmap(lambda t, y: plan.field(t, y, theta))(ts, out.moves.ys)
            moves = moves._replace(ys=moves.ys + slopes * ts_move[:, None])
        return out, Outcome(moves, jax.tree.map(_no_tangent, out.march))

    run.defjvp(rule, symbolic_zeros=True)
    return run(floats, y0, t0, ts, others, numbers)


def _linear(
    plan: Plan,
    rebuild_from: Any,
    sources: Sources,
    others: list[Any],
    kept: Kept,
    t0: Array,
    ts: Array,
    numbers: Numbers,
    moves: Sources,
) -> Moves:
    """The tangents of the observed states, linear in those of the sources in the eyes of JAX."""
    fixed, structure = jax.tree.flatten((sources, others, kept, t0, ts, numbers))

    def opened(fixed: list[Any]) -> tuple:
        sources, others, kept, t0, ts, numbers = jax.tree.unflatten(structure, fixed)
        return lambda floats: rebuild_from(floats, others), sources, kept, t0, ts, numbers

    def forward(fixed: list[Any], moves: Sources) -> Moves:
        rebuild, sources, kept, _, ts, numbers = opened(fixed)
        return pushed(plan, rebuild, sources, kept, ts, numbers, moves)

    def backward(fixed: list[Any], back: Moves) -> Sources:
        rebuild, sources, kept, _, ts, numbers = opened(fixed)
        return pulled(plan, rebuild, sources, kept, ts, numbers, back)

    def plain(fixed: list[Any], moves: Sources) -> Moves:
        rebuild, sources, kept, t0, ts, numbers = opened(fixed)
        again = lambda sources: replay(plan, rebuild, sources, kept, t0, ts, numbers)  # noqa: E731
        return jax.jvp(again, (sources,), (moves,))[1]

    like: list[Any] = [
        jax.ShapeDtypeStruct(shape, sources.y0.dtype)
        for shape in ((ts.size, sources.y0.size), kept.all_states.shape)
    ]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), moves)
    return linear_map.apply(linear_map.Rules(forward, backward, plain, shapes, Moves(*like)), fixed, moves)


def _split(theta: PyTree) -> tuple[list[Array], Any, list[Any]]:
    """The floats, a function that puts them back, and the other leaves."""
    leaves, structure = jax.tree.flatten(theta)
    is_float = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    floats = [jnp.asarray(leaf) for leaf, yes in zip(leaves, is_float, strict=True) if yes]
    others = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if not yes]

    def rebuild(floats: list[Array], others: list[Any]) -> PyTree:
        first, second = iter(floats), iter(others)
        return jax.tree.unflatten(structure, [next(first) if yes else next(second) for yes in is_float])

    return floats, rebuild, others


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _instantiate(tangent: Any) -> Array:
    if _is_zero(tangent):
        return jnp.zeros(tangent.aval.shape, tangent.aval.dtype)
    return tangent


def _no_tangent(leaf: Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
