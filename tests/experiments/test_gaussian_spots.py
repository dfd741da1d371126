"""The study of single emitters: maximum likelihood is at the bound, least squares is not."""

import numpy as np
import pytest


@pytest.mark.slow
def test_maximum_likelihood_is_as_precise_as_the_bound_allows_and_without_bias(load, run):
    loaded, configs = load("gaussian_spots", spots=2000, classes=2)
    values = run(loaded, configs["maximum_likelihood"]).values
    assert values["converged"] == 1
    for name in ("amplitude", "background", "width", "x", "y"):
        ratio = values[f"precision_{name}"] / values[f"bound_{name}"]
        # The standard deviation of 1000 errors is itself known to 2.2 %: four of those.
        np.testing.assert_allclose(ratio, 1.0, atol=0.09)
        assert np.all(np.abs(values[f"bias_{name}"]) < 5 * values[f"precision_{name}"] / np.sqrt(1000))
