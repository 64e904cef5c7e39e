"""A small network that reads the degradation level off an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["LevelEstimator"]


class LevelEstimator(nn.Module):
    """The normalised level z of images, a confidence-weighted mean of local estimates.

    Flat areas tell noise, and edges tell compression, better than other places do: each
    place of the image gives an estimate and a weight. Three strides of two keep every
    place aligned with the 8x8 blocks of JPEG.

    Attributes:
      channels: width of the first layer; the deeper ones have twice as many.
    """

    channels: int = 24

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """(N, H, W, C) in [0, 1], H and W at least 8 -> z, (N,)."""
        x = nn.relu(nn.Conv(self.channels, (3, 3), name="head")(images))
        for index, width in enumerate((1, 2, 2)):
            x = nn.Conv(width * self.channels, (4, 4), 2, padding=1, name=f"down_{index}")(x)
            x = nn.relu(x)
        x = nn.relu(nn.Conv(2 * self.channels, (3, 3), name="body")(x))
        x = nn.Conv(2, (1, 1), name="output")(x).reshape((x.shape[0], -1, 2))
        weights = jax.nn.softmax(x[..., 1], axis=-1)
        return jnp.sum(weights * x[..., 0], axis=-1)
