"""A look ahead each 25 steps: a bowl full of ripples is crossed, and nothing else is changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.optimizers.leap import EVERY, leap, standing
from jaxopt_study.optimizers.step_info import step_info


def rippled(p):
    """Humps of the CUTEst collection: its minimum is 0, at the origin."""
    return 0.05 * jnp.sum(p**2) + jnp.prod(jnp.sin(20 * p)) ** 2


@pytest.mark.parametrize("solver", ["cg", pytest.param("exact", marks=pytest.mark.slow)])
def test_a_bowl_full_of_ripples_is_crossed_in_a_few_hundred_steps(solver):
    result = jos.minimize(rippled, jnp.array([-506.0, -506.2]), jos.newton(solver=solver))
    assert result.converged, result.message
    assert result.num_steps < 400
    np.testing.assert_allclose(result.params, 0.0, atol=1e-8)


def _after(accepted, value, box=None):
    fn = lambda p: jnp.sum((p - 100.0) ** 2)  # noqa: E731
    pace = standing(jnp.zeros(1))._replace(steps=jnp.asarray(EVERY - 1, jnp.int32))
    info = step_info(float, value=value, actual=1.0, step_norm=1.0, accepted=accepted, trials=1, num_evals=2)
    return leap(fn, pace, jnp.array([2.0]), jnp.array([1.0]), info, box)


def test_the_way_of_the_steps_is_doubled_while_the_value_falls():
    # From 3, where 25 steps led, by 3, 6, 12, ...: to 6, 9, 15, 27, 51, 99, and 195, which is higher.
    step, pace, info = _after(True, 97.0**2)
    assert float(step[0]) == 97.0
    assert float(info.value) == 1.0
    assert float(info.actual) == 1.0 + 97.0**2 - 1.0
    assert float(info.step_norm) == 97.0
    assert (int(info.trials), int(info.num_evals)) == (1 + 7, 2 + 7)
    assert (float(pace.origin[0]), int(pace.steps)) == (99.0, 0)


def test_a_refused_step_is_left_alone():
    step, pace, info = _after(False, 98.0**2)
    assert float(step[0]) == 1.0
    assert (int(info.trials), int(pace.steps)) == (1, EVERY - 1)


@pytest.mark.slow
def test_values_without_end_are_not_followed_into_what_is_not_finite():
    result = jos.minimize(lambda p: -jnp.sum(p), jnp.zeros(3), jos.newton(), max_steps=60)
    assert bool(jnp.all(jnp.isfinite(result.params)))
    assert bool(jnp.isfinite(result.value))


@pytest.mark.slow
def test_the_steps_counted_are_the_calls_that_were_made():
    calls = []

    def counted(p):
        jax.debug.callback(lambda: calls.append(1))
        return rippled(p)

    result = jos.minimize(counted, jnp.array([-50.6, -50.62]), jos.newton(), max_steps=30)
    jax.effects_barrier()
    assert int(result.num_steps) == 30
    assert int(result.opt_state.evaluations.values) > 30
