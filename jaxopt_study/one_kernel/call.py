"""Iterations over a few numbers, compiled for the CPU into one function instead of eighty kernels.

XLA makes a kernel of every fused loop. To call one takes some 20 ns, to compile one 13 ms: an iteration of
Levenberg and Marquardt on three parameters is eighty of them, and nine tenths of its time are calls. XLA has
another way for small loops: it writes a *call* that is marked as small into one function (it marks loops
itself, below 1 KiB of memory). Here a program is marked that computes little, whatever its memory; of one
that computes much, what is small in its loops (`parts`).

The mark is a detail of XLA's, and what it cannot write that way stops the process. So only what was tried is
marked: primitives (`rewrite`), and versions of jaxlib (`TRIED`).
"""

import contextlib
import contextvars
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir, partial_eval

from jaxopt_study.one_kernel.lanes import (
    Level,
    Levels,
    are_better_alone,
    of_arguments,
    one_by_one,
    side_by_side,
)
from jaxopt_study.one_kernel.numbers import inserted, number_of, once_a_program
from jaxopt_study.one_kernel.parts import run_in_parts
from jaxopt_study.one_kernel.rewrite import cost, rewritten

MOST = 100000  # of `cost`: of more, the calls are no longer what takes the time, and vectors pay
OFF = "JAXOPT_STUDY_SEPARATE_KERNELS"  # an environment variable; any value but the empty one

TRIED = ("0.10.",)  # beginnings of jaxlib's version

# What tells XLA to keep a call, and to write it into one function. Unknown attributes are ignored.
_MARKS = {"inlineable": "false", "xla_cpu_small_call": "true"}


def one_kernel(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)`, on a CPU in one function of machine code if it computes little, else in several.

    What XLA does not write itself (libraries, sorting) and what computes much stays a kernel of its own.
    Under `vmap` an iteration is done for one lane after the other, on a CPU, where that is quicker than for
    all of them side by side (`lanes`). Under differentiation and on other devices it is `fn(*args)` and
    nothing else, and so it is if `fn` has effects, as callbacks have.

    Args:
      fn: of pytrees of arrays to such; it may close over traced values.
      args: its arguments.

    >>> import jax.numpy as jnp
    >>> double = jax.jit(lambda x: one_kernel(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: 2 * y, x), x))
    >>> print(double(1.5), jax.grad(double)(1.5), jax.vmap(double)(jnp.arange(2.0)))
    12.0 8.0 [0. 8.]
    """
    by_hand = jax.config.jax_disable_jit  # type: ignore[attr-defined]
    apart = _apart.get() or os.environ.get(OFF) or by_hand
    if apart or not jaxlib.__version__.startswith(TRIED):
        return fn(*args)
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    inside = program.jaxpr
    consts = [*program.consts]
    if inside.effects:
        out = jaxpr_as_fun(program)(*jax.tree.leaves(args))
    else:
        variables = [*inside.constvars, *inside.invars]
        # What it closes over has to be an argument: programs do not hold traced values.
        inside = inside.replace(
            constvars=[], invars=variables, debug_info=inside.debug_info.with_unknown_names()
        )
        x64 = jax.dtypes.canonicalize_dtype("float64") == "float64"
        program = ClosedJaxpr(inside, [])
        out = one_kernel_p.bind(*consts, *jax.tree.leaves(args), program=program, x64=x64, lanes=())
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


@contextlib.contextmanager
def separate_kernels() -> Iterator[None]:
    """Trace `one_kernel(fn, *args)` as `fn(*args)`: where compiling has to be quick.

    >>> with separate_kernels():
    ...     program = jax.make_jaxpr(lambda x: one_kernel(lambda x: x + 1, x))(1.0)
    >>> [eqn.primitive.name for eqn in program.eqns]
    ['add']
    """
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def are_separate() -> bool:
    """Whether `separate_kernels` holds here: JAX, which keeps what it has traced, does not know of it."""
    return _apart.get()


_apart = contextvars.ContextVar("separate_kernels", default=False)

one_kernel_p = Primitive("one_kernel")
with_numbers_p = Primitive("one_kernel_with_numbers")  # the same in the compiler's hands
one_kernel_p.multiple_results = with_numbers_p.multiple_results = True


def _run(program: ClosedJaxpr, x64: bool, lanes: Levels) -> Callable[..., list[Any]]:
    """The program as a function of all lanes. To run it is to trace it again, with its numbers."""

    def run(*args: Any) -> list[Any]:
        with jax.enable_x64(x64):
            return jaxpr_as_fun(program)(*args)

    return side_by_side(run, lanes)


@one_kernel_p.def_impl
def _as_it_is(*args: Any, program: ClosedJaxpr, x64: bool, lanes: Levels) -> list[Any]:
    return _run(program, x64, lanes)(*args)


@with_numbers_p.def_abstract_eval
@one_kernel_p.def_abstract_eval
def _shapes(*args: Any, program: ClosedJaxpr, x64: bool, lanes: Levels) -> Sequence[Any]:
    del args, x64
    sizes = tuple(level.size for level in lanes)
    return [aval.update(shape=(*sizes, *aval.shape)) for aval in program.out_avals]


def _batched(
    args: Sequence[Any], axes: Sequence[Any], *, program: ClosedJaxpr, x64: bool, lanes: Levels
) -> tuple[list[Any], list[int]]:
    pairs = list(zip(args, axes, strict=True))
    size = next(x.shape[axis] for x, axis in pairs if axis is not None)
    level = Level(size, tuple(axis is not None for axis in axes))
    args = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in pairs]
    out = one_kernel_p.bind(*args, program=program, x64=x64, lanes=(level, *lanes))
    return out, [0] * len(out)


def _differentiated(
    primals: Sequence[Any], tangents: Sequence[Any], *, program: ClosedJaxpr, x64: bool, lanes: Levels
) -> tuple[list[Any], list[Any]]:
    # What stands still is no variable: it may go through loops and rules that have no such derivative.
    moving = [not isinstance(tangent, ad.Zero) for tangent in tangents]

    def of_moving(*variables: Any) -> list[Any]:
        rest = iter(variables)
        values = [next(rest) if moves else x for x, moves in zip(primals, moving, strict=True)]
        return _run(program, x64, lanes)(*values)

    return jax.jvp(
        of_moving, tuple(itertools.compress(primals, moving)), tuple(itertools.compress(tangents, moving))
    )


def _without_unused(used: list[bool], eqn: JaxprEqn) -> tuple[list[bool], JaxprEqn | None]:
    # As of a program that is inlined: what nobody reads may be slow, or stand for an error.
    if not any(used):
        return [False] * len(eqn.invars), None
    program, read = _of_used(eqn.params["program"], tuple(used))
    return read, eqn.replace(
        invars=[*itertools.compress(eqn.invars, read)],
        outvars=[*itertools.compress(eqn.outvars, used)],
        params={**eqn.params, "program": program, "lanes": of_arguments(eqn.params["lanes"], read)},
    )


@once_a_program
def _of_used(program: ClosedJaxpr, used: tuple[bool, ...]) -> tuple[ClosedJaxpr, list[bool]]:
    inside, read = partial_eval.dce_jaxpr(program.jaxpr, used)
    return ClosedJaxpr(inside, []), read


def _with_its_numbers(ctx: Any, *args: Any, program: ClosedJaxpr, x64: bool, lanes: Levels) -> Any:
    numbers = tuple(map(number_of, args))
    if None not in numbers:  # of a program of scalars alone: XLA would run it to compile it
        numbers = (None,) * len(args)
    unknown = [number is None for number in numbers]
    of_unknown = of_arguments(lanes, unknown)

    def call(*args: Any) -> list[Any]:
        left = itertools.compress(args, unknown)
        return with_numbers_p.bind(*left, program=inserted(program, numbers), x64=x64, lanes=of_unknown)

    return mlir.lower_fun(call, multiple_results=True)(ctx, *args)


def _lowered_for_cpu(ctx: Any, *args: Any, program: ClosedJaxpr, x64: bool, lanes: Levels) -> Any:
    here = ctx.module_context.axis_context
    sizes = ctx.module_context.shape_poly_state
    # Of several devices each may have a part of it to do. Sizes that are not known have no cost.
    if (
        not isinstance(here, mlir.ShardingContext)
        or here.num_devices != 1
        or len(sizes.dim_vars) > sizes.has_platform_index_argument
    ):
        return _as_separate_kernels(ctx, *args, program=program, x64=x64, lanes=lanes)
    # Strictness is for the program, which has been traced, perhaps in another context than this.
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(x64):
        price = cost(program.jaxpr)
        if lanes:
            if not are_better_alone(program.jaxpr, price, is_one_function=price <= MOST):
                return _as_separate_kernels(ctx, *args, program=program, x64=x64, lanes=lanes)
            run = functools.partial(with_numbers_p.bind, program=program, x64=x64, lanes=())
            return mlir.lower_fun(one_by_one(run, lanes), multiple_results=True)(ctx, *args)
        if price <= MOST:
            return _marked(ctx, *args, program=program)
        return _in_parts(ctx, *args, program=program, x64=x64)


_as_separate_kernels = mlir.lower_fun(_as_it_is, multiple_results=True)


def _in_parts(ctx: Any, *args: Any, program: ClosedJaxpr, x64: bool) -> Any:
    def call(part: ClosedJaxpr, *args: Any) -> list[Any]:
        return one_kernel_p.bind(*args, program=part, x64=x64, lanes=())

    return mlir.lower_fun(functools.partial(run_in_parts, call, program), multiple_results=True)(ctx, *args)


def _marked(ctx: Any, *args: Any, program: ClosedJaxpr) -> Any:
    # XLA stops the process at an argument that the function does not use: behind a barrier no argument is
    # known to be constant, and all of them are returned. Barriers go when all has been optimized.
    whole = _returning_arguments(rewritten(program))
    barrier = mlir.lower_fun(lambda *args: jax.lax.optimization_barrier(args), multiple_results=True)
    args = barrier(ctx.replace(avals_out=ctx.avals_in), *args)
    out = mlir.core_call_lowering(
        ctx.replace(avals_out=whole.out_avals), *args, name="one_kernel", call_jaxpr=whole
    )
    marks = mlir.ir.DictAttr.get({k: mlir.ir.StringAttr.get(v) for k, v in _MARKS.items()})
    for value in jax.tree.leaves(out):
        maker = getattr(value.owner, "operation", None)
        if maker is not None and maker.name == "func.call":
            maker.attributes["mhlo.frontend_attributes"] = marks
    return out[: len(program.out_avals)]


def _returning_arguments(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program, which returns its arguments as well, behind a barrier."""
    inside = program.jaxpr
    args = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in inside.invars]
    with jax.enable_x64(True):  # arrays that it closes over may be wide where x64 is off
        barrier = jax.make_jaxpr(jax.lax.optimization_barrier)(args).jaxpr
    of_arguments = [eqn.replace(invars=inside.invars) for eqn in barrier.eqns]  # one, of all
    return ClosedJaxpr(
        inside.replace(
            eqns=[*inside.eqns, *of_arguments],
            outvars=[*inside.outvars, *barrier.outvars],
            debug_info=inside.debug_info.with_unknown_names(),
        ),
        program.consts,
    )


batching.primitive_batchers[one_kernel_p] = _batched
ad.primitive_jvps[one_kernel_p] = _differentiated
partial_eval.dce_rules[one_kernel_p] = _without_unused
if jaxlib.__version__.startswith(TRIED):
    # What JAX lowers once for all its calls does not see the numbers that it is called with. Rules for one
    # platform are those of another primitive: JAX cannot choose between what it does not keep.
    mlir.register_lowering(one_kernel_p, _with_its_numbers, cacheable=False)
    mlir.register_lowering(with_numbers_p, _as_separate_kernels)
    mlir.register_lowering(with_numbers_p, _lowered_for_cpu, platform="cpu")
