"""All roots in a box: known sets, counted; against SciPy from a grid of starts, and closed forms."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_study as jos

BOX = (jnp.full(2, -6.0), jnp.full(2, 6.0))


def himmelblau(p):
    return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2


def found(roots):
    return np.asarray(roots.params)[: int(roots.count)]


@pytest.fixture(scope="module")
def stationary():
    with jax.enable_x64(True):
        return jax.block_until_ready(jos.find_roots(jax.grad(himmelblau), BOX))


@pytest.mark.slow
def test_both_roots_of_the_quadratic():
    roots = jos.find_roots(lambda x: x**2 - 6 * x + 4, (-10.0, 10.0), starts=16)
    np.testing.assert_allclose(found(roots), [3 - 5**0.5, 3 + 5**0.5], rtol=1e-14)
    assert not roots.overflow
    assert np.isnan(roots.params[2:]).all()
    assert np.isnan(roots.residual[2:]).all()


@pytest.mark.slow
def test_all_nine_stationary_points_of_himmelblau(stationary):
    assert stationary.count == 9
    gradient = jax.jit(jax.grad(himmelblau))
    reference = []
    for x in np.linspace(-5.5, 5.5, 12):
        for y in np.linspace(-5.5, 5.5, 12):
            solution = scipy.optimize.root(lambda p: np.asarray(gradient(jnp.asarray(p))), [x, y], tol=1e-13)
            fresh = all(np.abs(solution.x - other).max() > 1e-6 for other in reference)
            if solution.success and fresh:
                reference.append(solution.x)
    assert len(reference) == 9
    reference = np.array(sorted(reference, key=tuple))
    np.testing.assert_allclose(found(stationary), reference, atol=1e-10)
    assert (stationary.residual[:9] < 1e-12).all()
    assert stationary.hits.sum() == stationary.num_converged


@pytest.mark.slow
def test_four_of_them_are_the_minima(stationary):
    hessian = jax.jit(jax.vmap(jax.hessian(himmelblau)))(stationary.params[:9])
    curvature = np.linalg.eigvalsh(np.asarray(hessian))
    minima = found(stationary)[(curvature > 0).all(axis=1)]
    published = [(-3.779310, -3.283186), (-2.805118, 3.131312), (3.0, 2.0), (3.584428, -1.848126)]
    np.testing.assert_allclose(minima, published, atol=5e-7)
    assert ((curvature < 0).all(axis=1)).sum() == 1  # one maximum, and four saddles


@pytest.mark.slow
def test_the_three_roots_of_z_cubed_minus_one_as_a_pytree():
    def cube(p):
        x, y = p["x"], p["y"]
        return {"real": x**3 - 3 * x * y**2 - 1, "imaginary": 3 * x**2 * y - y**3}

    low, high = {"x": -2.0, "y": -2.0}, {"x": 2.0, "y": 2.0}
    roots = jos.find_roots(cube, (low, high), starts=32, max_roots=5)
    assert roots.count == 3
    np.testing.assert_allclose(roots.params["x"][:3], [-0.5, -0.5, 1], atol=1e-14)
    np.testing.assert_allclose(roots.params["y"][:3], [-(0.75**0.5), 0.75**0.5, 0], atol=1e-14)
    assert "3 roots" in str(roots)
    assert str(roots).count("hits") == 3


@pytest.mark.slow
def test_no_root_is_none_found_and_too_many_are_said():
    none = jos.find_roots(lambda x: x**2 + 1, (-10.0, 10.0), starts=16)
    assert (none.count, none.num_converged) == (0, 0)
    many = jos.find_roots(jnp.sin, (-30.0, 31.0), max_roots=4, starts=64)
    assert many.count == 4
    assert many.overflow
    np.testing.assert_allclose(np.sin(found(many)), 0, atol=1e-14)
    all_of_them = jos.find_roots(jnp.sin, (-30.0, 31.0), starts=64)
    np.testing.assert_allclose(found(all_of_them), np.pi * np.arange(-9, 10), atol=1e-13)


@pytest.mark.slow
def test_taking_known_roots_away_finds_what_as_many_starts_alone_miss():
    def cube(p):
        x, y = p
        return jnp.stack([x**3 - 3 * x * y**2 - 1, 3 * x**2 * y - y**3])

    far_to_one_side = jnp.array([-30.0, -30.0]), jnp.array([2.0, 30.0])
    alone = jos.find_roots(cube, far_to_one_side, starts=12, rounds=1, max_roots=4)
    taken_away = jos.find_roots(cube, far_to_one_side, starts=4, rounds=3, max_roots=4)
    assert alone.num_starts == taken_away.num_starts
    assert (alone.count, taken_away.count) == (2, 3)


@pytest.mark.slow
def test_a_root_of_higher_order_is_marked():
    roots = jos.find_roots(lambda x: (x - 1) ** 2 * (x + 2), (-5.0, 5.0), starts=16)
    np.testing.assert_allclose(found(roots), [-2, 1], atol=1e-7)
    assert list(roots.singular[:2]) == [False, True]


@pytest.mark.slow
def test_roots_are_differentiable_each_by_itself():
    def root(a):
        return jos.find_roots(lambda x, a: x**2 - a, (-3.0, 3.0), (a,), starts=16, max_roots=4).params[:2]

    slope = 0.5 / 2**0.5
    np.testing.assert_allclose(jax.jacfwd(root)(2.0), [-slope, slope], rtol=1e-12)
    np.testing.assert_allclose(jax.jacrev(root)(2.0), [-slope, slope], rtol=1e-12)


@pytest.mark.slow
def test_a_batch_of_searches_equals_a_loop():
    def search(a):
        roots = jos.find_roots(lambda x, a: x**2 - a, (-3.0, 3.0), (a,), starts=8, max_roots=4)
        return roots.params, roots.count

    params, count = jax.vmap(search)(jnp.array([4.0, -1.0, 1.0]))
    assert list(count) == [2, 0, 2]
    np.testing.assert_allclose(params[0, :2], [-2, 2], atol=1e-14)
    np.testing.assert_allclose(params[2, :2], [-1, 1], atol=1e-14)


@pytest.mark.slow
def test_precision(precision):
    edge = jnp.asarray(10.0)
    roots = jos.find_roots(lambda x: x**2 - 6 * x + 4, (-edge, edge), starts=16)
    assert roots.params.dtype == precision
    np.testing.assert_allclose(
        found(roots), [3 - 5**0.5, 3 + 5**0.5], rtol=16 * float(jnp.finfo(precision).eps)
    )


@pytest.mark.slow
def test_a_key_moves_the_starts_and_the_same_key_moves_them_alike(key):
    search = jax.jit(lambda key: jos.find_roots(jnp.sin, (-9.0, 10.0), starts=32, key=key))
    first, again, other = search(key), search(key), search(jax.random.key(1))
    np.testing.assert_array_equal(first.hits, again.hits)
    assert (first.hits != other.hits).any()
    assert first.count == other.count == 6  # -2π ... 3π


def test_starts_fill_the_box_better_than_chance():
    from jaxopt_study.solvers.root_search import fill

    points = np.asarray(fill(256, jnp.full(2, 0.5)))
    assert ((points >= 0) & (points < 1)).all()
    nearest = np.sort(np.abs(points[:, None] - points[None]).max(-1), axis=1)[:, 1]
    assert nearest.min() > 0.3 / 16  # a grid has 1/16
    cells = np.unique((points * 8).astype(int), axis=0)
    assert len(cells) == 64


BAD = {
    "fn: expected a function": lambda find: find(3.0, (0.0, 1.0)),
    "args: expected a tuple": lambda find: find(jnp.sin, (0.0, 1.0), 2.0),
    "starts: expected a whole number": lambda find: find(jnp.sin, (0.0, 1.0), starts=0),
    "max_roots: expected a whole number": lambda find: find(jnp.sin, (0.0, 1.0), max_roots=1.5),
    "rounds: expected a whole number": lambda find: find(jnp.sin, (0.0, 1.0), rounds=0),
    "bounds: expected a pair": lambda find: find(jnp.sin, 1.0),
    "bounds: lower and upper differ": lambda find: find(jnp.sin, (0.0, jnp.ones(2))),
    "bounds: expected finite numbers": lambda find: find(jnp.sin, (1.0, 1.0)),
    "bounds[1]: expected a real float array": lambda find: find(jnp.sin, (1.0, 3)),
    "fn: returns 2 numbers for 1": lambda find: find(lambda x: jnp.stack([x, x]), (0.0, 1.0)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_that_names_the_argument(message):
    find = inspect.unwrap(jos.find_roots)  # without the checks of annotations that tests put around it
    with pytest.raises((TypeError, ValueError)) as error:
        BAD[message](find)
    assert str(error.value).startswith(message), error.value
    assert "\n" not in str(error.value)
