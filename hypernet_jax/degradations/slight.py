"""Slight damage that photographs have besides the one that a task is for."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

from hypernet_jax.degradations.host import each_with_generator
from hypernet_jax.degradations.jpeg import jpeg

__all__ = ["slight_compression", "slight_damage"]

# Share of images with noise and, drawn separately, with JPEG compression.
_SHARE = 0.25
# Range of the noise's sigma, in grey levels, and of the quality.
_SIGMA, _QUALITY = (0.0, 5.0), (75.0, 98.0)
# Share of noisy images that a camera saves as JPEG, from which noise on, and their quality.
_SAVED_SHARE, _SAVED_NOISE, _SAVED_QUALITY = 0.5, 2.0, (88.0, 99.0)


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
    return each_with_generator(_slightly_damaged, key, image)


def _slightly_damaged(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() < _SHARE:
        image = image + rng.uniform(*_SIGMA) * rng.standard_normal(image.shape, np.float32)
    image = np.clip(np.round(image), 0.0, 255.0)
    return jpeg(None, image, rng.uniform(*_QUALITY)) if rng.random() < _SHARE else image


def slight_compression(
    key: Key[Array, ""], image: Real[ArrayLike, "*n h w c"], noise: float
) -> Float32[np.ndarray, "*n h w c"]:
    """Compresses half of the noisy images as slightly as cameras do, at qualities from 88 to 99.

    Hardly any photograph shows that it was compressed so little, so the level does not say it. But
    it changes the finest noise, and a network that never saw it leaves more of that noise.

    Args:
      key: PRNG key.
      image: (..., H, W, C), whole numbers from 0 to 255, C = 3 or 1.
      noise: the level of the noise, in grey levels; below 2 nothing is compressed.

    Returns:
      float32 of the image's shape, whole numbers from 0 to 255.
    """
    if noise < _SAVED_NOISE:
        return np.asarray(image, np.float32)
    return each_with_generator(_slightly_compressed, key, image)


def _slightly_compressed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() >= _SAVED_SHARE:
        return image
    return jpeg(None, image, rng.uniform(*_SAVED_QUALITY))
