"""A study's functions, compiled for each Config, ready to be advanced.

Here is all that a run asks of `jax.jit`; the loop over chunks is `run`'s.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.study.devices import agreed
from jaxopt_study.study.protocol import Outcome, Study, check_outcome


@dataclasses.dataclass(frozen=True)
class Program:
    """A variant's compiled functions, the config bound; to be called under the config's dtype."""

    config: Any
    carry: Any
    advance: Callable[[Any, Any], Any]  # carry, n -> carry; n an int32
    outcome: Callable[[Any], Outcome]
    compile_seconds: float
    is_one_shot: bool = False


def compile_study(study: Study, configs: Mapping[str, Any]) -> Iterator[tuple[str, Program]]:
    """Compile a study's functions for each Config, and run its `init`.

    Variants that differ in leaves alone share one compilation of `init`, `advance` and `outcome`.

    Args:
      study: the study.
      configs: its Configs by label; `dtype` is applied around every call, never globally.

    Yields:
      Each label with its `Program`, at its start.

    Raises:
      StudyInputError: from the study itself, about its input.
      TypeError: the study's outcome is not an `Outcome` of the right shapes.
    """
    if study.run is not None:
        for label, config in configs.items():
            yield label, _compile_one_shot(study, config)
        return
    init, advance, outcome = study.steps
    jitted_init = jax.jit(lambda config, key: strongly_typed(init(config, key)))
    jitted_advance = jax.jit(lambda config, carry, n: strongly_typed(advance(config, carry, n)))
    jitted_outcome = jax.jit(outcome)
    for label, config in configs.items():
        began = time.perf_counter()
        with dtype_of(config):
            carry = jitted_init(config, jax.random.key(config.seed))
            check_outcome(study, jax.eval_shape(outcome, config, carry))
            carry = jitted_advance(config, carry, np.int32(0))  # compiles, and takes no step
            jax.block_until_ready((carry, jitted_outcome(config, carry)))
        program = Program(
            config,
            carry,
            advance=agreed(functools.partial(jitted_advance, config)),
            outcome=functools.partial(jitted_outcome, config),
            compile_seconds=time.perf_counter() - began,
        )
        yield label, program


def _compile_one_shot(study: Study, config: Any) -> Program:
    assert study.run is not None
    if getattr(study.run, "on_host", False):
        return _on_host(study, study.run, config)
    began = time.perf_counter()
    with dtype_of(config):
        key = jax.random.key(config.seed)
        check_outcome(study, jax.eval_shape(study.run, config, key))
        run = jax.jit(study.run).lower(config, key).compile()
    return Program(
        config,
        carry=None,
        advance=lambda carry, n: run(config, key),
        outcome=lambda carry: carry,
        compile_seconds=time.perf_counter() - began,
        is_one_shot=True,
    )


def _on_host(study: Study, run: Callable[..., Outcome], config: Any) -> Program:
    def checked(carry: Any, n: Any) -> Outcome:
        del carry, n
        outcome = run(config, jax.random.key(config.seed))
        check_outcome(study, outcome)
        return outcome

    return Program(
        config,
        carry=None,
        advance=checked,
        outcome=lambda carry: carry,
        compile_seconds=0.0,
        is_one_shot=True,
    )


def dtype_of(config: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which arrays have the config's dtype by default; never set globally."""
    return jax.enable_x64(config.dtype == "float64")


def strongly_typed(carry: Any) -> Any:
    """The carry without weak types.

    `init` often makes some (a Python number in the carry), `advance` seldom keeps them, and the
    second call of `advance` would be compiled anew.
    """

    def strong(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):  # a random key
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, carry)
