"""A study's functions on the leaves of one point, from which the programs of sweeps are made."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxopt_study.study.lane_cost import choose_width
from jaxopt_study.study.program import strongly_typed
from jaxopt_study.study.protocol import Study, check_outcome


class OneLane:
    """The study's functions on the leaves of one point; jitted, so that each is traced once.

    Attributes:
      leaves: their shapes.
      carry: its shapes.
    """

    def __init__(self, study: Study, config: Any):
        self.study, self.structure = study, jax.tree.structure(config)
        self.begin = jax.jit(self._begin)
        self.go = jax.jit(self._go)
        self.see = jax.jit(self._see)
        self.leaves = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in stack_leaves([config])]
        self.carry = jax.eval_shape(self.begin, self.leaves)
        check_outcome(study, jax.eval_shape(self.see, self.leaves, self.carry))

    def width(self) -> int:
        """How many to run side by side, see `lane_cost`."""
        if self.study.run is not None:
            return 1
        traced = jax.make_jaxpr(self.go)(self.leaves, self.carry, jax.ShapeDtypeStruct((), np.int32))
        held = sum(_nbytes(leaf) for leaf in jax.tree.leaves(self.carry))
        return choose_width(traced, held, accelerator=jax.default_backend() != "cpu")

    def _config(self, leaves: list[Any]) -> Any:
        return jax.tree.unflatten(self.structure, leaves)

    def _begin(self, leaves: list[Any]) -> Any:
        config = self._config(leaves)
        key = jax.random.key(config.seed)
        if self.study.run is not None:
            return self.study.run(config, key)
        return strongly_typed(self.study.steps[0](config, key))

    def _go(self, leaves: list[Any], carry: Any, n: Any) -> Any:
        if self.study.run is not None:
            return carry
        return strongly_typed(self.study.steps[1](self._config(leaves), carry, n))

    def _see(self, leaves: list[Any], carry: Any) -> Any:
        if self.study.run is not None:
            return carry
        return self.study.steps[2](self._config(leaves), carry)


def stack_leaves(configs: Sequence[Any]) -> list[np.ndarray]:
    """Every leaf of Configs of the same structure, in their dtype, one entry a Config."""
    floats = np.dtype(configs[0].dtype)
    columns = zip(*map(jax.tree.leaves, configs), strict=True)
    return [_as_array(column, floats) for column in columns]


def _as_array(column: Sequence[Any], floats: Any) -> np.ndarray:
    if all(type(value) is int for value in column):
        return np.array(column, np.int64 if floats == np.float64 else np.int32)
    return np.array(column, floats)


def _nbytes(leaf: Any) -> int:
    keys = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
    return int(np.prod(leaf.shape, dtype=int)) * (8 if keys else leaf.dtype.itemsize)
