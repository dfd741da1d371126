"""Under `vmap`, on a CPU: one lane after the other where that is quicker, either way what one gives alone."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos
from jaxopt_study.one_kernel import call, lanes, one_kernel, separate_kernels

X = np.linspace(0.0, 4.0, 30)
RATES = np.array([2.0, 0.5, 1.0, 0.1])
START = np.array([1.0, 1.0, 0.0])


def _decays(rates=RATES):
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(rates), X.size))
    return jnp.asarray(np.exp(-rates[:, None] * X) + 0.1 + noise)


def _residual(p, y):
    return p[0] * jnp.exp(-p[1] * X) + p[2] - y


def _fit(y, start=START):
    return jos.least_squares(_residual, start, (y,))


def _grow(x, rate):
    """A loop with a loop inside, each of a number of rounds of the lane's own."""

    def halve(x):
        return jax.lax.while_loop(lambda x: x.max() > 20.0, lambda x: x / 2, x)

    def again(carry):
        x, rounds = carry
        return halve(x * rate + 1.0), rounds + 1

    start = (x, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(lambda carry: (carry[0].sum() < 300.0) & (carry[1] < 40), again, start)[0]


def _growth(x, rate):
    return one_kernel(lambda x: _grow(x, rate), x)


def _grown(xs, rates):
    """The same in NumPy."""
    ends = []
    for x, rate in zip(np.asarray(xs), np.asarray(rates), strict=True):
        rounds = 0
        while x.sum() < 300.0 and rounds < 40:
            x, rounds = x * rate + 1.0, rounds + 1
            while x.max() > 20.0:
                x = x / 2
        ends.append(x)
    return np.stack(ends)


@pytest.fixture
def is_one_by_one(monkeypatch):
    """Whether a function's lanes are lowered to a loop."""
    made = []

    def spy(run, levels, way=call.one_by_one):
        made.append(levels)
        return way(run, levels)

    monkeypatch.setattr(call, "one_by_one", spy)

    def ask(fn, *args) -> bool:
        made.clear()
        jax.jit(lambda *args: fn(*args)).lower(*args)  # anew
        return bool(made)

    return ask


def test_every_lane_is_what_one_fit_is_inside_of_jit_to_the_last_bit(is_one_by_one):
    assert is_one_by_one(jax.vmap(_fit), _decays())
    many = jax.jit(jax.vmap(_fit))(_decays())
    alone = [jax.jit(_fit)(y) for y in _decays()]
    for name in ("params", "value", "status", "num_steps", "num_evals"):
        one_by_one = np.stack([getattr(fit, name) for fit in alone])
        np.testing.assert_array_equal(getattr(many, name), one_by_one)
    assert len(set(many.num_evals.tolist())) > 1  # each has ended on its own


def test_lanes_with_much_to_compute_go_one_by_one_too(is_one_by_one):
    # More than one function may hold, and a second factorization which side by side every lane would do.
    x = np.linspace(0.0, 1.0, 3000)
    fit = lambda y: jos.least_squares(lambda p, y: p[0] * jnp.exp(-p[1] * x) - y, START[:2], (y,))  # noqa: E731
    ys = jnp.asarray(np.exp(-RATES[:, None] * x))
    assert is_one_by_one(jax.vmap(fit), ys)
    np.testing.assert_allclose(jax.jit(jax.vmap(fit))(ys).params[:, 1], RATES, rtol=1e-8)


SHARED = np.random.default_rng(0).normal(size=(60, 30))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: one_kernel(lambda x: jnp.sin(x) + x, x),
        lambda x: one_kernel(lambda x: jax.lax.fori_loop(0, 9, lambda _, x: x * 0.5 + jnp.sin(x), x), x),
        lambda x: jnp.sum(_growth(x[:1], 1.5)),
        lambda x: jos.find_root(lambda y: y + jnp.tanh(y) - x[:3], jnp.ones(3, x.dtype)).params,
        lambda x: (
            jos.minimize(
                lambda w: jnp.mean((SHARED @ w - 1.0) ** 2) + x[0] * w @ w,
                jnp.zeros(30, x.dtype),
                jos.adam(0.1),
                max_steps=20,
            ).params
        ),
    ],
    ids=["no loop", "rounds that are known", "numbers", "roots", "first order, a matrix that lanes share"],
)
def test_what_is_quicker_side_by_side_stays_so(fn, is_one_by_one):
    xs = jnp.asarray(np.random.default_rng(1).uniform(size=(4, 20)))
    assert not is_one_by_one(jax.vmap(fn), xs)
    alone = jnp.stack([jax.jit(fn)(x) for x in xs])
    np.testing.assert_allclose(jax.jit(jax.vmap(fn))(xs), alone, rtol=1e-8)


def test_lanes_on_other_devices_and_by_request_are_side_by_side(monkeypatch, is_one_by_one):
    many, xs = jax.vmap(lambda x: _growth(x, 1.5)), jnp.ones((4, 200))
    assert is_one_by_one(many, xs)
    exported = jax.export.export(jax.jit(jax.vmap(_fit)), platforms=["cuda"])(_decays())
    assert "xla_cpu_small_call" not in exported.mlir_module()
    with separate_kernels():
        assert not is_one_by_one(many, xs)
    monkeypatch.setenv(call.OFF, "1")
    assert not is_one_by_one(many, xs)


def test_a_number_of_lanes_that_is_not_known():
    (count,) = jax.export.symbolic_shape("count")
    shape = jax.ShapeDtypeStruct((count, X.size), X.dtype)
    exported = jax.export.export(jax.jit(jax.vmap(lambda y: _fit(y).params)))(shape)
    np.testing.assert_allclose(exported.call(_decays()), jax.jit(jax.vmap(_fit))(_decays()).params, rtol=1e-8)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axes(axis, is_one_by_one):
    xs = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 200)))
    rates = jnp.array([1.1, 1.5, 2.0, 3.0])
    fn = jax.vmap(_growth, in_axes=(axis, 0), out_axes=axis)
    assert is_one_by_one(fn, jnp.moveaxis(xs, 0, axis), rates)
    found = jax.jit(fn)(jnp.moveaxis(xs, 0, axis), rates)
    np.testing.assert_allclose(jnp.moveaxis(found, axis, 0), _grown(xs, rates), rtol=1e-14)


def test_lanes_of_lanes_which_share_arguments(is_one_by_one):
    xs = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 200)))
    rates = jnp.array([1.1, 1.5])
    fn = jax.vmap(jax.vmap(_growth, (0, None)), (None, 0))
    assert is_one_by_one(fn, xs, rates)
    found = jax.jit(fn)(xs, rates)
    assert found.shape == (2, 3, 200)
    for k, rate in enumerate(rates):
        np.testing.assert_allclose(found[k], _grown(xs, jnp.full(3, rate)), rtol=1e-14)


@pytest.mark.parametrize("count", [0, 1])
def test_no_lane_and_one(count):
    found = jax.jit(jax.vmap(_fit))(_decays()[:count])
    assert found.params.shape == (count, 3)
    assert bool(jnp.all(found.converged))


def test_what_nobody_reads_is_not_computed_whatever_lanes_depended_on_it(is_one_by_one):
    # What is left does not depend on the lane at all.
    def fn(x, y):
        grown, _ = one_kernel(lambda x, y: (_grow(x, 1.5), jnp.sin(y)), x, y)
        return grown

    many = jax.vmap(fn, (None, 0))
    assert is_one_by_one(many, jnp.ones(200), jnp.ones((3, 200)))
    found = jax.jit(many)(jnp.ones(200), jnp.ones((3, 200)))
    np.testing.assert_allclose(found, _grown(np.ones((3, 200)), [1.5] * 3), rtol=1e-14)


def test_derivatives_before_and_after():
    def total(y):
        return jnp.sum(_fit(y).params ** 2)

    alone = jnp.stack([jax.grad(total)(y) for y in _decays()])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(_decays()), alone, rtol=1e-6, atol=1e-9)
    after = jax.jit(jax.grad(lambda ys: jnp.sum(jax.vmap(total)(ys))))(_decays())
    np.testing.assert_allclose(after, alone, rtol=1e-6, atol=1e-9)
    # Of the loop itself, forward: it is the derivative of the growth, side by side.
    rates, one = jnp.array([1.1, 1.05]), jnp.ones(2)
    lanes_of = lambda r: jax.vmap(_growth, (None, 0))(jnp.ones(200), r)  # noqa: E731
    _, tangent = jax.jit(lambda r: jax.jvp(lanes_of, (r,), (one,)))(rates)
    ahead, behind = (_grown(np.ones((2, 200)), rates + h) for h in (1e-7, -1e-7))
    np.testing.assert_allclose(tangent, (ahead - behind) / 2e-7, rtol=1e-5)


def test_fits_inside_of_what_is_fitted():
    ys = _decays()

    def residual(scale, ys):
        return jnp.sum(jax.vmap(lambda y: _fit(scale[0] * y).params)(ys), axis=1) - 2.0

    found = jax.jit(lambda ys: jos.least_squares(residual, jnp.ones(1), (ys,)))(ys)
    assert bool(found.converged)
    # The fit of s y is (s a, k, s c): a line in s.
    fits = jnp.stack([_fit(y).params for y in ys])
    slope, level = fits[:, 0] + fits[:, 2], fits[:, 1] - 2.0
    np.testing.assert_allclose(found.params[0], -jnp.sum(slope * level) / jnp.sum(slope**2), rtol=1e-6)


def test_a_lane_that_fails_is_its_own(is_one_by_one):
    ys = _decays().at[1].set(jnp.nan)
    assert is_one_by_one(jax.vmap(_fit), ys)
    found = jax.jit(jax.vmap(_fit))(ys)
    assert found.status[1] == jos.Status.NON_FINITE_START
    assert bool(jnp.all(found.converged == jnp.array([True, False, True, True])))


def test_hyperparameters_and_keys_of_lanes():
    dampings = jnp.array([1e-3, 1.0, 100.0])

    def steps(damping):
        optimizer = jos.levenberg_marquardt(damping)
        return jos.least_squares(_residual, START, (_decays()[0],), optimizer=optimizer).num_steps

    assert jax.jit(jax.vmap(steps))(dampings).tolist() == [int(steps(damping)) for damping in dampings]

    def noisy(key):
        batch_fn = lambda step, key: (jax.random.normal(key, (3,)) + step,)  # noqa: E731
        bowl = lambda p, x: jnp.sum((p - x) ** 2)  # noqa: E731
        return jos.minimize(bowl, jnp.zeros(3), jos.adam(0.1), batch_fn=batch_fn, key=key, max_steps=5).params

    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(noisy))(keys), jnp.stack([noisy(key) for key in keys]), rtol=1e-12
    )


def test_arguments_that_go_take_their_axes_along():
    levels = (lanes.Level(3, (True, False, True)), lanes.Level(2, (False, False, True)))
    left = lanes.of_arguments(levels, (False, True, True))
    assert left == (lanes.Level(3, (False, True)), lanes.Level(2, (False, True)))


def test_sums_over_the_lanes_in_what_is_fitted():
    # A lane needs the others.
    def fit(y):
        return jos.least_squares(lambda p: p - y + 0.1 * jax.lax.psum(y, "lanes"), jnp.zeros_like(y)).params

    ys = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 3)))
    found = jax.jit(jax.vmap(fit, axis_name="lanes"))(ys)
    np.testing.assert_allclose(found, ys - 0.1 * jnp.sum(ys, axis=0)[None, :], atol=1e-8)


def test_arrays_that_lanes_share_are_there_once():
    shared = jnp.zeros(100_000)

    def fit(y):
        fn = lambda p, shared, y: jnp.concatenate([p * jnp.sum(shared) + p - y, shared[:50]])  # noqa: E731
        return jos.least_squares(fn, jnp.ones(3), (shared, y)).params

    compiled = jax.jit(jax.vmap(fit)).lower(jnp.ones((50, 3))).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * shared.nbytes
