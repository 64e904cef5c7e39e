"""Methods to compare with: they start as they should, and are what they claim."""

import json
import sys

import chex
import jax
import mixed
import numpy as np
import pytest

from hypernet_jax import Restorer, UserError, load_weights
from hypernet_jax.cli.info import load_config
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
    for level in comparison.TASKS[task].levels:
        expected = shipped.generate(numbers, level)
        chex.assert_trees_all_close(model.generate(theta, level), expected, atol=1e-5)


def test_mixtures_that_are_no_grid_are_refused():
    def levels(*named):
        return {"features": {"levels": named}}

    grid = ({}, {"noise": 15}, {"blur": 1}, {"noise": 15, "blur": 1})
    assert len(mixed.mixtures(levels(*grid))) == 4
    for part in (grid[:3], grid[1:]):
        with pytest.raises(UserError, match="3 mixtures, which are no grid"):
            mixed.mixtures(levels(*part))


def small_mixed(variant):
    """The saved config, model and random theta of a small network of configs/mixed.py."""
    config = load_config(f"{REPOSITORY}/configs/mixed.py:{variant}")
    config.network.channels, config.network.blocks = 4, 1
    saved = model_config(json.loads(config.to_json()))
    model = make_model(saved)
    keys = iter(jax.random.split(jax.random.key(1), 99))
    theta = model.init(jax.random.key(0))
    return saved, model, jax.tree.map(lambda x: 0.1 * jax.random.normal(next(keys), x.shape), theta)


def test_interpolated_networks_meet_those_of_the_extreme_mixtures():
    saved, model, theta = small_mixed("compact_cells")
    image = jax.random.uniform(jax.random.key(2), (1, 16, 16, 3))
    between, each = mixed.interpolated(saved, theta), Restorer(model, theta)
    for level in ({}, {"noise": 50}, {"blur": 4, "noise": 50, "jpeg": 10}):
        one, other = (restorer.apply(image, level=level) for restorer in (between, each))
        chex.assert_trees_all_close(one, other, atol=1e-4)
    one, other = (restorer.apply(image, level={"blur": 1}) for restorer in (between, each))
    assert np.abs(one - other).max() > 1e-2


def test_the_table_of_linearity():
    saved, each, theta = small_mixed("compact_cells")
    levels = mixed.mixtures(saved)
    rows = mixed.linearity(each, theta, levels).splitlines()[2:]
    off = [float(row.split("|")[4]) for row in rows]
    assert len(off) == 3 and all(0.3 < value < 3 for value in off)
    _, affine, theta = small_mixed("compact")
    for row in mixed.linearity(affine, theta, levels).splitlines()[2:]:
        z, along, off = row.split("|")[2:5]
        assert z == along and float(off) == 0
