"""Additive white Gaussian noise, traceable by JAX."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ["gaussian_noise"]


def gaussian_noise(key: jax.Array, image: ArrayLike, sigma: ArrayLike) -> jax.Array:
    """Adds N(0, sigma), neither clipped nor rounded.

    Args:
      key: PRNG key.
      image: (..., H, W, C), 0 to 255.
      sigma: standard deviation in 8-bit grey levels, scalar.

    Returns:
      float32 of the image's shape; values may lie outside 0..255.
    """
    image = jnp.asarray(image, jnp.float32)
    return image + jnp.asarray(sigma, jnp.float32) * jax.random.normal(key, image.shape)
