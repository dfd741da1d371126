"""Which modes of differentiation a function of one vector has, and derivatives by the one that there is."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.programs import calls


def forward_works(fn: Callable[[Array], Array], theta: Array) -> bool:
    """Whether a function has derivatives in forward mode; with a `custom_vjp` alone it has none.

    >>> root = jax.custom_vjp(jnp.sqrt)
    >>> root.defvjp(lambda x: (jnp.sqrt(x), x), lambda x, bar: (0.5 * bar / jnp.sqrt(x),))
    >>> forward_works(root, jnp.ones(2)), forward_works(lambda x: root(jnp.ones(2)) * x, jnp.ones(2))
    (False, True)
    """
    try:
        program = jax.make_jaxpr(lambda t: jax.jvp(fn, (t,), (t,))[1])(theta)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        return False
    # The error may come only when the program is run.
    return not calls(program.jaxpr, "custom_lin")


def reverse_works(fn: Callable[[Array], Array], theta: Array) -> bool:
    """Whether a function has derivatives in reverse mode; with a loop that turns until a test it has none.

    >>> reverse_works(lambda x: jax.lax.while_loop(lambda x: x[0] < 9, lambda x: 2 * x, x), jnp.ones(2))
    False
    """

    def pull(theta: Array) -> Any:
        out, backwards = jax.vjp(fn, theta)
        return backwards(jnp.zeros_like(out))

    try:
        jax.make_jaxpr(pull)(theta)
    except (NotImplementedError, TypeError, ValueError) as error:
        if "reverse-mode" not in str(error).lower():
            raise
        return False
    return True


def value_and_gradient(fn: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """Of a function that returns a number, by reverse mode if it has one, else by forward mode.

    >>> print(*value_and_gradient(lambda x: jnp.sum(x**2), jnp.arange(3.0)))
    5.0 [0. 2. 4.]
    """
    return jax.value_and_grad(fn)(theta) if reverse_works(fn, theta) else by_forward(fn, theta)


def value_and_jacobian(fn: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """Of a function that returns a vector, transposed, by forward mode if it has one, else by reverse mode.

    >>> value, jacobian_t = value_and_jacobian(lambda x: x[:1] * x[1:], jnp.array([2.0, 3.0]))
    >>> print(value, jacobian_t.T)
    [6.] [[3. 2.]]
    """
    return by_forward(fn, theta) if forward_works(fn, theta) else by_reverse(fn, theta)


def by_forward(fn: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """The value and its transposed Jacobian, one pass a parameter, all at once."""
    basis = jnp.eye(theta.size, dtype=theta.dtype)
    return jax.vmap(lambda tangent: jax.jvp(fn, (theta,), (tangent,)), out_axes=(None, 0))(basis)


def by_reverse(fn: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """The value, a vector, and its transposed Jacobian, one pass an element of it."""
    value, pullback = jax.vjp(fn, theta)
    (jacobian_t,) = jax.vmap(pullback, out_axes=1)(jnp.eye(value.size, dtype=value.dtype))
    return value, jacobian_t
