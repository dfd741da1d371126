"""Programs that XLA compiles for the CPU in less than half the time, where there is little to compute.

XLA makes a module of its own of every fused loop, and takes some ten milliseconds for it by default: an
iteration with all its tests is eighty of them, and a second to compile. Its older way of making loops takes
a quarter of that, but does not vectorize `exp`, `tanh`, roots and quotients; without LLVM's optimizations it
takes half of the rest. Such a program runs 1.4 times as long, a tenth of a millisecond for a fit of a hundred
points: a thousand calls take less time than is saved. Who makes more jits them, and what is inside of other
programs is compiled as they are. Where the function that is fitted has loops or large arrays inside, that
factor would be 2 to 3, of longer times, and LLVM does part of its work.

(`one_kernel` makes one module of all loops, which runs several times faster than either and takes twice as
long to compile as many small ones: it is for what is called often, inside of other programs.)
"""

import functools
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state
from jax.tree_util import Partial

from jaxopt_study.one_kernel import are_separate, separate_kernels
from jaxopt_study.programs import made_of
from jaxopt_study.pytree import size
from jaxopt_study.types import PyTree

SMALL = 256  # numbers, of parameters and data together
NARROW = 4096  # numbers in an array that is computed on the way

# What LLVM is to do for a function, found once: a memo, like the cache of `jax.jit`.
_levels: weakref.WeakKeyDictionary[FunctionType, int] = weakref.WeakKeyDictionary()

_OUTSIDE = get_opaque_trace_state()


class Task(NamedTuple):
    """What is known of how much a program has to compute.

    Attributes:
      data: all of it.
      function, arguments: a function, and what it is called with over and over; None where nothing is called.
    """

    data: PyTree
    function: Any = None
    arguments: tuple = ()


def jit_small(
    task_of: Callable[..., Task | None], **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`jax.jit`, compiled quickly where it is called with little data, on a CPU and outside of any trace.

    Args:
      task_of: from the arguments of a call, all positional; None if they say nothing.
      options: of `jax.jit`.

    Returns:
      A decorator.

    >>> @jit_small(Task)
    ... def double(x):
    ...     return 2 * x
    >>> float(double(1.0)), float(jax.grad(double)(1.0))
    (2.0, 2.0)
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def apart(*args: Any) -> Any:
            with separate_kernels():
                return function(*args)

        plain = jax.jit(function, **options)
        inlined = jax.jit(function, inline=True, **options)  # numbers of the program around stay numbers
        plain_apart = jax.jit(apart, **options)  # JAX would take what it has traced for the other

        @functools.cache
        def quick(level: int) -> Callable[..., Any]:
            return jax.jit(apart, compiler_options=quick_options(level), **options)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            # XLA's options are for whole programs: inside of another one there is no choice.
            if not is_outside_of_traces():
                if seeks_leaks():
                    return function(*jax.tree.map(_as_traced, args))
                if are_separate():
                    return plain_apart(*args)
                with jax.named_scope(function.__name__.strip("_")):  # a profile still says where it is
                    return inlined(*args)
            task = task_of(*args)
            if task is None or size(task.data) > SMALL:
                return plain(*args)
            return quick(_level(task))(*args)

        return call

    return decorate


def is_outside_of_traces() -> bool:
    """Whether what is called here is called with numbers, and nothing of it becomes a part of a program."""
    return bool(get_opaque_trace_state() == _OUTSIDE)


def _as_traced(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def seeks_leaks() -> bool:
    """Whether JAX looks for leaks: what `jit` keeps of a call holds functions, and what they close over."""
    return bool(getattr(jax.config, "jax_check_tracer_leaks", False))


def _level(task: Task) -> int:
    if task.function is None:
        return 0
    key = task.function.func if isinstance(task.function, Partial) else task.function
    if not isinstance(key, FunctionType):
        return 1  # what it computes may depend on what it holds
    if key not in _levels:
        try:
            made = made_of(jax.make_jaxpr(task.function)(*task.arguments).jaxpr)
        except Exception:
            return 1  # whoever calls it next says what is wrong, in better words
        _levels[key] = 0 if made.straight and made.widest <= NARROW else 1
    return _levels[key]


@functools.cache
def quick_options(level: int) -> dict[str, Any] | None:
    """The compiler's options, None where it has no such option: on other devices, or in another XLA."""
    options = {
        "xla_cpu_use_fusion_emitters": False,
        "xla_backend_optimization_level": level,
        "xla_cpu_parallel_codegen_split_count": 1,  # to share out so little costs more than it gains
    }
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options
