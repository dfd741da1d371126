"""The models that are one formula, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.models import legendre, michaelis_menten, polynomial, rosenbrock


@pytest.mark.parametrize("degree", [0, 1, 5])
def test_a_polynomial_equals_numpys(degree):
    params = polynomial.init(jax.random.key(0), degree, scale=3.0)
    assert params.shape == (degree + 1,)
    x = np.linspace(-2, 2, 12).reshape(3, 4)
    expected = np.polynomial.polynomial.polyval(x, np.asarray(params))
    np.testing.assert_allclose(polynomial.apply(params, jnp.asarray(x)), expected, rtol=1e-13, atol=1e-13)


def test_a_negative_degree_is_refused():
    with pytest.raises(ValueError, match="degree"):
        polynomial.init(jax.random.key(0), -1)


def test_michaelis_menten_saturates_at_vmax_and_is_half_way_at_k():
    params = michaelis_menten.init(212.0, 0.06)
    rates = michaelis_menten.apply(params, jnp.array([0.0, 0.06, 6e9]))
    np.testing.assert_allclose(rates, [0.0, 106.0, 212.0], rtol=1e-9)


def test_the_rosenbrock_surface_equals_scipys():
    from scipy.optimize import rosen

    x, y = np.random.default_rng(0).normal(size=(2, 3, 4))
    expected = rosen(np.stack([x, y]))
    np.testing.assert_allclose(rosenbrock.apply(rosenbrock.init(1.0, 100.0), x, y), expected, rtol=1e-13)


@pytest.mark.parametrize("init", [michaelis_menten.init, rosenbrock.init])
def test_parameters_are_float_arrays_whatever_they_are_made_from(init):
    params = jax.jit(init)(1, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}


@pytest.mark.parametrize("p3", [legendre.p3_vjp, legendre.p3_jvp])
def test_legendres_polynomial_and_its_slope_by_hand_equal_numpys(p3):
    u, legendre_3 = np.linspace(-1.5, 1.5, 7), np.polynomial.Legendre([0, 0, 0, 1])
    np.testing.assert_allclose(p3(jnp.asarray(u)), legendre_3(u), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.grad(p3))(u), legendre_3.deriv()(u), rtol=1e-14)
    np.testing.assert_allclose(
        jos.derivatives(p3, 4)(u)[2:], [legendre_3.deriv(k)(u) for k in (2, 3, 4)], rtol=1e-13, atol=1e-13
    )
