"""The usual alternative to a hypernetwork: a plain network with the level as an input."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypernet_jax.networks.residual import ResidualNetwork

__all__ = ["LevelPlaneNetwork"]


class LevelPlaneNetwork(nn.Module):
    """A residual network with a constant plane of the level as an extra input channel.

    FFDNet (Zhang et al., TIP 2018) is conditioned in this way. The level is the scalar
    parameter "level"; with `generated="^level$"` and proportional features only that
    parameter depends on the level, and all kernels are shared.

    Attributes: as for `ResidualNetwork`.
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

    # The plane is an input like the image, so stride and reach are the same.
    stride = ResidualNetwork.stride
    spec = ResidualNetwork.spec

    @nn.compact
    def __call__(self, image: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        level = self.param("level", nn.initializers.ones, ())
        plane = jnp.broadcast_to(level.astype(image.dtype), (*image.shape[:-1], 1))
        body = ResidualNetwork(
            colours=self.colours,
            channels=self.channels,
            blocks=self.blocks,
            light_tail=self.light_tail,
            residual_output=self.residual_output,
            init_gain=self.init_gain,
            activation=self.activation,
            centre=self.centre,
            dtype=self.dtype,
            name="body",
        )
        return body(image, guide=plane)
