"""Training with a level for every pixel."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypernet_jax import UserError, make_model
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.degradations import degrade_example, example_key
from hypernet_jax.training.batches import degrade_batch
from hypernet_jax.training.level_maps import random_blobs
from hypernet_jax.training.loop import train

from .models import device_task, tiny_config, tiny_theta, tiny_training_config

PIXELS = BatchForm(per="pixel", own_crops=True)


@pytest.mark.parametrize("jit", [False, True])
def test_blobs(jit):
    """Half of the images have no blobs; in the others many pixels have each of the two levels."""
    function = jax.vmap(lambda key: random_blobs(key, (40, 64)))
    share = np.asarray(
        (jax.jit(function) if jit else function)(jax.random.split(jax.random.key(0), 200))
    )
    chex.assert_shape(share, (200, 40, 64))
    assert share.min() >= 0 and share.max() <= 1
    mixed = share.reshape((200, -1)).max(axis=1) > 0
    assert 0.4 < mixed.mean() < 0.6
    assert 0.3 < share[mixed].mean() < 0.7
    # Blobs, not dots: neighbours are mostly equal.
    assert np.abs(np.diff(share[mixed], axis=2)).mean() < 0.1
    hard = np.mean((share > 0.01) & (share < 0.99), axis=(1, 2))[mixed]
    assert hard.min() < 0.1 and hard.max() > 0.5


def test_two_levels_are_drawn_for_each_crop():
    sampler = LevelSampler((0.0, 10.0), (80.0, 50.0), 4, form=PIXELS)
    drawn = np.stack([sampler(np.random.default_rng(seed), crops=3) for seed in range(200)])
    assert drawn.shape == (200, 4, 3, 2, 2)
    noise = drawn[..., 0] // 20
    np.testing.assert_array_equal(
        noise[..., 0], np.broadcast_to(np.arange(4)[:, None], (200, 4, 3))
    )
    # The second levels come from all strata, each once, in any order.
    np.testing.assert_array_equal(np.sort(noise[..., 1], axis=1), noise[..., 0])
    assert 0.15 < np.mean(noise[..., 1] == noise[..., 0]) < 0.35


@pytest.mark.parametrize("name", ["denoise", "deblur"])
def test_each_pixel_is_degraded_to_its_level(name, photograph):
    task = device_task(name)
    low, high = (task.space.low, task.space.high) if name == "deblur" else (10.0, 40.0)
    pair = np.stack([task.space.parse(level).array for level in (low, high)])
    clean = np.broadcast_to(photograph[:32, :48], (1, 8, 32, 48, 3))
    ids = np.arange(8, dtype=np.int32)[None]
    batch = {"clean": clean, "ids": ids, "levels": np.broadcast_to(pair, (1, 8, *pair.shape))}
    key = jax.random.key(3)
    degrade_all = jax.jit(lambda key, batch: degrade_batch(key, task, batch, PIXELS))
    target, degraded, levels = degrade_all(key, batch)
    chex.assert_shape([target, degraded], (1, 8, 32, 48, 3))
    chex.assert_shape(levels, (1, 8, 32, 48, 1))
    ends = [(levels == pair[which]).all(axis=-1) for which in (0, 1)]
    assert ends[0].all(axis=(2, 3)).any(), "some crop has one level"
    assert any(end.mean(axis=(2, 3)).min() < 0.9 and end.any() for end in ends)
    degrade = jax.jit(functools.partial(degrade_example, task.degradation))
    for crop in range(8):
        for level, here in zip(pair, ends, strict=True):
            own = example_key(key, 0, ids[0, crop])
            alone = degrade(own, clean[0, crop], task.space.named(level))
            expected = np.asarray(alone, np.float32)[here[0, crop]] / 255
            np.testing.assert_allclose(degraded[0, crop][here[0, crop]], expected, atol=1e-5)


def test_it_trains(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.levels.per = "pixel"
    state = train(config, tmp_path, progress=False)
    assert int(state.step) == 6


@pytest.mark.parametrize("task", ["dejpeg", "sr"])
def test_the_device_must_degrade(task, default_data, tmp_path):
    config = tiny_training_config(default_data, task)
    config.levels.per = "pixel"
    with pytest.raises(UserError, match="choose crop"):
        train(config, tmp_path, progress=False)


def test_a_map_of_one_level_is_the_level(photograph):
    """Training per pixel equals training per crop if all pixels have the same level."""
    model, theta = make_model(tiny_config()), tiny_theta(tiny_config())
    image = jnp.asarray(photograph[None, :32, :32] / 255.0, jnp.float32)
    levels = jnp.full((1, 32, 32, 1), 30.0)
    each = model.restore_each(theta, levels[:, 0, 0], image)
    chex.assert_trees_all_close(model.restore_pixels(theta, levels, image), each, atol=1e-5)
