"""The loop of `minimize` on one vector, for elementwise optimizers of small pytrees.

A step of Adam on a network of four leaves begins with twelve kernels of a few numbers each, all of them ready
at once. Of more than eight XLA's runtime for CPUs hands half to another thread, and waits for it: on a busy
machine a step of a 2-10-1 network took 1.8 times as long as in a `lax.scan`, which begins with the gradient.
On one vector there are three kernels, whatever the number of leaves.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.optimizers.combine import is_elementwise
from jaxopt_study.pytree import ravel_leaves, size
from jaxopt_study.solvers.step import Progress, Setup
from jaxopt_study.types import PyTree

MOST = 2**16  # elements: of more, copying them takes as long as calling kernels does
RAVELED = ("params", "grads", "opt_state")  # of what a step changes


def on_a_vector(setup: Setup, state: Progress) -> tuple[Setup, Progress, Callable[[Progress], Progress]]:
    """The same minimization, with vectors for params and all that is like them.

    Returns:
      What the loop takes, and the function that gives what the loop returns the form of `state`. All stays as
      it is where there is one leaf, or many elements, or several dtypes, or the optimizer is not elementwise.
    """
    leaves, structure = jax.tree.flatten(state.params)
    several = len(leaves) > 1 and len({leaf.dtype for leaf in leaves}) == 1
    if not several or size(leaves) > MOST or not is_elementwise(setup.optimizer):
        return setup, state, lambda state: state
    shapes = [leaf.shape for leaf in leaves]
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def alike(node: Any) -> bool:
        below: Any = jax.tree.structure(node)
        return below == structure and [jnp.shape(leaf) for leaf in jax.tree.leaves(node)] == shapes

    def ravel(tree: Any) -> Any:
        return jax.tree.map(lambda node: ravel_leaves(node) if alike(node) else node, tree, is_leaf=alike)

    def unravel(vector: Array) -> PyTree:
        parts = jnp.split(vector, ends)  # its transpose joins; that of slices pads and adds
        return jax.tree.unflatten(structure, [part.reshape(s) for part, s in zip(parts, shapes, strict=True)])

    def restore(like: Any, tree: Any) -> Any:
        return jax.tree.map(lambda old, new: unravel(new) if alike(old) else new, like, tree, is_leaf=alike)

    def outside(new: Progress) -> Progress:
        form = {name: restore(getattr(state, name), getattr(new, name)) for name in RAVELED}
        return dataclasses.replace(new, **form)

    objective, observe = setup.objective, setup.observe
    inside = dataclasses.replace(
        setup,
        objective=lambda vector, *args: objective(unravel(vector), *args),
        observe=None if observe is None else lambda vector: observe(unravel(vector)),
        bounds=ravel(setup.bounds),
    )
    begun = dataclasses.replace(state, **{name: ravel(getattr(state, name)) for name in RAVELED})
    return inside, begun, outside
