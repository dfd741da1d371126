"""What a `Result` says, and every way in which a minimization ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos
from jaxopt_study.result import Status

X = np.linspace(0.0, 4.0, 12)
Y = 3 * np.exp(-0.5 * X) + 0.1 * np.cos(7 * X)


def decay(params, x, y):
    return params["a"] * jnp.exp(-params["k"] * x) - y


DECAY = jos.LeastSquares(decay)


def start(a=2.0, k=0.6):
    return {"a": jnp.full((), a, float), "k": jnp.full((), k, float)}


def data():
    return jnp.asarray(X), jnp.asarray(Y)


def minimum():
    from scipy.optimize import least_squares

    return least_squares(
        lambda p: p[0] * np.exp(-p[1] * X) - Y, [1.0, 1.0], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )


OPTIMIZERS = {
    "sgd": lambda: jos.sgd(0.02),
    "adam": lambda: jos.adam(0.05),
    "optax_adam": lambda: optax.adam(0.05),
    "newton": jos.newton,
    "newton_plain": lambda: jos.newton(None),
    "gauss_newton": jos.gauss_newton,
    "lm": jos.levenberg_marquardt,
    "lm_qr": lambda: jos.levenberg_marquardt(solver="qr"),
    "chain": lambda: jos.chain(jos.levenberg_marquardt(), optax.scale(0.7)),
    "masked": lambda: jos.masked(jos.levenberg_marquardt(), {"a": True, "k": True}),
}


def names(*quick, slow=()):
    """Of the optimizers: those of the quick run, and their siblings."""
    marked = [pytest.param(name, marks=pytest.mark.slow) for name in slow]
    return pytest.mark.parametrize("name", [*quick, *marked])


@functools.cache
def made(name):
    return OPTIMIZERS[name]()


def solve(name, params=None, *, max_steps=1000, ftol=0.0, xtol=0.0, gtol=0.0, target=-1.0):
    """All tests given as numbers, and off by them: one compilation serves most of this file."""
    params = start() if params is None else params
    return jos.minimize(
        DECAY, params, made(name), data(), max_steps=max_steps, ftol=ftol, xtol=xtol, gtol=gtol, target=target
    )


@pytest.mark.slow
@pytest.mark.parametrize("max_steps", [0, 1, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_value_and_grad_norm_are_those_at_the_params_returned(name, max_steps):
    result = solve(name, max_steps=max_steps)
    assert result.num_steps == max_steps
    assert result.status == Status.OUT_OF_STEPS
    r = result.params["a"] * np.exp(-result.params["k"] * X) - Y
    jacobian = np.stack(
        [np.exp(-result.params["k"] * X), -result.params["a"] * X * np.exp(-result.params["k"] * X)]
    )
    np.testing.assert_allclose(result.value, 0.5 * r @ r, rtol=1e-12)
    np.testing.assert_allclose(result.grad_norm, np.linalg.norm(jacobian @ r), rtol=1e-7, atol=1e-12)


@names("newton", "lm", slow=["gauss_newton", "chain"])
def test_default_tolerances_find_the_minimum_that_scipy_finds(name):
    result = jos.minimize(DECAY, start(), OPTIMIZERS[name](), data())
    assert result.converged, result.message
    np.testing.assert_allclose([result.params["a"], result.params["k"]], minimum().x, rtol=1e-7)
    np.testing.assert_allclose(result.value, minimum().cost, rtol=1e-12)
    assert result.num_steps < 60


@names("adam", slow=["sgd", "optax_adam"])
def test_first_order_methods_have_no_test_by_default(name):
    at_minimum = dict(zip("ak", map(jnp.asarray, minimum().x), strict=True))
    result = jos.minimize(DECAY, at_minimum, OPTIMIZERS[name](), data(), max_steps=17)
    assert result.status == Status.OUT_OF_STEPS
    assert result.num_steps == 17


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_target_met_at_the_start_ends_with_no_step(name):
    result = solve(name, target=1e6)
    assert (result.status, result.num_steps) == (Status.TARGET_REACHED, 0)
    np.testing.assert_array_equal([result.params["a"], result.params["k"]], [2.0, 0.6])
    assert np.isfinite(result.grad_norm)


@pytest.mark.parametrize("name", ["adam", "lm"])
def test_the_first_value_at_or_below_the_target_ends(name):
    result = jos.minimize(DECAY, start(), OPTIMIZERS[name](), data(), target=0.1, trace=True)
    values = np.asarray(result.trace.value)
    assert result.status == Status.TARGET_REACHED
    assert np.argmax(values <= 0.1) == result.num_steps
    assert result.value <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_start_that_meets_gtol_ends_converged_with_no_step(name):
    at_minimum = dict(zip("ak", map(jnp.asarray, minimum().x), strict=True))
    result = solve(name, at_minimum, gtol=1e-6)
    assert (result.status, result.num_steps) == (Status.GRADIENT_CONVERGED, 0)
    for leaf, given in zip(jax.tree.leaves(result.params), jax.tree.leaves(at_minimum), strict=True):
        np.testing.assert_array_equal(leaf, given)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_start_that_is_not_finite_has_its_status(name, bad):
    result = solve(name, start(a=bad), max_steps=5)
    assert (result.status, result.num_steps) == (Status.NON_FINITE_START, 0)
    np.testing.assert_array_equal(result.params["a"], bad)


@names("adam", "lm", slow=["newton", "gauss_newton"])
def test_a_gradient_that_is_not_finite_at_the_start_has_its_status(name):
    objective = jos.LeastSquares(lambda p: jnp.sqrt(p) + 1)  # 1 at 0, where its slope is infinite
    result = jos.minimize(objective, jnp.zeros(1), OPTIMIZERS[name](), max_steps=5)
    assert (result.status, result.num_steps) == (Status.NON_FINITE_START, 0)
    assert result.params == 0


@names("adam", slow=["sgd", "optax_adam"])
def test_a_value_lost_on_the_way_ends_and_says_where(name):
    """Below 0.5 the function is not a number; the steps lead there."""
    lost = lambda p: jnp.where(p > 0.5, p, jnp.nan)  # noqa: E731
    optimizer = {"sgd": jos.sgd(0.1), "adam": jos.adam(0.1), "optax_adam": optax.adam(0.1)}[name]
    result = jos.minimize(lambda p: jnp.sum(lost(p)), jnp.array(1.0), optimizer, max_steps=100, trace=True)
    assert result.status == Status.NON_FINITE
    assert 4 <= result.num_steps <= 6
    assert result.params <= 0.5 + 1e-6
    assert np.isnan(result.value)
    assert np.all(np.isfinite(result.trace.value[: result.num_steps]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["newton", "lm"])
def test_methods_that_refuse_steps_stay_where_the_value_is_finite(name):
    """ln is not a number below 0, where the first full step from 3 leads."""
    objective = jos.LeastSquares(lambda p: jnp.log(p))
    result = jos.minimize(objective, jnp.array([4.0]), OPTIMIZERS[name]())
    assert result.converged, result.message
    np.testing.assert_allclose(result.params, [1.0], rtol=1e-7)


@pytest.mark.slow
@names("newton", "lm", slow=["gauss_newton"])
def test_minus_infinity_is_not_finite_and_not_a_decrease(name):
    """BUG if it fails for Newton: value - (-inf) is a reduction of +inf."""
    hole = lambda p: jnp.where(p > 2, -jnp.inf, p - 3)  # noqa: E731
    objective = (
        jos.LeastSquares(hole) if name != "newton" else lambda p: jnp.where(p > 2, -jnp.inf, (p - 3) ** 2)
    )
    result = jos.minimize(objective, jnp.array(0.0), OPTIMIZERS[name]())
    assert np.isfinite(result.value)
    assert np.isfinite(result.params)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["newton", "lm"])
def test_no_trial_that_lowers_the_value_is_a_stall(name):
    """The gradient promises a descent, but the value is higher everywhere else.

    BUG if it fails: a trial so short that it changes nothing counts as accepted, and as converged.
    """

    @jax.custom_jvp
    def liar(p, at):
        return jnp.where(p == at, 1.0, 2.0)

    liar.defjvp(lambda primals, tangents: (liar(*primals), jnp.exp(primals[0]) * tangents[0]))
    objective = jos.LeastSquares(liar) if name == "lm" else lambda p, at: liar(p, at) ** 2
    for at in (0.0, 1.0):
        result = jos.minimize(objective, jnp.asarray(at), OPTIMIZERS[name](), (jnp.asarray(at),))
        assert (Status(int(result.status)), result.num_steps) == (Status.STALLED, 0)
        assert (result.params, result.value) == (at, 0.5 if name == "lm" else 1)


def test_cholesky_on_a_singular_problem_ends_rank_deficient_and_finite():
    duplicate = jos.LeastSquares(lambda p, x, y: (p[0] + p[1]) * x - y)
    result = jos.minimize(duplicate, jnp.array([1.0, 0.5]), jos.gauss_newton(solver="cholesky"), data())
    assert result.status == Status.RANK_DEFICIENT
    assert "rank-deficient" in result.message
    assert np.all(np.isfinite(result.params))


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_gauss_newton_on_duplicated_parameters_takes_the_step_of_least_norm(solver):
    duplicate = jos.LeastSquares(lambda p, x, y: (p[0] + p[1]) * x - y)
    result = jos.minimize(duplicate, jnp.array([1.0, 0.5]), jos.gauss_newton(solver=solver), data())
    assert result.converged
    assert result.opt_state.info.rank_deficient
    slope = X @ Y / (X @ X)
    np.testing.assert_allclose(result.params, 0.5 * (slope - 1.5) + np.array([1.0, 0.5]), rtol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_gauss_newton_on_a_singular_network_says_that_it_was_singular(seed):
    """2-10-1 tanh network, 30 points, 41 parameters: JᵀJ has rank 30 at most."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (30, 2))
    y = (2.5 - x[:, 0]) ** 2 + 2.5 * (x[:, 1] - x[:, 0] ** 2) ** 2

    def network(p, x, y):
        return jnp.tanh(x @ p["w"] + p["b"][None, :]) @ p["v"] + p["c"] - y

    params = {"w": rng.normal(size=(2, 10)), "b": np.zeros(10), "v": rng.normal(size=10), "c": np.zeros(())}
    params, args = jax.tree.map(jnp.asarray, (params, (x, y)))
    result = jos.minimize(jos.LeastSquares(network), params, jos.gauss_newton(), args, max_steps=100)
    assert result.opt_state.info.rank_deficient
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.params))
    assert result.converged or result.status in (Status.RANK_DEFICIENT, Status.OUT_OF_STEPS)


@pytest.mark.slow
@names("adam", "lm", slow=["newton"])
def test_the_trace_begins_at_the_start_and_is_not_a_number_after_the_end(name):
    result = jos.minimize(
        DECAY, start(), OPTIMIZERS[name](), data(), max_steps=400, target=0.05, trace=lambda p: p
    )
    n = int(result.num_steps)
    assert 0 < n < 400
    assert result.trace.value.shape == (401,)
    for leaf in jax.tree.leaves(result.trace):
        assert np.all(np.isfinite(leaf[: n + 1]))
        assert np.all(np.isnan(leaf[n + 1 :]))
    seen = result.trace.observed
    assert seen["a"][0] == 2
    assert seen["a"][n] == result.params["a"]
    expected = [
        0.5 * np.sum((a * np.exp(-k * X) - Y) ** 2)
        for a, k in zip(seen["a"][: n + 1], seen["k"][: n + 1], strict=True)
    ]
    np.testing.assert_allclose(result.trace.value[: n + 1], expected, rtol=1e-11)


@names("lm", slow=["adam"])
def test_a_trace_changes_nothing_else(name):
    plain = jos.minimize(DECAY, start(), OPTIMIZERS[name](), data(), max_steps=20)
    traced = jos.minimize(DECAY, start(), OPTIMIZERS[name](), data(), max_steps=20, trace=True)
    assert plain.trace is None
    assert traced.trace.observed is None
    assert traced.params == plain.params
    assert traced.trace.value[plain.num_steps] == plain.value


def test_whole_numbers_that_are_observed_keep_their_size():
    """BUG if it fails: they are recorded in float16, where 70000 is infinite."""
    result = jos.minimize(
        DECAY, start(), jos.adam(0.1), data(), max_steps=2, trace=lambda p: jnp.int32(70_001)
    )
    np.testing.assert_array_equal(result.trace.observed, [70_001] * 3)


@pytest.mark.slow
@names("sgd", "newton", "lm", slow=["newton_plain", "gauss_newton"])
def test_num_evals_counts_real_evaluations(name):
    calls = []

    def counted(params, x, y):
        jax.debug.callback(lambda: calls.append(1))
        return decay(params, x, y)

    result = jos.minimize(jos.LeastSquares(counted), start(), OPTIMIZERS[name](), data(), max_steps=12)
    jax.effects_barrier()
    assert result.num_evals == len(calls)
    assert result.num_evals > result.num_steps


@pytest.mark.slow
def test_lm_counts_rejected_trials_as_evaluations_but_not_as_steps():
    valley = jos.LeastSquares(lambda p: (1 - p[0], 10 * (p[1] - p[0] ** 2)))
    result = jos.minimize(valley, jnp.array([-1.2, 1.0]), jos.levenberg_marquardt(), trace=True)
    values = np.asarray(result.trace.value)[: int(result.num_steps) + 1]
    assert np.all(np.diff(values) <= 0)
    assert result.num_evals > 2 * result.num_steps + 2  # one linearization a step, and more than one trial


@pytest.mark.parametrize("name", ["adam", "newton", "gauss_newton", "lm"])
def test_zero_disables_a_test(name):
    result = solve(name, max_steps=30)
    assert not result.converged
    if name in ("adam", "gauss_newton"):
        assert result.num_steps == 30


@pytest.mark.parametrize("name", ["adam", "newton", "lm", "gauss_newton"])
@pytest.mark.parametrize("tolerance", ["ftol", "xtol", "gtol"])
def test_each_tolerance_ends_with_its_own_status(name, tolerance):
    result = solve(name, max_steps=4000, **{tolerance: 1e-4})
    wanted = {
        "ftol": Status.VALUE_CONVERGED,
        "xtol": Status.STEP_CONVERGED,
        "gtol": Status.GRADIENT_CONVERGED,
    }
    assert result.status == wanted[tolerance]
    np.testing.assert_allclose(result.value, minimum().cost, rtol=0.05)


def test_a_tolerance_of_the_int_zero_compiles_nothing_new(count_traces):
    """BUG if it fails: 0 is an int, and another type than 1e-8; so is a learning rate of 1."""
    counted = count_traces(decay)
    objective = jos.LeastSquares(counted.fn)
    jos.minimize(objective, start(), jos.levenberg_marquardt(1.0), data(), gtol=1e-8)
    traced = counted.count
    jos.minimize(objective, start(), jos.levenberg_marquardt(1), data(), gtol=0)
    assert counted.count == traced


def test_kinds_of_numbers_that_mean_the_same_compile_nothing_new(count_traces):
    """Floats of Python, NumPy and JAX differ in their weak type."""
    counted = count_traces(decay)
    objective = jos.LeastSquares(counted.fn)
    jos.minimize(objective, {"a": jnp.array(1.0), "k": jnp.array(1.0)}, jos.adam(0.1), data())
    traced = counted.count
    for one in (1.0, np.float64(1), np.ones(()), jnp.ones(())):
        jos.minimize(objective, {"a": one, "k": one}, jos.adam(0.1), data())
        assert counted.count == traced


def test_a_pointwise_promise_is_checked_once_a_function(count_traces):
    counted = count_traces(decay)
    objective = jos.LeastSquares(counted.fn, pointwise=True)
    jos.minimize(objective, start(), jos.levenberg_marquardt(), data())
    traced = counted.count
    jos.minimize(objective, start(a=2.0), jos.levenberg_marquardt(), data())
    assert counted.count == traced


def test_another_function_object_is_another_compilation_and_the_same_is_not(count_traces):
    """The documented price of plain functions: what is defined anew is compiled anew."""
    counted = count_traces(lambda p: jnp.sum(p**2))
    for expected in (1, 2):
        anew = lambda p: counted.fn(p)  # noqa: E731
        for _ in range(2):
            jos.minimize(anew, jnp.ones(2), jos.adam(0.1), max_steps=2)
        if expected == 1:
            first = counted.count
    assert counted.count == 2 * first


def test_optimizers_of_optax_are_static_by_identity(count_traces):
    counted = count_traces(lambda p: jnp.sum(p**2))
    first, second = optax.adam(0.1), optax.adam(0.2)
    ends = [jos.minimize(counted.fn, jnp.ones(2), o, max_steps=2).params for o in (first, first, second)]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.all(ends[2] < ends[0])


def test_lbfgs_of_optax_with_its_line_search_runs():
    result = jos.minimize(DECAY, start(), optax.lbfgs(), data(), max_steps=50, gtol=1e-8)
    assert result.status == Status.GRADIENT_CONVERGED
    np.testing.assert_allclose([result.params["a"], result.params["k"]], minimum().x, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chain", [optax.chain, jos.chain], ids=["optax.chain", "jos.chain"])
def test_gauss_newton_with_a_line_search_of_optax_comes_down_the_valley(chain):
    valley = jos.LeastSquares(lambda p: (1 - p[0], 10 * (p[1] - p[0] ** 2)))
    optimizer = chain(jos.gauss_newton(), optax.scale_by_backtracking_linesearch(max_backtracking_steps=20))
    result = jos.minimize(valley, jnp.array([-1.2, 1.0]), optimizer, trace=True)
    assert result.converged, result.message
    np.testing.assert_allclose(result.params, [1.0, 1.0], rtol=1e-6)
    assert np.all(np.diff(np.asarray(result.trace.value)[: int(result.num_steps) + 1]) <= 0)


def test_data_for_each_step_comes_from_batch_fn_with_the_step_and_its_key():
    """One SGD step at a rate of 1 on ½ (p - b)² lands on b: the path shows which data each step had."""
    objective = lambda p, b: 0.5 * (p - b) ** 2  # noqa: E731
    batch_fn = lambda step, key: (step + jax.random.uniform(key),)  # noqa: E731
    result = jos.minimize(
        objective,
        jnp.array(-1.0),
        jos.sgd(1.0),
        batch_fn=batch_fn,
        key=jax.random.key(7),
        max_steps=5,
        trace=lambda p: p,
    )
    path = np.asarray(result.trace.observed)
    np.testing.assert_array_equal(np.floor(path), [-1, 0, 1, 2, 3, 4])
    assert len(set(np.round(path - np.floor(path), 6)[1:])) == 5
    other = jos.minimize(
        objective, jnp.array(-1.0), jos.sgd(1.0), batch_fn=batch_fn, key=jax.random.key(8), max_steps=5
    )
    assert other.params != result.params
    again = jos.minimize(
        objective, jnp.array(-1.0), jos.sgd(1.0), batch_fn=batch_fn, key=jax.random.key(7), max_steps=5
    )
    assert again.params == result.params


@pytest.mark.slow
@names("lm", slow=["adam"])
def test_minibatches_approach_the_fit_to_all_data(name):
    rows = 200
    x = jnp.linspace(0, 1, rows)
    y = 2 * x + 1

    def batch_fn(step, key):
        chosen = jax.random.choice(key, rows, (20,))
        return x[chosen], y[chosen]

    line = jos.LeastSquares(lambda p, x, y: p[0] * x + p[1] - y)
    result = jos.minimize(
        line, jnp.zeros(2), OPTIMIZERS[name](), batch_fn=batch_fn, max_steps=600, target=1e-10
    )
    np.testing.assert_allclose(result.params, [2.0, 1.0], atol=1e-3)


@names("lm", slow=["adam"])
def test_with_batches_value_and_grad_norm_are_of_the_same_batch(name):
    """BUG if it fails: the value of one batch beside the gradient of the next."""
    objective = jos.LeastSquares(lambda p, b: (p - b, 0.5 * p))
    result = jos.minimize(
        objective,
        jnp.array(1.0),
        OPTIMIZERS[name](),
        batch_fn=lambda step, key: (10.0 * (step + 1),),
        max_steps=3,
    )
    p = float(result.params)
    batches = [10.0 * (step + 1) for step in range(5)]
    of_value = [b for b in batches if np.isclose(result.value, 0.5 * ((p - b) ** 2 + 0.25 * p * p))]
    of_gradient = [b for b in batches if np.isclose(result.grad_norm, abs(p - b + 0.25 * p))]
    assert of_value == of_gradient != []


@names("adam", "lm", slow=["newton"])
def test_going_on_from_opt_state_equals_one_longer_run(name):
    optimizer = made(name)
    off = {"ftol": 0.0, "xtol": 0.0, "gtol": 0.0, "target": -1.0}
    whole, half = solve(name, max_steps=8), solve(name, max_steps=4)
    rest = jos.minimize(DECAY, half.params, optimizer, data(), max_steps=4, opt_state=half.opt_state, **off)
    assert rest.params == whole.params
    assert rest.value == whole.value


@pytest.mark.slow
def test_newton_leaves_a_saddle_by_the_way_down_and_says_when_there_is_none():
    saddle = lambda p: p[0] ** 2 - p[1] ** 2 + p[1] ** 4  # noqa: E731
    result = jos.minimize(saddle, jnp.array([0.5, 0.01]), jos.newton())
    assert result.converged
    np.testing.assert_allclose(np.abs(result.params), [0.0, np.sqrt(0.5)], atol=1e-6)


@pytest.mark.slow
def test_minimize_works_inside_jit_and_scan():
    def body(params, x):
        return jos.minimize(
            DECAY, params, jos.levenberg_marquardt(), (x, jnp.asarray(Y)), max_steps=3
        ).params, None

    last, _ = jax.jit(lambda p: jax.lax.scan(body, p, jnp.stack([jnp.asarray(X)] * 3)))(start())
    whole = jos.minimize(DECAY, start(), jos.levenberg_marquardt(), data())
    np.testing.assert_allclose(last["k"], whole.params["k"], rtol=1e-3)


@pytest.mark.slow
def test_a_minimum_of_one_batch_is_no_end():
    batch_fn = lambda step, key: (jax.random.choice(key, jnp.arange(32.0), (8,)),)  # noqa: E731
    result = jos.least_squares(lambda p, b: p - b, jnp.array(3.0), batch_fn=batch_fn, max_steps=100)
    assert result.status == Status.OUT_OF_STEPS
    assert result.num_steps == 100


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [jos.adam(0.1), jos.newton()], ids=["adam", "newton"])
def test_an_objective_that_returns_a_number_of_python_is_a_constant(optimizer):
    result = jos.minimize(lambda p: 3.0, jnp.ones(2), optimizer, max_steps=3)
    np.testing.assert_array_equal(result.params, 1.0)
    assert float(result.value) == 3.0
