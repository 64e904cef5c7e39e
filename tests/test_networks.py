"""Every registered network fulfils its spec, and false specs are refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypernet_jax import Restorer, UserError, make_model
from hypernet_jax.axes import NOISE_SIGMA
from hypernet_jax.networks import (
    NetworkSpec,
    check_exact_tiles,
    make_network,
    register_network,
    registry,
    spec_of,
)
from hypernet_jax.networks.activations import ACTIVATIONS, activation
from hypernet_jax.networks.residual import pixel_shuffle

SMALL = {
    "residual": {
        "channels": 4, "blocks": 2, "light_tail": True, "activation": "leaky_relu", "centre": 0.5,
    },
    "level_plane": {"channels": 4, "blocks": 1, "centre": 0.5},
    "unet": {"channels": (4, 6, 8), "blocks": (1, 1, 0), "centre": 0.5},
}  # fmt: skip


def _with(*options):
    """The networks that have all of these options."""
    return [name for name in SMALL if all(hasattr(make_network(name), each) for each in options)]


def restorer_of(name, memory=2.0):
    model = make_model(
        {
            "task": "denoise",
            "normalisation": NOISE_SIGMA.normalisation,
            "network": {"name": name} | SMALL.get(name, {}),
            "features": {"name": "affine"},
            "generated": "",
        }
    )
    rng = np.random.default_rng(1)

    def drawn(leaf):
        scale = 0.3 / np.sqrt(max(np.prod(leaf.shape[-3:-1]), 1))
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    theta = jax.tree.map(drawn, jax.eval_shape(model.init, jax.random.key(0)))
    return Restorer(model, theta, memory=memory, backend="jax")


RESTORERS = {}


def test_every_network_is_tested():
    assert SMALL.keys() == registry.names()
    for name, options in SMALL.items():
        check_exact_tiles(make_network(name, **options))


@settings(max_examples=6)
@given(
    st.sampled_from(sorted(SMALL)), st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**31)
)
def test_tiles_give_what_the_whole_image_gives(name, height, width, seed):
    if name not in RESTORERS:
        RESTORERS[name] = restorer_of(name), restorer_of(name, memory=512)
    tiled, whole = RESTORERS[name]
    image = np.random.default_rng(seed).random((1, height, width, 3)).astype(np.float32)
    params = whole.params(30.0)
    expected = jax.jit(whole.model.apply)(params, image)
    found = tiled.apply(image, level=30)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Larger images really are cut into tiles.
    assert tiled._largest <= 192


@pytest.mark.parametrize("name", _with("activation"))
def test_a_leaky_network_learns_where_a_plain_one_is_dead(name):
    """With biases so low that no unit is ever positive, only leaky units have a gradient."""
    image = jnp.ones((1, 16, 16, 3)) * jnp.linspace(0, 1, 16)[:, None]
    gradients = {}
    for kind in ACTIVATIONS:
        network = make_network(name, **SMALL[name] | {"activation": kind})
        params = jax.jit(network.init)(jax.random.key(0), image)

        def lowered(path, leaf):
            low = path[-1].key == "bias" and path[-2].key == "conv_1"
            return leaf - 50.0 if low else leaf

        params = jax.tree_util.tree_map_with_path(lowered, params)
        loss = jax.jit(lambda p, net=network: jnp.abs(net.apply(p, image)).sum())
        found = jax.jit(jax.grad(loss))(params)
        inner = [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(found)
            if path[-2].key == "conv_1"
        ]
        gradients[kind] = max(float(jnp.abs(leaf).max()) for leaf in inner)
    assert gradients["relu"] == 0 and gradients["leaky_relu"] > 1e-4


@pytest.mark.parametrize("name", _with("centre", "residual_output"))
def test_an_image_is_counted_from_the_centre(name):
    image = jnp.linspace(0, 1, 3 * 16 * 16).reshape(1, 16, 16, 3)
    options = SMALL[name] | {"residual_output": False}
    centred, plain = (make_network(name, **options | {"centre": c}) for c in (0.25, 0.0))
    params = centred.init(jax.random.key(0), image)
    expected = plain.apply(params, image - 0.25)
    np.testing.assert_allclose(centred.apply(params, image), expected, atol=1e-6)


def test_an_unknown_activation():
    with pytest.raises(UserError, match="'gelu'; choose one of relu, leaky_relu"):
        activation("gelu")


class Normalised(nn.Module):
    """Declares exact tiles, although its normalisation depends on the whole image."""

    layer: str = "group_norm"

    @property
    def spec(self):
        return NetworkSpec(reach=9, exact_tiles=True)

    @nn.compact
    def __call__(self, image):
        x = nn.Conv(8, (3, 3), padding=1)(image)
        if self.layer == "group_norm":
            x = nn.GroupNorm(2)(x)
        elif self.layer == "attention":
            x = x * nn.sigmoid(jnp.mean(x, axis=(1, 2), keepdims=True))
        elif self.layer == "average":
            x = nn.avg_pool(x, (2, 2), (1, 1), "SAME")
        elif self.layer == "transposed":
            x = nn.ConvTranspose(8, (3, 3), (2, 2))(x)[:, ::2, ::2]
        elif self.layer == "shifted":
            x = jnp.roll(x, 1, axis=1)
        elif self.layer == "mirrored":
            x = nn.Conv(8, (3, 3), padding="REFLECT")(x)
        elif self.layer == "bare":
            kernel = self.param("kernel", nn.initializers.ones, (3, 3, 8, 8))
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        elif self.layer == "place":
            x = x + jnp.linspace(-1, 1, x.shape[1])[:, None, None]
        elif self.layer == "counted place":
            x = x + jax.lax.broadcasted_iota(jnp.float32, x.shape, 2)
        elif self.layer == "average of a plane":
            x = x * x.mean(-1).mean((1, 2))[:, None, None, None]
        elif self.layer == "average of a channel":
            x = x * x[..., 0].mean((1, 2))[:, None, None, None]
        elif self.layer == "shifted plane":
            x = x + jnp.roll(x.sum(-1), 1, axis=1)[..., None]
        elif self.layer == "summed plane":
            x = x + jnp.cumsum(x.sum(-1), axis=2)[..., None]
        elif self.layer == "softmax over rows":
            x = x * jax.nn.softmax(x.sum(-1), axis=1)[..., None]
        elif self.layer == "finer":
            x = pixel_shuffle(x, 2)
            x = nn.Conv(8, (3, 3), strides=2, padding=1)(x)
        elif self.layer == "cut":
            x = nn.Conv(8, (3, 3), padding=0)(x)
            x = nn.Conv(8, (3, 3), padding=2)(x)
        elif self.layer == "channel sum":
            x = x * nn.sigmoid(x.sum(-1))[..., None] + x.mean(-1, keepdims=True)
        elif self.layer == "gate":
            x = nn.LayerNorm()(x)[..., :4] * nn.gelu(x[..., 4:])
        return nn.Conv(3, (3, 3), padding=1)(x)


LAYERS = ("group_norm", "attention", "average", "transposed", "shifted", "mirrored", "bare")
PLACES = ("place", "counted place")
PLANES = (
    "average of a plane", "average of a channel", "shifted plane", "summed plane",
    "softmax over rows",
)  # fmt: skip
SIZES = ("finer", "cut")


@pytest.mark.parametrize("layer", LAYERS + PLACES + PLANES + SIZES)
def test_a_false_claim_of_exact_tiles_is_refused(layer):
    with pytest.raises(UserError, match="declares exact tiles, but has"):
        check_exact_tiles(Normalised(layer))


@pytest.mark.parametrize("layer", ["none", "gate", "channel sum"])
def test_what_works_on_each_pixel_alone_is_allowed(layer):
    check_exact_tiles(Normalised(layer))


def test_a_network_of_ones_own(monkeypatch, photograph):
    """A custom network can be made by name, restore in tiles, and have levels."""

    class Shallow(nn.Module):
        colours: int = 3
        dtype: str = "float32"

        @property
        def spec(self):
            return NetworkSpec(in_channels=self.colours, reach=2, exact_tiles=True)

        @nn.compact
        def __call__(self, image):
            x = nn.relu(nn.Conv(6, (3, 3), padding=1)(image))
            return image + nn.Conv(self.colours, (3, 3), padding=1)(x)

    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    register_network("narrow", Shallow)
    with pytest.raises(UserError, match="already"):
        register_network("narrow", Shallow)
    with pytest.raises(UserError, match="exact tiles, but has"):
        register_network("normalised", Normalised)
    with pytest.raises(UserError, match="cannot be called 'bad name!'"):
        register_network("bad name!", Shallow)
    for network in (dict, int, Shallow()):
        with pytest.raises(UserError, match="give a class of Flax modules"):
            register_network("other", network)
    with pytest.raises(UserError, match=r"without a default \(features\)"):
        register_network("other", nn.Dense)
    restorer = restorer_of("narrow")
    image = photograph[:70, :90] / np.float32(255)
    expected = restorer.model.apply(restorer.params(20.0), image[None])[0]
    np.testing.assert_allclose(
        restorer.restore(image, level=20), np.clip(expected, 0, 1), atol=1e-5
    )


def test_other_modules_offer_the_least():
    assert spec_of(nn.Dense(3)) == NetworkSpec()
    with pytest.raises(UserError, match="needs a finite reach"):
        NetworkSpec(exact_tiles=True)
