"""Methods of the comparison that start from the shipped weights fit them."""

import sys

import chex
import pytest

from hypernet_jax import load_weights
from hypernet_jax.model import make_model, model_config
from hypernet_jax.training.initial import initial_theta

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "configs"))
import comparison


@pytest.mark.parametrize("task", comparison.TASKS)
def test_continued_training_starts_from_the_shipped_weights(task):
    config = comparison.get_config(f"{task}-continued")
    theta = initial_theta(config, make_model(model_config(config)))
    chex.assert_trees_all_close(theta, load_weights(task)[1], atol=1e-6)


@pytest.mark.parametrize("task", comparison.TASKS)
def test_specialised_networks_start_as_generated(task):
    config = comparison.get_config(f"{task}-specialised")
    model = make_model(model_config(config))
    theta = initial_theta(config, model)
    shipped, numbers = load_weights(task)
    level = comparison.TASKS[task].levels[0]
    expected = shipped.generate(numbers, level)
    chex.assert_trees_all_close(model.generate(theta, level), expected, atol=1e-5)
