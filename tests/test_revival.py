"""Dead units get fresh kernels, and the network keeps its function."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypernet_jax import UserError
from hypernet_jax.model import make_model
from hypernet_jax.training.revival import dead_units, revived, unit_inputs

from .models import random_theta, tiny_config

LEVELS = (10, 60)


@pytest.fixture
def network():
    """ReLUs; unit 1 of the first block is dead, and all units of the second are without effect."""
    config = tiny_config()
    config["network"] |= {"activation": "relu", "blocks": 3}
    model = make_model(config)
    theta = random_theta(model)
    theta = jax.tree.map(jnp.asarray, theta)
    banks = theta["generated"]
    banks["block_0/conv_1/bias"] = banks["block_0/conv_1/bias"].at[0, 1].set(-100.0)
    banks["block_1/conv_2/kernel"] = jnp.zeros_like(banks["block_1/conv_2/kernel"])
    return model, theta


@pytest.fixture
def examples(network, photograph):
    space = network[0].task.space
    crops = np.stack([photograph[:48, :48], photograph[200:248, 100:148]]) / np.float32(255)
    return [(space.parse(level), crops) for level in LEVELS]


def test_dead_units_live_again_and_the_function_is_the_same(network, examples):
    model, theta = network
    dead = dead_units(model, theta, examples)
    channels = len(dead["block_0"])
    assert dead["block_0"][1] and dead["block_1"].all()
    new, counts = revived(jax.random.key(1), model, theta, examples)
    assert counts == {block: int(units.sum()) for block, units in dead.items()}
    chex.assert_trees_all_equal_shapes_and_dtypes(new, theta)
    for level, images in examples:
        one, other = (model.generate(each, level.array) for each in (theta, new))
        chex.assert_trees_all_close(model.apply(one, images), model.apply(other, images), atol=1e-5)
    inputs = [unit_inputs(model, new, level, images) for level, images in examples]
    for block, units in dead.items():
        values = np.concatenate([each[block].reshape(-1, channels) for each in inputs])
        np.testing.assert_allclose(values.mean(axis=0)[units], 0, atol=1e-3)
        assert (values > 0).mean(axis=0)[units].min(initial=1) > 0.1
        # Other units keep their parameters.
        for name in ("kernel", "bias"):
            path = f"{block}/conv_1/{name}"
            was, now = np.asarray(theta["generated"][path]), np.asarray(new["generated"][path])
            np.testing.assert_array_equal(now[..., ~units], was[..., ~units])
    spreads = [np.std(np.concatenate([each[b].reshape(-1, channels) for each in inputs]), axis=0)
               for b in dead]  # fmt: skip
    fresh = np.concatenate([s[u] for s, u in zip(spreads, dead.values(), strict=True)])
    np.testing.assert_allclose(fresh, fresh[0], rtol=1e-2)


def test_a_gradient_reaches_fresh_units(network, examples):
    model, theta = network
    theta, _ = revived(jax.random.key(1), model, theta, examples)
    level, images = examples[0]

    def loss(theta):
        return jnp.mean(jnp.square(model.apply(model.generate(theta, level.array), images) - 0.5))

    gradient = jax.jit(jax.grad(loss))(theta)["generated"]["block_0/conv_2/kernel"]
    assert np.abs(np.asarray(gradient)[:, :, :, 1]).max() > 0


def test_other_networks_are_refused(examples):
    config = tiny_config()
    config["features"] = {"name": "polynomial", "degree": 2}
    model = make_model(config)
    with pytest.raises(UserError, match="affine features"):
        revived(jax.random.key(0), model, random_theta(model), examples)
