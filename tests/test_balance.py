"""Training keeps the inputs of activations on both sides of zero."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hypernet_jax import make_model
from hypernet_jax.data.levels import BatchForm
from hypernet_jax.networks import make_network
from hypernet_jax.training.balance import balanced, keep_balanced
from hypernet_jax.training.mesh import place_batch

from .models import start_training, unet_config


class KeepBalancedTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_values_stay_and_gradients_push_towards_zero(self):
        rng = np.random.default_rng(0)
        values = rng.standard_normal((4, 8, 8, 3)).astype(np.float32)
        values = (values - values.mean((0, 1, 2))) / values.std((0, 1, 2)) * 2
        values += np.float32([0.5, 2.0, -30.0])  # 0.25, 1 and -15 standard deviations
        gradient = rng.standard_normal(values.shape).astype(np.float32)

        @self.variant
        def both(values):
            result, pull = jax.vjp(lambda x: keep_balanced(0.1, 1, (), x), values)
            return result, pull(gradient)[0]

        result, pulled = both(values)
        chex.assert_trees_all_equal(result, values)
        push = 0.1 * np.sqrt(np.mean(gradient**2)) * np.array([0.0, 0.5, -2.0])
        np.testing.assert_allclose(
            pulled - gradient, np.broadcast_to(push, values.shape), atol=1e-5
        )

    @chex.variants(with_jit=True, without_jit=True)
    def test_groups_are_separate(self):
        rng = np.random.default_rng(1)
        values = rng.standard_normal((6, 4, 4, 5)).astype(np.float32) + 2
        gradient = np.float32(
            rng.standard_normal(values.shape) * np.repeat([1, 10, 100], 2)[:, None, None, None]
        )

        def pull(groups, values, gradient):
            return jax.vjp(lambda x: keep_balanced(0.3, groups, (), x), values)[1](gradient)[0]

        together = self.variant(lambda v, g: pull(3, v, g))(values, gradient)
        apart = [pull(1, values[i : i + 2], gradient[i : i + 2]) for i in (0, 2, 4)]
        chex.assert_trees_all_close(together, jnp.concatenate(apart), rtol=1e-5)


def test_a_network_that_names_no_activation_is_left_alone():
    """Also where a convolution is applied by itself, and so has an empty path."""
    conv, image = nn.Conv(2, (3, 3)), jnp.ones((1, 4, 4, 3))
    params = conv.init(jax.random.key(0), image)

    def gradient(strength):
        with balanced(conv, strength):
            return jax.grad(lambda p: conv.apply(p, image).sum())(params)

    chex.assert_trees_all_equal(gradient(1.0), gradient(0.0))


@pytest.mark.parametrize(
    "options",
    [
        {"name": "unet", "channels": (4, 4), "blocks": (1, 1)},
        {"name": "residual", "channels": 4, "blocks": 2, "light_tail": False},
        {"name": "level_plane", "channels": 4, "blocks": 2, "light_tail": False},
    ],
)
def test_every_activation_has_a_balanced_convolution_before_it(options):
    network = make_network(**options)
    image = jnp.zeros((1, 16, 16, 3))
    params = network.init(jax.random.key(0), image)
    activations = 0

    def count(x):
        nonlocal activations
        activations += 1
        return x

    with pytest.MonkeyPatch.context() as patch:
        for module in ("unet", "residual"):
            patch.setattr(
                f"hypernet_jax.networks.{module}.activation", lambda name: count, raising=False
            )
        jax.make_jaxpr(network.apply)(params, image)
    with balanced(network, 0.1):
        text = str(jax.make_jaxpr(network.apply)(params, image))
    assert text.count("custom_vjp_call") - _custom_convolutions(network, params, image) == (
        activations
    )
    with balanced(network, 0.0):
        plain = str(jax.make_jaxpr(network.apply)(params, image))
    assert plain.count("custom_vjp_call") == _custom_convolutions(network, params, image)


def _custom_convolutions(network: nn.Module, params, image) -> int:
    return str(jax.make_jaxpr(network.apply)(params, image)).count("custom_vjp_call")


def _trained(strength: float, form: str, steps: int) -> dict:
    """Theta of a network whose units begin far below zero, after some steps."""
    config = unet_config(channels=(6, 8), blocks=(1, 1), activation="leaky_relu", centre=0.5)
    model = make_model(config, level_form=form)
    theta = model.init(jax.random.key(0))
    bias = theta["generated"]["middle_1_block_0/conv_1/bias"]
    theta["generated"]["middle_1_block_0/conv_1/bias"] = bias.at[0].add(-2.0)
    batch_form = BatchForm(own_crops=True)
    optimizer = optax.adam(2e-2) if steps > 2 else optax.sgd(0.5)
    mesh, step, state = start_training(
        model, theta, optimizer, form=batch_form, decay=0.0, balance=strength
    )
    rng = np.random.default_rng(0)
    for index in range(steps):
        batch = {
            "clean": rng.integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8),
            "ids": np.arange(4 * index, 4 * index + 4, dtype=np.int32).reshape(2, 2),
            "levels": np.float32([[20], [60]]),
        }
        state, _ = step(state, place_batch(mesh, batch, batch_form))
    return jax.device_get(state.theta)


def test_all_level_forms_train_alike():
    unrolled, *others = (_trained(3.0, form, 2) for form in ("unrolled", "vmap", "wide"))
    for other in others:
        chex.assert_trees_all_close(unrolled, other, rtol=2e-4, atol=2e-6)


def test_units_below_zero_come_back():
    biases = [
        _trained(strength, "unrolled", 100)["generated"]["middle_1_block_0/conv_1/bias"][0]
        for strength in (0.0, 1.0)
    ]
    left, pushed = (float(np.mean(each)) for each in biases)
    assert pushed > left + 0.1, (left, pushed)
