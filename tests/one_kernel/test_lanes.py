"""Under `vmap`, on a CPU: one lane after the other where that is quicker, and always what one alone gives."""

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


def _growth(x, rate):
    """A loop for each lane, of a number of rounds of its own; enough in it to be worth a loop over lanes."""
    return one_kernel(lambda x: jax.lax.while_loop(lambda x: x.sum() < 1e3, lambda x: x * rate + 1.0, x), x)


def _grown(xs, rates):
    """The same in NumPy."""
    ends = []
    for x, rate in zip(np.asarray(xs), np.asarray(rates), strict=True):
        while x.sum() < 1e3:
            x = x * rate + 1.0
        ends.append(x)
    return np.stack(ends)


def _is_one_by_one(fn, *args) -> bool:
    return "xla_cpu_small_call" in jax.jit(fn).lower(*args).as_text()


def test_every_lane_is_what_one_fit_is_to_the_last_bit():
    many = jax.jit(jax.vmap(_fit))(_decays())
    alone = [jax.jit(_fit)(y) for y in _decays()]
    for name in ("params", "value", "status", "num_steps", "num_evals"):
        one_by_one = np.stack([getattr(fit, name) for fit in alone])
        np.testing.assert_array_equal(getattr(many, name), one_by_one)
    assert len(set(many.num_evals.tolist())) > 1  # each has ended on its own


def test_lanes_with_much_to_compute_go_one_by_one_too():
    # More than one function may hold, and a second factorization which side by side every lane would do.
    x = jnp.linspace(0.0, 1.0, 3000)
    fit = lambda y: jos.least_squares(lambda p, y: p[0] * jnp.exp(-p[1] * x) - y, START[:2], (y,))  # noqa: E731
    ys = jnp.exp(-RATES[:, None] * x[None, :])
    lowered = jax.jit(jax.vmap(fit)).lower(ys).as_text()
    assert f"{len(RATES)}x3000x" not in lowered.replace("tensor<4x3000xf64>", "")
    np.testing.assert_allclose(jax.jit(jax.vmap(fit))(ys).params[:, 1], RATES, rtol=1e-8)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: one_kernel(lambda x: jnp.sin(x) + x, x),  # no loop
        lambda x: one_kernel(lambda x: jax.lax.fori_loop(0, 9, lambda _, x: x * 0.5 + jnp.sin(x), x), x),
        lambda x: jnp.sum(_growth(x[:1], 1.5)),  # numbers: vectors of lanes are what there is to gain
    ],
    ids=["no loop", "rounds that are known", "numbers"],
)
def test_what_is_quicker_side_by_side_stays_so(fn):
    xs = jnp.ones((4, 20))
    assert not _is_one_by_one(jax.vmap(fn), xs)
    np.testing.assert_allclose(jax.jit(jax.vmap(fn))(xs), jnp.stack([fn(x) for x in xs]), rtol=1e-14)


def test_lanes_over_other_devices_and_by_request_are_side_by_side(monkeypatch):
    many = jax.vmap(_fit)
    assert _is_one_by_one(many, _decays())
    exported = jax.export.export(jax.jit(many), platforms=["cuda"])(_decays())
    assert "xla_cpu_small_call" not in exported.mlir_module()
    with separate_kernels():
        assert not _is_one_by_one(lambda y: many(y), _decays())
    xs = jnp.ones((4, 20))
    assert _is_one_by_one(jax.vmap(lambda x: _growth(x, 1.5)), xs)
    monkeypatch.setenv(call.OFF, "1")
    assert not _is_one_by_one(jax.vmap(lambda x: _growth(x, 1.5)), xs)


def test_a_number_of_lanes_that_is_not_known():
    (count,) = jax.export.symbolic_shape("count")
    shape = jax.ShapeDtypeStruct((count, X.size), X.dtype)
    exported = jax.export.export(jax.jit(jax.vmap(lambda y: _fit(y).params)))(shape)
    np.testing.assert_allclose(exported.call(_decays()), jax.jit(jax.vmap(_fit))(_decays()).params, rtol=1e-8)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axes(axis):
    xs = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 30)))
    rates = jnp.array([1.1, 1.5, 2.0, 3.0])
    fn = jax.vmap(_growth, in_axes=(axis, 0), out_axes=axis)
    assert _is_one_by_one(fn, jnp.moveaxis(xs, 0, axis), rates)
    found = jax.jit(fn)(jnp.moveaxis(xs, 0, axis), rates)
    np.testing.assert_allclose(jnp.moveaxis(found, axis, 0), _grown(xs, rates), rtol=1e-14)


def test_lanes_of_lanes_which_share_arguments():
    xs = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 30)))
    rates = jnp.array([1.1, 1.5])
    fn = jax.vmap(jax.vmap(_growth, (0, None)), (None, 0))
    assert _is_one_by_one(fn, xs, rates)
    found = jax.jit(fn)(xs, rates)
    assert found.shape == (2, 3, 30)
    for k, rate in enumerate(rates):
        np.testing.assert_allclose(found[k], _grown(xs, jnp.full(3, rate)), rtol=1e-14)


@pytest.mark.parametrize("count", [0, 1])
def test_no_lane_and_one(count):
    found = jax.jit(jax.vmap(_fit))(_decays()[:count])
    assert found.params.shape == (count, 3)
    assert bool(jnp.all(found.converged))


def test_what_nobody_reads_is_not_computed_whatever_lanes_depended_on_it():
    # What is left does not depend on the lane at all.
    def fn(x, y):
        grow = lambda x: jax.lax.while_loop(lambda x: x.sum() < 1e3, lambda x: 2 * x, x)  # noqa: E731
        grown, _ = one_kernel(lambda x, y: (grow(x), jnp.sin(y) + grow(x)), x, y)
        return grown

    found = jax.jit(jax.vmap(fn, (None, 0)))(jnp.ones(40), jnp.ones((3, 40)))
    np.testing.assert_array_equal(found, np.full((3, 40), 32.0))


def test_derivatives_before_and_after():
    def total(y):
        return jnp.sum(_fit(y).params ** 2)

    alone = jnp.stack([jax.grad(total)(y) for y in _decays()])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(_decays()), alone, rtol=1e-6, atol=1e-9)
    after = jax.jit(jax.grad(lambda ys: jnp.sum(jax.vmap(total)(ys))))(_decays())
    np.testing.assert_allclose(after, alone, rtol=1e-6, atol=1e-9)
    # Of the loop itself, forward: it is the derivative of the growth, side by side.
    rates, one = jnp.array([1.1, 2.0]), jnp.ones(2)
    lanes_of = lambda r: jax.vmap(_growth, (None, 0))(jnp.ones(20), r)  # noqa: E731
    _, tangent = jax.jit(lambda r: jax.jvp(lanes_of, (r,), (one,)))(rates)
    ahead, behind = (_grown(np.ones((2, 20)), rates + h) for h in (1e-7, -1e-7))
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


def test_a_lane_that_fails_is_its_own():
    ys = _decays().at[1].set(jnp.nan)
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
