"""What is no number is refused when an optimizer is made, in one line; what is traced is not looked at."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos

# Every number of every optimizer; each stands in its signature, and is tried in a process of its own: there
# the annotations are not checked, as they are not for a user.
NUMBERS = {
    "sgd": ("learning_rate", "momentum"),
    "adagrad": ("learning_rate", "initial_accumulator_value", "eps"),
    "rmsprop": ("learning_rate", "decay", "eps", "initial_scale", "momentum"),
    "adam": ("learning_rate", "b1", "b2", "eps", "eps_root"),
    "lbfgs": ("learning_rate",),
    "newton": ("damping", "radius", "max_trials"),
    "levenberg_marquardt": ("damping", "max_trials"),
    "dogleg": ("radius", "max_trials"),
}
TRY = f"""
import jax.numpy as jnp, numpy as np
import jaxopt_study as jos
for name, arguments in {NUMBERS!r}.items():
    for argument in arguments:
        for wrong in ("a", 1j, True, [0.1], {{}}, np.array("a"), np.ones(2) * 1j, jnp.ones(2, bool)):
            given = {{"learning_rate": 0.1}} if "learning_rate" in arguments else {{}}
            try:
                getattr(jos, name)(**{{**given, argument: wrong}})
            except TypeError as error:
                print(name, str(error).count("\\n"), error)
            else:
                print(name, argument, "takes", repr(wrong))
"""


@pytest.mark.slow
def test_what_is_no_number_is_refused_in_one_line_that_names_it():
    out = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True).stdout
    tried = iter(out.splitlines())
    for name, arguments in NUMBERS.items():
        for argument in arguments:
            kind = "whole" if argument == "max_trials" else "real"
            for _ in range(8):
                assert next(tried).startswith(f"{name} 0 {argument}: expected a {kind} number, got ")
    assert list(tried) == []


@pytest.mark.parametrize(
    "rate", [1, 0.5, np.float32(0.5), np.int32(1), np.array(0.5), jnp.array(0.5), jnp.array([0.5, 0.1])]
)
def test_numbers_of_all_kinds_are_taken(rate):
    optimizer = jos.adam(rate)
    updates, _ = optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    np.testing.assert_allclose(updates, -np.broadcast_to(rate, 2), rtol=1e-6)


@pytest.mark.slow
def test_traced_numbers_are_taken():
    def first(rate):
        optimizer = jos.adam(rate, b1=rate, eps=rate**2)
        return optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))[0]

    expected = -0.1 / (1 + 0.01)
    np.testing.assert_allclose(jax.jit(first)(0.1), np.full(2, expected), rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(first)(jnp.array([0.1]))[0], np.full(2, expected), rtol=1e-12)
    by_schedule = optax.inject_hyperparams(jos.adam)(learning_rate=lambda count: 0.1 / (count + 1))
    updates, _ = by_schedule.update(jnp.ones(2), by_schedule.init(jnp.ones(2)))
    np.testing.assert_allclose(updates, np.full(2, -0.1), rtol=1e-7)
