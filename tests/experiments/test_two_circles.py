"""In the plane a flow cannot take a disc out of a ring; with a dimension more it can."""

import jax
import numpy as np
import pytest


@pytest.mark.slow
def test_points_are_in_the_disc_and_in_the_ring(load):
    loaded, configs = load("two_circles", points=40)
    init, *_ = loaded.steps
    where, is_ring = init(configs["plane"], jax.random.key(0)).held_out
    radius = np.linalg.norm(where, axis=1)
    assert np.all(radius[np.asarray(is_ring) == 0] <= 0.5)
    assert np.all((radius[np.asarray(is_ring) == 1] >= 1.0) & (radius[np.asarray(is_ring) == 1] <= 1.5))
    assert np.sum(is_ring) == 20


@pytest.mark.slow
def test_part_of_the_ring_stays_on_the_side_of_the_disc_unless_there_is_a_dimension_more(load, run):
    loaded, configs = load("two_circles")
    plane, augmented = (run(loaded, configs[label]) for label in ("plane", "augmented"))
    assert plane.values["accuracy"] > 0.95  # of points, between which there is room for the seam
    assert plane.values["worst_on_ring"] < 0.01
    assert augmented.values["accuracy"] > 0.99
    assert augmented.values["worst_on_ring"] > 0.9
    assert augmented.value < plane.value
