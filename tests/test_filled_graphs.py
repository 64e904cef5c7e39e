"""ONNX graphs that are built once hold the parameters of every level they are filled with."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypernet_jax import Affine, HyperNetwork, Restorer, UserError, get_task, path_matches
from hypernet_jax.model import Model
from hypernet_jax.networks import NetworkSpec, check_exact_tiles
from hypernet_jax.networks.residual import Conv3x3

from .models import random_theta


class Small(nn.Module):
    """Convolutions around a layer of each kind that a parameter can belong to."""

    layer: str = "dense"

    @property
    def spec(self):
        return NetworkSpec(reach=4, exact_tiles=True)

    @nn.compact
    def __call__(self, image):
        x = nn.relu(Conv3x3(8, name="first")(image))
        if self.layer == "dense":
            x = nn.Dense(8, name="inner")(x)
        elif self.layer == "tied":
            inner = Conv3x3(8, name="inner")
            x = nn.relu(inner(x))
            x = nn.relu(inner(x))
        elif self.layer == "scale":
            x = x * self.param("inner", nn.initializers.ones, (1, 1, 1, 8))
        elif self.layer == "threshold":
            x = jnp.maximum(x, self.param("inner", nn.initializers.zeros, (8,)))
        else:
            x = nn.relu(nn.Conv(8, (3, 3), padding=1, feature_group_count=4, name="inner")(x))
        return image + Conv3x3(3, name="last")(x)


LAYERS = ("dense", "tied", "scale", "threshold", "grouped")
MAPPED = ("tied", "grouped")


def make(layer, task="denoise", **options):
    network = Small(layer)
    check_exact_tiles(network)
    space = get_task(task).space
    model = Model(get_task(task), network, HyperNetwork(space, Affine(), **options))
    return model, jax.tree.map(jnp.asarray, random_theta(model))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((1, 20, 24, 3)).astype(np.float32)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_level_has_its_own_parameters(layer, image):
    model, theta = make(layer)
    restorer = Restorer(model, theta, backend="onnxruntime")
    expected = jax.jit(lambda level: model.apply(model.generate(theta, level), image))
    results = [restorer.apply(image, level=level) for level in (100, 50, 0)]
    for level, found in zip((100.0, 50.0, 0.0), results, strict=True):
        np.testing.assert_allclose(found, expected(level), atol=1e-5)
    assert np.abs(results[0] - results[2]).max() > 0.02


@pytest.mark.parametrize("generated", ["", "bias$"])
@pytest.mark.parametrize("layer", MAPPED)
def test_every_map_has_its_own_kernels(layer, generated, image):
    """Maps on different lines of levels fill one graph."""
    model, theta = make(layer, "photo", generated=path_matches(generated))
    restorer = Restorer(model, theta, backend="onnxruntime")
    apply = jax.jit(model.restore_pixels)
    for top in (60.0, 20.0, 75.0):
        levels = np.zeros((20, 24, 3), np.float32)
        levels[..., 0], levels[..., 1] = np.linspace(0, top, 24), 100
        found = restorer.restore(image[0], level=levels)
        expected = np.clip(apply(theta, levels[None], image)[0], 0, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
@pytest.mark.parametrize(("layer", "name"), [("dense", "inner/"), ("scale", "inner ")])
def test_what_cannot_differ_from_pixel_to_pixel_is_named(layer, name, backend, image):
    restorer = Restorer(*make(layer), backend=backend)
    levels = np.full((20, 24), 30.0)
    levels[:, 12:] = 60
    with pytest.raises(UserError, match="not a kernel or bias of a convolution") as caught:
        restorer.restore(image[0], level=levels)
    assert backend == "onnxruntime" or name in str(caught.value)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_groups_of_a_convolution_have_their_own_kernels(groups):
    class Grouped(nn.Module):
        @nn.compact
        def __call__(self, image):
            x = nn.Conv(8, (3, 3), padding=1, name="first")(image)
            x = nn.Conv(8, (3, 3), padding=1, feature_group_count=groups, name="inner")(x)
            return nn.Conv(3, (3, 3), padding=1, name="last")(x)

    space = get_task("denoise").space
    model = Model(get_task("denoise"), Grouped(), HyperNetwork(space, Affine()))
    theta = jax.tree.map(jnp.asarray, random_theta(model))
    images = jax.random.uniform(jax.random.key(1), (2, 10, 12, 3))
    levels = jnp.array([[10.0], [60.0]])
    one = jax.jit(lambda level, x: model.apply(model.generate(theta, level), x[None])[0])
    expected = [one(level, x) for level, x in zip(levels, images, strict=True)]
    np.testing.assert_allclose(model.restore_each(theta, levels, images), expected, atol=1e-5)
    wide = dataclasses.replace(model, level_form="wide")
    found = wide.restore_levels(theta, levels, images[:, None])[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
