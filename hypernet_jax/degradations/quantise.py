"""Quantisation to 8 bits, as when saving to a file."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

__all__ = ["quantise"]


def quantise(
    key: Key[Array, ""] | None, image: Real[ArrayLike, "*n"], value: None = None
) -> Float32[Array, "*n"]:
    """Clips to 0..255 and rounds.

    Args:
      key, value: unused.
      image: (..., H, W, C).

    Returns:
      float32 of the image's shape, whole numbers.
    """
    del key, value
    return jnp.round(jnp.clip(jnp.asarray(image, jnp.float32), 0.0, 255.0))
