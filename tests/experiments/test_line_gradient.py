"""The smallest study, against derivatives on paper."""

import numpy as np
import pytest


@pytest.mark.parametrize("label", ["both", "slope_only", "intercept_only"])
def test_the_step_by_hand_is_the_step_of_sgd_and_the_one_on_paper(label, load, run):
    loaded, configs = load("line_gradient")
    config = configs[label]
    outcome = run(loaded, config)
    x = np.linspace(-1, 2, 7)
    off = (config.start[0] - config.truth[0]) * x + config.start[1] - config.truth[1]
    on_paper = {"a": np.mean(2 * off * x), "b": np.mean(2 * off)}
    for name, start in zip("ab", config.start, strict=True):
        moves = name in config.move
        expected = start - 0.1 * on_paper[name] if moves else start
        np.testing.assert_allclose(outcome.values[name], expected, rtol=1e-14)
        assert (f"{name}_gradient" in outcome.values) == moves
        if moves:
            np.testing.assert_allclose(outcome.values[f"{name}_gradient"], on_paper[name], rtol=1e-14)
            assert outcome.values[f"{name}_by_hand"] == outcome.values[f"{name}_by_sgd"]
    np.testing.assert_allclose(outcome.traces["loss"][0], np.mean(off**2), rtol=1e-14)
    assert outcome.traces["loss"][1] == outcome.value < outcome.traces["loss"][0]
