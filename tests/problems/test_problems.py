"""Every problem is what it says: its optimum is one, and its objective is the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import rosen

import jaxopt_study as jos
from jaxopt_study.problems import quadratic, rosenbrock

PROBLEMS = {
    "rosenbrock.scalar": rosenbrock.scalar,
    "rosenbrock.least_squares": rosenbrock.least_squares,
    "rosenbrock.surface_fit": rosenbrock.surface_fit,
    "quadratic.bowl": lambda: quadratic.bowl(4, 1e3),
    "quadratic.bowl of one variable": lambda: quadratic.bowl(1),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_the_optimum_is_a_minimum_of_value_zero(make):
    problem = make()
    value, grads = jax.value_and_grad(problem.objective)(problem.optimum, *problem.data)
    assert value == 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(grads))
    result = jos.minimize(problem.objective, problem.init, jos.newton(), problem.data)
    assert result.converged
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), result.params, problem.optimum)


def test_rosenbrock_equals_scipys_and_half_of_it_as_residuals():
    scalar, squares = rosenbrock.scalar(), rosenbrock.least_squares()
    np.testing.assert_array_equal(scalar.init, [-1.2, 1.0])
    for point in jnp.asarray(np.random.default_rng(0).normal(size=(5, 2))):
        np.testing.assert_allclose(scalar.objective(point), rosen(point), rtol=1e-13)
        np.testing.assert_allclose(squares.objective(point), rosen(point) / 2, rtol=1e-13)


def test_the_surface_fit_starts_at_the_published_mean_square():
    problem = rosenbrock.surface_fit()
    assert problem.objective(problem.init, *problem.data) == pytest.approx(3868.2291666666665, rel=1e-15)


def test_a_bowl_has_the_condition_number_asked_for_along_no_coordinate_axis():
    hessian = quadratic.bowl(5, 1e4).data[0]
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.geomspace(1e-4, 1, 5), rtol=1e-10)
    assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.1
    with pytest.raises(ValueError, match="dimension"):
        quadratic.bowl(0)


@pytest.mark.slow
def test_a_second_problem_of_a_kind_compiles_nothing():
    traced = []

    def count(params):
        traced.append(None)
        return params

    for condition_number in (10.0, 20.0):
        problem = quadratic.bowl(3, condition_number)
        jos.minimize(problem.objective, problem.init, jos.sgd(0.1), problem.data, max_steps=5, trace=count)
        first = len(traced) if condition_number == 10.0 else first
    assert len(traced) == first


def test_problems_can_be_made_inside_a_trace():
    def start_value(a):
        problem = rosenbrock.surface_fit(a, 2.5)
        return problem.objective(problem.init, *problem.data)

    apart = [start_value(a) for a in (2.5, 4.0)]
    np.testing.assert_allclose(jax.jit(jax.vmap(start_value))(jnp.array([2.5, 4.0])), apart, rtol=1e-13)
