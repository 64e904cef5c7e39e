"""A network that reads the level of a crop off its pixels, part by part."""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["PartsNetwork"]


class PartsNetwork(nn.Module):
    """Convolutions that go down to an eighth, statistics over the crop, two dense layers.

    The crop begins where an 8x8 block of a JPEG file does, so that the strides keep in step with
    its grid.

    Attributes:
      parts: of the level.
      channels: at full resolution, a half, a quarter and an eighth.
      hidden: units of the dense layer.

    Images are (N, H, W, 3), float in [0, 1], H and W multiples of 8. The result is two arrays
    (N, parts): z of each part, and the logarithm of the deviation that it expects of itself.
    """

    parts: int
    channels: tuple[int, ...] = (16, 32, 48, 64)
    hidden: int = 64

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = image - 0.5
        seen = []
        for scale, width in enumerate(self.channels):
            strides = 1 if scale == 0 else 2
            x = nn.relu(
                nn.Conv(width, (3, 3), strides=strides, padding=1, name=f"conv_{scale}_1")(x)
            )
            x = nn.relu(nn.Conv(width, (3, 3), padding=1, name=f"conv_{scale}_2")(x))
            seen.append(jnp.mean(x, axis=(1, 2)))
        x = jnp.log(jnp.concatenate(seen, axis=-1) + 1e-3)
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(x))
        x = nn.Dense(2 * self.parts, name="output")(x)
        return x[:, : self.parts], jnp.clip(x[:, self.parts :], -6.0, 2.0)
