"""A network without a block is the network whose block adds nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypernet_jax import UserError
from hypernet_jax.model import make_model
from hypernet_jax.training.shortening import block_count, silenced, without_block

from .models import random_theta, tiny_config, unet_config


@pytest.mark.parametrize("generated", ["", "conv_1"])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_without_a_block_is_with_a_silent_one(block, generated, photograph):
    config = tiny_config()
    config["generated"] = generated
    models = {}
    for blocks in (3, 2):
        config["network"]["blocks"] = blocks
        models[blocks] = make_model(config)
    theta = jax.tree.map(jnp.asarray, random_theta(models[3]))
    assert block_count(models[3]) == 3
    silent, shorter = silenced(theta, block), without_block(theta, block)
    fresh = models[2].init(jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(shorter, fresh)
    chex.assert_trees_all_equal_shapes_and_dtypes(silent, theta)
    images = photograph[None, :32, :32] / np.float32(255)
    restore = {n: jax.jit(lambda t, z, m=m: m.apply(m.generate(t, z), images))
               for n, m in models.items()}  # fmt: skip
    for level in (10.0, 60.0):
        one = restore[3](silent, level)
        chex.assert_trees_all_close(restore[2](shorter, level), one, atol=1e-6)
        assert np.abs(np.asarray(restore[3](theta, level) - one)).max() > 1e-3


def test_other_networks_are_refused():
    with pytest.raises(UserError, match="residual networks only; this one is a UNet"):
        block_count(make_model(unet_config()))
