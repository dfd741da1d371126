"""The study of single emitters: maximum likelihood is at the bound, least squares is not."""

import numpy as np
import pytest


@pytest.mark.slow
def test_maximum_likelihood_is_within_5_percent_of_the_bound_over_all_widths_and_without_bias(load, run):
    # 10 widths from 1 to 2 pixels, 4000 spots each: a standard deviation is then itself known to 1.1 %.
    loaded, configs = load("gaussian_spots", spots=40_000)
    values = run(loaded, configs["maximum_likelihood"]).values
    assert values["converged"] == 1
    np.testing.assert_allclose(values["width"][[0, -1]], [1.0, 2.0])
    assert abs(values["worst_excess_over_bound"]) < 0.05
    for name in ("amplitude", "background", "width", "x", "y"):
        ratio = values[f"precision_{name}"] / values[f"bound_{name}"]
        assert ratio.shape == (10,)
        np.testing.assert_allclose(ratio, 1.0, atol=0.05)
        assert np.all(np.abs(values[f"bias_{name}"]) < 5 * values[f"precision_{name}"] / np.sqrt(4000))
