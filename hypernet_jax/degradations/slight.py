"""Slight damage that photographs have besides the one that a task is for."""

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

from hypernet_jax.degradations.jpeg import jpeg

__all__ = ["slight_damage"]

# Share of images with noise and, drawn separately, with JPEG compression.
_SHARE = 0.25
# Range of the noise's sigma, in grey levels, and of the quality.
_SIGMA, _QUALITY = (0.0, 5.0), (75.0, 98.0)


def slight_damage(
    key: Key[Array, ""], image: Real[ArrayLike, "*n h w c"], value: None = None
) -> Float32[np.ndarray, "*n h w c"]:
    """Adds weak white noise to a quarter of the images, and compresses a quarter of them slightly.

    Without it, a network that undoes blur learns to amplify whatever else is in a photograph.

    Args:
      key: PRNG key.
      image: (..., H, W, C), 0 to 255, C = 3 or 1.
      value: unused; the damage does not depend on the level.

    Returns:
      float32 of the image's shape, whole numbers from 0 to 255.
    """
    del value
    made = np.asarray(image, np.float32)
    if made.ndim > 3:
        keys = jax.random.split(key, len(made))
        return np.stack([slight_damage(*pair) for pair in zip(keys, made, strict=True)])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    if rng.random() < _SHARE:
        made = made + rng.uniform(*_SIGMA) * rng.standard_normal(made.shape, np.float32)
    made = np.clip(np.round(made), 0.0, 255.0)
    return jpeg(None, made, rng.uniform(*_QUALITY)) if rng.random() < _SHARE else made
