"""Self-ensemble equals the mean over an image's eight views, tile by tile."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypernet_jax import Restorer, make_model, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.report import markdown_table
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.sources import Source

from .models import tiny_config, tiny_restorer, tiny_theta


@functools.cache
def parts(task="denoise", colours=3):
    config = tiny_config(task, colours)
    return make_model(config), tiny_theta(config)


ENSEMBLE = Restorer(*parts(), self_ensemble=True)


def mean_over_views(model, params, image):
    """The reference: the whole image, padded to the stride, with rotations of JAX."""
    apply = jax.jit(model.apply)
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="symmetric")
    views = []
    for turns, axis in itertools.product(range(4), (None, 0)):
        view = jnp.rot90(padded if axis is None else jnp.flip(padded, axis), turns)
        restored = jnp.rot90(apply(params, view[None])[0], -turns)
        views.append(restored if axis is None else jnp.flip(restored, axis))
    return np.mean(views, axis=0)[:height, :width]


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
@pytest.mark.parametrize("size", [(203, 331), (1, 90), (64, 64)])
def test_the_mean_over_the_views_of_the_whole_image(size, backend, photograph):
    model, theta = parts()
    restorer = Restorer(model, theta, memory=2, backend=backend, self_ensemble=True)
    image = photograph[: size[0], : size[1]] / np.float32(255)
    images = np.stack([image, image[::-1, ::-1]])
    got = restorer.apply(images, level=33.5)
    for one, restored in zip(images, got, strict=True):
        expected = mean_over_views(model, model.generate(theta, 33.5), one)
        np.testing.assert_allclose(restored, expected, atol=1e-5, rtol=0)
    # It differs from the result of one view.
    assert np.abs(got - Restorer(model, theta).apply(images, level=33.5)).max() > 1e-3


@settings(max_examples=15)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_a_turned_image_is_restored_turned(height, width, turns, mirrored):
    image = np.random.default_rng(height).random((2 * height, 2 * width, 3), np.float32)

    def turned(array):
        return np.rot90(array[::-1] if mirrored else array, turns)

    restored = ENSEMBLE.restore(image, level=40)
    np.testing.assert_allclose(
        ENSEMBLE.restore(np.ascontiguousarray(turned(image)), level=40), turned(restored), atol=1e-6
    )


@pytest.mark.parametrize("memory", [2, 640])
def test_a_level_map_is_turned_with_its_image(memory, photograph):
    model, theta = parts()
    restorer = Restorer(model, theta, memory=memory, backend="jax", self_ensemble=True)
    image = photograph[:90, :130] / np.float32(255)
    levels = np.linspace(0, 80, 130) * np.linspace(0.5, 1, 90)[:, None]
    views, restore = [], jax.jit(model.restore_pixels)
    for turns, axis in itertools.product(range(4), (None, 0)):
        both = [x if axis is None else np.flip(x, axis) for x in (image, levels[..., None])]
        view, own = (np.rot90(each, turns)[None].astype(np.float32) for each in both)
        restored = np.rot90(restore(theta, own, view)[0], -turns)
        views.append(restored if axis is None else np.flip(restored, axis))
    expected = np.clip(np.mean(views, axis=0), 0, 1)
    np.testing.assert_allclose(restorer.restore(image, level=levels), expected, atol=1e-5)
    same = restorer.restore(image, level=np.full(levels.shape, 25.0))
    np.testing.assert_allclose(same, restorer.restore(image, level=25), atol=1e-5)


def test_grey_through_a_colour_network_stays_grey(photograph):
    grey = photograph[:50, :61, :1]
    restored = ENSEMBLE.restore(np.repeat(grey, 3, -1), level=20)
    np.testing.assert_array_equal(restored, np.repeat(ENSEMBLE.restore(grey, level=20), 3, -1))


@pytest.mark.parametrize("scale", [1.5, 2.3])
def test_enlarging(scale, photograph):
    model, theta = parts("sr")
    restorer = Restorer(model, theta, self_ensemble=True)
    image = photograph[:30, :41]
    source = Source(image[None], scale)
    given = source.read(0, *(slice(0, length) for length in source.size))
    expected = mean_over_views(model, restorer.params(scale), given)
    got = restorer.restore(image, level=scale)
    assert np.abs(got - np.round(255 * np.clip(expected, 0, 1))).max() <= 1


def test_command_and_evaluation(photograph, tmp_path):
    weights, output = tmp_path / "tiny.safetensors", tmp_path / "out.png"
    save_weights(weights, tiny_theta(tiny_config()), tiny_config())
    folder = tmp_path / "images"
    folder.mkdir()
    image = photograph[:37, :51]
    Image.fromarray(image).save(folder / "odd.png")
    chosen = ["--weights", str(weights), "--level", "25", "--self-ensemble"]
    assert main(["restore", str(folder / "odd.png"), *chosen, "-o", str(output)]) == 0
    np.testing.assert_array_equal(read_image(output), ENSEMBLE.restore(image, level=25))
    single, mean = (
        evaluate(restorer, folder, levels=[15], progress=False)
        for restorer in (tiny_restorer(), ENSEMBLE)
    )
    assert mean["self_ensemble"] and "mean of eight views" in markdown_table(mean)
    assert single["rows"] != mean["rows"] and "eight views" not in markdown_table(single)
