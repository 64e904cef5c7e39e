"""The U-Net: exact tiles, several levels at once, and growth."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypernet_jax import Restorer, UserError, make_model, save_weights
from hypernet_jax.networks import apply_network, init_network, make_network, registry
from hypernet_jax.training.initial import initial_theta
from hypernet_jax.training.recipes import recipe, use_task

from .models import SMALL, random_theta, unet_config


@pytest.mark.parametrize(("blocks", "reach"), [((1, 1, 1), 56), ((2, 0), None), ((1,), None)])
def test_the_receptive_field_is_exact(blocks, reach):
    network = make_network("unet", channels=(2, 3, 4)[: len(blocks)], blocks=blocks)
    radius = network.spec.reach
    assert reach in (None, radius)
    # All positive, so that no contributions cancel.
    params = jax.tree.map(
        lambda x: jnp.full_like(x, 0.01), init_network(jax.random.key(0), network)
    )
    side = 2 * radius + 4 * network.spec.multiple_of
    seen = set()

    @jax.jit
    def gradient_of(at, image):
        return jax.grad(lambda x: apply_network(network, params, x)[0, at, at].sum())(image)

    for at in range(side // 2 // 8 * 8, side // 2 // 8 * 8 + 8):
        gradient = gradient_of(at, jnp.ones((1, side, side, 3)))
        rows = np.flatnonzero(np.abs(gradient).sum(axis=(0, 2, 3)))
        seen |= {at - rows[0], rows[-1] - at}
    assert max(seen) == radius


@pytest.mark.parametrize("size", [(1, 1), (7, 300)])
def test_tiles_give_the_whole_image(size):
    model = make_model(unet_config())
    theta = random_theta(model)
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    restorer = Restorer(model, theta, memory=8)
    tiled = restorer.apply(image[None], level=40)
    whole = jax.jit(model.apply)(model.generate(theta, 40.0), image[None])
    chex.assert_trees_all_close(tiled, np.asarray(whole), atol=1e-5)
    part = restorer.restore(image, level=40, window=(slice(0, 5), slice(0, 200)))
    expected = np.clip(whole[0, :5, :200], 0, 1)
    chex.assert_trees_all_close(part, np.asarray(expected), atol=1e-5)


def test_levels_of_a_step_and_of_each_crop():
    levels = jnp.array([[5.0], [60.0]])
    images = jax.random.uniform(jax.random.key(2), (2, 3, 16, 24, 3))
    forms = {
        form: make_model(unet_config(), level_form=form) for form in ("unrolled", "vmap", "wide")
    }
    theta = random_theta(forms["vmap"])
    one = jax.jit(lambda x, y: forms["vmap"].apply(forms["vmap"].generate(theta, x), y))
    expected = jnp.stack([one(x, y) for x, y in zip(levels, images, strict=True)])
    for form, model in forms.items():
        found = jax.jit(model.restore_levels)(theta, levels, images)
        chex.assert_trees_all_close(found, expected, atol=1e-5, custom_message=form)


def test_it_grows_scale_by_scale(tmp_path):
    network = {"channels": (8, 8, 12), "blocks": (2, 1, 3)}
    small = make_model(unet_config())
    theta = random_theta(small)
    save_weights(tmp_path / "small.safetensors", theta, unet_config())
    config = recipe("unet")
    use_task(config, "denoise", (0.0, 100.0))
    config.network.update(SMALL | network)
    config.initial_weights = str(tmp_path / "small.safetensors")
    large = make_model(unet_config(**network))
    grown = initial_theta(config, large)
    image = jax.random.uniform(jax.random.key(2), (1, 16, 24, 3))
    for level in (3.0, 70.0):
        made, expected = (
            jax.jit(model.apply)(model.generate(start, level), image)
            for model, start in ((large, grown), (small, theta))
        )
        chex.assert_trees_all_close(made, expected, atol=1e-5)
    with pytest.raises(UserError, match="do not fit the network"):
        config.network.update({"channels": (4, 8, 10)})
        initial_theta(config, make_model(unet_config(channels=(4, 8, 10))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (), "blocks": ()}, "has no scale"),
        ({"channels": 64}, "channels 64; give several values"),
    ],
)
def test_a_network_that_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        make_network("unet", **options)


def test_options_without_a_default_take_any_value(monkeypatch):
    class Plain(nn.Module):
        sizes: tuple[int, ...] | None = None

    monkeypatch.setitem(registry._NETWORKS, "plain", Plain)
    assert make_network("plain", sizes=[3, 5]).sizes == (3, 5)


def test_channels_and_blocks_must_be_of_the_same_scales():
    with pytest.raises(UserError, match="3 channels and 2 blocks"):
        make_network("unet", channels=(4, 4, 4), blocks=(1, 1))
