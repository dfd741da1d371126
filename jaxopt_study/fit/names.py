"""What a person calls the elements of a pytree: `vmax`, `layers[0].w[2]`."""

from typing import Any

import jax
import numpy as np

from jaxopt_study.types import PyTree


def names_of(tree: PyTree, alone: str = "p") -> list[str]:
    """A name for every element, in the order in which leaves are raveled.

    Args:
      tree: pytree of arrays.
      alone: the name of a tree that is one array.

    >>> names_of({"layers": [{"w": np.zeros(2)}, {"w": 0.0}], "scale": 1.0})
    ['layers[0].w[0]', 'layers[0].w[1]', 'layers[1].w', 'scale']
    >>> names_of(np.zeros((1, 2)))
    ['p[0,0]', 'p[0,1]']
    """
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = ""
        for key in path:
            word = _word(key)
            name += word if not name or word.startswith("[") else f".{word}"
        # A bare index needs something to stand behind.
        name = f"{alone}{name}" if not name or name.startswith("[") else name
        for index in np.ndindex(np.shape(leaf)):
            names.append(name + (f"[{','.join(map(str, index))}]" if index else ""))
    return names


def _word(key: Any) -> str:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return key.name
    if isinstance(key, jax.tree_util.DictKey) and isinstance(key.key, str):
        return key.key
    return f"[{getattr(key, 'key', getattr(key, 'idx', key))}]"
