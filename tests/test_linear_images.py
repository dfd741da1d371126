"""Functions by their linear images: what is found, and conjugate gradients along f itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study import image_descent
from jaxopt_study.linear_images import by_images

ROWS, FEATURES, CLASSES = 300, 1500, 4
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(ROWS, FEATURES)) / np.sqrt(FEATURES))
LABELS = jnp.asarray(RNG.integers(CLASSES, size=ROWS))
WEIGHTS = jnp.asarray(RNG.normal(size=FEATURES * CLASSES))


def softmax_regression(weights, features, labels):
    scores = features @ weights.reshape(FEATURES, CLASSES)
    chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - chosen) + 1e-3 * jnp.sum(weights**2)


def objective(weights):
    return softmax_regression(weights, X, LABELS)


@pytest.mark.slow
def test_a_function_by_its_images_has_the_same_value_and_gradient():
    parts = by_images(objective, WEIGHTS)
    images = parts.push(WEIGHTS)
    assert [image.shape for image in images] == [(ROWS, CLASSES)]
    np.testing.assert_allclose(images[0], X @ WEIGHTS.reshape(FEATURES, CLASSES), rtol=1e-12)
    np.testing.assert_allclose(parts.value(WEIGHTS, images), objective(WEIGHTS), rtol=1e-14)
    own, of_images = jax.grad(parts.value, argnums=(0, 1))(WEIGHTS, images)
    (pulled,) = jax.linear_transpose(parts.push, WEIGHTS)(of_images)
    np.testing.assert_allclose(own + pulled, jax.grad(objective)(WEIGHTS), atol=1e-14)


def test_value_takes_no_product_of_matrices():
    parts = by_images(objective, WEIGHTS)
    images = parts.push(WEIGHTS)
    assert "dot_general" not in str(jax.make_jaxpr(parts.value)(WEIGHTS, images))
    assert str(jax.make_jaxpr(parts.push)(WEIGHTS)).count("dot_general") == 1


def _two_layers(theta):
    hidden = jnp.tanh(X @ theta.reshape(FEATURES, CLASSES))
    return jnp.sum((hidden.T @ jnp.tanh(hidden @ jnp.ones((CLASSES, FEATURES)))) ** 2)


@pytest.mark.parametrize(
    "fn",
    [
        lambda theta: jnp.sum(theta**4),  # no product at all
        lambda theta: jnp.sum((X @ (theta**2).reshape(FEATURES, CLASSES)) ** 2),  # one that is not linear
        lambda theta: jnp.sum((X[:2] @ theta.reshape(FEATURES, CLASSES)) ** 2),  # a cheap one
        _two_layers,  # one that is linear, and one as dear that is not
        lambda theta: jax.lax.scan(  # a loop, of which nobody knows what it costs
            lambda total, row: (total + jnp.tanh(row @ theta.reshape(FEATURES, CLASSES)).sum(), None), 0.0, X
        )[0],
    ],
    ids=["none", "not linear", "cheap", "two layers", "loop"],
)
def test_where_images_do_not_help_there_are_none(fn):
    assert by_images(fn, WEIGHTS) is None


def test_on_a_quadratic_function_it_takes_the_steps_of_conjugate_gradients():
    rng = np.random.default_rng(1)
    matrix, target = jnp.asarray(rng.normal(size=(2500, 400)) / 50), jnp.asarray(rng.normal(size=2500))

    def half_square(theta):
        return 0.5 * jnp.sum((matrix @ theta - target) ** 2)

    theta = jnp.zeros(400)
    parts = by_images(half_square, theta)
    value, gradient = jax.value_and_grad(half_square)(theta)
    path = image_descent.descend(
        parts,
        theta,
        parts.push(theta),
        value,
        gradient,
        jnp.asarray(1e9),
        jnp.asarray(0.0),
        jnp.asarray(-jnp.inf),
        memory=3,
        max_products=6,
    )
    x, residual = np.zeros(400), -np.asarray(gradient)  # the textbook's
    direction = residual.copy()
    a = np.asarray(matrix)
    for _ in range(6):
        pushed = a.T @ (a @ direction)
        length = residual @ residual / (direction @ pushed)
        x, after = x + length * direction, residual - length * pushed
        direction = after + after @ after / (residual @ residual) * direction
        residual = after
    assert int(path.products) == 6
    np.testing.assert_allclose(path.step, x, rtol=1e-6, atol=1e-9)
    first = np.asarray(path.fraction * path.first)
    bends = [(a @ p) @ (a @ q) for p, q in ((first, first), (first, x), (x, x))]
    np.testing.assert_allclose(path.bends, bends, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_newton_on_a_function_with_images_ends_where_the_gradient_is_zero(dtype):
    features = X.astype(dtype)
    start = jnp.zeros(FEATURES * CLASSES, dtype)
    result = jos.minimize(softmax_regression, start, jos.newton(), (features, LABELS))
    assert result.converged, result.message
    assert result.params.dtype == dtype
    gradient = jax.grad(objective)(result.params.astype("float64"))
    # Strongly convex: f - f* ≤ ‖g‖² / 2μ with μ = 2e-3, the ridge.
    assert float(jnp.sum(gradient**2)) / 4e-3 < {"float64": 1e-12, "float32": 1e-6}[dtype]
    np.testing.assert_allclose(
        result.value,
        objective(result.params.astype("float64")),
        rtol={"float64": 1e-13, "float32": 1e-5}[dtype],
    )


@pytest.mark.slow
def test_passes_over_the_features_are_fewer_than_those_of_lbfgs():
    start = jnp.zeros(FEATURES * CLASSES)
    target = jos.minimize(softmax_regression, start, jos.newton(), (X, LABELS)).value + 1e-6
    ours = jos.minimize(softmax_regression, start, jos.newton(), (X, LABELS), target=target, ftol=0, xtol=0)
    theirs = jos.minimize(softmax_regression, start, jos.lbfgs(), (X, LABELS), target=target)
    assert ours.status == theirs.status == jos.Status.TARGET_REACHED
    values, gradients, products = ours.opt_state.evaluations
    searched = theirs.num_steps  # at least one value and gradient each
    assert int(values + 2 * gradients + 2 * products) < 2 * int(searched) + 20


@pytest.mark.slow
def test_an_indefinite_function_with_images_is_left_at_its_saddle():
    def wells(theta, features):
        scores = features @ theta
        return jnp.mean(scores**4 - scores**2) + 1e-3 * jnp.sum(theta**2)

    features = jnp.asarray(np.random.default_rng(2).normal(size=(2000, 600)) / np.sqrt(600))
    result = jos.minimize(wells, jnp.zeros(600), jos.newton(), (features,))
    assert result.converged, result.message
    assert float(result.value) < -0.01


@pytest.mark.slow
def test_bounds_hold_where_there_are_images():
    start = jnp.zeros(FEATURES * CLASSES)
    result = jos.minimize(softmax_regression, start, jos.newton(), (X, LABELS), bounds=(-0.05, 0.05))
    assert result.converged, result.message
    assert float(jnp.max(jnp.abs(result.params))) <= 0.05
    gradient, at = jax.grad(objective)(result.params), result.params
    inside = jnp.abs(at) < 0.05
    assert float(jnp.max(jnp.abs(jnp.where(inside, gradient, 0.0)))) < 1e-6
    assert bool(jnp.all(jnp.where(inside, True, gradient * at <= 0)))
