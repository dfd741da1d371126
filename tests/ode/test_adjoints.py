"""Derivatives of solutions: every adjoint, mode and order against closed forms and differences."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxopt_study as jos
from jaxopt_study.ode.kept import slot

TIGHT = {"rtol": 1e-11, "atol": 1e-12}
MATRIX = np.array([[-0.3, 1.0, 0.2], [-1.1, 0.1, 0.0], [0.4, 0.0, -0.5]])
LINEAR_TS = np.array([0.0, 0.7, 1.0])


def linear(t, y, params):
    return params @ y


def predators(t, y, p):
    return jnp.stack([p[0] * y[0] - p[1] * y[0] * y[1], -p[2] * y[1] + p[3] * y[0] * y[1]])


def network(t, y, p):
    return jnp.tanh(y @ p["w"] + p["b"] * jnp.sin(t)) @ p["v"]


def stiff(t, y, p):
    return -p[0] * (y - jnp.cos(p[1] * t))


RATES = np.array([0.55, 0.28, 0.8, 0.24])
# In numpy: what JAX makes here would be in float32, for x64 is switched on by each test only.
CASES = {
    "linear": (linear, np.array([1.0, -2.0, 0.5]), LINEAR_TS, MATRIX, "tsit5"),
    "predators": (predators, np.array([3.0, 1.0]), np.linspace(0, 5, 6), RATES, "dopri8"),
    "network": (
        network,
        np.array([0.3, -0.2]),
        np.linspace(0, 2, 4),
        {"w": np.array([[0.5, -1.0, 0.3], [0.2, 0.8, -0.6]]), "b": np.array([0.1, 0.4, -0.3]),
         "v": np.array([[1.0, -0.5], [0.3, 0.9], [-0.7, 0.2]])},
        "tsit5",
    ),
    "stiff": (stiff, np.array([0.0]), np.linspace(0, 1, 3), np.array([1e4, 2.0]), "kvaerno5"),
}  # fmt: skip


def value(case, params, y0, adjoint="auto", **options):
    field, _, ts, _, solver = CASES[case]
    # A stiff solver's steps are of order five at their best: 1e-11 would take thousands.
    tight = {"rtol": 1e-9, "atol": 1e-10} if case == "stiff" else TIGHT
    made = jos.solve_ode(field, y0, ts, params, solver=solver, adjoint=adjoint, **(tight | options))
    weights = 1.0 + jnp.arange(made.ys.size).reshape(made.ys.shape) / made.ys.size
    return jnp.sum(jnp.sin(made.ys) * weights)


def differences(case):
    """Central differences of fourth order, an element at a time."""
    _, y0, _, params, _ = CASES[case]
    flat, unravel = jax.flatten_util.ravel_pytree((params, y0))
    solve = jax.jit(lambda flat: value(case, *unravel(flat)))
    flat = np.asarray(flat)
    slopes = []
    for i, x in enumerate(flat):
        h = 2e-3 * max(abs(x), 0.5)
        v = [float(solve(flat + k * h * np.eye(flat.size)[i])) for k in (-2, -1, 1, 2)]
        slopes.append((v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h))
    return np.array(slopes)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_discrete_adjoint_agrees_with_differences(case):
    _, y0, _, params, _ = CASES[case]
    expected = differences(case)
    gradients = {}
    for adjoint in ("auto", "checkpoint", "direct", "forward"):
        take = jax.jacfwd if adjoint == "forward" else jax.grad
        tree = jax.jit(take(lambda p, y, a=adjoint: value(case, p, y, a), argnums=(0, 1)))(params, y0)
        gradients[adjoint] = np.asarray(jax.flatten_util.ravel_pytree(tree)[0])
        np.testing.assert_allclose(
            gradients[adjoint], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max()
        )
    np.testing.assert_allclose(gradients["auto"], gradients["checkpoint"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradients["auto"], gradients["direct"], rtol=1e-6, atol=1e-7)


def test_the_linear_fields_derivatives_are_those_of_the_matrix_exponential():
    y0 = np.array([1.0, -2.0, 0.5])
    bar = np.array([0.3, 1.0, -0.7])
    solve = lambda a, y: jos.solve_ode(linear, y, LINEAR_TS, a, **TIGHT).ys[-1] @ bar  # noqa: E731
    of_matrix, of_start = jax.jit(jax.grad(solve, argnums=(0, 1)))(jnp.asarray(MATRIX), jnp.asarray(y0))
    # Fréchet's derivative: bar · L(A, E) y0 = <E, L(Aᵀ, bar y0ᵀ)>.
    exact = scipy.linalg.expm_frechet(MATRIX.T, np.outer(bar, y0), compute_expm=False)
    np.testing.assert_allclose(of_matrix, exact, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(of_start, scipy.linalg.expm(MATRIX).T @ bar, rtol=1e-8)


# x' = v, v' = -p x from (0, 1): x = sin(√p t)/√p, in every mode and order.
def sine(p, ts=(0.0, 0.4, 1.1), **options):
    field = lambda t, y, p: jnp.stack([y[1], -p * y[0]])  # noqa: E731
    made = jos.solve_ode(
        field, jnp.array([0.0, 1.0]), jnp.asarray(ts), p, max_steps=64, rtol=1e-9, atol=1e-11, **options
    )
    return made.ys[1:, 0]


def on_paper(p, ts=(0.0, 0.4, 1.1)):
    ts = jnp.asarray(ts)
    return jnp.sin(jnp.sqrt(p) * (ts - ts[0]))[1:] / jnp.sqrt(p)


MODES = {
    "forward": jax.jacfwd,
    "reverse": jax.jacrev,
    "forward over reverse": lambda f: jax.jacfwd(jax.jacrev(f)),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "hessian": jax.hessian,
    "reverse of jvp": lambda f: jax.jacrev(lambda p: jax.jvp(f, (p,), (1.0,))[1]),
}


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(m, marks=() if m in ("forward", "reverse", "hessian") else pytest.mark.slow)
        for m in MODES
    ],
)
def test_auto_goes_through_every_mode_and_vmap_of_it(mode):
    ps = jnp.array([0.5, 1.3, 4.0])
    exact = jax.vmap(MODES[mode](on_paper))(ps)
    np.testing.assert_allclose(jax.jit(jax.vmap(MODES[mode](sine)))(ps), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_second_derivatives_are_differences_of_gradients_for_a_network():
    _, y0, _, params, _ = CASES["network"]
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    gradient = jax.jit(jax.grad(lambda flat: value("network", unravel(flat), y0, max_steps=256)))
    hessian = jax.jit(jax.hessian(lambda flat: value("network", unravel(flat), y0, max_steps=256)))(flat)
    h = 1e-3
    rows = [
        (
            gradient(flat - 2 * h * e)
            - 8 * gradient(flat - h * e)
            + 8 * gradient(flat + h * e)
            - gradient(flat + 2 * h * e)
        )
        / (12 * h)
        for e in np.eye(flat.size)
    ]
    np.testing.assert_allclose(hessian, np.stack(rows), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-8)


@pytest.mark.slow
def test_times_have_derivatives_and_so_has_the_first():
    ts = jnp.array([0.2, 0.6, 1.3])
    for take in (jax.jacfwd, jax.jacrev):
        got = jax.jit(take(lambda ts: sine(1.3, ts)))(ts)
        np.testing.assert_allclose(got, jax.jacrev(lambda ts: on_paper(1.3, ts))(ts), atol=1e-7)


@pytest.mark.slow
def test_times_and_parameters_have_mixed_derivatives():
    ts = jnp.array([0.2, 0.6, 1.3])
    for order in (
        lambda f: jax.jacrev(jax.grad(f, 0), 1),
        lambda f: jax.jacrev(jax.jacrev(f, 1), 0),
    ):
        got, exact = (order(lambda p, ts, f=f: jnp.sum(jnp.sin(f(p, ts))))(1.3, ts) for f in (sine, on_paper))
        np.testing.assert_allclose(got, exact, atol=1e-6)


@pytest.mark.slow
def test_what_the_field_closes_over_is_differentiated():
    def solve(p):
        field = lambda t, y, _: -p["rate"] * y  # noqa: E731
        return jos.solve_ode(field, jnp.ones(1), np.array([0.0, 1.0]), None, max_steps=64, **TIGHT).ys[-1, 0]

    for take in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(take(solve)({"rate": jnp.array(0.7)})["rate"], -np.exp(-0.7), rtol=1e-8)


def test_integers_and_keys_among_the_parameters_are_let_through():
    def solve(rate):
        field = lambda t, y, p: -p["rate"] * y * p["count"]  # noqa: E731
        params = {"rate": rate, "count": 2}
        return jos.solve_ode(field, jnp.ones(1), LINEAR_TS, params, max_steps=64).ys[-1, 0]

    np.testing.assert_allclose(jax.grad(solve)(0.3), -2 * np.exp(-0.6), rtol=1e-6)


@pytest.mark.slow
def test_a_stiff_solution_has_the_derivatives_of_differences_in_both_modes():
    def end(p):
        field, y0, ts, _, solver = CASES["stiff"]
        return jos.solve_ode(field, y0, ts, p, solver=solver, rtol=1e-9, atol=1e-10, max_steps=256).ys[-1, 0]

    p = np.array([30.0, 2.0])
    solve = jax.jit(end)
    steps = 1e-3 * np.diag(p)
    expected = [
        (solve(p - 2 * h) - 8 * solve(p - h) + 8 * solve(p + h) - solve(p + 2 * h)) / (12 * h.max())
        for h in steps
    ]
    for take in (jax.jacfwd, jax.grad):
        np.testing.assert_allclose(jax.jit(take(end))(p), expected, rtol=1e-6)


@pytest.mark.slow
def test_a_solve_that_did_not_begin_has_a_gradient_of_nan():
    def end(rate):
        field = lambda t, y, p: p * y  # noqa: E731
        return jos.solve_ode(field, jnp.ones(1), np.array([0.0, 1.0]), rate, max_steps=64).ys[-1, 0]

    rates = jnp.array([0.5, jnp.nan])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(end)))(rates), [np.exp(0.5), np.nan], rtol=1e-6)


@pytest.mark.slow
def test_backsolve_takes_the_first_step_that_it_is_given():
    def steps(length):
        options = {"adjoint": "backsolve", "first_step": length, "rtol": 1e-6, "atol": 1e-8}
        return jos.solve_ode(lambda t, y, p: -p * y, jnp.ones(1), np.array([0.0, 1.0]), 1.0, **options).stats

    assert steps(1e-6).num_steps > steps(0.1).num_steps


@pytest.mark.slow
def test_a_failed_solve_has_gradients_of_nan_unless_nothing_depends_on_what_is_missing():
    def solve(rate, weights):
        ys = jos.solve_ode(
            lambda t, y, p: p * y**2, jnp.ones(1), np.array([0.0, 0.2, 2.0]), rate, max_steps=256, **TIGHT
        ).ys
        return jnp.sum(jnp.where(weights > 0, weights * ys[:, 0], 0.0))

    gradient = jax.jit(jax.vmap(jax.grad(solve), in_axes=(0, None)))
    rates = jnp.array([0.1, 2.0])
    whole = gradient(rates, jnp.ones(3))
    np.testing.assert_allclose(whole[0], 0.2 / 0.98**2 + 2.0 / 0.8**2, rtol=1e-7)
    assert np.isnan(whole[1])
    early = gradient(rates, jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(early, 0.2 / (1 - 0.2 * np.asarray(rates)) ** 2, rtol=1e-7)


@pytest.mark.slow
def test_few_kept_states_and_many_steps_give_the_same_gradient():
    def solve(p, **options):
        field = lambda t, y, p: jnp.stack([y[1], -p * y[0]])  # noqa: E731
        return jos.solve_ode(field, jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]), p, step=2e-4, **options).ys[
            -1, 0
        ]

    # 5000 steps and 256 slots: states are given up five times.
    gradient = jax.jit(jax.grad(lambda p: solve(p, adjoint="checkpoint", max_steps=6000)))(1.3)
    np.testing.assert_allclose(gradient, jax.grad(lambda p: on_paper(p, (0.0, 1.0))[0])(1.3), rtol=1e-10)


def test_slots_hold_one_state_each():
    for count, level in ((8, 0), (8, 1), (5, 3), (8, 4)):
        places = [int(slot(jnp.asarray(i), jnp.asarray(level), 8)) for i in range(count)]
        assert len(set(places)) == count
    # What is at an even index at one level is found at half of it at the next.
    for i in range(4):
        assert int(slot(jnp.asarray(2 * i), jnp.asarray(2), 8)) == int(
            slot(jnp.asarray(i), jnp.asarray(3), 8)
        )


@pytest.mark.slow
def test_memory_of_checkpoint_does_not_grow_with_max_steps():
    def bytes_of(max_steps):
        y0 = jnp.ones((20, 2))
        options = {"adjoint": "checkpoint", "max_steps": max_steps}

        def loss(p):
            return jnp.sum(
                jos.solve_ode(lambda t, y, p: jnp.tanh(y @ p) @ p.T, y0, LINEAR_TS, p, **options).ys
            )

        return jax.jit(jax.grad(loss)).lower(jnp.ones((2, 5))).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(10_000) < 1.5 * bytes_of(1_000)


@pytest.mark.slow
def test_the_event_time_has_the_derivative_of_the_implicit_function_theorem():
    def time(p):
        field = lambda t, y, p: jnp.stack([y[1], -p * y[0]])  # noqa: E731
        options = {"event": lambda t, y, p: y[1], "max_steps": 128}
        return jos.solve_ode(field, jnp.array([0.0, 1.0]), jnp.array([0.0, 4.0]), p, **options, **TIGHT).t_end

    np.testing.assert_allclose(jax.jit(jax.grad(time))(1.3), -np.pi / 4 * 1.3**-1.5, rtol=1e-8)


@pytest.mark.parametrize("adjoint", ["auto", pytest.param("backsolve", marks=pytest.mark.slow)])
def test_leaves_that_are_no_floats_may_be_among_the_parameters(adjoint):
    def end(rate, given):
        params = {"rate": rate, **given}
        ts = jnp.array([0.0, 1.0])
        field = lambda t, y, p: -p["rate"] * p["times"] * jnp.where(p["on"], y, 0.0)  # noqa: E731
        return jos.solve_ode(field, jnp.array(1.0), ts, params, rtol=1e-8, atol=1e-10, adjoint=adjoint).ys[-1]

    got = jax.grad(end)(jnp.array(0.5), {"times": jnp.array(2), "on": True})
    np.testing.assert_allclose(got, -2.0 * np.exp(-1.0), rtol=1e-6)


@pytest.mark.slow
def test_backsolve_is_diffraxs_own_and_is_wrong_for_robertson():
    field, y0, ts, params, _ = CASES["predators"]

    def peers(p, y):
        made = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Dopri8(), ts[0], ts[-1], None, y, p, saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(**TIGHT), adjoint=diffrax.BacksolveAdjoint(),
        )  # fmt: skip
        weights = 1.0 + jnp.arange(made.ys.size).reshape(made.ys.shape) / made.ys.size
        return jnp.sum(jnp.sin(made.ys) * weights)

    own = jax.grad(lambda p, y: value("predators", p, y, "backsolve"), argnums=(0, 1))(
        jnp.asarray(params), y0
    )
    for a, b in zip(own, jax.grad(peers, argnums=(0, 1))(jnp.asarray(params), y0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7)

    def robertson(t, y, p):
        a, b, c = p[0] * y[0], p[1] * y[1] ** 2, p[2] * y[1] * y[2]
        return jnp.stack([-a + c, a - b - c, b])

    audit = jos.audit_adjoint(
        robertson, jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 40.0]), jnp.array([0.04, 3e7, 1e4]),
        solver="kvaerno5", rtol=1e-7, atol=1e-9, adjoints=("auto", "backsolve"),
    )  # fmt: skip
    assert audit["auto"].error < 1e-4
    assert not audit["backsolve"].error < 1e-2
    assert 'Do not use "backsolve"' in str(audit)


@pytest.mark.parametrize("adjoint", ["auto", pytest.param("direct", marks=pytest.mark.slow)])
def test_derivative_of_what_was_not_reached_is_nan(adjoint):
    def end(rate):
        # Blows up at 1 / rate, which is before the last time and after the first.
        field = lambda t, y, p: p * y**2  # noqa: E731
        return jos.solve_ode(
            field, jnp.ones(()), jnp.array([0.0, 0.5, 2.0]), rate, adjoint=adjoint, max_steps=64
        ).ys

    reached = jax.grad(lambda rate: end(rate)[1])(1.0)
    assert jnp.isnan(jax.grad(lambda rate: end(rate)[2])(1.0))
    assert float(reached) == pytest.approx(2.0, rel=1e-3) or jnp.isnan(reached)


@pytest.mark.slow
def test_many_parameters_have_the_gradient_that_forward_mode_has():
    # So many that their cotangents are added up as they are, and not as one vector.
    rng = np.random.default_rng(0)
    matrix, direction = rng.normal(size=(2, 66, 66)) / 8
    options = {"rtol": 1e-9, "atol": 1e-11, "max_steps": 64}

    def total(matrix):
        field = lambda t, y, p: jnp.tanh(p @ y)  # noqa: E731
        return jnp.sum(jnp.sin(jos.solve_ode(field, jnp.ones(66), LINEAR_TS, matrix, **options).ys))

    forward = jax.jit(lambda m, v: jax.jvp(total, (m,), (v,))[1])(matrix, direction)
    reverse = jax.jit(jax.grad(total))(matrix)
    np.testing.assert_allclose(np.sum(reverse * direction), forward, rtol=1e-9)
