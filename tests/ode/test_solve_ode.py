"""`solve_ode` against closed forms, NumPy and SciPy: values, statuses, events, dense output, bad input."""

import inspect

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
import scipy.integrate
import scipy.linalg

import jaxopt_study as jos
from jaxopt_study import Status
from jaxopt_study.ode.continuous import extension_of

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
TS = np.linspace(0.0, 2.0, 5)


def oscillator(t, y, frequency):
    return {"x": y["v"], "v": -(frequency**2) * y["x"]}


def blow_up(t, y, rate):
    return rate * y**2


def rise(t, y, rate):
    return rate * jnp.ones_like(y)


OTHER_ROOTS = diffrax.Kvaerno5(root_finder=optimistix.Dogleg(rtol=1e-6, atol=1e-6))
START = {"x": jnp.array(0.0), "v": jnp.array(1.0)}


@pytest.mark.parametrize(
    "solver",
    [
        *("tsit5", "kvaerno5", diffrax.Heun()),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bosh3", "dopri5", "dopri8")),
    ],
)
def test_every_kind_of_method_reaches_the_closed_form_at_its_tolerance(solver):
    loose = solver in ("bosh3",) or isinstance(solver, diffrax.Heun)
    tolerance = 1e-6 if loose else 1e-9
    made = jos.solve_ode(
        oscillator, START, TS, 1.5, solver=solver, rtol=tolerance, atol=tolerance, max_steps=8192
    )
    np.testing.assert_allclose(made.ys["x"], np.sin(1.5 * TS) / 1.5, atol=300 * tolerance)
    np.testing.assert_allclose(made.ys["v"], np.cos(1.5 * TS), atol=300 * tolerance)
    assert made.status == Status.END_REACHED
    assert made.converged
    assert made.stats.num_accepted + made.stats.num_rejected == made.stats.num_steps


def test_a_constant_step_is_eulers_recursion():
    made = jos.solve_ode(
        lambda t, y, p: t - p * y, jnp.array([1.0]), np.linspace(0, 1, 6), 2.0, solver="euler", step=0.2
    )
    y = [1.0]
    for i in range(5):
        y.append(y[-1] + 0.2 * (0.2 * i - 2.0 * y[-1]))
    np.testing.assert_allclose(made.ys[:, 0], y, rtol=1e-13)
    assert made.stats.num_steps == 5


def test_backwards_in_time_is_forwards_undone():
    end = jos.solve_ode(oscillator, START, np.array([0.0, 2.0]), 1.5, **TIGHT)
    back = jos.solve_ode(oscillator, end.y_end, np.array([2.0, 1.0, 0.0]), 1.5, **TIGHT)
    np.testing.assert_allclose(back.ys["x"], [np.sin(3.0) / 1.5, np.sin(1.5) / 1.5, 0.0], atol=1e-8)


def test_observations_may_be_none_at_the_start_several_in_a_step_and_twice_the_same():
    ts = np.array([0.3, 0.3, *np.linspace(0.31, 0.32, 40), 1.0])
    made = jos.solve_ode(oscillator, START, ts, 1.5, t0=0.0, **TIGHT)
    np.testing.assert_allclose(made.ys["x"], np.sin(1.5 * ts) / 1.5, atol=1e-8)


@pytest.mark.slow
def test_the_number_of_kept_states_does_not_change_the_solution():
    for max_steps in (64, 4096):
        made = jos.solve_ode(
            oscillator, START, TS, 1.5, max_steps=max_steps, adjoint="checkpoint", rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(made.ys["x"], np.sin(1.5 * TS) / 1.5, atol=1e-4)


@pytest.mark.slow
def test_under_vmap_each_sample_has_its_steps_and_a_failure_stays_in_its_lane():
    rates = jnp.concatenate(
        [jnp.linspace(0.01, 0.4, 255), jnp.array([2.0])]
    )  # y = 1 / (1 - rate t): ends at ½
    made = jax.jit(jax.vmap(lambda rate: jos.solve_ode(blow_up, jnp.ones(1), TS, rate, **TIGHT)))(rates)
    good = np.asarray(rates[:-1])
    np.testing.assert_allclose(made.ys[:-1, :, 0], 1 / (1 - good[:, None] * TS), rtol=1e-7)
    assert np.all(made.status[:-1] == Status.END_REACHED)
    assert made.status[-1] in (Status.STEP_TOO_SMALL, Status.OUT_OF_STEPS)
    assert len(np.unique(made.stats.num_steps)) > 20
    np.testing.assert_allclose(made.ys[-1, 0], 1.0)
    assert np.all(np.isnan(made.ys[-1, 1:]))
    alone = jos.solve_ode(blow_up, jnp.ones(1), TS, rates[100], **TIGHT)
    assert made.stats.num_steps[100] == alone.stats.num_steps


@pytest.mark.slow
def test_every_way_to_fail_has_its_status():
    few = jos.solve_ode(oscillator, START, TS, 1.5, max_steps=3, **TIGHT)
    assert few.status == Status.OUT_OF_STEPS
    assert np.isnan(few.ys["x"][-1])
    assert few.stats.num_steps == 3
    assert few.t_end < 2.0
    wrong = jos.solve_ode(oscillator, {"x": jnp.array(jnp.nan), "v": jnp.array(1.0)}, TS, 1.5)
    assert wrong.status == Status.NON_FINITE_START
    assert "not finite" in wrong.message
    hole = jos.solve_ode(lambda t, y, p: jnp.where(t > 1.0, jnp.nan, p * y), jnp.ones(1), TS, -1.0, **TIGHT)
    assert hole.status == Status.STEP_TOO_SMALL
    np.testing.assert_allclose(hole.t_end, 1.0, rtol=1e-12)
    overflow = jos.solve_ode(blow_up, jnp.ones(1), TS, 1e200, solver="euler", step=0.5)
    assert overflow.status == Status.NON_FINITE


@pytest.mark.slow
def test_an_event_ends_the_solve_where_its_sign_changes():
    ts = np.linspace(0.0, 3.0, 7)
    made = jos.solve_ode(oscillator, START, ts, 1.5, event=lambda t, y, p: y["v"], **TIGHT)
    assert made.status == Status.EVENT
    np.testing.assert_allclose(made.t_end, np.pi / 3, rtol=1e-9)
    np.testing.assert_allclose(made.y_end["x"], 1 / 1.5, rtol=1e-9)
    np.testing.assert_array_equal(np.isnan(made.ys["x"]), ts > np.pi / 3)
    none = jos.solve_ode(oscillator, START, np.array([0.0, 1.0]), 1.5, event=lambda t, y, p: y["v"], **TIGHT)
    assert none.status == Status.END_REACHED


@pytest.mark.slow
def test_dense_output_is_right_everywhere_and_nan_outside():
    made = jos.solve_ode(oscillator, START, TS, 1.5, dense=True, **TIGHT)
    at = np.linspace(0.0, 2.0, 33).reshape(3, 11)
    np.testing.assert_allclose(made.evaluate(at)["x"], np.sin(1.5 * at) / 1.5, atol=1e-8)
    assert np.isnan(made.evaluate(2.1)["x"])
    with pytest.raises(ValueError, match="dense=True"):
        jos.solve_ode(oscillator, START, TS, 1.5).evaluate(1.0)


@pytest.mark.slow
def test_robertsons_kinetics_agree_with_scipy():
    def field(t, y, p):
        a, b, c = p[0] * y[0], p[1] * y[1] ** 2, p[2] * y[1] * y[2]
        return jnp.stack([-a + c, a - b - c, b])

    p = np.array([0.04, 3e7, 1e4])
    ts = np.array([0.0, 0.4, 4.0, 40.0])
    made = jos.solve_ode(
        field, jnp.array([1.0, 0.0, 0.0]), ts, jnp.asarray(p), solver="kvaerno5", rtol=1e-8, atol=1e-10
    )
    peer = scipy.integrate.solve_ivp(
        lambda t, y: np.asarray([-p[0] * y[0] + p[2] * y[1] * y[2],
                                 p[0] * y[0] - p[1] * y[1] ** 2 - p[2] * y[1] * y[2], p[1] * y[1] ** 2]),
        (0.0, 40.0), [1.0, 0.0, 0.0], method="Radau", t_eval=ts, rtol=1e-10, atol=1e-13,
    )  # fmt: skip
    np.testing.assert_allclose(made.ys, peer.y.T, rtol=1e-5, atol=1e-10)


def test_a_system_in_float32_is_solved_in_float32(precision):
    made = jos.solve_ode(rise, jnp.zeros(2), jnp.linspace(0.0, 1.0, 3), 2.0)
    assert made.ys.dtype == precision
    np.testing.assert_allclose(made.ys[-1], 2.0, rtol=1e-6)


def test_numbers_are_traced_and_compile_nothing_again(count_traces):
    counted = count_traces(rise)
    for rate, rtol in ((1.0, 1e-3), (2.0, 1e-5)):
        jos.solve_ode(counted.fn, jnp.zeros(1), jnp.array([0.0, rate]), rate, rtol=rtol)
        if rate == 1.0:
            before = counted.count
    assert counted.count == before


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"field": 3}, TypeError, "field: expected a function"),
        ({"y0": jnp.array([1])}, TypeError, "y0"),
        ({"y0": None}, ValueError, "y0: expected a pytree of real float arrays, got None"),
        ({"params": "fast"}, TypeError, "params: expected an array of numbers, got 'fast'"),
        ({"ts": ["a", "b"]}, TypeError, r"ts\[0\]: expected an array of numbers"),
        ({"t0": "a"}, TypeError, "t0: expected an array of numbers, got 'a'"),
        ({"rtol": "a"}, TypeError, "rtol: expected a real number, got 'a'"),
        ({"atol": 1j}, TypeError, "atol: expected a real number"),
        ({"adjoint": np.ones(2)}, ValueError, "adjoint: expected one of"),
        ({"dense": np.ones(2)}, TypeError, "dense: expected True or False"),
        ({"ts": 1.0}, ValueError, "ts: expected one row"),
        ({"ts": [0.0, 2.0, 1.0]}, ValueError, "ts: expected times that increase"),
        ({"adjoint": "best"}, ValueError, "adjoint: expected one of"),
        ({"solver": "rk4"}, ValueError, "solver: expected one of"),
        ({"solver": diffrax.Tsit5}, TypeError, "solver: expected a name"),
        ({"solver": "euler"}, ValueError, "step: Euler has no estimate"),
        ({"solver": diffrax.ReversibleHeun()}, ValueError, "solver: ReversibleHeun is no one-step"),
        ({"solver": diffrax.KenCarp4()}, ValueError, "solver: KenCarp4 is no one-step"),
        ({"solver": OTHER_ROOTS}, ValueError, "solver: its equations are solved by Newton's method"),
        ({"ts": [0.0, np.nan]}, ValueError, "ts: expected finite times, got nan"),
        ({"ts": [0.0, 1j]}, TypeError, "ts: expected real times"),
        ({"t0": np.zeros(1)}, ValueError, "t0: expected one time"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"rtol": -1.0}, ValueError, "rtol: expected a positive"),
        ({"rtol": np.float32(-1.0)}, ValueError, "rtol: expected a positive"),
        ({"rtol": np.ones(2)}, ValueError, "rtol: expected one number"),
        ({"step": np.zeros(())}, ValueError, "step: expected a positive"),
        ({"atol": -1.0}, ValueError, "atol: expected no negative"),
        ({"field": lambda t, y, p: 1j * y}, TypeError, "field: expected a real dy/dt"),
        ({"event": lambda t, y, p: y}, TypeError, "event: expected one real float"),
        ({"event": lambda t, y, p: y[0] > 0.5}, TypeError, "event: expected one real float"),
        ({"atol": {"a": 1.0}}, ValueError, "atol: expected one number"),
        ({"atol": np.ones(7)}, ValueError, "atol: shape .7,. does not fit y0"),
        ({"step": np.inf}, ValueError, "step: expected a positive number"),
        ({"field": lambda t, y, p: y[:1]}, ValueError, "field: expected dy/dt of the shapes"),
        ({"field": lambda t, y, p: (y, y)}, ValueError, "field: expected dy/dt as a pytree"),
        ({"event": lambda t, y, p: t, "adjoint": "direct"}, ValueError, "event: adjoint 'direct' has none"),
    ],
)  # fmt: skip
def test_bad_input_is_named_in_one_line(wrong, error, words):
    good = {"field": rise, "y0": jnp.zeros(2), "ts": [0.0, 1.0], "params": 1.0}
    with pytest.raises(error, match=words) as caught:
        inspect.unwrap(jos.solve_ode)(**(good | wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_times_that_turn_round_within_a_trace_are_a_failure():
    solve = jax.jit(jax.vmap(lambda ts: jos.solve_ode(rise, jnp.zeros(1), ts, 1.0)))
    made = solve(jnp.array([[0.0, 2.0, 1.0, 3.0], [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, np.nan]]))
    assert [*made.status] == [Status.NON_FINITE_START, Status.END_REACHED, Status.NON_FINITE_START]
    assert np.all(np.isnan(made.ys[0]))
    assert np.all(np.isfinite(made.ys[1]))
    before = jax.jit(lambda t0: jos.solve_ode(rise, jnp.zeros(1), jnp.array([0.0, 2.0]), 1.0, t0=t0))(1.0)
    assert not before.converged


@pytest.mark.slow
def test_a_state_of_nothing_is_solved():
    made = jos.solve_ode(lambda t, y, p: y, jnp.zeros(0), TS)
    assert made.converged
    assert made.ys.shape == (*np.shape(TS), 0)


def test_a_linear_field_follows_the_matrix_exponential():
    matrix = np.array([[-0.3, 1.0, 0.2], [-1.1, 0.1, 0.0], [0.4, 0.0, -0.5]])
    made = jos.solve_ode(lambda t, y, a: a @ y, jnp.array([1.0, -2.0, 0.5]), TS, jnp.asarray(matrix), **TIGHT)
    exact = np.stack([scipy.linalg.expm(t * matrix) @ [1.0, -2.0, 0.5] for t in TS])
    np.testing.assert_allclose(made.ys, exact, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_what_is_zero_may_be_asked_for_without_an_absolute_tolerance():
    # One element stays at zero, and one passes through it.
    field = lambda t, y, p: jnp.stack([0.0 * y[0], y[2], -y[1]])  # noqa: E731
    start = jnp.array([0.0, 0.0, 1.0])
    for solver in ("tsit5", "kvaerno5"):
        made = jos.solve_ode(field, start, np.array([0.0, 4.0]), solver=solver, rtol=1e-8, atol=0.0)
        assert made.converged
        np.testing.assert_allclose(made.y_end, [0.0, np.sin(4.0), np.cos(4.0)], atol=1e-6)


def test_implicit_methods_take_constant_steps_that_are_eulers_on_paper():
    made = jos.solve_ode(
        lambda t, y, p: -p * y, jnp.ones(1), np.array([0.0, 1.0]), 3.0, solver="implicit_euler", step=0.1
    )
    np.testing.assert_allclose(made.y_end, 1.3**-10, rtol=1e-7)


@pytest.mark.slow
def test_steps_in_float32_are_not_shortened_for_rounding_errors():
    # So smooth a field needs few steps; at this tolerance the estimate of their errors is rounding alone.
    steps = []
    for dtype in (jnp.float32, jnp.float64):
        start, ts = jnp.ones(2, dtype), jnp.asarray([0.0, 5.0], dtype)
        made = jos.solve_ode(
            lambda t, y, p: jnp.cos(0.2 * t) * jnp.ones_like(y), start, ts, rtol=1e-7, atol=1e-9
        )
        np.testing.assert_allclose(made.y_end, 1.0 + 5.0 * np.sin(1.0), rtol=1e-6)
        steps.append(int(made.stats.num_steps))
    assert steps[0] <= steps[1] + 1


@pytest.mark.parametrize(
    ("field", "end"), [(lambda t, y, p: p + 0.0 * y, 1e25), (lambda t, y, p: 1e20 - y, 6.32121e19)]
)
def test_slopes_whose_squares_float32_cannot_hold_have_a_first_step(field, end):
    start, ts = jnp.zeros(2, jnp.float32), jnp.asarray([0.0, 1.0], jnp.float32)
    made = jos.solve_ode(field, start, ts, jnp.float32(1e25))
    assert made.converged
    np.testing.assert_allclose(made.y_end, end, rtol=1e-3)


@pytest.mark.parametrize(
    "size", [1e-30, 1e30, *(pytest.param(s, marks=pytest.mark.slow) for s in (1e-20, 1e20))]
)
def test_errors_whose_squares_float32_cannot_hold_are_controlled(size):
    def end(rate):
        start, ts = jnp.full(2, size, jnp.float32), jnp.asarray([0.0, 3.0], jnp.float32)
        made = jos.solve_ode(lambda t, y, r: -r * y, start, ts, rate, rtol=1e-4, atol=0.0)
        return made.y_end[0] / size, made

    (value, made), slope = jax.value_and_grad(end, has_aux=True)(jnp.float32(1.0))
    assert made.converged
    np.testing.assert_allclose(value, np.exp(-3.0), rtol=1e-3)
    np.testing.assert_allclose(slope, -3.0 * np.exp(-3.0), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_continuous_extension_of_tsit5_is_diffraxs(dtype):
    parts = np.linspace(0.0, 1.0, 21).astype(dtype)
    rows = jnp.eye(9)
    local = diffrax.Tsit5.interpolation_cls(t0=0.0, t1=1.0, y0=rows[0], y1=rows[1], k=rows[2:])
    expected = np.stack([local.evaluate(jnp.asarray(part)) for part in parts.astype("float64")])
    got = extension_of(diffrax.Tsit5(), 9, 7)(jnp.asarray(parts))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, atol=8 * np.finfo(dtype).eps)
