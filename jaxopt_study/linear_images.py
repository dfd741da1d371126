"""Functions `f(θ) = φ(θ, Lθ)` whose linear images Lθ cost much, and all else little, told by their programs.

Regression and classification on fixed features are such functions. Where the images of a direction are known,
values and derivatives of f along it cost next to nothing: see `image_descent`. The program of f is
interpreted; what the interpreter does not know of is a reason to look for no images, never an error.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import core

from jaxopt_study.types import Float

DEAR = 1_000_000  # multiplications from which on an image is worth it, at most a tenth of them in all else
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}
# Linear in the one operand that depends on θ.
ONE_OPERAND = frozenset(
    [
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "neg",
        "reduce_sum",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
        "transpose",
    ]
)
PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])
FIXED, LINEAR, OTHER = 0, 1, 2  # independent of θ; linear in θ; anything else

Images = tuple[Array, ...]


class ByImages(NamedTuple):
    """A function by its linear images.

    Attributes:
      push: θ, or a direction, to its images, arrays of any shapes.
      value: θ and its images to f(θ).
    """

    push: Callable[[Float[Array, " params"]], Images]
    value: Callable[[Float[Array, " params"], Images], Float[Array, ""]]


def by_images(fn: Callable[[Array], Array], theta: Float[Array, " params"]) -> ByImages | None:
    """`fn` by its linear images, if there are such and all else is cheap beside them; None if not.

    >>> features = jnp.ones((2000, 1000))
    >>> parts = by_images(lambda theta: jnp.sum(jnp.tanh(features @ theta) ** 2), jnp.ones(1000))
    >>> images = parts.push(jnp.full(1000, 1e-3))
    >>> print(images[0].shape, f"{parts.value(jnp.ones(1000), images):.2f}")
    (2000,) 1160.05
    >>> by_images(lambda theta: jnp.sum(theta**4), jnp.ones(1000)) is None
    True
    """
    program = jax.make_jaxpr(fn)(theta)
    survey = _Walk()
    try:
        jax.eval_shape(lambda theta: survey.run(program, [(theta, LINEAR)])[0][0], theta)
    except NotImplementedError:
        return None
    if not survey.found or survey.found < 10 * survey.rest:
        return None

    def push(vector: Array) -> Images:
        walk = _Walk(only_linear=True)
        walk.run(program, [(vector, LINEAR)])
        return tuple(walk.images)

    def value(theta: Array, images: Images) -> Array:
        return _Walk(images).run(program, [(theta, LINEAR)])[0][0]

    return ByImages(push, value)


_Value = tuple[Any, int]  # an array, None where it is not computed, and what it is


class _Walk:
    """One way through the program: images are computed and collected, or taken from what is given.

    Attributes:
      images: those met.
      found, rest: what images cost, and everything else, in multiplications.
    """

    def __init__(self, given: Images | None = None, only_linear: bool = False) -> None:
        self.given, self.only_linear = given, only_linear
        self.images: list[Array] = []
        self.found = self.rest = 0

    def run(self, program: core.ClosedJaxpr, inputs: Sequence[_Value]) -> list[_Value]:
        known: dict[Any, _Value] = {}

        def read(atom: Any) -> _Value:
            return (atom.val, FIXED) if isinstance(atom, core.Literal) else known[atom]

        known.update(zip(program.jaxpr.constvars, ((c, FIXED) for c in program.consts), strict=True))
        known.update(zip(program.jaxpr.invars, inputs, strict=True))
        for equation in program.jaxpr.eqns:
            results = self.step(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in program.jaxpr.outvars]

    def step(self, equation: Any, operands: list[_Value]) -> list[_Value]:
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            inner = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
            return self.run(inner, operands)
        kind = _kind(name, [of for _, of in operands])
        cost = _cost(equation)
        if kind == LINEAR and name in PRODUCTS and cost >= DEAR:
            self.found += cost
            place = len(self.images)
            image = self.given[place] if self.given is not None else _bind(equation, operands)[0]
            self.images.append(image)
            return [(image, LINEAR)]
        self.rest += cost  # also of what is independent of θ: it is computed again for every value
        if self.only_linear and kind == OTHER:
            return [(None, OTHER) for _ in equation.outvars]
        return [(array, kind) for array in _bind(equation, operands)]


def _kind(name: str, kinds: list[int]) -> int:
    if all(kind == FIXED for kind in kinds):
        return FIXED
    linear = OTHER not in kinds
    if name in ("add", "sub", "add_any", "concatenate"):
        return LINEAR if linear and FIXED not in kinds else OTHER
    once = linear and kinds.count(LINEAR) == 1
    if name in PRODUCTS or name == "mul":
        return LINEAR if once else OTHER
    if name == "div":
        return LINEAR if once and kinds[0] == LINEAR else OTHER
    return LINEAR if once and name in ONE_OPERAND else OTHER


def _cost(equation: Any) -> int:
    """In multiplications; one for each element of a result where it is no product of matrices."""
    size = sum(int(np.prod(out.aval.shape)) for out in equation.outvars)
    inner = [
        core.ClosedJaxpr(part, ()) if isinstance(part, core.Jaxpr) else part for part in _parts(equation)
    ]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return size * int(np.prod([equation.invars[0].aval.shape[axis] for axis in contracted]))
    if equation.primitive.name == "conv_general_dilated":
        return size * int(np.prod(equation.invars[1].aval.shape[1:]))
    if inner and equation.primitive.name not in ("custom_jvp_call", "custom_vjp_call"):
        raise NotImplementedError("a loop or a branch, which costs what it costs")
    return size + sum(_cost(each) for part in inner for each in part.jaxpr.eqns)


def _parts(equation: Any) -> list[Any]:
    return [part for part in equation.params.values() if isinstance(part, core.Jaxpr | core.ClosedJaxpr)]


def _bind(equation: Any, operands: list[_Value]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # by version of JAX
    out = equation.primitive.bind(*functions, *[jnp.asarray(array) for array, _ in operands], **params)
    return list(out) if equation.primitive.multiple_results else [out]
