"""What every optimizer of the table has to do: optax's contract, and ours besides."""

import inspect
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_study as jos


def equal(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def same_avals(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    assert [(a.shape, a.dtype) for a in jax.tree.leaves(left)] == [
        (b.shape, b.dtype) for b in jax.tree.leaves(right)
    ]


@pytest.mark.slow
def test_converges_on_a_bowl_in_float64_and_float32(kind, precision, problems):
    center = problems.center()
    result = jos.minimize(
        problems.bowl, problems.bowl_point(), kind.for_bowl, (center,), max_steps=3000, target=1e-5
    )
    assert result.status in (jos.Status.TARGET_REACHED, jos.Status.GRADIENT_CONVERGED)
    equal(result.params, center, atol=1e-2)
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(result.params))
    assert result.value.dtype == precision


@pytest.mark.slow
def test_comes_down_rosenbrocks_valley_as_least_squares(entry, problems):
    result = jos.minimize(
        problems.valley, problems.valley_start(), entry.for_valley, max_steps=entry.valley_steps, target=1e-3
    )
    assert result.converged, result.message
    equal(result.params, {"x": 1.0, "y": 1.0}, atol=0.2)
    np.testing.assert_allclose(result.value, problems.valley(result.params), rtol=1e-12, atol=1e-30)


@pytest.mark.slow
def test_comes_down_rosenbrocks_valley_as_a_scalar(entry, problems):
    if entry.needs == "residual_fn":
        with pytest.raises(TypeError, match="residual_fn"):
            jos.minimize(lambda p: problems.valley(p), problems.valley_start(), entry.for_valley)
        return
    result = jos.minimize(
        lambda p: problems.valley(p),
        problems.valley_start(),
        entry.for_valley,
        max_steps=entry.valley_steps,
        target=1e-3,
    )
    assert result.converged, result.message
    equal(result.params, {"x": 1.0, "y": 1.0}, atol=0.2)


@pytest.mark.slow
def test_minimize_compiles_once_for_other_numbers(kind, problems, count_traces):
    counted = count_traces(problems.bowl.residual_fn)
    objective = jos.LeastSquares(counted.fn)
    optimizer = kind.for_bowl

    def solve(optimizer, start=0.0, gtol=1e-9, max_steps=5, shift=0.0):
        args = (jax.tree.map(lambda leaf: leaf + shift, problems.center()),)
        return jos.minimize(
            objective,
            problems.bowl_point(start),
            optimizer,
            args,
            max_steps=max_steps,
            ftol=1e-9,
            gtol=gtol,
            target=1e-30,
        )

    first = solve(optimizer)
    traced = counted.count
    solve(optimizer)
    solve(optimizer, start=0.25, gtol=1e-5, max_steps=7, shift=1.0)
    if kind.ours and kind.bowl is not None:
        other = solve(kind.on(2 * kind.bowl + 0.5))
        leaves = [jax.tree.leaves(result.params) for result in (first, other)]
        assert any(np.any(a != b) for a, b in zip(*leaves, strict=True))
    assert traced > 0
    assert counted.count == traced


def test_a_jitted_update_takes_the_optimizer_as_an_argument_and_compiles_once(kind, problems, step):
    start = problems.valley_start()
    step.path(kind.for_valley, start, 1)
    traced = step.traced
    assert traced > 0
    step.path(kind.for_valley, start, 2)
    if kind.valley is not None:
        step.path(kind.on(2 * kind.valley + 1e-3), start, 2)
    assert step.traced == traced


def test_is_a_pytree_of_numbers_and_survives_flattening(kind, problems, step):
    optimizer = kind.for_valley
    leaves, structure = jax.tree.flatten(optimizer)
    assert all(isinstance(leaf, int | float) for leaf in leaves)
    hash(structure)
    again = jax.tree.unflatten(structure, leaves)
    assert isinstance(again, optax.GradientTransformationExtraArgs)
    one, other = (step.path(made, problems.valley_start(), 1)[-1][0] for made in (optimizer, again))
    same_bits(one, other)


def test_two_optimizers_made_alike_have_one_structure(ours):
    assert jax.tree.structure(ours.for_bowl) == jax.tree.structure(ours.for_bowl)


@pytest.mark.slow
def test_state_is_a_pytree_of_arrays_with_a_fixed_structure(entry, problems):
    optimizer, params = entry.for_valley, problems.valley_start()
    state = optimizer.init(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    _, after = jax.eval_shape(lambda p, s: problems.one_step(optimizer, p, s, problems.valley), params, state)
    same_avals(state, after)


@pytest.mark.slow
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float64", "float32"), ("float32", "float64")])
def test_an_update_keeps_the_dtypes_of_params_under_x64(entry, dtypes, problems):
    """Float32 alone, and mixed with float64, while x64 is on."""
    optimizer = entry.for_valley
    params = {name: jnp.full((), 0.5, dtype) for name, dtype in zip(("x", "y"), dtypes, strict=True)}
    state = optimizer.init(params)
    new, after = jax.eval_shape(
        lambda p, s: problems.one_step(optimizer, p, s, problems.valley), params, state
    )
    same_avals(params, new)
    same_avals(state, after)


MIXTURES = {
    "float32": (("float32", "float32"), "float32"),
    "mixed params": (("float64", "float32"), "float64"),
    "float64 data": (("float32", "float32"), "float64"),
    "float32 data": (("float64", "float64"), "float32"),
    "params of weak type": ((None, None), "float32"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mixture", MIXTURES)
def test_minimize_keeps_the_dtypes_of_params_under_x64(kind, mixture, problems):
    """The dtype of the residuals need not be that of the parameters.

    `jnp.array(0.5)` is of weak type: beside float32 data its residuals are float32.
    """
    dtypes, data = MIXTURES[mixture]
    x = jnp.asarray(np.linspace(0, 1, 5), data)
    params = {name: jnp.array(0.5, dtype) for name, dtype in zip("ab", dtypes, strict=True)}
    objective = jos.LeastSquares(lambda p, x: p["a"] + p["b"] * x - 2 * x)
    result = jax.eval_shape(
        lambda p, x: jos.minimize(objective, p, kind.for_bowl, (x,), max_steps=5), params, x
    )
    same_avals(params, result.params)


def test_jit_equals_eager(first_order, problems, step):
    optimizer, params = first_order.for_valley, problems.valley_start()
    carry = params, optimizer.init(params)
    for jitted in step.path(optimizer, params, 2)[1:]:
        carry = problems.one_step(optimizer, *carry, problems.valley)
        equal(jitted[0], carry[0], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["newton", "gauss_newton", "lm"])
def test_second_order_methods_run_eagerly_as_under_jit(name, problems, step):
    optimizer, params = problems.named[name].for_valley, problems.valley_start()
    eager = problems.one_step(optimizer, params, optimizer.init(params), problems.valley)[0]
    equal(step.path(optimizer, params, 1)[-1][0], eager, rtol=1e-9, atol=1e-12)


def test_vmap_over_a_hundred_starts_equals_each_alone(kind, problems, key, step):
    optimizer = kind.for_valley
    starts = {
        name: jax.random.uniform(k, 100, minval=-2, maxval=2)
        for name, k in zip("xy", jax.random.split(key), strict=True)
    }

    def run(params):
        def body(carry, _):
            return problems.one_step(optimizer, *carry, problems.valley), None

        return jax.lax.scan(body, (params, optimizer.init(params)), None, length=3)[0][0]

    batch = jax.jit(jax.vmap(run))(starts)
    for lane in (0, 42, 99):
        one, alone = jax.tree.map(operator.itemgetter(lane), (batch, starts))
        equal(one, step.path(optimizer, alone, 3)[-1][0], rtol=1e-7, atol=1e-10)


def test_scan_equals_a_python_loop_and_cond_may_choose_between_a_step_and_none(kind, problems, step):
    optimizer, params = kind.for_valley, problems.valley_start()

    @jax.jit
    def scanned(wanted, carry):
        def body(carry, wanted):
            moved = lambda c: problems.one_step(optimizer, *c, problems.valley)  # noqa: E731
            carry = jax.lax.cond(wanted, moved, lambda c: c, carry)
            return carry, carry

        return jax.lax.scan(body, carry, wanted)[1]

    wanted = [True, True, False, True, True]
    start, *path = step.path(optimizer, params, sum(wanted))
    states = scanned(jnp.array(wanted), start)
    at = [jax.tree.map(operator.itemgetter(k), states) for k in range(len(wanted))]
    for found, expected in zip((at[0], at[1], at[3], at[4]), path, strict=True):
        equal(found[0], expected[0], rtol=1e-9, atol=1e-12)
    same_bits(at[2], at[1])


def test_chains_of_both_kinds_scale_its_update(kind, problems, step):
    optimizer, params = kind.for_valley, problems.valley_start()
    chains = [chain(optimizer, optax.scale(0.5)) for chain in (optax.chain, jos.chain)]

    @jax.jit
    def steps(params):
        return [problems.one_step(o, params, o.init(params), problems.valley)[0] for o in chains]

    one = step.path(optimizer, params, 1)[-1][0]
    for half in steps(params):
        equal(half, jax.tree.map(lambda old, new: old + 0.5 * (new - old), params, one), rtol=1e-12)


def test_unknown_extras_are_ignored_even_those_named_like_an_argument(kind, problems):
    """BUG if it fails: hyperparameters are bound by position, and an extra of the same name collides."""
    optimizer, params = optax.with_extra_args_support(kind.for_valley), problems.valley_start()
    grads = jax.grad(problems.valley)(params)
    extras = problems.extras(problems.valley)
    names = (
        "decay",
        "eps",
        "b1",
        "learning_rate",
        "damping",
        "options",
        "max_trials",
        "optimizers",
        "initial",
    )

    def shape(**more):
        return jax.eval_shape(
            lambda g, p: optimizer.update(g, optimizer.init(p), p, **extras, **more), grads, params
        )

    assert shape(unknown=3) == shape()
    assert shape(**dict.fromkeys(names, 7.0)) == shape()


@pytest.mark.slow
def test_is_deterministic(kind, problems):
    def solve():
        return jos.minimize(problems.valley, problems.valley_start(), kind.for_valley, max_steps=20)

    same_bits(solve(), solve())


def test_an_update_at_a_gradient_that_is_not_a_number_does_not_raise(kind, problems, step):
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, problems.valley_start())
    before, after = step.path(kind.for_valley, params, 1)
    same_avals(after, before)


@pytest.mark.slow
def test_a_step_is_the_same_however_the_leaves_are_arranged(kind, problems):
    flat_params = jnp.array([-1.2, 1.0])
    as_vector = jos.LeastSquares(lambda p: problems.valley.residual_fn({"x": p[0], "y": p[1]}))
    tree = jos.minimize(problems.valley, problems.valley_start(), kind.for_valley, max_steps=5)
    flat = jos.minimize(as_vector, flat_params, kind.for_valley, max_steps=5)
    np.testing.assert_allclose(flat.params, [tree.params["x"], tree.params["y"]], rtol=1e-8)


FACTORIES = {
    "sgd": jos.sgd,
    "adagrad": jos.adagrad,
    "rmsprop": jos.rmsprop,
    "adam": jos.adam,
    "newton": jos.newton,
    "lm": jos.levenberg_marquardt,
}


@pytest.mark.parametrize("name", FACTORIES)
def test_hyperparameters_can_be_injected(name, problems, step):
    """optax.inject_hyperparams makes every number of a factory a part of the state.

    BUG if it fails for an annotation: what is injected is an array, where the signature says float.
    """
    entry, params = problems.named[name], problems.valley_start()
    injected, plain = optax.inject_hyperparams(FACTORIES[name])(entry.valley), entry.for_valley
    assert set(injected.init(params).hyperparams) >= {"damping" if entry.needs else "learning_rate"}
    equal(*(step.path(made, params, 1)[-1][0] for made in (injected, plain)), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_factories_can_be_mapped_over_their_first_number(name, problems, step):
    numbers, start = (
        jnp.array([1.0, 2.0, 3.0]) * (problems.named[name].valley + 1e-3),
        problems.valley_start(),
    )

    @jax.jit
    def steps(numbers):
        many = jax.vmap(FACTORIES[name])(numbers)
        return jax.vmap(lambda o: problems.one_step(o, start, o.init(start), problems.valley)[0])(many)

    mapped = steps(numbers)
    looped = [step.path(FACTORIES[name](float(number)), start, 1)[-1][0] for number in numbers]
    equal(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped), rtol=1e-9)


@pytest.mark.slow
def test_a_schedule_gives_the_rate_of_each_step(first_order, problems):
    """With 0 after two steps the parameters stay; before, they move as with a constant rate."""
    rate, params = first_order.valley, problems.valley_start()
    scheduled = first_order.make(lambda count: jnp.where(count < 2, rate, 0.0))
    constant = first_order.make(rate)

    @jax.jit
    def three_steps(params):
        paths = []
        for optimizer in (scheduled, constant):
            carry, path = (params, optimizer.init(params)), []
            for _ in range(3):
                carry = problems.one_step(optimizer, *carry, problems.valley)
                path.append(carry[0])
            paths.append(path)
        return paths

    moved, reference = three_steps(params)
    equal(moved[1], reference[1], rtol=1e-13)
    if first_order.name != "rmsprop_momentum":  # its momentum goes on after the rate is 0, as optax's
        equal(moved[2], moved[1], rtol=0)


@pytest.mark.parametrize(
    "make",
    [
        *(jos.sgd, jos.adagrad, jos.rmsprop, jos.adam),
        *(jos.newton, jos.levenberg_marquardt, jos.dogleg),
    ],
)
def test_numbers_of_numpy_types_are_the_same_program(make):
    def signature(optimizer):
        kinds = [jax.typeof(leaf) for leaf in jax.tree.leaves(optimizer)]
        return jax.tree.structure(optimizer), [(k.shape, k.dtype, k.weak_type) for k in kinds]

    takes = inspect.signature(make).parameters
    options = {name: p.default for name, p in takes.items() if type(p.default) in (int, float)}
    if "learning_rate" in takes:
        options["learning_rate"] = 0.5
    scalars = {name: np.asarray(value)[()] for name, value in options.items()}
    assert signature(make(**scalars)) == signature(make(**options))
