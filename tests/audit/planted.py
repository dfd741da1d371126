"""Functions with a rule that is wrong in one way, made from a seed."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

KINDS = ["sign", "factor", "branch", "forgotten", "vmap", "large", "second"]


class Recipe(NamedTuple):
    """An elementwise function, its partial derivatives, and where it lives."""

    value: object
    partials: tuple
    low: float
    high: float


RECIPES = [
    Recipe(lambda x: jnp.sin(x) * x, (lambda x: jnp.cos(x) * x + jnp.sin(x),), 0.3, 2.0),
    Recipe(lambda x: x**3 - x, (lambda x: 3 * x**2 - 1,), 0.7, 2.0),
    Recipe(lambda x: x / (1 + x**2), (lambda x: (1 - x**2) / (1 + x**2) ** 2,), 0.2, 0.8),
    Recipe(lambda x: jnp.sqrt(1 + x**2), (lambda x: x / jnp.sqrt(1 + x**2),), 0.2, 3.0),
    Recipe(lambda x, y: x * jnp.sin(y), (lambda x, y: jnp.sin(y), lambda x, y: x * jnp.cos(y)), 0.3, 1.2),
    Recipe(lambda x, y: x**2 * y, (lambda x, y: 2 * x * y, lambda x, y: x**2), 0.3, 2.0),
    Recipe(
        lambda x, y: x / (2 + y**2),
        (lambda x, y: 1 / (2 + y**2), lambda x, y: -2 * x * y / (2 + y**2) ** 2),
        0.3,
        2.0,
    ),
    Recipe(
        lambda x, y: jnp.log(1 + x**2 + y**2),
        (lambda x, y: 2 * x / (1 + x**2 + y**2), lambda x, y: 2 * y / (1 + x**2 + y**2)),
        0.3,
        2.0,
    ),
]  # fmt: skip
TWO_BRANCHES = Recipe(
    lambda x: jnp.where(x > 1, 2 * jnp.sqrt(jnp.abs(x)), 0.5 + x + x**2 / 2),
    (lambda x: jnp.where(x > 1, 1 / jnp.sqrt(jnp.abs(x)), 1 + x),),
    0.2,
    3.0,
)


def planted(seed, dtype):
    """`(fn, args, kind)`: a function whose derivative is wrong in one way, and where to look."""
    draw = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    recipe = RECIPES[draw.integers(len(RECIPES))]
    if kind == "branch":
        recipe = TWO_BRANCHES
    if kind == "forgotten":
        recipe = RECIPES[4 + draw.integers(4)]
    partials = list(recipe.partials)
    which = int(draw.integers(len(partials)))
    partials[which] = mutate(kind, partials[which], draw)
    value = recipe.value
    if kind == "vmap":
        fn = wrong_under_vmap(recipe, draw)
    else:
        fn = with_rule(value, partials, as_jvp=bool(draw.integers(2)))
    shape = ((), (3,), (2, 2), (40,))[draw.integers(4)]
    args = [jnp.asarray(draw.uniform(recipe.low, recipe.high, shape), dtype) for _ in partials]
    if kind == "branch":
        args = [jnp.asarray(np.where(draw.random(shape) < 0.5, 0.4, 2.5), dtype)]
    wrapped, args = WRAPPINGS[draw.integers(len(WRAPPINGS))](fn, args)
    return wrapped, args, kind


def mutate(kind, partial, draw):
    """The partial derivative, spoiled."""
    if kind == "sign":
        return lambda *args: -partial(*args)
    if kind == "factor":
        factor = float(draw.choice([0.5, 2.0, 0.9, 1.1, 3.0]))
        return lambda *args: factor * partial(*args)
    if kind == "branch":
        swapped = bool(draw.integers(2))
        return lambda x: (
            jnp.where((x > 1) ^ swapped, 1 + x, 1 + x) if not swapped else 1 / jnp.sqrt(jnp.abs(x))
        )
    if kind == "forgotten":
        return lambda *args: jnp.zeros_like(args[0])
    if kind == "large":
        threshold, factor = float(draw.choice([8.0, 30.0, 100.0])), float(draw.choice([0.0, 0.5, 1.5, -1.0]))
        return lambda *args: jnp.where(jnp.abs(args[0]) > threshold, factor, 1.0) * partial(*args)
    if kind == "second":
        return lambda *args: jax.lax.stop_gradient(partial(*args))
    return partial


def with_rule(value, partials, as_jvp):
    """The value with these for its partial derivatives, by `custom_jvp` or by `custom_vjp`."""
    if as_jvp:
        fn = jax.custom_jvp(value)

        @fn.defjvp
        def rule(primals, tangents):
            terms = [p(*primals) * t for p, t in zip(partials, tangents, strict=True)]
            return value(*primals), functools.reduce(jnp.add, terms)

        return fn
    fn = jax.custom_vjp(value)
    fn.defvjp(lambda *args: (value(*args), args), lambda args, g: tuple(p(*args) * g for p in partials))
    return fn


def wrong_under_vmap(recipe, draw):
    """Right one by one; its rule for batches, or that of its backward pass, is not."""
    factor = float(draw.choice([0.5, 2.0, -1.0, 1.1]))
    only_mixed = len(recipe.partials) > 1 and bool(draw.integers(2))

    def spoiled(function):
        fn = custom_vmap(function)

        @fn.def_vmap
        def rule(size, batched, *args):
            if not any(batched):
                return function(*args), False
            args = [
                arg if b else jnp.broadcast_to(arg, (size, *jnp.shape(arg)))
                for arg, b in zip(args, batched, strict=True)
            ]
            out = jax.vmap(function)(*args)
            return (out if only_mixed and all(batched) else factor * out), True

        return fn

    if draw.integers(2):
        return spoiled(recipe.value)
    partials = list(recipe.partials)
    partials[0] = spoiled(partials[0])
    return with_rule(recipe.value, partials, as_jvp=False)


def alone(fn, args):
    return fn, tuple(args)


def in_a_sum(fn, args):
    return lambda *args: jnp.sum(jnp.tanh(fn(*args) / 10) + 0.1 * fn(*args)), tuple(args)


def in_a_tree(fn, args):
    def whole(params, scale):
        out = fn(*params["all"])
        return {"scaled": out * scale, "other": params["other"] * scale}

    dtype = args[0].dtype
    return whole, ({"all": list(args), "other": jnp.ones(2, dtype)}, jnp.asarray(1.5, dtype))


def with_integers(fn, args):
    return lambda count, *args: count * fn(*args), (3, *args)


WRAPPINGS = [alone, in_a_sum, in_a_tree, with_integers]
