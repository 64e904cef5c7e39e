"""Additive white Gaussian noise, traceable by JAX."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

__all__ = ["gaussian_noise"]


def gaussian_noise(
    key: Key[Array, ""], image: Real[ArrayLike, "*n h w c"], sigma: Real[ArrayLike, ""]
) -> Float32[Array, "*n h w c"]:
    """Adds N(0, sigma), neither clipped nor rounded.

    Args:
      key: PRNG key.
      image: (..., H, W, C), 0 to 255.
      sigma: standard deviation in 8-bit grey levels, scalar.

    Returns:
      float32 of the image's shape; values may lie outside 0..255.
    """
    image = jnp.asarray(image, jnp.float32)
    return image + jnp.asarray(sigma, jnp.float32) * jax.random.normal(
        key, image.shape, jnp.float32
    )
