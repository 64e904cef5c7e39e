"""A residual U-Net with three scales: 1/2, 1/4 and 1/8 of the resolution."""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from hypernet_jax.errors import UserError
from hypernet_jax.networks.residual import (
    Conv1x1,
    Conv3x3,
    ResidualBlock,
    branch_init,
    counted_from,
    he_init,
    pixel_shuffle,
)
from hypernet_jax.networks.spec import NetworkSpec

__all__ = ["UNet"]


class UNet(nn.Module):
    """Residual blocks at several resolutions, with additive skips at each resolution.

    The first convolution has stride 2, so the finest scale has half the image's resolution.
    Strided convolutions downsample; 1x1 convolutions and pixel shuffles upsample. This follows
    DRUNet (Zhang et al., TPAMI 2021), with the half-resolution entry of FFDNet (Zhang et al., TIP
    2018).

    Attributes:
      colours: channels of the image, 3 or 1.
      channels: width at each scale, finest first.
      blocks: residual blocks at each scale, finest first; used both on the way down and on the
        way up, and once at the coarsest scale.
      residual_output: add the degraded image to the output.
      init_gain: factor on every kernel's He initialisation.
      activation: one of `ACTIVATIONS`.
      centre: subtracted from the image at the input. Photographs have values around 0.5, and
        their common mean would dominate every training step.
      dtype: dtype of the convolutions; parameters and result are float32.

    Images are (N, H, W, colours), float, H and W multiples of 2 to the number of scales.
    """

    colours: int = 3
    channels: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (2, 1, 1)
    residual_output: bool = True
    init_gain: float = 1.0
    activation: str = "relu"
    centre: float = 0.0
    dtype: str = "float32"

    def __post_init__(self):
        super().__post_init__()
        if not self.channels:
            raise UserError("The U-Net has no scale; give channels and blocks for at least one.")
        if len(self.blocks) != len(self.channels):
            raise UserError(
                f"The U-Net has {len(self.channels)} channels and {len(self.blocks)} blocks; "
                "give one of each per scale."
            )

    @property
    def spec(self) -> NetworkSpec:
        """Requirements on images, and how the network can grow."""
        return NetworkSpec(
            in_channels=self.colours,
            multiple_of=2 ** len(self.channels),
            reach=self._reach(),
            exact_tiles=True,
            growable=("channels", "blocks"),
            branch_exits=r"block_\d+/conv_2/",
            activated=r"block_\d+/conv_1/",
        )

    def _reach(self) -> int:
        """The reach in pixels.

        A sample at a scale of s pixels is located at the top left of its s x s pixels. A
        convolution at that scale reaches s pixels to each side, a strided one into it s / 2. A
        pixel shuffle back to scale s depends on a sample up to s pixels above and to the left.
        """
        scales = [2 ** (index + 1) for index in range(len(self.channels))]
        passes = [2] * (len(scales) - 1) + [1]  # down and up; once at the coarsest scale
        in_blocks = sum(
            2 * blocks * times * scale
            for blocks, times, scale in zip(self.blocks, passes, scales, strict=True)
        )
        down, up, output = sum(scale // 2 for scale in scales), sum(scales) // 2, scales[0]
        return in_blocks + down + up + output

    @nn.compact
    def __call__(self, image: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        kernel_init, exit_init = he_init(self.init_gain), branch_init(self.init_gain)
        conv = functools.partial(Conv3x3, dtype=self.dtype)

        def residual(x, scale: int, way: str):
            for index in range(self.blocks[scale]):
                block = ResidualBlock(
                    self.channels[scale],
                    kernel_init,
                    exit_init,
                    self.dtype,
                    self.activation,
                    name=f"{way}_{scale}_block_{index}",
                )
                x = block(x)
            return x

        x, skips = counted_from(self.centre, image), []
        coarsest = len(self.channels) - 1
        for scale, width in enumerate(self.channels):
            x = conv(width, strides=2, kernel_init=kernel_init, name=f"down_{scale}")(x)
            if scale < coarsest:
                # The skip starts where the finer scale ends.
                x = residual(x, scale, "down")
                skips.append(x)
        x = residual(x, coarsest, "middle")
        for scale in reversed(range(coarsest)):
            width = 4 * self.channels[scale]
            x = Conv1x1(width, kernel_init=exit_init, dtype=self.dtype, name=f"up_{scale}")(x)
            x = skips[scale] + pixel_shuffle(x, 2)
            x = residual(x, scale, "up")
        output_init = exit_init if self.residual_output else kernel_init
        x = conv(4 * self.colours, kernel_init=output_init, name="output")(x)
        x = pixel_shuffle(x, 2).astype(image.dtype)
        return image + x if self.residual_output else x
