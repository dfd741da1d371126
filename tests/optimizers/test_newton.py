"""Newton's method: saddles, flat valleys, boxes, what it counts, and that its two solvers agree."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.optimizers.newton_direction import scale_by_newton
from jaxopt_study.problems.more_garbow_hillstrom.any_dimension import chebyquad

SOLVERS = ("exact", "cg")
OPTIMIZERS = {solver: jos.newton(solver=solver) for solver in SOLVERS}


def double_well(p):
    """A strict saddle at the origin, minima of -1/4 at (0, ±√½)."""
    return p[0] ** 2 - p[1] ** 2 + p[1] ** 4


def trough(p):
    return p[0] ** 4 - p[1] ** 2


def rosenbrock(p):
    return jnp.sum(100 * (p[1::2] - p[::2] ** 2) ** 2 + (1 - p[::2]) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("start", [(0.0, 0.0), (0.5, 0.0)], ids=["at the saddle", "on the way into it"])
def test_it_does_not_end_at_a_saddle_whose_gradient_is_zero(solver, start):
    result = jos.minimize(double_well, jnp.array(start), OPTIMIZERS[solver])
    assert result.converged, result.message
    np.testing.assert_allclose(np.abs(result.params), [0.0, np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(result.value, -0.25, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [lambda p: p[0], lambda p: p[0] + p[1] ** 2])
def test_a_slope_without_end_is_no_minimum_however_far_a_leap_goes(objective):
    result = jos.minimize(objective, jnp.ones(2), jos.newton(), max_steps=200)
    assert not result.converged, result.message


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_from_a_saddle_reports_a_way_down(solver):
    optimizer, at = OPTIMIZERS[solver], jnp.zeros(2)
    updates, state = optimizer.update(None, optimizer.init(at), at, value_fn=double_well)
    assert state.info.way_down
    assert state.info.accepted
    assert double_well(updates) < 0
    bowl = lambda p: jnp.sum(p**2)  # noqa: E731
    _, state = optimizer.update(None, optimizer.init(at), at, value_fn=bowl)
    assert not state.info.way_down


@pytest.mark.slow
def test_conjugate_gradients_find_the_way_down_from_a_saddle_among_curvatures_of_every_size():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(50, 50)))[0]
    curvature = np.append(-0.1, np.logspace(-3, 4, 49))
    fn = lambda p: 0.5 * jnp.sum(curvature * (basis @ p) ** 2) + 0.25 * (basis @ p)[0] ** 4  # noqa: E731
    result = jos.minimize(fn, jnp.zeros(50), OPTIMIZERS["cg"])
    assert result.converged, result.message
    np.testing.assert_allclose(result.value, -0.0025, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("start", [(0.0, 0.0), (0.5, 0.0), (1.0, 0.01)])
def test_what_falls_for_ever_ends_on_the_box_and_says_on_which_side(solver, start):
    result = jos.minimize(trough, jnp.array(start), OPTIMIZERS[solver], bounds=(-2.0, 2.0))
    assert result.converged, result.message
    assert abs(result.params[1]) == 2.0
    assert np.sign(result.params[1]) == result.active[1]
    assert result.active[0] == 0
    np.testing.assert_allclose(result.value, -4.0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_it_leaves_a_maximum_on_a_bound_for_the_inside(solver):
    hill = lambda p: -jnp.sum(p**2) + jnp.sum(p**4)  # noqa: E731
    result = jos.minimize(hill, jnp.zeros(2), OPTIMIZERS[solver], bounds=(0.0, 1.0))
    assert result.converged, result.message
    assert result.value < -0.24


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_it_goes_down_a_flat_valley(solver):
    valley = lambda p: 50 * p[0] ** 2 + 1e-6 * jnp.logaddexp(0.0, -p[1])  # noqa: E731
    result = jos.minimize(valley, jnp.array([1.0, 0.0]), OPTIMIZERS[solver], max_steps=40, gtol=0)
    assert result.params[1] > 10
    np.testing.assert_allclose(result.params[0], 0.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_bounds_that_hold_at_the_minimum_are_found(solver):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    hessian, center = root @ root.T + 0.1 * np.eye(6), rng.normal(size=6) * 2
    fn = lambda p: 0.5 * (p - center) @ hessian @ (p - center)  # noqa: E731
    result = jos.minimize(fn, jnp.zeros(6), OPTIMIZERS[solver], bounds=(-0.5, 0.5))
    assert result.converged, result.message
    slope = np.asarray(jax.grad(fn)(result.params))
    at = np.asarray(result.active)
    np.testing.assert_allclose(slope[at == 0], 0.0, atol=1e-6)
    assert np.all(slope[at == 1] <= 0)
    assert np.all(slope[at == -1] >= 0)
    assert np.any(at != 0)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 10])
def test_both_solvers_count_what_they_evaluate_and_end_at_the_minimum(n):
    start = jnp.tile(jnp.array([-1.2, 1.0]), n // 2)
    for solver, optimizer in OPTIMIZERS.items():
        result = jos.minimize(rosenbrock, start, optimizer)
        assert result.converged, (solver, result.message)
        np.testing.assert_allclose(result.params, 1.0, rtol=1e-8)
        values, gradients, products = map(int, result.opt_state.evaluations)
        assert values + gradients + 1 == result.num_evals  # one more value, of the start
        if solver == "exact":
            assert products == n * gradients
        else:
            assert products < 3 * gradients
    assert jos.newton().init(jnp.zeros(3)).seen is None
    assert jos.newton().init(jnp.zeros(4)).seen is not None


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_what_falls_beyond_all_numbers_is_not_called_converged(solver):
    result = jos.minimize(lambda p: -(p[0] ** 2) + p[1] ** 2, jnp.ones(2), jos.newton(solver=solver))
    assert result.value < -1e100
    assert not result.converged


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e-10, "float32"), (1e8, "float32"), (1e-10, float), (1e-70, float)]
)
def test_conjugate_gradients_reach_parameters_of_any_size(scale, dtype):
    weights = jnp.array([1.0, 10.0, 0.1], dtype)
    start = jnp.asarray(scale * np.array([2.0, 5.0, 0.5]), dtype)
    result = jos.minimize(
        lambda p: jnp.sum(weights * (p / scale - 1) ** 2 + jnp.cos(p / scale)), start, jos.newton(solver="cg")
    )
    one = jnp.asarray([2.0, 5.0, 0.5], dtype)
    reference = jos.minimize(
        lambda p: jnp.sum(weights * (p - 1) ** 2 + jnp.cos(p)), one, jos.newton(solver="cg")
    )
    assert result.converged, result.message
    np.testing.assert_allclose(result.value, reference.value, rtol=100 * jnp.finfo(dtype).eps)


@pytest.mark.slow
def test_what_was_learned_at_the_end_stays_in_the_state_and_a_saddle_is_left_after_it():
    optimizer = jos.newton(solver="cg")
    saddle = lambda p: p[0] ** 4 / 4 - p[0] ** 2 / 2 + p[1] ** 2  # noqa: E731
    first = jos.minimize(saddle, jnp.array([2.0, 1.0]), optimizer)
    assert first.converged
    np.testing.assert_array_equal(first.opt_state.seen.learned.theta, first.params)
    again = jos.minimize(saddle, jnp.zeros(2), optimizer, opt_state=first.opt_state)
    np.testing.assert_allclose(again.value, -0.25, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_first_value_beyond_measure_does_not_make_a_slope_small(solver):
    """Chebyquad from 100 times its start: f falls from 10³⁸ and has a minimum of 0.0018."""
    problem = chebyquad()
    result = jos.minimize(problem.objective, 100 * problem.init, OPTIMIZERS[solver], problem.data)
    assert result.converged, result.message
    np.testing.assert_allclose(result.value, problem.minima[0], rtol=1e-9)


@pytest.mark.slow
def test_real_calls_are_as_many_as_are_counted():
    seen = []

    def counted(p):
        value = rosenbrock(p)
        jax.debug.callback(lambda _: seen.append(1), value)
        return value

    result = jos.minimize(counted, jnp.array([-1.2, 1.0]), OPTIMIZERS["exact"])
    jax.effects_barrier()
    assert len(seen) == result.num_evals


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_of_starts_ends_where_each_does_alone(solver):
    starts = jnp.asarray(np.random.default_rng(2).uniform(-2, 2, (5, 6)))
    solve = jax.jit(lambda p: jos.minimize(rosenbrock, p, OPTIMIZERS[solver]))
    batch = jax.vmap(solve)(starts)
    alone = solve(starts[3])
    assert np.all(batch.converged)
    np.testing.assert_allclose(batch.params[3], alone.params, rtol=1e-6)
    assert batch.num_steps[3] == alone.num_steps


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_single_precision_stays_and_converges(solver):
    with jax.enable_x64(False):
        result = jos.minimize(rosenbrock, jnp.tile(jnp.array([-1.2, 1.0]), 3), OPTIMIZERS[solver])
        assert result.params.dtype == np.float32
        assert result.converged, result.message
        np.testing.assert_allclose(result.params, 1.0, rtol=1e-2)


SEARCHES = {
    "backtracking": optax.scale_by_backtracking_linesearch(30),
    "zoom": optax.scale_by_zoom_linesearch(30, initial_guess_strategy="one"),
}


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("backtracking", "exact"),
        ("zoom", "cg"),
        pytest.param("zoom", "exact", marks=pytest.mark.slow),
        pytest.param("backtracking", "cg", marks=pytest.mark.slow),
    ],
)
def test_optax_line_searches_take_the_direction(name, solver):
    start, search = jnp.array([-1.2, 1.0]), SEARCHES[name]
    by_name = jos.newton(solver=solver, linesearch=search)
    by_hand = optax.chain(scale_by_newton(solver=solver), optax.scale(-1.0), search)
    ends = [jos.minimize(rosenbrock, start, made, max_steps=60, gtol=1e-8) for made in (by_name, by_hand)]
    for end in ends:
        assert end.converged, end.message
        np.testing.assert_allclose(end.params, 1.0, rtol=1e-6)
    np.testing.assert_allclose(ends[0].params, ends[1].params, rtol=1e-9)


@pytest.mark.slow
def test_the_direction_for_a_line_search_descends_where_the_hessian_is_indefinite():
    hessian = np.diag([3.0, -2.0, 1.0, 5.0, -1.0])
    fn = lambda p: 0.5 * p @ hessian @ p  # noqa: E731
    at = jnp.ones(5)
    gradient = hessian @ at
    rule = scale_by_newton(solver="exact")
    exact, _ = rule.update(gradient, rule.init(at), at, value_fn=fn)
    np.testing.assert_allclose(exact, gradient / np.abs(np.diag(hessian)), rtol=1e-10)
    rule = scale_by_newton(solver="cg")
    inexact, _ = rule.update(gradient, rule.init(at), at, value_fn=fn)
    assert inexact @ gradient > 0


def test_a_first_radius_bounds_the_first_step_where_the_hessian_is_indefinite():
    at = jnp.array([1.0, 0.1])
    for radius in (0.01, 0.1):
        optimizer = jos.newton(radius=radius)
        updates, _ = optimizer.update(None, optimizer.init(at), at, value_fn=double_well)
        np.testing.assert_allclose(np.linalg.norm(updates), radius * np.linalg.norm(at), rtol=1e-6)


@pytest.mark.slow
def test_a_hessian_is_never_formed_by_conjugate_gradients():
    """With 10⁵ parameters it would have 80 GB."""
    start = jnp.tile(jnp.array([-1.2, 1.0]), 50_000)
    result = jos.minimize(rosenbrock, start, jos.newton(), target=1e-6)
    assert result.value <= 1e-6
    assert result.opt_state.evaluations.products < 100


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"damping": -1.0}, "damping"),
        ({"radius": 0.0}, "radius"),
        ({"solver": "lu"}, "solver"),
        ({"solver": "cg", "saddle_free": True}, "solver"),
        ({"solver": "cg", "damping": None}, "solver"),
        ({"linesearch": optax.identity(), "saddle_free": True}, "linesearch"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, match):
    newton = inspect.unwrap(jos.newton)  # without the checks of annotations that tests put around it
    with pytest.raises(ValueError, match=match):
        newton(**options)


@pytest.mark.slow
def test_lbfgs_is_that_of_optax_and_compiles_once(count_traces):
    start = jnp.array([-1.2, 1.0])
    ours = jos.minimize(rosenbrock, start, jos.lbfgs(memory_size=5), max_steps=30)
    theirs = jos.minimize(rosenbrock, start, optax.lbfgs(memory_size=5), max_steps=30)
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-12)
    counted = count_traces(rosenbrock)
    jos.minimize(counted.fn, start, jos.lbfgs(memory_size=5), max_steps=30)
    traced = counted.count
    jos.minimize(counted.fn, start, jos.lbfgs(memory_size=5), max_steps=30)
    assert counted.count == traced > 0
    with pytest.raises(ValueError, match="memory_size"):
        jos.lbfgs(memory_size=0)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [lambda fn: fn, jax.vmap], ids=["alone", "vmap"])
def test_an_objective_of_fourier_transforms(transform):
    # LAPACK's order of the Hessian reached the transforms, which XLA for CPUs refuses to compute in it.
    def solve(target):
        loss = lambda p, target: jnp.sum(jnp.abs(jnp.fft.fft(p) - target) ** 2 + 1.0)  # noqa: E731
        return jos.minimize(loss, jnp.array([0.7, -0.4]), jos.newton(solver="exact"), (target,)).params

    targets = jnp.array([[4.0, 2.0], [1.0, 1.0]])
    found = transform(solve)(targets if transform is jax.vmap else targets[0])
    expected = np.fft.ifft(targets).real
    np.testing.assert_allclose(found, expected if transform is jax.vmap else expected[0], atol=1e-9)
