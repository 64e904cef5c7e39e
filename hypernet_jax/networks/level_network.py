"""The noise-level network of HyperRes: estimates the level of an image crop."""

import flax.linen as nn
from jaxtyping import Array, Float

__all__ = ["LevelNetwork"]


class LevelNetwork(nn.Module):
    """Stride-2 convolution, four residual blocks each followed by pooling, three dense layers.

    As published with HyperRes (Aharon and Ben-Artzi, ICASSP 2023), with activations
    only inside the blocks and between the dense layers.

    Attributes:
      colours: channels of the image.
      channels: width of the convolutions; published: 64.
      hidden: units of the two hidden dense layers; published: 32 and 16.

    Images are (N, crop, crop, colours), float in [0, 1]; the crop is a multiple of 32,
    published: 128. The result is (N,), the level in the units used for training: sigma
    in 8-bit grey levels.
    """

    colours: int = 3
    channels: int = 64
    hidden: tuple[int, int] = (32, 16)

    @nn.compact
    def __call__(self, image: Float[Array, "n h w c"]) -> Float[Array, " n"]:
        def conv(x, name, strides=1):
            return nn.Conv(self.channels, (3, 3), strides=strides, padding=1, name=name)(x)

        x = conv(image, "head", strides=2)
        for block in range(4):
            y = nn.relu(conv(x, f"block_{block}_conv_1"))
            x = nn.max_pool(x + conv(y, f"block_{block}_conv_2"), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for layer, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"dense_{layer}")(x))
        return nn.Dense(1, name=f"dense_{len(self.hidden)}")(x)[:, 0]
