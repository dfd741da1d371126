"""The derivative of one equation of a jaxpr, as a jaxpr: for every primitive that has no rule of its own.

y = F(u) gives y' = F'(u) u'. JAX knows F' (the primitive's own rule, or the one that a person wrote with
`custom_jvp` or `custom_vjp`), and y follows by integrating the series of y'. So the derivatives of any
order are those that nesting `jvp` would give.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, subjaxprs

from jaxopt_study.series.dependence import can_vary


def bind(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The results of an equation for arrays."""
    params, functions = eqn.primitive.get_bind_params(eqn.params), ()
    if isinstance(params, tuple):  # versions of JAX differ in where they put the functions of a rule
        functions, params = params
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*functions, *values, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def derivative(eqn: JaxprEqn, moving: Sequence[int]) -> ClosedJaxpr:
    """The derivative of an equation along a direction.

    Args:
      eqn: the equation, y = F(u, c).
      moving: the positions of the operands u that vary.

    Returns:
      A function of all operands but the literals, and of u', to y' for every result of a float dtype.
    """
    literals = {i: atom.val for i, atom in enumerate(eqn.invars) if isinstance(atom, Literal)}
    places = [i for i in range(len(eqn.invars)) if i not in literals]
    shapes = [_shape_of(eqn.invars[i]) for i in places]
    directions = [_shape_of(eqn.invars[i]) for i in moving]

    def slope(operands: list[Array], directions: list[Array]) -> list[Any]:
        values = {**literals, **dict(zip(places, operands, strict=True))}

        def fn(*moved: Array) -> list[Any]:
            there = {**values, **dict(zip(moving, moved, strict=True))}
            results = bind(eqn, [there[i] for i in range(len(eqn.invars))])
            return [y for y, var in zip(results, eqn.outvars, strict=True) if can_vary(var)]

        at = tuple(values[i] for i in moving)
        if eqn.primitive.name == "custom_vjp_call":
            return _push_backward_rule(fn, at, tuple(directions))
        return jax.jvp(fn, at, tuple(directions))[1]

    return jax.make_jaxpr(slope)(shapes, directions)


def _shape_of(atom: Any) -> jax.ShapeDtypeStruct:
    aval = atom.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))


def _push_backward_rule(
    fn: Callable[..., list[Any]], at: tuple[Array, ...], directions: tuple[Array, ...]
) -> list[Any]:
    """Jᵀ is given, J u' is wanted."""
    results, pull = jax.vjp(fn, *at)
    if sum(y.size for y in results) == 1:
        # A gradient; that of a rule that is no derivative (one that clips, say) is what `jax.grad` has.
        gradients = pull([jnp.ones_like(y) for y in results])
        total = sum(jnp.sum(g * d) for g, d in zip(gradients, directions, strict=True))
        return [jnp.reshape(total, y.shape).astype(y.dtype) for y in results]
    # The derivative of w ↦ Jᵀw, which is linear, taken backwards too.
    _, push = jax.vjp(pull, [jnp.zeros_like(y) for y in results])
    return push(directions)[0]


# What makes a mutable array: its primitives are statements, not functions with a derivative of their own.
_MUTABLE = frozenset({"empty_ref", "new_ref", "run_state"})


def mutates(jaxpr: Jaxpr) -> bool:
    """Whether there is a mutable array (`jax.new_ref`) anywhere in a function."""
    return any(eqn.primitive.name in _MUTABLE for eqn in jaxpr.eqns) or any(map(mutates, subjaxprs(jaxpr)))


def nested(fn: Callable[[Any], Any], params: Any, direction: Any, order: int) -> Any:
    """The coefficients of a function along a line by nesting `jvp`: right for anything, and slow."""

    def on_line(t: Array) -> Any:
        return fn(jax.tree.map(lambda p, v: p + t.astype(p.dtype) * v, params, direction))

    rows, derivative = [], on_line
    for k in range(order + 1):
        rows.append(jax.tree.map(lambda y, k=k: y / math.factorial(k), derivative(jnp.zeros(()))))
        derivative = functools.partial(_slope, derivative)
    return jax.tree.map(lambda *ys: jnp.stack(ys), *rows)


def _slope(fn: Callable[[Array], Any], t: Array) -> Any:
    return jax.jvp(fn, (t,), (jnp.ones_like(t),))[1]


def signature(eqn: JaxprEqn, derivative: ClosedJaxpr | None) -> Any:
    """What tells an equation's function from others, whatever its operands; None if nothing does.

    The rules that people write come as closures, one for every call. Two of them are the same if they
    compute the same value and the same derivative, operation by operation.
    """
    name = eqn.primitive.name
    if name in ("custom_jvp_call", "custom_vjp_call"):
        if derivative is None:
            return None
        return name, str(eqn.params["call_jaxpr"]), str(derivative), tuple(map(id, derivative.consts))
    key = (name, tuple(sorted(eqn.params.items(), key=lambda item: item[0])))
    try:
        hash(key)
    except TypeError:
        return None
    return key
