"""The classifier learns, from the same starts with every optimizer, and is judged on other flowers."""

import numpy as np
import pytest

from jaxopt_study import study
from jaxopt_study.result import Status


@pytest.fixture(scope="module")
def outcomes(load, run):
    loaded, configs = load("deep_network", starts=2, max_steps=400)
    return {label: run(loaded, config) for label, config in configs.items()}


@pytest.mark.slow
def test_every_optimizer_learns_from_the_same_starts(outcomes):
    assert set(outcomes) == {"momentum", "adagrad", "rmsprop", "adam"}
    first = outcomes["adam"].traces["loss"][:, 0]
    assert first[0] != first[1]
    for outcome in outcomes.values():
        assert outcome.status.tolist() == [Status.OUT_OF_STEPS] * 2
        np.testing.assert_array_equal(outcome.traces["loss"][:, 0], first)
        assert (outcome.value < 0.1 * first).all()
        assert (outcome.values["accuracy"] > 0.9).all()
        assert (outcome.values["training_accuracy"] > 0.95).all()


def test_held_out_flowers_are_a_third_of_each_species_and_not_trained_on(load):
    import jax
    from sklearn.datasets import load_iris

    loaded, configs = load("deep_network")
    split = loaded.init.__globals__["split"]
    (x, species), (held_out_x, held_out_species) = split(configs["adam"], jax.random.key(0))
    assert np.bincount(species).tolist() == [35] * 3
    assert np.bincount(held_out_species).tolist() == [15] * 3
    both = np.column_stack([np.concatenate([x, held_out_x]), np.concatenate([species, held_out_species])])
    iris, labels = load_iris(return_X_y=True)
    whole = np.column_stack([(iris - iris.mean(axis=0)) / iris.std(axis=0), labels])
    np.testing.assert_allclose(both[np.lexsort(both.T)], whole[np.lexsort(whole.T)], atol=1e-12)
    other = split(configs["adam"], jax.random.key(1))[1][0]
    assert not np.array_equal(other, held_out_x)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"widths": (5, 3)}, r"config\.widths: expected 4 .* got \(5, 3\)"),
        ({"widths": (4,)}, r"config\.widths"),
        ({"activations": ("tanh",)}, r"config\.activations: expected one for each of 3 layers, got 1"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_in_one_line(changes, says, load, run):
    loaded, configs = load("deep_network", **changes)
    with pytest.raises(study.StudyInputError, match=says):
        run(loaded, configs["adam"])
