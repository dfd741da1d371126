"""`Status` in numbers and words, and `Result` as a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.result import MESSAGES, describe, is_converged

CONVERGED = {"GRADIENT_CONVERGED", "VALUE_CONVERGED", "STEP_CONVERGED", "TARGET_REACHED"}
SOLVED = {"END_REACHED", "EVENT"}  # of an ODE, which does not iterate


@pytest.mark.parametrize("status", list(jos.Status))
def test_only_the_statuses_that_say_so_are_converged(status):
    assert bool(is_converged(status)) == (status.name in CONVERGED | SOLVED)
    assert bool(jax.jit(is_converged)(jnp.int32(status))) == (status.name in CONVERGED | SOLVED)


@pytest.mark.parametrize("status", list(jos.Status))
def test_every_status_has_its_own_message_and_stands_in_the_table(status):
    assert describe(jnp.int32(status)) == MESSAGES[status]
    assert describe(status).startswith("converged") == (status.name in CONVERGED)
    assert describe(status).startswith("solved") == (status.name in SOLVED)
    assert f"`{status.name}`" in jos.Status.__doc__
    assert list(MESSAGES.values()).count(MESSAGES[status]) == 1


def test_statuses_of_a_batch_are_described_in_its_shape():
    words = describe(jnp.array([[1, 5], [9, 0]]))
    assert words.shape == (2, 2)
    assert words[0, 1] == MESSAGES[jos.Status.OUT_OF_STEPS]


def test_a_message_inside_a_trace_is_refused_in_one_line():
    solve = lambda p: jos.minimize(lambda p: jnp.sum(p**2), p, jos.adam(0.1), max_steps=1).message  # noqa: E731
    for traced in (jax.jit(solve), jax.vmap(solve)):
        with pytest.raises(TypeError, match=r"^message: words are for outside of a trace"):
            traced(jnp.ones((2, 2)))


def test_result_is_a_pytree_of_arrays_alone():
    result = jos.minimize(lambda p: jnp.sum(p**2), jnp.ones(2), jos.adam(0.1), max_steps=3, trace=True)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
    again = jax.tree.map(lambda leaf: leaf, result)
    assert again.message == result.message
    assert not bool(again.converged)


@pytest.mark.slow
def test_a_batch_of_results_has_arrays_of_statuses_and_messages():
    starts = jnp.array([[1.0, 1.0], [jnp.nan, 1.0]])
    result = jax.vmap(lambda p: jos.minimize(lambda p: jnp.sum(p**2), p, jos.newton()))(starts)
    np.testing.assert_array_equal(result.converged, [True, False])
    assert list(result.message) == [describe(int(status)) for status in result.status]
