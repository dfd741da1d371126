"""What `fit_ode` cannot take is refused in one line that names the argument, before anything is computed."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_study as jos

TS, YS = np.linspace(0.0, 1.0, 4), np.ones((4, 2))


def field(t, y, params):
    return -params * y


GIVEN = {"ts": TS, "ys": YS, "params": 1.0, "y0": np.ones(2)}


@pytest.mark.parametrize(
    ("error", "says", "changes"),
    [
        (TypeError, "ts: expected real numbers", {"ts": TS + 1j}),
        (ValueError, r"ts: expected shape .* got \(2, 2, 1\)", {"ts": np.ones((2, 2, 1))}),
        (ValueError, r"ys: expected \(4, 2\).* got \(3, 2\)", {"ys": YS[:3]}),
        (ValueError, r"ys: expected \(4,\).* got \(4, 2\)", {"observe": lambda y, p: y[0]}),
        (ValueError, "y: there is no value that is not missing", {"ys": np.nan * YS}),
        (ValueError, r"ys: expected a list of 2 series", {"ts": [TS, TS], "ys": [YS]}),
        (ValueError, r"ys\[1\]: shape \(3, 2\) where ts\[1\] has 4", {"ts": [TS, TS], "ys": [YS, YS[:3]]}),
        (ValueError, "ts: nan is the time of something", {"ts": np.where(TS > 0.5, np.nan, TS)}),
        (ValueError, r"t0: 0.5 is after the first of ts", {"t0": 0.5}),
        (ValueError, r"t0: expected a number, or one for each series", {"t0": np.zeros(3)}),
        (TypeError, r"y0: expected a real float array, got dtype complex", {"y0": np.ones(2) + 1j}),
        (ValueError, "fit_y0: y0 is a function", {"y0": lambda p: jnp.ones(2), "fit_y0": True}),
        (TypeError, "fit_y0: expected True, False", {"fit_y0": "yes"}),
        (ValueError, "fit_y0: does not fit y0", {"fit_y0": np.array([True, False, True])}),
        (ValueError, "y0_bounds: y0 is not fitted", {"y0_bounds": (0.0, 1.0)}),
        (ValueError, "y0: starts outside its y0_bounds", {"fit_y0": True, "y0_bounds": (2.0, 3.0)}),
        (ValueError, "segments: expected a whole number", {"segments": 0}),
        (ValueError, "segments: 4 of 4 times", {"segments": 4}),
        (ValueError, "loss: expected one of", {"loss": "l1"}),
        (ValueError, "sigma, weights: give one", {"sigma": 1.0, "weights": 1.0}),
        (ValueError, "states: expected", {"segments": 2, "states": np.ones((4, 3))}),
    ],
)
def test_it_is_refused_in_one_line(error, says, changes):
    given = {"field": field, **GIVEN, **changes}
    positional = [given.pop(name) for name in ("field", "ts", "ys", "params", "y0")]
    with pytest.raises(error, match=says) as caught:
        jos.fit_ode(*positional, **given)
    assert "\n" not in str(caught.value)
