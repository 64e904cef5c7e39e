"""Networks by name, and the two typed ways to call one."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from hypernet_jax.errors import UserError
from hypernet_jax.networks.level_plane import LevelPlaneNetwork
from hypernet_jax.networks.residual import ResidualNetwork

__all__ = ["apply_network", "init_network", "make_network"]

_NETWORKS: dict[str, type[nn.Module]] = {
    "residual": ResidualNetwork,
    "level_plane": LevelPlaneNetwork,
}


def make_network(name: str, **options: Any) -> nn.Module:
    """Returns the network called `name` with the given attributes."""
    if name not in _NETWORKS:
        raise UserError(f"Unknown network {name!r}; choose one of {', '.join(_NETWORKS)}.")
    try:
        return _NETWORKS[name](**options)
    except TypeError as error:
        raise UserError(f"The network {name!r} does not take these options: {error}.") from None


def init_network(key: jax.Array, network: nn.Module) -> dict:
    """Fresh parameters of a plain network: the template for a hypernetwork."""
    image = jnp.zeros((1, 16, 16, getattr(network, "colours", 3)))
    return network.init(key, image)["params"]


def apply_network(network: nn.Module, params: dict, image: jax.Array) -> jax.Array:
    """Restores images of any height and width.

    Args:
      network: a module whose `stride` attribute, if it has one, says what height
        and width must be multiples of.
      params: its parameters.
      image: (N, H, W, C) float, in [0, 1].

    Odd sizes are padded by symmetric continuation at the bottom and right and
    cut back afterwards: no pixel is lost. The result has the shape of `image`.
    """
    height, width = image.shape[1:3]
    stride = getattr(network, "stride", 1)
    bottom, right = -height % stride, -width % stride
    padded = image
    if bottom or right:
        padded = jnp.pad(image, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    restored = cast(jax.Array, network.apply({"params": params}, padded))
    return restored[:, :height, :width]
