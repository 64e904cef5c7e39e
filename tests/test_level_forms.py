"""Every level form is equivalent to one network per level."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from absl.testing import parameterized

from hypernet_jax.errors import UserError
from hypernet_jax.model import LEVEL_FORMS, make_model
from hypernet_jax.networks import spec_of

from .models import tiny_config

LEVELS = np.float32([[3.0], [25.0], [80.0]])


def make(**changes):
    """A model and theta with nonzero slopes, so that levels differ."""
    config = tiny_config()
    network = changes.get("network", {})
    if network.get("name") != "unet":  # it has other attributes
        network = {**config["network"], **network}
    config = {**config, **changes, "network": network}
    model = make_model(config)
    theta = model.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    perturbed = jax.tree.map(lambda x: x + np.float32(0.1 * rng.standard_normal(x.shape)), theta)
    return model, perturbed


def images(levels=3, count=2, height=9, width=6):
    return jax.random.uniform(jax.random.key(2), (levels, count, height, width, 3))


def one_by_one(model, theta, levels, stack):
    """The reference."""
    restore = jax.jit(lambda level, x: model.apply(model.generate(theta, level), x))
    return jnp.stack([restore(level, x) for level, x in zip(levels, stack, strict=True)])


def loss_of(restore):
    return lambda theta, levels, stack: jnp.mean(jnp.square(restore(theta, levels, stack)))


MODELS = {
    "all generated": {},
    "some shared": {"generated": "block_"},
    "kernels alone": {"generated": "kernel$"},
    "biases alone": {"generated": "bias$"},
    "published tail": {"network": {"light_tail": False, "residual_output": False}},
    "learned features": {"features": {"name": "mlp"}},
}


class LevelFormsTest(chex.TestCase):
    # Only the wide form depends on the structure of the parameters.
    @chex.variants(with_jit=True)
    @parameterized.parameters(
        *(("wide", model) for model in MODELS),
        *((form, "some shared") for form in LEVEL_FORMS if form != "wide"),
        ("unrolled", "learned features"),
    )
    def test_levels_of_a_step(self, form, model):
        model, theta = make(**MODELS[model])
        model = dataclasses.replace(model, level_form=form)
        got = self.variant(model.restore_levels)(theta, LEVELS, images())
        expected = one_by_one(model, theta, LEVELS, images())
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-5)

    @parameterized.parameters(
        ("unrolled", False), ("unrolled", True), ("vmap", False), ("wide", False)
    )
    def test_gradients(self, form, remat):
        model, theta = make()
        model = dataclasses.replace(model, level_form=form, remat=remat)
        got = jax.jit(jax.grad(loss_of(model.restore_levels)))(theta, LEVELS, images())
        plain = loss_of(lambda *args: one_by_one(model, *args))
        expected = jax.jit(jax.grad(plain))(theta, LEVELS, images())
        chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-5)

    def test_with_remat_nothing_is_kept_of_any_level(self):
        """The forward pass saves little more than images and theta for the backward pass."""
        model, theta = make(network={"channels": 8})
        stack = images(height=16, width=16)

        def kept(remat):
            restore = dataclasses.replace(model, level_form="unrolled", remat=remat).restore_levels
            pullback = jax.eval_shape(
                lambda t: jax.vjp(lambda t: restore(t, LEVELS, stack), t)[1], theta
            )
            return sum(leaf.size for leaf in jax.tree.leaves(pullback))

        given = stack.size + sum(leaf.size for leaf in jax.tree.leaves(theta))
        assert kept(True) < 2 * given < kept(False)

    @chex.variants(with_jit=True, without_jit=True)
    def test_every_image_its_own_level(self):
        model, theta = make()
        stack = images(levels=3, count=1)
        got = self.variant(model.restore_each)(theta, LEVELS, stack[:, 0])
        expected = one_by_one(model, theta, LEVELS, stack)[:, 0]
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("residual", "unet", "polynomial", "biases alone")
    def test_every_pixel_its_own_level(self, kind):
        """A constant map equals its level, as does each of two halves outside the reach."""
        unet = {"name": "unet", "channels": (4, 4, 8), "blocks": (1, 1, 1)}
        changes = {
            "unet": {"network": unet},
            "polynomial": {"features": {"name": "polynomial", "degree": 2}},
        }
        model, theta = make(**changes.get(kind, MODELS.get(kind, {})))
        reach = spec_of(model.network).reach
        image = jax.random.uniform(jax.random.key(3), (1, 9, 2 * reach + 22, 3))
        restore = self.variant(model.restore_pixels)
        apply = jax.jit(model.apply)
        alone = [apply(model.generate(theta, level), image) for level in (10.0, 60.0)]
        constant = restore(theta, jnp.full((*image.shape[:3], 1), 60.0), image)
        chex.assert_trees_all_close(constant, alone[1], rtol=1e-5, atol=1e-5)
        left = jnp.arange(image.shape[2]) < reach + 8
        halves = jnp.where(left, 10.0, 60.0)[None, None, :, None]
        mixed = restore(theta, jnp.broadcast_to(halves, (*image.shape[:3], 1)), image)
        for part, expected in ((slice(0, 8), alone[0]), (slice(-8, None), alone[1])):
            chex.assert_trees_all_close(mixed[:, :, part], expected[:, :, part], atol=1e-5)
        assert jnp.abs(alone[0] - alone[1]).max() > 1e-3


@pytest.fixture
def unchecked():
    """Shapes as users may give them, whose programs have no checks of the annotations."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", LEVEL_FORMS)
@pytest.mark.parametrize("count", [0, 2, 4])
def test_every_stack_needs_its_level(form, count):
    model, theta = make()
    model = dataclasses.replace(model, level_form=form)
    with pytest.raises(UserError, match=f"There are {count} levels for 3 stacks"):
        model.restore_levels(theta, np.resize(LEVELS, (count, 1)), images())
    with pytest.raises(UserError, match="There are 0 levels for 0 stacks"):
        model.restore_levels(theta, LEVELS[:0], images()[:0])


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_a_model_is_refused():
    model, theta = make()
    image = images()[0]
    with pytest.raises(UserError, match="one vector of parts for each pixel"):
        model.restore_pixels(theta, jnp.ones((2, 18, 12, 1)), image)
    with pytest.raises(UserError, match="level form 'vmapped' is unknown"):
        dataclasses.replace(model, level_form="vmapped")
    with pytest.raises(UserError, match="floats, not uint8; divide them by 255"):
        model.apply(model.generate(theta, 5.0), np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="floats, not uint8; divide them by 255"):
        model.restore_each(theta, LEVELS[:1], np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="There are 1 levels for 2 images"):
        model.restore_each(theta, LEVELS[:1], image)
    with pytest.raises(UserError, match="config has no features, network"):
        make_model({"task": "denoise", "normalisation": "per_hundred", "generated": ""})


@pytest.mark.parametrize("generated", ["^level$", ""])
def test_what_is_no_convolution_is_reported(generated):
    model, theta = make(network={"name": "level_plane"}, generated=generated)
    with pytest.raises(UserError, match="generated parameter level is not a kernel"):
        model.restore_each(theta, LEVELS, images()[:, 0])
