"""The level-parallel convolution equals lax's under every transformation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax import lax

from hypernet_jax.level_conv import conv_general_dilated

PADDING = ((1, 1), (1, 1))


def plain(x, kernel, strides=(1, 1)):
    return lax.conv_general_dilated(
        x, kernel, strides, PADDING, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def ours(x, kernel, strides=(1, 1)):
    return conv_general_dilated(x, kernel, strides, PADDING)


def inputs(levels=3, images=2, height=8, width=6):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (levels, images, height, width, 4))
    kernels = jax.random.normal(keys[1], (levels, 3, 3, 4, 5))
    return x, kernels


TRANSFORMATIONS = {
    "apply": lambda f: lambda x, k: f(x[0], k[0]),
    "vmap both": lambda f: jax.vmap(f),
    "vmap images": lambda f: lambda x, k: jax.vmap(f, (0, None))(x, k[0]),
    "vmap kernels": lambda f: lambda x, k: jax.vmap(f, (None, 0))(x[0], k),
    "grad of vmap": lambda f: jax.grad(
        lambda x, k: jnp.sum(jnp.sin(jax.vmap(f)(x, k))), argnums=(0, 1)
    ),
    "vmap of grad": lambda f: jax.vmap(
        jax.grad(lambda x, k: jnp.sum(jnp.sin(f(x, k))), argnums=(0, 1))
    ),
    "gradient of shared image": lambda f: jax.grad(
        lambda x, k: jnp.sum(jnp.sin(jax.vmap(f, (None, 0))(x[0], k))), argnums=(0, 1)
    ),
    "gradient of shared kernel": lambda f: jax.grad(
        lambda x, k: jnp.sum(jnp.sin(jax.vmap(f, (0, None))(x, k[0]))), argnums=(0, 1)
    ),
    "grad of grad": lambda f: jax.grad(
        lambda x, k: sum(
            jnp.sum(jnp.sin(each))
            for each in jax.vmap(jax.grad(lambda a, b: jnp.sum(jnp.cos(f(a, b))), (0, 1)))(x, k)
        ),
        argnums=(0, 1),
    ),
    "nested vmap": lambda f: lambda x, k: jax.vmap(jax.vmap(f, (0, None)), (0, 0))(x[:, None], k),
    "remat": lambda f: jax.grad(
        lambda x, k: jnp.sum(jnp.sin(jax.vmap(jax.checkpoint(f))(x, k))), argnums=(0, 1)
    ),
}


class LevelConvTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(name=list(TRANSFORMATIONS), stride=[1, 2])
    def test_equals_the_plain_convolution(self, name, stride):
        transform = TRANSFORMATIONS[name]
        strides = (stride, stride)
        x, kernels = inputs()
        got = self.variant(transform(lambda a, b: ours(a, b, strides)))(x, kernels)
        expected = jax.jit(transform(lambda a, b: plain(a, b, strides)))(x, kernels)
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-4)

    @parameterized.parameters("vmap both", "grad of vmap", "vmap of grad", "grad of grad")
    def test_no_grouped_convolution_is_left(self, name):
        def text(f):
            return jax.jit(TRANSFORMATIONS[name](f)).lower(*inputs()).as_text()

        assert "feature_group_count = 3" in text(plain) or "batch_group_count = 3" in text(plain)
        for count in ("feature_group_count", "batch_group_count"):
            assert f"{count} = 3" not in text(ours)


@pytest.mark.parametrize(
    "options",
    [
        {"feature_group_count": 2},
        {"rhs_dilation": (2, 2)},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
        {"padding": "SAME"},
    ],
)
def test_other_convolutions_are_refused(options):
    x, kernels = inputs()
    arguments = {"window_strides": (1, 1), "padding": PADDING} | options
    with pytest.raises(NotImplementedError):
        conv_general_dilated(x[0], kernels[0], **arguments)


def test_odd_sizes_under_a_stride():
    x, kernels = inputs(height=7, width=5)
    got = jax.grad(lambda a: jnp.sum(ours(a, kernels[0], (2, 2)) ** 2))(x[0])
    expected = jax.grad(lambda a: jnp.sum(plain(a, kernels[0], (2, 2)) ** 2))(x[0])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
