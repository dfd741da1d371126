"""`audit_adjoint` against a gradient on paper, and on one that is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos


def decay(t, y, rate):
    return -rate * y


def test_the_audit_measures_errors_costs_and_recommends():
    audit = jos.audit_adjoint(
        decay, jnp.array([2.0]), np.array([0.0, 1.0]), 0.5, adjoints=("auto", "backsolve"), rtol=1e-8
    )
    assert audit["auto"].error < 1e-5
    assert audit["auto"].seconds < audit["auto"].first_seconds
    assert audit["auto"].bytes > 0
    assert audit.reference_error < 1e-7
    assert 'Use adjoint="auto"' in str(audit)


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
