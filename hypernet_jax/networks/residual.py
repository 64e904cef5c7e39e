"""The residual restoration network of HyperRes, and its lighter variant."""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypernet_jax.level_conv import conv_general_dilated
from hypernet_jax.networks.activations import activation
from hypernet_jax.networks.spec import NetworkSpec

__all__ = [
    "Conv1x1",
    "Conv3x3",
    "ResidualBlock",
    "ResidualNetwork",
    "branch_init",
    "counted_from",
    "he_init",
    "pixel_shuffle",
]

# Kernel (3, 3), zero padding 1, dense under vmap over kernels.
Conv3x3 = functools.partial(
    nn.Conv, kernel_size=(3, 3), padding=1, conv_general_dilated=conv_general_dilated
)
Conv1x1 = functools.partial(
    nn.Conv, kernel_size=(1, 1), padding=0, conv_general_dilated=conv_general_dilated
)


def he_init(gain: float) -> Callable:
    """He initialisation of a kernel, scaled by `gain`."""
    return nn.initializers.variance_scaling(2.0 * gain**2, "fan_in", "truncated_normal")


def branch_init(gain: float) -> Callable:
    """For layers whose output is added: small, so that depth does not increase the variance."""
    return he_init(min(gain, 0.1))


def counted_from(centre: float, image: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Subtracts the centre from the image; for 0 there is no operation."""
    return image - centre if centre else image


@functools.partial(jax.jit, static_argnums=1)  # keeps its name in the jaxpr, for the exporters
def pixel_shuffle(x: Float[Array, "n h w cff"], factor: int) -> Float[Array, "n hf wf c"]:
    """(N, H, W, C f f) -> (N, H f, W f, C), channels ordered (C, f, f) as in PyTorch."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, c // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, h * factor, w * factor, c // factor**2)


class ResidualBlock(nn.Module):
    """conv, activation, conv, + input."""

    channels: int
    kernel_init: Callable
    exit_init: Callable
    dtype: str
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        conv = functools.partial(Conv3x3, self.channels, dtype=self.dtype)
        y = activation(self.activation)(conv(kernel_init=self.kernel_init, name="conv_1")(x))
        return x + conv(kernel_init=self.exit_init, name="conv_2")(y)


class ResidualNetwork(nn.Module):
    """Stride-2 convolution, residual blocks with a long skip, and pixel shuffle.

    With the defaults this is the network of HyperRes (Aharon and Ben-Artzi,
    ICASSP 2023): 1,406,787 parameters in colour, 1,404,481 in grey.

    Attributes:
      colours: channels of the image, 3 or 1.
      channels: width of the body.
      blocks: number of residual blocks.
      light_tail: get the image from the body by one pixel shuffle, without the
        two full-resolution convolutions of the published tail.
      residual_output: add the degraded image to the output, so that the
        network predicts the correction; published: False.
      init_gain: factor on every kernel's He initialisation; published: 0.1.
      activation: one of `ACTIVATIONS`; published: relu.
      centre: subtracted from the image at the input; published: 0.
      dtype: dtype of the convolutions; parameters and result are float32.

    Images are (N, H, W, colours), float, H and W multiples of `stride`. A `guide`,
    (N, H, W, any), adds input channels that are not restored.
    """

    colours: int = 3
    channels: int = 64
    blocks: int = 16
    light_tail: bool = False
    residual_output: bool = False
    init_gain: float = 0.1
    activation: str = "relu"
    centre: float = 0.0
    dtype: str = "float32"

    stride: ClassVar[int] = 2

    @property
    def spec(self) -> NetworkSpec:
        """Requirements on images, and how the network can grow.

        The reach is that of odd rows and columns, upwards and to the left; for even ones, and
        in the other directions, it is up to two pixels less.
        """
        # At half resolution: two convolutions per block, the last of the body, and the next one.
        half = 2 * self.blocks + 2
        return NetworkSpec(
            in_channels=self.colours,
            multiple_of=self.stride,
            reach=2 * half + (2 if self.light_tail else 4),
            exact_tiles=True,
            growable=("channels", "blocks"),
            branch_exits=r"block_\d+/conv_2/",
            activated=r"block_\d+/conv_1/|(^|/)(upsample|refine)/",
        )

    @nn.compact
    def __call__(
        self, image: Float[Array, "n h w c"], guide: Float[Array, "n h w g"] | None = None
    ) -> Float[Array, "n h w c"]:
        kernel_init, exit_init = he_init(self.init_gain), branch_init(self.init_gain)
        conv = functools.partial(Conv3x3, kernel_init=kernel_init, dtype=self.dtype)

        activate = activation(self.activation)
        entry = counted_from(self.centre, image)
        if guide is not None:
            entry = jnp.concatenate([entry, guide], axis=-1)
        head = conv(self.channels, strides=self.stride, name="head")(entry)
        x = head
        for index in range(self.blocks):
            x = ResidualBlock(
                self.channels,
                kernel_init,
                exit_init,
                self.dtype,
                self.activation,
                name=f"block_{index}",
            )(x)
        x = head + conv(self.channels, kernel_init=exit_init, name="body_end")(x)
        output_init = exit_init if self.residual_output else kernel_init
        if self.light_tail:
            x = conv(self.colours * self.stride**2, kernel_init=output_init, name="output")(x)
            x = pixel_shuffle(x, self.stride)
        else:
            x = conv(self.channels * self.stride**2, name="upsample")(x)
            x = activate(pixel_shuffle(x, self.stride))
            x = activate(conv(self.channels, name="refine")(x))
            x = conv(self.colours, kernel_init=output_init, name="output")(x)
        x = x.astype(image.dtype)
        return image + x if self.residual_output else x
