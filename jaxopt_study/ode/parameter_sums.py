"""Cotangents of parameters, as they are added up step after step."""

import itertools

from jax import Array

from jaxopt_study.pytree import SHORT, ravel_leaves, size


def summable(leaves: list[Array]) -> list[Array]:
    """The form in which they are added up: small ones as one vector, which is one sum and not one a leaf.

    Transposed, because that is how the product of a layer's cotangents and inputs comes; turned round, it is
    made by another routine, which takes four times as long.
    """
    turned = [leaf.T for leaf in leaves]
    return [ravel_leaves(turned)] if 0 < size(leaves) <= SHORT else turned


def summed(sums: list[Array], like: list[Array]) -> list[Array]:
    """The cotangents in the shapes of the parameters."""
    if 0 < size(like) <= SHORT:
        ends = list(itertools.accumulate(leaf.size for leaf in like))
        sums = [
            sums[0][end - leaf.size : end].reshape(leaf.shape[::-1])
            for end, leaf in zip(ends, like, strict=True)
        ]
    return [leaf.T for leaf in sums]
