"""Estimates the working memory of a network."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hypernet_jax.hypernet import HyperNetwork, Theta
from hypernet_jax.model import Model
from hypernet_jax.programs import compiled

__all__ = ["bytes_per_pixel"]

_SIDE = 32
# A block holds its input, the long skip and two activations at once; XLA's memory analysis
# of the shipped and the published network gives less.
_HELD_AT_ONCE = 4


def _activations(network: nn.Module, params: dict, image: jax.Array) -> Any:
    return network.apply({"params": params}, image, capture_intermediates=True)[1]


def bytes_per_pixel(model: Model, theta: Theta) -> float:
    """An upper bound on the network's working memory, in bytes per input pixel."""
    generate = compiled(HyperNetwork.generate, model.hypernet)
    params = generate.eval_shape(theta, model.task.space.high.array)
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, model.colours), jnp.float32)
    leaves = jax.tree.leaves(compiled(_activations, model.network).eval_shape(params, image))
    largest = max(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    images = 4 * image.size * image.dtype.itemsize
    return (_HELD_AT_ONCE * largest + images) / _SIDE**2
