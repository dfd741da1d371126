"""What a program is made of, where that decides how it is best compiled or differentiated."""

from typing import NamedTuple

from jax.extend.core import Jaxpr, jaxprs_in_params

CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call"}  # of a program that is run once, as it stands


class Made(NamedTuple):
    """What was found.

    Attributes:
      straight: whether it has neither loops nor branches, nor what cannot be looked into.
      widest: the most elements of an array that it computes.
    """

    straight: bool
    widest: int


def made_of(program: Jaxpr) -> Made:
    """Look through a program, and the programs that it calls.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones(3)
    >>> made_of(jax.make_jaxpr(lambda x: jax.nn.relu(x) * x[:, None])(x).jaxpr)
    Made(straight=True, widest=9)
    >>> made_of(jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 9, lambda _, y: 2 * y, x))(x).jaxpr)
    Made(straight=False, widest=3)
    """
    straight, widest = True, 0
    for eqn in program.eqns:
        name = eqn.primitive.name
        called = [made_of(part) for part in jaxprs_in_params(eqn.params)]
        straight &= all(part.straight for part in called)
        straight &= name in CALLS if called else "callback" not in name
        sizes = [out.aval.size for out in eqn.outvars if hasattr(out.aval, "size")]
        widest = max(widest, *sizes, *(part.widest for part in called), 0)
    return Made(straight, widest)


def calls(program: Jaxpr, name: str) -> bool:
    """Whether a primitive of this name is in a program, or in one that it calls.

    >>> import jax
    >>> program = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 9, lambda _, y: jax.numpy.sin(y), x))(1.0)
    >>> calls(program.jaxpr, "sin"), calls(program.jaxpr, "cos")
    (True, False)
    """
    return any(
        eqn.primitive.name == name or any(calls(part, name) for part in jaxprs_in_params(eqn.params))
        for eqn in program.eqns
    )
