"""What `find_root` and `find_roots` are given: options and numbers, checked before anything is computed."""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.optimizers.transform import number, positive
from jaxopt_study.pytree import shown
from jaxopt_study.solvers.minimize_input import check_max_steps, check_tuple
from jaxopt_study.solvers.root_model import ModelOptions, RootSolver
from jaxopt_study.solvers.root_newton import NewtonOptions, RootTolerances
from jaxopt_study.types import Float, PyTree

RootMethod = Literal["auto", "newton", "broyden", "levenberg_marquardt", "chandrupatla"]
MAX_STEPS = 200
FIRST_RADIUS = 100.0  # relative to the start, as in MINPACK


class RootNumbers(NamedTuple):
    """Numbers that `find_root` takes, traced; None is the dtype's default."""

    ftol: Any = None
    xtol: Any = None
    xatol: Any = None
    gtol: Any = None
    radius: Any = FIRST_RADIUS
    max_steps: Any = MAX_STEPS


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RootOptions:
    """What of `find_root` is structure."""

    method: RootMethod
    newton: NewtonOptions


def check_options(
    fn: Any,
    x0: Any,
    args: Any,
    method: Any,
    bracket: Any,
    bounds: Any,
    solver: Any,
    jacobian: Any,
) -> tuple[RootOptions, PyTree]:
    """Options, and where to start."""
    if not callable(fn):
        raise TypeError(f"fn: expected a function of (x, *args), got {type(fn).__name__}")
    check_tuple(args)
    for name, value, known in (
        ("method", method, get_args(RootMethod)),
        ("solver", solver, get_args(RootSolver)),
        ("jacobian", jacobian, ("auto", "forward", "reverse")),
    ):
        if not (isinstance(value, str) and value in known):
            raise ValueError(f"{name}: expected one of {known}, got {shown(value)}")
    if method == "auto":
        method = "newton" if bounds is None else "levenberg_marquardt"
        method = method if bracket is None else "chandrupatla"
    if (bracket is None) == (method == "chandrupatla"):
        need = "needs bracket=(a, b)" if bracket is None else "takes no bracket"
        raise ValueError(f"bracket: method {method!r} {need}")
    if bounds is not None and method != "levenberg_marquardt":
        raise ValueError(f"bounds: method {method!r} takes none; 'levenberg_marquardt' does")
    if bracket is None:
        if x0 is None:
            raise TypeError("x0: expected where to start, a pytree of real float arrays, got None")
    else:
        x0 = _check_bracket(x0, bracket)
    forward: Any = "reverse" if jacobian == "reverse" else "forward"
    return RootOptions(method, NewtonOptions(ModelOptions(solver, forward), method == "broyden")), x0


def _check_bracket(x0: Any, bracket: Any) -> Any:
    """The start in a bracket; an end if there is none, which says that there is none."""
    if not isinstance(bracket, tuple | list) or len(bracket) != 2:
        raise TypeError(f"bracket: expected a pair (a, b), got {shown(bracket)}")
    for name, value in (("bracket", bracket[0]), ("bracket", bracket[1]), ("x0", x0)):
        if value is not None and (np.ndim(value) != 0 or isinstance(value, dict)):
            raise ValueError(f"{name}: expected one number, got shape {np.shape(value)} (many: use jax.vmap)")
        if value is not None:
            number(name, value)
    a, b = bracket
    if not any(isinstance(end, jax.core.Tracer) for end in bracket) and not abs(a - b) > 0:
        raise ValueError(f"bracket: expected two different numbers, got {a} and {b}")
    if not all(isinstance(end, jax.core.Tracer) or np.isfinite(end) for end in bracket):
        raise ValueError(f"bracket: expected two finite numbers, got {a} and {b}")
    if x0 is None:
        return jnp.asarray(a, jnp.result_type(a, b, float))
    return x0


def check_numbers(numbers: RootNumbers) -> RootNumbers:
    """Numbers that are traced, in one type; None stays None.

    Raises:
      TypeError: for what is no real number.
      ValueError: for several (of `xatol` there may be one an unknown), or a number out of range.
    """
    given = {name: one for name, one in numbers._asdict().items() if one is not None}
    given["radius"] = positive("radius", numbers.radius)
    given = {name: number(name, one) for name, one in given.items()}
    given["max_steps"] = check_max_steps(numbers.max_steps)
    for name, one in given.items():
        if np.ndim(one) != 0 and name != "xatol":
            raise ValueError(f"{name}: expected one number, got {shown(one)}")
    return RootNumbers(**(numbers._asdict() | given))


def check_square(fn: Any, x: PyTree, args: tuple) -> Any:
    """Check, without computing it, that fn returns as many real floats as x has; the form of its value.

    Raises:
      ValueError: if not, or if x has no elements.
    """
    shape = jax.eval_shape(fn, x, *args)
    leaves = jax.tree.leaves(shape)
    others = [leaf.dtype for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)]
    if others:
        raise ValueError(f"fn: expected real floats, got dtype {others[0]}")
    equations, unknowns = (sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(t)) for t in (shape, x))
    if unknowns == 0:
        raise ValueError("x0: has no elements; there is nothing to solve for")
    if equations != unknowns:
        raise ValueError(
            f"fn: returns {equations} numbers for {unknowns} unknowns (use jos.least_squares if not as many)"
        )
    return shape


def tolerances_for(x: Float[jax.Array, " n"], numbers: RootNumbers) -> RootTolerances:
    """Numbers that were given, and the defaults of the dtype."""
    eps = float(jnp.finfo(x.dtype).eps)
    ftol, xtol, xatol, gtol, *_ = numbers
    # An unknown that starts at 0 says nothing of its size.
    sizes = jnp.where(x == 0, jnp.max(jnp.abs(x)), jnp.abs(x))
    floor = eps * sizes if xatol is None else jnp.broadcast_to(jnp.asarray(xatol, x.dtype), x.shape)
    return RootTolerances(
        jnp.asarray(0.0 if ftol is None else ftol, x.dtype),
        jnp.asarray(eps**0.625 if xtol is None else xtol, x.dtype),
        floor.astype(x.dtype),
        jnp.asarray(eps**0.5 if gtol is None else gtol, x.dtype),
    )
