"""The words that options are spelled with, and the types of arrays with their shapes.

jaxtyping's annotations do something only where its import hook is installed, as in the tests. To
import it costs more than to import this package (it imports `unittest.mock` and `asyncio`, and the
garbage collection that they set off is the larger part). So it is used where it is there already,
and by type checkers; elsewhere an annotation says `Array`, without the shape.
"""

import sys
from typing import TYPE_CHECKING, Any, Literal

JacobianMode = Literal["auto", "forward", "reverse", "pointwise", "sparse"]
LinearSolver = Literal["auto", "cholesky", "qr", "dual", "cg"]
LossName = Literal["linear", "huber", "soft_l1", "cauchy", "arctan", "tukey"]
DampingRule = Literal["nielsen", "radius", "delayed"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped
else:

    class _Array:
        def __class_getitem__(cls, array_and_shape: tuple[type, str]) -> type:
            return array_and_shape[0]

    Bool = Float = Int = Key = Shaped = _Array
    PyTree = Any

__all__ = [
    "Bool",
    "DampingRule",
    "Float",
    "Int",
    "JacobianMode",
    "Key",
    "LinearSolver",
    "LossName",
    "PyTree",
    "Shaped",
]
