"""`audit_adjoint` against a gradient on paper, and on one that is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos


def decay(t, y, rate):
    return -rate * y


@pytest.mark.slow
def test_the_audit_measures_errors_costs_and_recommends():
    audit = jos.audit_adjoint(
        decay, jnp.array([2.0]), np.array([0.0, 1.0]), 0.5, adjoints=("auto", "backsolve"), rtol=1e-8
    )
    assert audit["auto"].error < 1e-5
    assert audit["auto"].seconds < audit["auto"].first_seconds
    assert audit["auto"].bytes > 0
    assert audit.reference_error < 1e-7
    assert 'Use adjoint="auto"' in str(audit)


@pytest.mark.slow
def test_a_wrong_rule_in_the_field_is_found():
    @jax.custom_jvp
    def off(x):
        return jnp.sin(x)

    off.defjvp(lambda x, dx: (off(*x), 1.1 * jnp.cos(x[0]) * dx[0]))
    audit = jos.audit_adjoint(
        lambda t, y, p: off(p * y), jnp.array([1.0]), np.array([0.0, 1.0]), 0.5, adjoints=("auto",)
    )
    assert audit["auto"].error > 1e-2
    assert 'Do not use "auto"' in audit.recommendation


def test_an_unknown_adjoint_is_named():
    with pytest.raises(ValueError, match="adjoints: expected some of"):
        jos.audit_adjoint(decay, jnp.array([2.0]), np.array([0.0, 1.0]), 0.5, adjoints=("magic",))


@pytest.mark.slow
def test_parameters_of_any_size_are_compared_in_proportion_to_themselves():
    # y = exp(-(a 1e6 + b / 1e6) t): the derivatives by a and b are a million million apart.
    def field(t, y, p):
        return -(p[0] * 1e6 + p[1] / 1e6) * y

    rates = jnp.array([3e-7, 4e5])
    audit = jos.audit_adjoint(
        field, jnp.array([2.0]), np.array([0.0, 1.0]), rates, adjoints=("auto",), rtol=1e-9, atol=1e-9
    )
    assert audit["auto"].error < 1e-7
    assert audit.reference_error < 1e-8
