"""`check_derivatives` finds what is planted, where it is, and lets pass what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

SEEDS = range(20)


@pytest.fixture(autouse=True)
def _as_people_write():
    with jax.numpy_rank_promotion("allow"):
        yield


QUICK = [3, 4]  # in the default run; `slow` ones are all of them
NAMES_QUICK = ["network", "softmax", "tangent"]


def cubed(rule):
    """x³ with this for its derivative."""
    fn = jax.custom_jvp(lambda x: x**3)
    fn.defjvp(lambda primals, tangents: (primals[0] ** 3, rule(primals[0]) * tangents[0]))
    return fn


@pytest.mark.slow
@pytest.mark.parametrize("seed", QUICK)
def test_a_planted_fault_is_found(seed, planted):
    fn, args, kind = planted(seed, jnp.float64)
    report = jos.check_derivatives(fn, *args)
    assert not report.ok, f"{kind}\n{report}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_every_planted_fault_is_found(seed, planted, precision):
    fn, args, kind = planted(seed, precision)
    report = jos.check_derivatives(fn, *args)
    assert not report.ok, f"{kind}\n{report}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES_QUICK)
def test_a_right_function_passes(name, right):
    fn, args = right()[name]
    jos.check_derivatives(fn, *args).raise_if_wrong()


@pytest.mark.slow
def test_sixty_right_functions_pass(right, precision):
    functions = right()
    assert len(functions) >= 50
    reports = {name: jos.check_derivatives(fn, *args) for name, (fn, args) in functions.items()}
    wrong = [f"{name}\n{report}" for name, report in reports.items() if not report.ok]
    assert not wrong, "\n".join(wrong)


def test_it_is_said_where_and_by_how_much():
    @jax.custom_jvp
    def spoiled(params):
        return jnp.sin(params["w"]) * params["b"]

    @spoiled.defjvp
    def rule(primals, tangents):
        (p,), (t,) = primals, tangents
        slope = jnp.cos(p["w"]).at[1, 0].multiply(1.5)  # one element of one leaf
        return spoiled(p), slope * t["w"] * p["b"] + jnp.sin(p["w"]) * t["b"]

    w = np.random.default_rng(0).normal(size=(2, 3))
    report = jos.check_derivatives(spoiled, {"w": jnp.asarray(w), "b": jnp.asarray(0.7)}, probe=False)
    fault = report.faults[0]
    assert (fault.argument, fault.output, fault.point) == ("args[0]['w'][1, 0]", "output[1, 0]", "as given")
    np.testing.assert_allclose(fault.expected, 0.7 * np.cos(w[1, 0]), rtol=1e-9)
    np.testing.assert_allclose(fault.got, 1.5 * fault.expected, rtol=1e-9)
    np.testing.assert_allclose(fault.relative, 1 / 3, rtol=1e-6)
    assert all("'b'" not in fault.argument for fault in report.faults if fault.check == "forward")
    for words in ("args[0]['w'][1, 0]", "off by 3.3e-01", "worst relative error"):
        assert words in str(report)


def test_a_fault_among_a_thousand_elements_is_found_by_name():
    @jax.custom_jvp
    def spoiled(x):
        return jnp.tanh(x)

    @spoiled.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return spoiled(x), ((1 - jnp.tanh(x) ** 2) * t).at[617].multiply(1.01)

    x = jnp.asarray(np.random.default_rng(0).normal(size=1000))
    report = jos.check_derivatives(spoiled, x, probe=False, second_order=False)
    assert (report.faults[0].argument, report.faults[0].output) == ("args[0][617]", "output[617]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fn", "x", "argument"),
    [
        (lambda x: jnp.sum(jax.nn.relu(x)), [1.0, 0.0, -1.0], "args[0][1]"),
        (lambda x: jnp.sum(jnp.abs(x)), [1.0, 0.0, -1.0], "args[0][1]"),
        (jnp.max, [2.0, 2.0, -1.0], "args[0][0]"),
        (lambda x: jnp.sum(jnp.sqrt(x)), [1.0, 0.0, 2.0], "args[0][1]"),
    ],
    ids=["relu", "abs", "max", "sqrt"],
)
def test_a_kink_is_a_kink_and_no_fault(fn, x, argument, precision):
    report = jos.check_derivatives(fn, jnp.asarray(x, precision), probe=False)
    assert report.ok, str(report)
    assert report.kinks[0].argument == argument


def test_what_is_not_between_the_two_sides_of_a_kink_is_a_fault():
    fn = jax.custom_jvp(jnp.abs)
    fn.defjvp(lambda p, t: (jnp.abs(p[0]), jnp.where(p[0] == 0, 2.0, jnp.sign(p[0])) * t[0]))
    assert not jos.check_derivatives(fn, 0.0, probe=False).ok


def test_a_derivative_that_is_not_a_number_is_a_fault():
    report = jos.check_derivatives(lambda x: jnp.where(x > 0, jnp.log(x) * 0 + x, x), 0.0, probe=False)
    assert not report.ok
    assert "not finite" in str(report)


def test_only_at_large_arguments_is_found_by_probing_alone():
    fn = cubed(lambda x: jnp.where(jnp.abs(x) > 50, 2.0, 3.0) * x**2)
    assert jos.check_derivatives(fn, 1.5, probe=False).ok
    assert "times 100" in str(jos.check_derivatives(fn, 1.5))


def test_only_in_second_order_is_found_there_alone():
    fn = cubed(lambda x: jax.lax.stop_gradient(3 * x**2))
    report = jos.check_derivatives(fn, 1.5)
    assert {fault.check for fault in report.faults} == {"second order"}
    assert jos.check_derivatives(fn, 1.5, second_order=False).ok


def test_complex_steps_see_what_differences_cannot():
    """A relative fault of 2e-8 is below the 1.5e-7 that differences are trusted with."""
    assert not jos.check_derivatives(cubed(lambda x: 3 * (1 + 2e-8) * x**2), 1.5, probe=False).ok
    assert jos.check_derivatives(cubed(lambda x: 3 * (1 + 1e-12) * x**2), 1.5, probe=False).ok


def test_a_rule_that_raises_is_a_fault():
    def raises(primals, tangents):
        raise RuntimeError("no such thing")

    fn = jax.custom_jvp(lambda x: x**2)
    fn.defjvp(raises)
    report = jos.check_derivatives(fn, 1.0)
    assert "RuntimeError: no such thing" in str(report)


def test_a_report_raises_in_a_test_and_is_true_or_false():
    good = jos.check_derivatives(cubed(lambda x: 3 * x**2), 1.5, probe=False)
    assert good
    assert good.raise_if_wrong() is good
    with pytest.raises(AssertionError, match=r"forward: d output / d args\[0\] is -6.75, expected 6.75"):
        jos.check_derivatives(cubed(lambda x: -3 * x**2), 1.5, probe=False).raise_if_wrong()


@pytest.mark.parametrize(
    ("fn", "args", "error", "message"),
    [
        (lambda x: x, (3,), TypeError, "no real float array"),
        (lambda x: x, (1j,), TypeError, r"args\[0\]: expected real floats"),
        (lambda x: x, (jnp.array([1.0, jnp.nan]),), ValueError, r"args\[0\]: is not finite"),
        (jnp.log, (-1.0,), ValueError, "its value at args is not finite"),
        (lambda x: 3, (1.0,), ValueError, "no real float array"),
    ],
)
def test_what_cannot_be_checked_is_named(fn, args, error, message):
    with pytest.raises(error, match=message):
        jos.check_derivatives(fn, *args)


def test_a_fault_under_vmap_is_found_beside_an_output_a_million_times_as_large():
    @jax.custom_batching.custom_vmap
    def sine(x):
        return jnp.sin(x)

    sine.def_vmap(lambda size, batched, x: (1.1 * jnp.sin(x), True))
    report = jos.check_derivatives(lambda x: {"large": 1e6 * x**2, "small": sine(x)}, jnp.array([0.3, 0.7]))
    assert {fault.check for fault in report.faults} == {"vmap"}


def test_arrays_without_elements_are_passed_by():
    args = (jnp.array([0.3, 0.7]), jnp.zeros(0))
    assert jos.check_derivatives(lambda x, y: {"a": jnp.sum(x**2) + jnp.sum(y), "b": y}, *args).ok
    with pytest.raises(ValueError, match="returns no real float array"):
        jos.check_derivatives(lambda x: x[:0], args[0])
